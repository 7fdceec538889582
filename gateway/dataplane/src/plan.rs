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

/// What is to be done, each list after the one before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Sources that are gone, and whether what they made is taken away.
    pub(crate) stop_sources: Vec<(ObjectKey, bool)>,
    /// Deliveries that end, and whether what only they held is freed (CH-4).
    pub(crate) stop: Vec<(ObjectName, bool)>,
    pub(crate) close: Vec<ObjectName>,
    /// Channels to open, or open ones with new settings.
    pub(crate) open: Vec<Arc<model::Channel>>,
    pub(crate) start: Vec<Arc<model::Subscription>>,
    /// The same cursor goes on, on a new way.
    pub(crate) reroute: Vec<Arc<model::Subscription>>,
    /// New sources, and edited ones that take the place of what ran.
    pub(crate) start_sources: Vec<Arc<model::Source>>,
}

pub(crate) fn plan(wanted: &Spec, running: &Running) -> Plan {
    let mut plan = Plan::default();
    let reopened = |name: &ObjectName| match (running.channels.get(name), wanted.channels.get(name)) {
        (Some(_), None) => true,
        (Some(old), Some(new)) => old.provisioner != new.provisioner,
        (None, _) => false,
    };
    for key in running.sources.keys().filter(|key| !wanted.sources.contains_key(key)) {
        plan.stop_sources.push((key.clone(), !may_return(wanted, key)));
    }
    for (name, old) in &running.subscriptions {
        let forget = match wanted.subscriptions.get(name) {
            None => !may_return(wanted, &subscription_key(name)),
            // A cursor is forgotten as its owner's: that of the one that was made again stays, whoever made it and when.
            Some(new) if is_another(old, new) => true,
            Some(_) if reopened(&old.channel) => false,
            Some(_) => continue,
        };
        plan.stop.push((name.clone(), forget));
    }
    plan.close = running.channels.keys().filter(|name| reopened(name)).cloned().collect();
    for (name, new) in &wanted.channels {
        if new.provisioner.is_ok() && (reopened(name) || running.channels.get(name) != Some(new)) {
            plan.open.push(new.clone());
        }
    }
    for (name, new) in &wanted.subscriptions {
        match running.subscriptions.get(name) {
            Some(old) if !is_another(old, new) && !reopened(&new.channel) => {
                if old != new {
                    plan.reroute.push(new.clone());
                }
            }
            _ => plan.start.push(new.clone()),
        }
    }
    let edited = |(key, new): &(&ObjectKey, &Arc<model::Source>)| running.sources.get(*key) != Some(*new);
    plan.start_sources = wanted
        .sources
        .iter()
        .filter(edited)
        .map(|(_, new)| new.clone())
        .collect();
    plan
}

/// It has nothing of the former one of its name but the name (CH-4).
fn is_another(old: &model::Subscription, new: &model::Subscription) -> bool {
    old.channel != new.channel || old.uid != new.uid
}

pub(crate) fn subscription_key(name: &ObjectName) -> ObjectKey {
    ObjectKey::new(spec::Kind::Subscription, name.clone())
}

/// A document that could not be read may still name what is absent: nothing is forgotten for a typing error.
pub(crate) fn may_return(wanted: &Spec, key: &ObjectKey) -> bool {
    wanted.incomplete || wanted.unread.contains(&key.kind) || wanted.objects.contains_key(key)
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
            uid: None,
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
    fn what_is_new_is_opened_and_started() {
        let wanted = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let expected = Plan {
            open: vec![channel("c", 1)],
            start: vec![subscription("s", "c", 1)],
            ..Plan::default()
        };
        assert_eq!(plan(&wanted, &Running::default()), expected);
    }

    #[test]
    fn what_did_not_change_is_not_touched() {
        let wanted = spec(
            &[channel("c", 1)],
            &[subscription("s", "c", 1), subscription("t", "c", 1)],
        );
        assert_eq!(plan(&wanted, &running(&wanted)), Plan::default());
        let edited = spec(
            &[channel("c", 1)],
            &[subscription("s", "c", 2), subscription("t", "c", 1)],
        );
        let expected = Plan {
            reroute: vec![subscription("s", "c", 2)],
            ..Plan::default()
        };
        assert_eq!(plan(&edited, &running(&wanted)), expected);
    }

    /// Proves: CH-4
    #[test]
    fn a_deleted_subscription_is_stopped_and_forgotten() {
        let before = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let stop = |forget| Plan {
            stop: vec![(ObjectName::new("default", "s"), forget)],
            ..Plan::default()
        };
        let mut wanted = spec(&[channel("c", 1)], &[]);
        assert_eq!(plan(&wanted, &running(&before)), stop(true));
        wanted.incomplete = true;
        assert_eq!(
            plan(&wanted, &running(&before)),
            stop(false),
            "a file that cannot be read may still name it"
        );
        wanted.incomplete = false;
        wanted.unread = [spec::Kind::GitHubSource].into();
        assert_eq!(
            plan(&wanted, &running(&before)),
            stop(true),
            "another kind has nothing to say"
        );
        wanted.unread = [spec::Kind::Subscription].into();
        assert_eq!(plan(&wanted, &running(&before)), stop(false), "nobody knows");
    }

    /// Proves: CH-4
    #[test]
    fn a_subscription_that_was_deleted_and_made_again_begins_anew() {
        let made = |uid: &str| {
            Arc::new(model::Subscription {
                uid: Some(uid.into()),
                ..(*subscription("s", "c", 1)).clone()
            })
        };
        let before = spec(&[channel("c", 1)], &[made("1")]);
        let wanted = spec(&[channel("c", 1)], &[made("2")]);
        let expected = Plan {
            stop: vec![(ObjectName::new("default", "s"), true)],
            start: vec![made("2")],
            ..Plan::default()
        };
        assert_eq!(plan(&wanted, &running(&before)), expected);
    }

    #[test]
    fn a_deleted_channel_takes_its_deliveries_but_not_their_places() {
        let before = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let wanted = spec(&[], &[subscription("s", "c", 1)]);
        let expected = Plan {
            stop: vec![(ObjectName::new("default", "s"), false)],
            close: vec![ObjectName::new("default", "c")],
            start: vec![subscription("s", "c", 1)],
            ..Plan::default()
        };
        assert_eq!(plan(&wanted, &running(&before)), expected);
    }
}
