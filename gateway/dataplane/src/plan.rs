//! What has to change so that what runs becomes what is wanted. Pure: start, reload, resync and edit are one path.

use std::{collections::BTreeMap, sync::Arc};

use spec::{ObjectKey, ObjectName, Spec, model};

/// What runs now, as it was asked for.
#[derive(Default)]
pub(crate) struct Running {
    pub(crate) channels: BTreeMap<ObjectName, Arc<model::Channel>>,
    pub(crate) subscriptions: BTreeMap<ObjectName, Arc<model::Subscription>>,
    pub(crate) sources: BTreeMap<ObjectKey, Arc<model::Source>>,
}

/// In the order in which they are applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Stops deliveries; `forget`: the subscription is gone, and what only it held is freed (CH-4).
    Stop {
        subscription: ObjectName,
        forget: bool,
    },
    Close(ObjectName),
    /// Opens a channel, or gives an open one its new settings.
    Open(Arc<model::Channel>),
    Start(Arc<model::Subscription>),
    /// The same cursor goes on, on a new way.
    Reroute(Arc<model::Subscription>),
    Unhook(ObjectKey),
    Hook(Arc<model::Source>),
}

pub(crate) fn plan(wanted: &Spec, running: &Running) -> Vec<Change> {
    let mut changes = Vec::new();
    let reopened = |name: &ObjectName| match (running.channels.get(name), wanted.channels.get(name)) {
        (Some(_), None) => true,
        (Some(old), Some(new)) => old.provisioner != new.provisioner,
        (None, _) => false,
    };
    for (name, old) in &running.subscriptions {
        let forget = match wanted.subscriptions.get(name) {
            None => !may_return(wanted, name),
            Some(new) if new.channel != old.channel => true,
            Some(_) if reopened(&old.channel) => false,
            Some(_) => continue,
        };
        changes.push(Change::Stop {
            subscription: name.clone(),
            forget,
        });
    }
    changes.extend(
        running
            .channels
            .keys()
            .filter(|name| reopened(name))
            .cloned()
            .map(Change::Close),
    );
    for (name, new) in &wanted.channels {
        if new.provisioner.is_ok() && (reopened(name) || running.channels.get(name) != Some(new)) {
            changes.push(Change::Open(new.clone()));
        }
    }
    for (name, new) in &wanted.subscriptions {
        match running.subscriptions.get(name) {
            Some(old) if old.channel == new.channel && !reopened(&new.channel) => {
                if old != new {
                    changes.push(Change::Reroute(new.clone()));
                }
            }
            _ => changes.push(Change::Start(new.clone())),
        }
    }
    changes.extend(
        running
            .sources
            .keys()
            .filter(|key| !wanted.sources.contains_key(key))
            .cloned()
            .map(Change::Unhook),
    );
    let hooks = wanted
        .sources
        .iter()
        .filter(|(key, new)| running.sources.get(key) != Some(new));
    changes.extend(hooks.map(|(_, new)| Change::Hook(new.clone())));
    changes
}

/// A document that could not be read may still name what is absent: its cursor must not be deleted for a typing error.
pub(crate) fn may_return(wanted: &Spec, subscription: &ObjectName) -> bool {
    let key = ObjectKey {
        kind: spec::Kind::Subscription,
        name: subscription.clone(),
    };
    wanted.incomplete || wanted.objects.contains_key(&key)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn provisioner(name: &str) -> Arc<model::Provisioner> {
        Arc::new(model::Provisioner {
            name: name.into(),
            backend: model::BackendKind::Memory,
            config: serde_json::Value::Null,
            credentials: Ok(BTreeMap::new()),
            require_durability: None,
        })
    }

    fn channel(name: &str, capacity: usize) -> Arc<model::Channel> {
        Arc::new(model::Channel {
            name: ObjectName::new("default", name),
            provisioner: Ok(provisioner("in-memory")),
            arguments: model::Arguments::Memory { capacity },
            max_event_bytes: None,
            implicit: false,
        })
    }

    fn subscription(name: &str, channel: &str, max_in_flight: usize) -> Arc<model::Subscription> {
        Arc::new(model::Subscription {
            name: ObjectName::new("default", name),
            channel: ObjectName::new("default", channel),
            subscriber: None,
            reply: None,
            filters: vec![],
            delivery: model::Delivery {
                backoff: backoff::Policy::default(),
                timeout: Duration::from_secs(30),
                format: model::Format::Binary,
                max_reply_bytes: 1 << 20,
                dead_letter_sink: None,
            },
            max_in_flight,
            ordering: model::Ordering::None,
            start_from: model::StartFrom::Latest,
            paused: false,
            implicit: false,
        })
    }

    fn spec(channels: &[Arc<model::Channel>], subscriptions: &[Arc<model::Subscription>]) -> Spec {
        Spec {
            channels: channels.iter().map(|c| (c.name.clone(), c.clone())).collect(),
            subscriptions: subscriptions.iter().map(|s| (s.name.clone(), s.clone())).collect(),
            ..Spec::default()
        }
    }

    fn running(spec: &Spec) -> Running {
        Running {
            channels: spec.channels.clone(),
            subscriptions: spec.subscriptions.clone(),
            sources: spec.sources.clone(),
        }
    }

    #[test]
    fn channels_open_before_their_subscriptions_start() {
        let wanted = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let changes = plan(&wanted, &Running::default());
        assert_eq!(
            changes,
            [Change::Open(channel("c", 1)), Change::Start(subscription("s", "c", 1))]
        );
    }

    #[test]
    fn what_did_not_change_is_not_touched() {
        let wanted = spec(
            &[channel("c", 1)],
            &[subscription("s", "c", 1), subscription("t", "c", 1)],
        );
        assert!(plan(&wanted, &running(&wanted)).is_empty());
        let edited = spec(
            &[channel("c", 1)],
            &[subscription("s", "c", 2), subscription("t", "c", 1)],
        );
        assert_eq!(
            plan(&edited, &running(&wanted)),
            [Change::Reroute(subscription("s", "c", 2))]
        );
    }

    /// Proves: CH-4
    #[test]
    fn a_deleted_subscription_is_stopped_and_forgotten() {
        let before = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let stop = |forget| Change::Stop {
            subscription: ObjectName::new("default", "s"),
            forget,
        };
        let mut wanted = spec(&[channel("c", 1)], &[]);
        assert_eq!(plan(&wanted, &running(&before)), [stop(true)]);
        wanted.incomplete = true;
        assert_eq!(
            plan(&wanted, &running(&before)),
            [stop(false)],
            "a file that cannot be read may still name it"
        );
    }

    #[test]
    fn a_deleted_channel_takes_its_deliveries_but_not_their_places() {
        let before = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let wanted = spec(&[], &[subscription("s", "c", 1)]);
        let changes = plan(&wanted, &running(&before));
        let name = ObjectName::new("default", "c");
        let stop = Change::Stop {
            subscription: ObjectName::new("default", "s"),
            forget: false,
        };
        assert_eq!(
            changes,
            [stop, Change::Close(name), Change::Start(subscription("s", "c", 1))]
        );
    }
}
