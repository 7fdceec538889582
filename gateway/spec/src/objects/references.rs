//! The references of one document: targets that are no Channels of ours, and Secrets.

use crate::{
    ObjectName,
    document::Document,
    resolver::Reference,
    resource::{Destination, Publisher, Resource},
    schema::target,
};

#[derive(Default)]
pub(super) struct Referenced {
    pub(super) targets: Vec<Reference>,
    pub(super) secrets: Vec<ObjectName>,
}

/// A document with faults refers to nothing: it is not used.
pub(super) fn referenced(document: &Document) -> Referenced {
    let Some(resource) = &document.resource else {
        return Referenced::default();
    };
    let namespace = &document.key.name.namespace;
    let target = |written: &Destination| {
        let object = written.object()?;
        if (&*object.api_version, &*object.kind) == (target::EVENTING, "Channel") {
            return None;
        }
        Some(Reference {
            name: ObjectName::new(object.namespace.as_ref().unwrap_or(namespace), object.name),
            api_version: object.api_version,
            kind: object.kind,
        })
    };
    let of_destinations = destinations(resource).into_iter().flat_map(Destination::secrets);
    let mut secrets: Vec<ObjectName> = named(resource)
        .into_iter()
        .chain(of_destinations)
        .map(|name| ObjectName::new(namespace, name))
        .collect();
    if let Resource::ClusterChannelProvisioner(provisioner) = resource {
        secrets.extend(provisioner.config.secret());
    }
    Referenced {
        targets: destinations(resource).into_iter().filter_map(target).collect(),
        secrets,
    }
}

fn destinations(resource: &Resource) -> Vec<&Destination> {
    let destinations = match resource {
        Resource::Channel(channel) => [channel.delivery.dead_letter_sink.as_ref(), None, None],
        Resource::Subscription(subscription) => [
            subscription.subscriber.as_ref(),
            subscription.reply.as_ref(),
            subscription.delivery.dead_letter_sink.as_ref(),
        ],
        Resource::GitHubSource(source) => [source.common.sink.as_ref(), None, None],
        Resource::KubernetesEventSource(source) => [source.common.sink.as_ref(), None, None],
        Resource::GcpPubSubSource(source) => [source.common.sink.as_ref(), None, None],
        Resource::ContainerSource(source) => [source.common.sink.as_ref(), None, None],
        Resource::ClusterChannelProvisioner(_) | Resource::Service(_) | Resource::Secret(_) => [None; 3],
    };
    destinations.into_iter().flatten().collect()
}

/// Secrets of the document's own namespace. The process that runs a container reads those of its variables.
fn named(resource: &Resource) -> Vec<&str> {
    match resource {
        Resource::GitHubSource(source) => {
            let app = source.app.as_ref().map(|app| &app.private_key);
            let tokens = [
                source.access_token.as_ref(),
                source.secret_token.as_ref(),
                source.previous_secret_token.as_ref(),
                app,
            ];
            let tokens = tokens.into_iter().flatten();
            tokens.map(|token| token.secret_key_ref.name.as_str()).collect()
        }
        Resource::Channel(channel) => {
            let selectors = channel.publishers.iter().filter_map(Publisher::secret);
            selectors.map(|selector| selector.name.as_str()).collect()
        }
        Resource::GcpPubSubSource(source) => {
            let secret = source.gcp_creds_secret.iter();
            secret.map(|selector| selector.name.as_str()).collect()
        }
        _ => Vec::new(),
    }
}
