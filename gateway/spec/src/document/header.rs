//! A document's header: apiVersion, kind, and in metadata name and namespace. It decides whose the document is.

use crate::{
    Kind, ObjectKey, ObjectName,
    nearest::{nearest, suggestion},
    schema::{self, Form, Path, Report, Shape, check},
    tree::{Mark, Node, Value},
};

pub(super) enum Header {
    Known(ObjectKey),
    /// Someone else's document: left alone, and why.
    Foreign(String),
    Unusable,
}

pub(super) fn header(root: &Node, report: &mut Report) -> Header {
    let start = Mark {
        end: root.at.start,
        ..root.at
    };
    let Value::Map(_) = &root.value else {
        report.add(
            start,
            &Path::Root,
            format!(
                "expected a document with apiVersion, kind and metadata, found {}",
                root.kind()
            ),
        );
        return Header::Unusable;
    };
    let mut texts = ["apiVersion", "kind"].map(|name| {
        let path = Path::Key(&Path::Root, name);
        match root.get(name) {
            Some(node) => check(&Shape::Text(Form::Filled), node, node.at, &path, report),
            None => report.add(start, &path, format!("`{name}` is required")),
        }
        root.get(name).and_then(Node::text).unwrap_or_default()
    });
    if !report.found.is_empty() {
        return Header::Unusable;
    }
    let [api_version, kind] = &mut texts;
    let kind = match known_kind(api_version, kind) {
        Ok(kind) => kind,
        Err(Unknown::Foreign(message)) => return Header::Foreign(message),
        Err(Unknown::Fault(path, message)) => {
            report.at(root, path, message);
            return Header::Unusable;
        }
    };
    let metadata = schema::Object {
        fields: vec![
            schema::required("name", Shape::Text(Form::Name), "every document has a name"),
            schema::field("namespace", Shape::Text(Form::Label), "default when absent"),
        ],
        open: true,
        ..schema::Object::default()
    };
    let path = Path::Key(&Path::Root, "metadata");
    match root.entry("metadata") {
        Some((key, node)) => check(&Shape::Object(metadata), node, key.at, &path, report),
        None => report.add(start, &path, "`metadata` is required, and in it `name`"),
    }
    let text = |name| {
        root.get("metadata")
            .and_then(|metadata| metadata.get(name))
            .and_then(Node::text)
    };
    match text("name") {
        Some(name) if report.found.is_empty() => {
            let namespace = if kind.is_cluster_scoped() {
                ""
            } else {
                text("namespace").unwrap_or("default")
            };
            Header::Known(ObjectKey::new(kind, ObjectName::new(namespace, name)))
        }
        _ => Header::Unusable,
    }
}

enum Unknown {
    Foreign(String),
    /// Path and message.
    Fault(&'static str, String),
}

fn known_kind(api_version: &str, kind: &str) -> Result<Kind, Unknown> {
    let found = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    if let Some(found) = found.filter(|found| found.api_version() == api_version) {
        return Ok(found);
    }
    let ours = [schema::target::EVENTING, schema::target::SOURCES];
    let group = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
    let is_ours = ours.iter().any(|known| group(known) == group(api_version));
    match found {
        // `eventing.knative.dev/v1`, or the other of our two groups, or a slip of the pen.
        Some(found) if found.is_ours() && (is_ours || nearest(api_version, ours).is_some()) => Err(Unknown::Fault(
            "apiVersion",
            format!("`{api_version}` has no {kind}, did you mean `{}`?", found.api_version()),
        )),
        None if is_ours => {
            let meant = suggestion(
                kind,
                Kind::ALL.into_iter().filter(|kind| kind.is_ours()).map(Kind::as_str),
            );
            // Whatever the version: of another one there is nothing.
            let known = Kind::ALL
                .into_iter()
                .filter(|known| known.is_ours() && group(known.api_version()) == group(api_version))
                .map(Kind::as_str);
            let meant = match instead(kind) {
                Some(instead) => format!("; here it is {instead}"),
                None if meant.is_empty() => format!("; known: {}", known.collect::<Vec<_>>().join(", ")),
                None => meant,
            };
            Err(Unknown::Fault(
                "kind",
                format!("unknown kind `{kind}` in {api_version}{meant}"),
            ))
        }
        Some(found) if found.is_ours() => {
            let meant = found.api_version();
            Err(Unknown::Foreign(format!(
                "{api_version} {kind} is not ours and is ignored; ours is {meant} {kind}"
            )))
        }
        _ => {
            let is_knative = group(api_version).ends_with("knative.dev");
            let instead = instead(kind).filter(|_| is_knative);
            let instead = instead.map_or_else(String::new, |instead| format!("; here it is {instead}"));
            Err(Unknown::Foreign(format!(
                "{api_version} {kind} is not ours and is ignored{instead}"
            )))
        }
    }
}

/// The kind that takes the place of one of Knative's.
fn instead(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Trigger" => "a Subscription with `filters`",
        "Broker" => "a Channel, with a Subscription for each Trigger",
        "InMemoryChannel" => "a Channel with `provisioner: { name: in-memory-channel }`",
        "KafkaChannel" | "NatsJetStreamChannel" | "NatssChannel" => {
            "a Channel whose `provisioner` is a ClusterChannelProvisioner for Kafka or NATS"
        }
        "Sequence" => "a Channel and a Subscription for each step, each with the next Channel as `reply`",
        "Parallel" => "a Channel with a Subscription for each branch",
        "ApiServerSource" => "a KubernetesEventSource",
        "PingSource" | "CronJobSource" | "SinkBinding" | "KafkaSource" => {
            "a ContainerSource, whose image sends the events"
        }
        _ => return None,
    })
}
