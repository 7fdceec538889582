//! Rules of one document that a description of fields cannot say: one of two, this only with that (API.md 2).

mod targets;

use crate::{
    Kind, ObjectKey,
    model::BackendKind,
    provisioners,
    resource::{
        ClusterChannelProvisioner, GcpPubSubSource, GitHubSource, KubernetesEventSource, Resource, Service,
        SourceFields, Subscription,
    },
    schema::{Form, Path, Report, backends, check},
    tree::Node,
};
use targets::destination;
pub(crate) use targets::{dns_name, service_url};

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

fn provisioner(wanted: &ClusterChannelProvisioner, key: &ObjectKey, root: &Node, report: &mut Report) {
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
        if let Err(message) = Form::Attribute.check(name) {
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
    } else if let Err(message) = Form::Label.check(&wanted.namespace) {
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
