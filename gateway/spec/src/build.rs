//! From documents to what we run: references resolved, defaults filled in, implicit objects made.

mod access;
mod identity;
mod publishers;
mod sources;
mod targets;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use status::{Cause, Reason};

use crate::{
    Kind, ObjectKey, ObjectName, Spec,
    defaults::AssignedProvisioners,
    document::Document,
    fault::Fault,
    model::{self, Arguments, Delivery, Object, StartFrom, Subscription, Target},
    provisioners::Provisioners,
    redact,
    resolver::Resolver,
    resource::{self, BackoffPolicy, Resource},
    schema::{forms::http_url, kinds::SUBSCRIBER_PART},
    secrets,
    set::{Entry, Set, named},
};
use access::{Refused, Secrets, access};
use identity::identity;
use targets::Targets;

/// Defaults of API.md 2.4.
pub(crate) const MAX_IN_FLIGHT: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REPLY_BYTES: usize = 1 << 20;

/// The spec of a set, and the references in it that nothing satisfies.
pub(crate) struct BuiltSpec {
    pub(crate) spec: Spec,
    pub(crate) dangling: Vec<Fault>,
}

struct Building<'a> {
    set: &'a Set,
    resolver: Resolver<'a>,
    provisioners: &'a Provisioners,
    assigned: &'a AssignedProvisioners,
    spec: Spec,
    dangling: Vec<Fault>,
}

/// Keys of a provisioner's secret: those of Kubernetes' own types (`kubernetes.io/basic-auth`, `kubernetes.io/tls`), those
/// that Knative's Kafka secrets have, and NATS' own ways to say who one is.
const CREDENTIALS: [&str; 11] = [
    "username", "user", "password", "ca.crt", "tls.crt", "tls.key", "user.crt", "user.key", "token", "nkey", "creds",
];

/// `created` is when each object was first seen; what is new is seen `now`.
pub(crate) fn build(
    set: &Set,
    resolver: Resolver<'_>,
    assigned: &AssignedProvisioners,
    before: &Spec,
    now: Timestamp,
) -> BuiltSpec {
    let credentials =
        |secret: &ObjectName| secrets::group(set, resolver, secret, &CREDENTIALS, Reason::CredentialsNotFound);
    let provisioners = set.provisioners().with_credentials(credentials);
    let spec = Spec {
        incomplete: set.incomplete,
        ..Spec::default()
    };
    let mut building = Building {
        set,
        resolver,
        provisioners: &provisioners,
        assigned,
        spec,
        dangling: Vec::new(),
    };
    for (key, entry) in &set.valid {
        building.add(key, &entry.document);
    }
    let Building { mut spec, dangling, .. } = building;
    spec.provisioners = provisioners.into_inner();
    for (key, entry) in set.valid.iter().chain(&set.invalid) {
        let created = entry.document.of_object.as_ref().and_then(|object| object.created);
        let created = created.unwrap_or_else(|| before.objects.get(key).map_or(now, |known| known.created));
        spec.objects.insert(key.clone(), Arc::new(object(key, entry, created)));
    }
    BuiltSpec { spec, dangling }
}

fn object(key: &ObjectKey, entry: &Entry, created: Timestamp) -> Object {
    let document = &entry.document;
    let mut json = document.root.to_json();
    if key.kind == Kind::Secret {
        redact::secret(&mut json);
    } else {
        redact::misplaced(&mut json, !entry.faults.is_empty());
    }
    if !key.kind.is_cluster_scoped() {
        json["metadata"]["namespace"] = key.name.namespace.clone().into();
    }
    // A status that was written of another object of this name does not describe this one.
    if let Some(map) = json.as_object_mut() {
        map.remove("status");
    }
    Object {
        key: key.clone(),
        api_version: key.kind.api_version().to_owned(),
        document: json,
        origin: document.origin(),
        generation: entry.generation,
        created,
        faults: entry.faults.clone(),
    }
}

impl Building<'_> {
    fn add(&mut self, key: &ObjectKey, document: &Document) {
        match &document.resource {
            Some(Resource::Channel(channel)) => self.channel(key, document, channel),
            Some(Resource::Subscription(subscription)) => self.subscription(key, document, subscription),
            Some(Resource::GitHubSource(source)) => self.github(key, document, source),
            Some(Resource::KubernetesEventSource(source)) => self.kubernetes_events(key, document, source),
            Some(Resource::GcpPubSubSource(source)) => self.gcp_pubsub(key, document, source),
            Some(Resource::ContainerSource(source)) => self.container(key, document, source),
            Some(Resource::ClusterChannelProvisioner(_) | Resource::Service(_) | Resource::Secret(_)) | None => {}
        }
    }

    fn targets(&self) -> Targets<'_> {
        Targets {
            set: self.set,
            resolver: self.resolver,
        }
    }

    /// Resolves a target; one that is not there is told, and kept as it is.
    fn target(&mut self, document: &Document, path: &str, written: &resource::Destination) -> Target {
        match self.targets().resolve(&document.key, written) {
            Target::Unresolved(why) => {
                self.dangling.push(document.dangling(path, why.reason, &why.message));
                Target::Unresolved(why)
            }
            Target::Uri { url, .. } => {
                let secrets = Secrets {
                    set: self.set,
                    resolver: self.resolver,
                    namespace: &document.key.name.namespace,
                };
                match access(&secrets, written, &url) {
                    Ok(access) => Target::Uri {
                        url,
                        access: access.map(Arc::new),
                    },
                    Err(Refused { field, why }) => {
                        let path = format!("{path}.{field}");
                        self.dangling.push(document.dangling(&path, why.reason, &why.message));
                        Target::Unresolved(why)
                    }
                }
            }
            target => target,
        }
    }

    fn channel(&mut self, key: &ObjectKey, document: &Document, written: &resource::Channel) {
        let name = self.assigned.name(key, written.provisioner.as_ref());
        let mut provisioner = name.map_err(Cause::clone).and_then(|name| self.provisioners.find(name));
        if let Err(why) = &provisioner {
            self.dangling
                .push(document.dangling("spec.provisioner.name", why.reason, &why.message));
        }
        let mut arguments = Arguments::Unread;
        if let Ok(found) = &provisioner {
            let backend = found.config.backend();
            match document.arguments(backend) {
                Ok(read) => arguments = read,
                // An older version of the document may stay in force after its provisioner was recreated for another backend.
                Err(_) => {
                    let message = format!(
                        "the arguments do not fit backend {backend:?}, which provisioner {} has now",
                        found.name
                    );
                    provisioner = Err(Cause::new(Reason::ArgumentsInvalid, message));
                }
            }
        }
        let publishing = self.publishing(document, written);
        let channel = model::Channel {
            name: key.name.clone(),
            provisioner,
            arguments,
            implicit: false,
            publishing,
        };
        self.spec.channels.insert(key.name.clone(), Arc::new(channel));
        self.subscribers(key, document, written);
    }

    /// Subscribers listed by hand. Their names come from what they are, so that another order changes nothing.
    fn subscribers(&mut self, key: &ObjectKey, document: &Document, written: &resource::Channel) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for subscriber in &written.subscribable.subscribers {
            let identity = identity(subscriber);
            let count = seen.entry(identity.clone()).or_default();
            *count += 1;
            let again = if *count > 1 { format!("-{count}") } else { String::new() };
            let name = ObjectName::new(
                &key.name.namespace,
                format!("{}{SUBSCRIBER_PART}{identity}{again}", key.name.name),
            );
            let uri = |uri: &Option<String>| uri.as_deref().and_then(|uri| http_url(uri).ok()).map(Target::uri);
            let delivery = self.delivery(
                document,
                &resource::Delivery::default(),
                Some((document, &written.delivery)),
            );
            let subscription = Subscription {
                name: name.clone(),
                uid: None,
                channel: key.name.clone(),
                subscriber: uri(&subscriber.subscriber_uri),
                reply: uri(&subscriber.reply_uri),
                filters: Vec::new(),
                delivery,
                max_in_flight: MAX_IN_FLIGHT,
                ordering: model::Ordering::None,
                start_from: StartFrom::Latest,
                paused: false,
                implicit: true,
            };
            self.spec.subscriptions.insert(name, Arc::new(subscription));
        }
    }

    fn subscription(&mut self, key: &ObjectKey, document: &Document, written: &resource::Subscription) {
        let channel = named(&written.channel, key);
        let channel_key = ObjectKey::new(Kind::Channel, channel.clone());
        let parent = self.set.valid.get(&channel_key).map(|entry| &entry.document);
        let defaults = parent.and_then(|parent| match &parent.resource {
            Some(Resource::Channel(channel)) => Some((&**parent, &channel.delivery)),
            _ => None,
        });
        if parent.is_none() {
            self.dangling.push(document.dangling(
                "spec.channel.name",
                Reason::NotFound,
                self.targets().no_channel(&channel),
            ));
        }
        let subscriber = written
            .subscriber
            .as_ref()
            .map(|target| self.target(document, "spec.subscriber", target));
        let reply = written
            .reply
            .as_ref()
            .map(|target| self.target(document, "spec.reply", target));
        let delivery = self.delivery(document, &written.delivery, defaults);
        let subscription = Subscription {
            name: key.name.clone(),
            uid: document.of_object.as_ref().map(|object| object.uid.clone()),
            channel,
            subscriber,
            reply,
            filters: written.filters.clone(),
            delivery,
            max_in_flight: written.max_in_flight,
            ordering: written.ordering,
            start_from: written.start_from,
            paused: written.paused,
            implicit: false,
        };
        self.spec.subscriptions.insert(key.name.clone(), Arc::new(subscription));
    }

    /// The subscription's own settings over the channel's over the defaults, field by field.
    fn delivery(
        &mut self,
        document: &Document,
        own: &resource::Delivery,
        channel: Option<(&Document, &resource::Delivery)>,
    ) -> Delivery {
        let nothing = resource::Delivery::default();
        let above = channel.map_or(&nothing, |(_, delivery)| delivery);
        let defaults = backoff::Policy::default();
        let policy = own.backoff_policy.or(above.backoff_policy);
        let backoff = backoff::Policy {
            retry: own.retry.or(above.retry).unwrap_or(defaults.retry),
            growth: policy.map_or(defaults.growth, |policy| match policy {
                BackoffPolicy::Exponential => backoff::Growth::Exponential,
                BackoffPolicy::Linear => backoff::Growth::Linear,
            }),
            delay: own.backoff_delay.or(above.backoff_delay).unwrap_or(defaults.delay),
            max: own.backoff_max.or(above.backoff_max).unwrap_or(defaults.max),
            retry_after_max: own
                .retry_after_max
                .or(above.retry_after_max)
                .unwrap_or(defaults.retry_after_max),
        };
        const PATH: &str = "spec.delivery.deadLetterSink";
        let dead_letter_sink = match (&own.dead_letter_sink, channel) {
            (Some(sink), _) => Some(self.target(document, PATH, sink)),
            // References of the channel's document are meant in the channel's namespace.
            (None, Some((parent, delivery))) => delivery
                .dead_letter_sink
                .as_ref()
                .map(|sink| self.target(parent, PATH, sink)),
            (None, None) => None,
        };
        Delivery {
            backoff,
            timeout: own.timeout.or(above.timeout).unwrap_or(TIMEOUT),
            format: own.format.or(above.format).unwrap_or(model::Format::Binary),
            max_reply_bytes: own.max_reply_bytes.or(above.max_reply_bytes).unwrap_or(MAX_REPLY_BYTES),
            dead_letter_sink,
        }
    }
}
