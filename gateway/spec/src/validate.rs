//! Rules of one document that a description of fields cannot say: one of two, this only with that (API.md 2).

use url::Url;

use crate::{
    Kind, ObjectKey,
    model::BackendKind,
    provisioners,
    resource::{
        Destination, GcpPubSubSource, GitHubSource, KubernetesEventSource, Resource, Service, SourceFields,
        Subscription,
    },
    schema::{Path, Report, backends, check, forms::http_url, parts},
    tree::Node,
};

pub(crate) fn rules(resource: &Resource, key: &ObjectKey, root: &Node, report: &mut Report) {
    match resource {
        Resource::Channel(channel) => {
            reserved(key, root, report);
            if let Some(sink) = &channel.delivery.dead_letter_sink {
                destination(sink, "spec.delivery.deadLetterSink", root, report);
            }
            for (index, subscriber) in channel.subscribable.subscribers.iter().enumerate() {
                if subscriber.subscriber_uri.is_none() && subscriber.reply_uri.is_none() {
                    let path = format!("spec.subscribable.subscribers[{index}]");
                    report.at(root, &path, "at least one of subscriberURI and replyURI is needed");
                }
            }
        }
        Resource::Subscription(wanted) => {
            reserved(key, root, report);
            subscription(wanted, root, report);
        }
        Resource::ClusterChannelProvisioner(wanted) => provisioner(wanted, key, root, report),
        Resource::GitHubSource(wanted) => {
            source(&wanted.common, root, report);
            github(wanted, root, report);
        }
        Resource::KubernetesEventSource(wanted) => {
            source(&wanted.common, root, report);
            kubernetes_events(wanted, root, report);
        }
        Resource::GcpPubSubSource(wanted) => {
            source(&wanted.common, root, report);
            gcp_pubsub(wanted, root, report);
        }
        Resource::ContainerSource(wanted) => source(&wanted.common, root, report),
        Resource::Service(wanted) => service(wanted, root, report),
        Resource::Secret(_) => {}
    }
}

/// Names that we make ourselves: outboxes, and subscriptions of hand-listed subscribers.
pub(crate) const OUTBOX_SUFFIX: &str = ".outbox";
pub(crate) const SUBSCRIBER_PART: &str = ".subscriber-";

fn reserved(key: &ObjectKey, root: &Node, report: &mut Report) {
    let name = &key.name.name;
    if name.ends_with(OUTBOX_SUFFIX) || (key.kind == Kind::Subscription && name.contains(SUBSCRIBER_PART)) {
        report.at(
            root,
            "metadata.name",
            format!("names like `{name}` are made by the gateway itself: choose another one"),
        );
    }
}

fn subscription(wanted: &Subscription, root: &Node, report: &mut Report) {
    if wanted.subscriber.is_none() && wanted.reply.is_none() {
        report.at(root, "spec", "at least one of `subscriber` and `reply` is needed");
    }
    let targets = [
        (wanted.subscriber.as_ref(), "spec.subscriber"),
        (wanted.reply.as_ref(), "spec.reply"),
        (
            wanted.delivery.dead_letter_sink.as_ref(),
            "spec.delivery.deadLetterSink",
        ),
    ];
    for (target, path) in targets {
        if let Some(target) = target {
            destination(target, path, root, report);
        }
    }
}

fn destination(target: &Destination, path: &str, root: &Node, report: &mut Report) {
    let direct = target.api_version.is_some() || target.kind.is_some() || target.name.is_some();
    let reference = target.reference.is_some();
    let spoken: Vec<&str> = [
        (direct, "apiVersion, kind, name"),
        (reference, "ref"),
        (target.uri.is_some(), "uri"),
        (target.dns_name.is_some(), "dnsName"),
        (target.channel.is_some(), "channel"),
    ]
    .into_iter()
    .filter_map(|(is, name)| is.then_some(name))
    .collect();
    match *spoken {
        [] => return report.at(root, path, "names no target: use ref, uri or dnsName"),
        [_] | ["apiVersion, kind, name" | "ref", "uri"] => {}
        ["apiVersion, kind, name", "ref", ..] => {
            report.at(root, path, "names an object twice: directly and under `ref`")
        }
        [.., "dnsName"] | [.., "dnsName", "channel"] => {
            report.at(
                root,
                &format!("{path}.dnsName"),
                format!(
                    "`dnsName` stands alone, here it is together with {}",
                    others(&spoken, "dnsName")
                ),
            );
        }
        _ => report.at(
            root,
            &format!("{path}.channel"),
            format!(
                "`channel` stands alone, here it is together with {}",
                others(&spoken, "channel")
            ),
        ),
    }
    if direct {
        for (name, written) in [
            ("apiVersion", &target.api_version),
            ("kind", &target.kind),
            ("name", &target.name),
        ] {
            if written.is_none() {
                report.at(
                    root,
                    path,
                    format!("`{name}` is required: a reference is apiVersion, kind and name"),
                );
            }
        }
    }
    if let Some(object) = target.object() {
        let at = if reference {
            format!("{path}.ref")
        } else {
            path.to_owned()
        };
        if let Err((field, message)) = referable(&object.api_version, &object.kind) {
            report.at(root, &format!("{at}.{field}"), message);
        } else if object.kind == "Channel" && object.api_version == parts::EVENTING && target.uri.is_some() {
            report.at(
                root,
                &format!("{path}.uri"),
                "a channel is one address: `uri` beside it can only be a mistake",
            );
        }
    }
    if let Some(uri) = &target.uri {
        let checked = if direct || reference {
            relative(uri)
        } else {
            http_url(uri).map(|_| ())
        };
        if let Err(message) = checked {
            report.at(root, &format!("{path}.uri"), message);
        }
    }
    if let Some(Err(message)) = target.dns_name.as_deref().map(dns_name) {
        report.at(root, &format!("{path}.dnsName"), message);
    }
}

fn others(spoken: &[&str], name: &str) -> String {
    let others: Vec<_> = spoken
        .iter()
        .filter(|other| **other != name)
        .map(|other| format!("`{other}`"))
        .collect();
    others.join(" and ")
}

/// Kinds of our own groups are known: of them, only a Channel takes events. Error: the field and what is wrong with it.
fn referable(api_version: &str, kind: &str) -> Result<(), (&'static str, String)> {
    let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    let ours = [parts::EVENTING, parts::SOURCES]
        .iter()
        .any(|known| known.split('/').next() == api_version.split('/').next());
    match known {
        Some(Kind::Channel) if ours && api_version != parts::EVENTING => Err((
            "apiVersion",
            format!("`{api_version}` has no Channel, did you mean `{}`?", parts::EVENTING),
        )),
        Some(Kind::Channel) => Ok(()),
        _ if !ours => Ok(()),
        Some(kind) => Err(("kind", format!("a {kind} takes no events: a Channel does"))),
        None => {
            let meant = crate::nearest::suggestion(
                kind,
                Kind::ALL.into_iter().filter(|kind| kind.is_ours()).map(Kind::as_str),
            );
            Err(("kind", format!("unknown kind `{kind}` in {api_version}{meant}")))
        }
    }
}

fn relative(uri: &str) -> Result<(), String> {
    // Any base does: what is asked is whether the text can stand beside one.
    let joined = http_url("http://base.invalid/").and_then(|base| base.join(uri).map_err(|error| error.to_string()));
    match joined {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "h2c") => Ok(()),
        Ok(url) => Err(format!(
            "expected a path or an http or https URL: the scheme is `{}`",
            url.scheme()
        )),
        Err(error) => Err(format!("expected a path or an http or https URL: {error}")),
    }
}

/// A host with or without a port, or a URL (API.md 2.1).
pub(crate) fn dns_name(text: &str) -> Result<Url, String> {
    if text.contains("://") {
        return http_url(text);
    }
    if text.contains(['/', '?', '#', '@', ' ']) {
        return Err("expected a host, such as orders.example.com or 127.0.0.1:9000, or a whole URL".to_owned());
    }
    http_url(&format!("http://{text}/")).map_err(|_| "expected a host with or without a port, or a URL".to_owned())
}

fn provisioner(wanted: &crate::resource::ClusterChannelProvisioner, key: &ObjectKey, root: &Node, report: &mut Report) {
    let built_in = provisioners::built_in(&key.name.name).map(|(_, backend)| backend);
    let backend: BackendKind = match (wanted.backend, built_in) {
        (Some(said), Some(meant)) if said != meant => {
            let message = format!(
                "`{}` is the built-in name of another backend: choose another name",
                key.name.name
            );
            return report.at(root, "spec.backend", message);
        }
        (Some(backend), _) | (None, Some(backend)) => backend,
        (None, None) => return report.at(root, "spec", "`backend` is required: memory, embedded, kafka or nats"),
    };
    let path = Path::Key(&Path::Root, "spec");
    let path = Path::Key(&path, "config");
    match root.get("spec").and_then(|spec| spec.entry("config")) {
        Some((written, config)) => check(&backends::config(backend), config, written.at, &path, report),
        None if matches!(backend, BackendKind::Kafka) => {
            report.at(
                root,
                "spec.config",
                "`bootstrapServers` is required: the brokers, as host:port",
            );
        }
        None if matches!(backend, BackendKind::Nats) => {
            report.at(
                root,
                "spec.config",
                "`servers` is required: the servers, as nats://host:port",
            );
        }
        None => {}
    }
}

fn source(common: &SourceFields, root: &Node, report: &mut Report) {
    if let Some(sink) = &common.sink {
        destination(sink, "spec.sink", root, report);
    }
    let spec = |name| root.get("spec").and_then(|spec| spec.get(name));
    if spec("serviceAccountName").is_some() && spec("serviceAccountname").is_some() {
        report.at(
            root,
            "spec.serviceAccountname",
            "is the older spelling of `serviceAccountName`, which is there as well",
        );
    }
    for name in common.extensions.keys() {
        let path = format!("spec.ceOverrides.extensions.{name}");
        const OWN: [&str; 8] = [
            "specversion",
            "id",
            "source",
            "type",
            "time",
            "subject",
            "datacontenttype",
            "dataschema",
        ];
        if let Err(message) = crate::schema::Form::Attribute.check(name) {
            report.at(root, &path, message);
        } else if OWN.contains(&name.as_str()) {
            report.at(
                root,
                &path,
                format!("`{name}` is an attribute of every event, no extension"),
            );
        }
    }
}

fn github(wanted: &GitHubSource, root: &Node, report: &mut Report) {
    if wanted.access_token.is_none() && wanted.secret_token.is_none() && wanted.app.is_none() {
        report.at(
            root,
            "spec",
            "at least one of `accessToken` and `secretToken` is needed",
        );
    }
    if wanted.mode.as_deref() == Some("poll") && wanted.access_token.is_none() && wanted.app.is_none() {
        report.at(
            root,
            "spec.mode",
            "poll reads GitHub's list of deliveries: it needs `accessToken` or `app`",
        );
    }
}

fn kubernetes_events(wanted: &KubernetesEventSource, root: &Node, report: &mut Report) {
    if wanted.all_namespaces {
        return;
    }
    if wanted.namespace.is_empty() {
        report.at(
            root,
            "spec.namespace",
            "`namespace` is required, unless `allNamespaces` is true",
        );
    } else if let Err(message) = crate::schema::Form::Label.check(&wanted.namespace) {
        report.at(root, "spec.namespace", message);
    }
}

/// Google refuses shorter ids of topics and subscriptions (SOURCES.md).
const PUBSUB_ID_MIN: usize = 3;

fn gcp_pubsub(wanted: &GcpPubSubSource, root: &Node, report: &mut Report) {
    for (path, id) in [
        ("spec.topic", Some(&wanted.topic)),
        ("spec.subscription", wanted.subscription.as_ref()),
    ] {
        if id.is_some_and(|id| id.chars().count() < PUBSUB_ID_MIN) {
            report.at(
                root,
                path,
                format!("Google's ids have {PUBSUB_ID_MIN} characters at least"),
            );
        }
    }
}

fn service(wanted: &Service, root: &Node, report: &mut Report) {
    let Some(host) = &wanted.external_name else { return };
    if let Err(message) = service_url(host, None) {
        report.at(root, "spec.externalName", message);
    }
}

/// `http://HOST:PORT/` of a Service that stands for an address outside.
pub(crate) fn service_url(host: &str, port: Option<u16>) -> Result<Url, String> {
    const WANTED: &str = "expected a host name or an address, without scheme and port";
    let address = if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if !address.starts_with('[') && host.contains(['/', ':', '?', '#', '@', ' ']) {
        return Err(WANTED.to_owned());
    }
    // 80 is what http means without a port.
    http_url(&format!("http://{address}:{}/", port.unwrap_or(80))).map_err(|_| WANTED.to_owned())
}
