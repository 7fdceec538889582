//! What users wrote: the documents of a run, and the spec that they are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cesql::Filter;
use spec::{Kind, ObjectKey, ObjectName, Spec, model};

use crate::scenario::{Ordering, Subscription, Target};

/// What users wrote.
#[derive(Default)]
pub(crate) struct Documents {
    pub(crate) subscriptions: BTreeMap<String, Subscription>,
    /// How often the provisioner of each channel was edited.
    pub(crate) edits: Vec<u64>,
    generation: u64,
}

pub(crate) fn object(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

/// The name that facts have.
pub(crate) fn full(subscription: &str) -> String {
    object(subscription).to_string()
}

pub(crate) fn channel_name(number: usize) -> ObjectName {
    object(&format!("channel-{number}"))
}

pub(crate) fn channel_number(channel: &ObjectName) -> usize {
    let number = channel.name.rsplit('-').next().and_then(|number| number.parse().ok());
    number.expect("channels are named by number")
}

impl Documents {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            edits: vec![0; channels],
            ..Self::default()
        }
    }

    pub(crate) fn spec(&mut self) -> Spec {
        self.generation += 1;
        let mut spec = Spec {
            generation: self.generation,
            ..Spec::default()
        };
        for (number, edits) in self.edits.iter().enumerate() {
            let name = channel_name(number);
            spec.channels
                .insert(name.clone(), Arc::new(channel_model(&name, *edits)));
            let source = source_model(&name);
            spec.sources.insert(source.key.clone(), Arc::new(source));
        }
        for subscription in self.subscriptions.values() {
            let model = subscription_model(subscription);
            spec.subscriptions.insert(model.name.clone(), Arc::new(model));
        }
        spec
    }
}

fn channel_model(name: &ObjectName, edits: u64) -> model::Channel {
    let provisioner = model::Provisioner {
        name: "sim".into(),
        config: model::Config::Memory,
        // An edit changes a credential.
        credentials: Ok(BTreeMap::from([(
            "token".to_owned(),
            model::SecretText::new(edits.to_be_bytes()),
        )])),
        require_durability: None,
    };
    model::Channel {
        name: name.clone(),
        provisioner: Ok(Arc::new(provisioner)),
        arguments: model::Arguments::Memory(model::MemoryArguments::default()),
        implicit: false,
        publishing: model::Publishing::default(),
    }
}

/// Each channel has a source of its name: the publisher.
fn source_model(channel: &ObjectName) -> model::Source {
    let config = model::KubernetesEventSource {
        namespace: None,
        types: vec![],
        reasons: vec![],
        kinds: vec![],
        coalesce: None,
    };
    model::Source {
        key: ObjectKey::new(Kind::KubernetesEventSource, channel.clone()),
        sink: Ok(channel.clone()),
        sink_uri: None,
        service_account: None,
        uid: None,
        extensions: BTreeMap::new(),
        config: model::SourceConfig::KubernetesEvents(config),
    }
}

fn subscription_model(of: &Subscription) -> model::Subscription {
    let url = |subscriber: usize, path: &str| {
        let url = format!("http://subscriber-{subscriber}/{path}{}", full(&of.name));
        model::Target::uri(url.parse().expect("a valid URL"))
    };
    model::Subscription {
        name: object(&of.name),
        uid: None,
        channel: channel_name(of.channel),
        subscriber: Some(match of.target {
            Target::Subscriber(number) => url(number, ""),
            Target::Channel(number) => model::Target::Channel(channel_name(number)),
        }),
        reply: of.reply.map(|number| model::Target::Channel(channel_name(number))),
        filters: of
            .lot
            .iter()
            .map(|lot| Filter::exact([("lot", lot.as_str())]))
            .collect(),
        delivery: model::Delivery {
            backoff: backoff::Policy {
                retry: of.retry,
                growth: if of.exponential {
                    backoff::Growth::Exponential
                } else {
                    backoff::Growth::Linear
                },
                delay: Duration::from_millis(of.delay),
                max: Duration::from_secs(60),
                retry_after_max: Duration::from_secs(300),
            },
            timeout: Duration::from_millis(of.timeout),
            format: model::Format::Binary,
            max_reply_bytes: 1 << 20,
            dead_letter_sink: of.dead_letters.map(|number| url(number, "dead-letters/")),
        },
        max_in_flight: of.in_flight,
        ordering: match of.ordering {
            Ordering::None => model::Ordering::None,
            Ordering::Key => model::Ordering::Key,
            Ordering::Total => model::Ordering::Total,
        },
        start_from: if of.earliest {
            model::StartFrom::Earliest
        } else {
            model::StartFrom::Latest
        },
        paused: of.paused,
        implicit: false,
    }
}
