//! From documents to what we run: references resolved, defaults filled in, implicit objects made.

mod settings;
mod sources;
mod targets;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    Kind, ObjectKey, ObjectName, Spec,
    defaults::Given,
    document::Document,
    fault::Fault,
    model::{self, Arguments, Delivery, Object, StartFrom, Subscription, Target, Unresolved},
    provisioners::Provisioners,
    resource::{self, BackoffPolicy, Resource},
    schema::{forms::http_url, kinds::SUBSCRIBER_PART},
    secrets,
    set::{Entry, Set, named},
    surroundings::Surroundings,
};
use settings::{arguments, identity, start_from};
use targets::Targets;

/// Defaults of API.md 2.3 and 2.4.
const CAPACITY: usize = 10_000;
const RETENTION_AGE: Duration = Duration::from_secs(24 * 3600);
const RETENTION_BYTES: u64 = 1 << 30;
const MAX_IN_FLIGHT: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REPLY_BYTES: usize = 1 << 20;

/// What a set becomes, and the references of it that nothing satisfies.
pub(crate) struct Built {
    pub(crate) spec: Spec,
    pub(crate) dangling: Vec<Fault>,
}

struct Building<'a> {
    set: &'a Set,
    surroundings: Surroundings<'a>,
    provisioners: &'a Provisioners,
    given: &'a Given,
    spec: Spec,
    dangling: Vec<Fault>,
}

/// Keys of a provisioner's secret: those of Kubernetes' own types (`kubernetes.io/basic-auth`, `kubernetes.io/tls`), those
/// that Knative's Kafka secrets have, and NATS' own ways to say who one is.
const CREDENTIALS: [&str; 11] = [
    "username", "user", "password", "ca.crt", "tls.crt", "tls.key", "user.crt", "user.key", "token", "nkey", "creds",
];

/// `created` is when each object was first seen; what is new is seen `now`.
pub(crate) fn build(set: &Set, surroundings: Surroundings<'_>, given: &Given, before: &Spec, now: Timestamp) -> Built {
    let credentials =
        |secret: &ObjectName| secrets::group(set, surroundings, secret, &CREDENTIALS, "CredentialsNotFound");
    let provisioners = set.provisioners().with_credentials(credentials);
    let spec = Spec {
        incomplete: set.incomplete,
        ..Spec::default()
    };
    let mut building = Building {
        set,
        surroundings,
        provisioners: &provisioners,
        given,
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
    Built { spec, dangling }
}

fn object(key: &ObjectKey, entry: &Entry, created: Timestamp) -> Object {
    let document = &entry.document;
    let mut json = document.root.to_json();
    if key.kind == Kind::Secret {
        redact(&mut json);
    } else {
        redact_misplaced(&mut json);
    }
    if !key.kind.is_cluster_scoped() {
        json["metadata"]["namespace"] = key.name.namespace.clone().into();
    }
    // What was observed elsewhere, of another object of this name, is nothing we observe.
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

/// Leaves a Secret's keys and drops its values; annotations go too, for kubectl keeps the whole document in one.
fn redact(json: &mut serde_json::Value) {
    for part in ["data", "stringData"] {
        match json.get_mut(part) {
            Some(serde_json::Value::Object(values)) => {
                values.values_mut().for_each(|value| *value = "<redacted>".into());
            }
            Some(other) => *other = "<redacted>".into(),
            None => {}
        }
    }
    if let Some(metadata) = json.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.remove("annotations");
    }
    if let Some(map) = json.as_object_mut() {
        map.retain(|name, _| ["apiVersion", "kind", "metadata", "type", "data", "stringData"].contains(&name.as_str()));
    }
}

/// A token written down where a secret should be named makes the document invalid; it is not shown for that.
fn redact_misplaced(json: &mut serde_json::Value) {
    const NAME_SECRETS: [&str; 6] = [
        "accessToken",
        "secretToken",
        "previousSecretToken",
        "privateKey",
        "secretKeyRef",
        "gcpCredsSecret",
    ];
    match json {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                if NAME_SECRETS.contains(&name.as_str()) && !value.is_object() {
                    *value = "<redacted>".into();
                }
                redact_misplaced(value);
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(redact_misplaced),
        _ => {}
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
            surroundings: self.surroundings,
        }
    }

    /// Resolves a target; one that is not there is told, and kept as it is.
    fn target(&mut self, document: &Document, path: &str, written: &resource::Destination) -> Target {
        let target = self.targets().resolve(&document.key, written);
        if let Target::Unresolved(why) = &target {
            self.dangling.push(document.dangling(path, why.reason, &why.message));
        }
        target
    }

    fn channel(&mut self, key: &ObjectKey, document: &Document, written: &resource::Channel) {
        let name = self.given.name(key, written.provisioner.as_ref());
        let mut provisioner = name
            .map_err(Unresolved::clone)
            .and_then(|name| self.provisioners.find(name));
        if let Err(why) = &provisioner {
            self.dangling
                .push(document.dangling("spec.provisioner.name", why.reason, &why.message));
        }
        let mut parsed = Arguments::Unread(serde_json::Value::Object(written.arguments.clone()));
        if let Ok(found) = &provisioner {
            // An older version of the document may go on while its provisioner was deleted and made anew for another backend.
            let fits = crate::set::arguments(document, self.provisioners, self.given).is_empty();
            match arguments(found.backend, &written.arguments).filter(|_| fits) {
                Some(arguments) => parsed = arguments,
                None => {
                    let message = format!(
                        "the arguments do not fit backend {:?}, which provisioner {} has now",
                        found.backend, found.name
                    );
                    provisioner = Err(Unresolved {
                        reason: "ArgumentsInvalid",
                        message,
                    });
                }
            }
        }
        let max_event_bytes = written
            .arguments
            .get("maxEventBytes")
            .and_then(serde_json::Value::as_u64);
        let channel = model::Channel {
            name: key.name.clone(),
            provisioner,
            arguments: parsed,
            max_event_bytes: max_event_bytes.and_then(|bytes| usize::try_from(bytes).ok()),
            implicit: false,
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
            let uri = |uri: &Option<String>| uri.as_deref().and_then(|uri| http_url(uri).ok()).map(Target::Uri);
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
            self.dangling
                .push(document.dangling("spec.channel.name", "NotFound", self.targets().no_channel(&channel)));
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
            max_in_flight: written.max_in_flight.unwrap_or(MAX_IN_FLIGHT),
            ordering: written.ordering.unwrap_or(model::Ordering::None),
            start_from: start_from(written.start_from.as_ref()),
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
            delay: own
                .backoff_delay
                .or(above.backoff_delay)
                .map_or(defaults.delay, |iso| iso.0),
            max: own.backoff_max.or(above.backoff_max).map_or(defaults.max, |iso| iso.0),
            retry_after_max: own
                .retry_after_max
                .or(above.retry_after_max)
                .map_or(defaults.retry_after_max, |iso| iso.0),
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
            timeout: own.timeout.or(above.timeout).map_or(TIMEOUT, |iso| iso.0),
            format: own.format.or(above.format).unwrap_or(model::Format::Binary),
            max_reply_bytes: own.max_reply_bytes.or(above.max_reply_bytes).unwrap_or(MAX_REPLY_BYTES),
            dead_letter_sink,
        }
    }
}
