//! Computes the changes that turn the actual state into the desired one. Pure: start, reload, resync and edit are one path.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use spec::{ObjectKey, ObjectName, Spec, model};

/// The actual state: what runs, by the documents it was started from.
#[derive(Default)]
pub(crate) struct ActualState {
    pub(crate) channels: BTreeMap<ObjectName, Arc<model::Channel>>,
    pub(crate) subscriptions: BTreeMap<ObjectName, Arc<model::Subscription>>,
    /// Subscriptions whose dispatcher ended by itself. Their cursors exist: they are stopped like others, and started again.
    pub(crate) ended: BTreeSet<ObjectName>,
    pub(crate) sources: BTreeMap<ObjectKey, Arc<model::Source>>,
}

/// The changes, each list after the one before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Sources to stop, and whether what they created upstream is removed.
    pub(crate) stop_sources: Vec<(ObjectKey, bool)>,
    /// Subscriptions to stop, and whether their cursors are deleted (CH-4).
    pub(crate) stop: Vec<(ObjectName, bool)>,
    pub(crate) close: Vec<ObjectName>,
    /// Open channels with other publishers, or other limits.
    pub(crate) admit: Vec<Arc<model::Channel>>,
    /// Channels to open, or open ones with new settings.
    pub(crate) open: Vec<Arc<model::Channel>>,
    pub(crate) start: Vec<Arc<model::Subscription>>,
    /// Subscriptions that keep their cursor and get a new route.
    pub(crate) reroute: Vec<Arc<model::Subscription>>,
    /// New sources, and edited ones that replace what ran.
    pub(crate) start_sources: Vec<Arc<model::Source>>,
}

pub(crate) fn plan(desired: &Spec, running: &ActualState) -> Plan {
    let mut plan = Plan::default();
    let reopened = |name: &ObjectName| match (running.channels.get(name), desired.channels.get(name)) {
        (Some(_), None) => true,
        (Some(old), Some(new)) => old.provisioner != new.provisioner,
        (None, _) => false,
    };
    for key in running.sources.keys().filter(|key| !desired.sources.contains_key(key)) {
        plan.stop_sources.push((key.clone(), !may_return(desired, key)));
    }
    for (name, old) in &running.subscriptions {
        let delete = match desired.subscriptions.get(name) {
            None => !may_return(desired, &subscription_key(name)),
            // A cursor is deleted by its owner: the cursor of the recreated subscription stays, whichever replica created it.
            Some(new) if is_another(old, new) => true,
            Some(_) if reopened(&old.channel) => false,
            Some(_) => continue,
        };
        plan.stop.push((name.clone(), delete));
    }
    plan.close = running.channels.keys().filter(|name| reopened(name)).cloned().collect();
    for (name, new) in &desired.channels {
        let old = running.channels.get(name);
        if old.is_some_and(|old| old.publishing != new.publishing) {
            plan.admit.push(new.clone());
        }
        if new.provisioner.is_ok() && (reopened(name) || old.is_none_or(|old| !has_same_settings(old, new))) {
            plan.open.push(new.clone());
        }
    }
    for (name, new) in &desired.subscriptions {
        match running.subscriptions.get(name) {
            Some(old) if !is_another(old, new) && !reopened(&new.channel) && !running.ended.contains(name) => {
                if old != new {
                    plan.reroute.push(new.clone());
                }
            }
            _ => plan.start.push(new.clone()),
        }
    }
    let edited = |(key, new): &(&ObjectKey, &Arc<model::Source>)| running.sources.get(*key) != Some(*new);
    plan.start_sources = desired
        .sources
        .iter()
        .filter(edited)
        .map(|(_, new)| new.clone())
        .collect();
    plan
}

/// Whether nothing differs but who may publish.
fn has_same_settings(old: &model::Channel, new: &model::Channel) -> bool {
    old.provisioner == new.provisioner && old.arguments == new.arguments && old.implicit == new.implicit
}

/// Whether it was deleted and recreated: it then shares only the name with the former one (CH-4).
fn is_another(old: &model::Subscription, new: &model::Subscription) -> bool {
    old.channel != new.channel || old.uid != new.uid
}

pub(crate) fn subscription_key(name: &ObjectName) -> ObjectKey {
    ObjectKey::new(spec::Kind::Subscription, name.clone())
}

/// Whether a document that could not be read may still name the object: a typing error must not delete its state.
pub(crate) fn may_return(desired: &Spec, key: &ObjectKey) -> bool {
    desired.incomplete || desired.unread.contains(&key.kind) || desired.objects.contains_key(key)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn provisioner(name: &str) -> Arc<model::Provisioner> {
        Arc::new(model::Provisioner {
            name: name.into(),
            config: model::Config::Memory,
            credentials: Ok(BTreeMap::new()),
            require_durability: None,
        })
    }

    fn channel(name: &str, capacity: usize) -> Arc<model::Channel> {
        Arc::new(model::Channel {
            name: ObjectName::new("default", name),
            provisioner: Ok(provisioner("in-memory")),
            arguments: model::Arguments::Memory(model::MemoryArguments {
                capacity,
                max_event_bytes: None,
            }),
            implicit: false,
            publishing: model::Publishing::default(),
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

    fn running(spec: &Spec) -> ActualState {
        ActualState {
            channels: spec.channels.clone(),
            subscriptions: spec.subscriptions.clone(),
            ended: BTreeSet::new(),
            sources: spec.sources.clone(),
        }
    }

    #[test]
    fn what_is_new_is_opened_and_started() {
        let desired = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let expected = Plan {
            open: vec![channel("c", 1)],
            start: vec![subscription("s", "c", 1)],
            ..Plan::default()
        };
        assert_eq!(plan(&desired, &ActualState::default()), expected);
    }

    #[test]
    fn what_did_not_change_is_not_touched() {
        let desired = spec(
            &[channel("c", 1)],
            &[subscription("s", "c", 1), subscription("t", "c", 1)],
        );
        assert_eq!(plan(&desired, &running(&desired)), Plan::default());
        let edited = spec(
            &[channel("c", 1)],
            &[subscription("s", "c", 2), subscription("t", "c", 1)],
        );
        let expected = Plan {
            reroute: vec![subscription("s", "c", 2)],
            ..Plan::default()
        };
        assert_eq!(plan(&edited, &running(&desired)), expected);
    }

    /// Proves: PU-2
    #[test]
    fn other_publishers_reopen_nothing() {
        let before = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let edited = |capacity| {
            let publisher = model::Publisher {
                name: "shop".into(),
                credential: model::Credential::Bearer(Ok(model::SecretText::new(*b"token"))),
            };
            Arc::new(model::Channel {
                publishing: model::Publishing {
                    publishers: vec![publisher],
                    limits: None,
                },
                ..(*channel("c", capacity)).clone()
            })
        };
        let desired = |channel| spec(&[channel], &[subscription("s", "c", 1)]);
        let admitted = Plan {
            admit: vec![edited(1)],
            ..Plan::default()
        };
        assert_eq!(plan(&desired(edited(1)), &running(&before)), admitted);
        let both = Plan {
            admit: vec![edited(2)],
            open: vec![edited(2)],
            ..Plan::default()
        };
        assert_eq!(plan(&desired(edited(2)), &running(&before)), both);
    }

    /// Proves: CH-4
    #[test]
    fn a_deleted_subscription_is_stopped_and_forgotten() {
        let before = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let stop = |delete| Plan {
            stop: vec![(ObjectName::new("default", "s"), delete)],
            ..Plan::default()
        };
        let mut desired = spec(&[channel("c", 1)], &[]);
        assert_eq!(plan(&desired, &running(&before)), stop(true));
        desired.incomplete = true;
        assert_eq!(
            plan(&desired, &running(&before)),
            stop(false),
            "a file that cannot be read may still name it"
        );
        desired.incomplete = false;
        desired.unread = [spec::Kind::GitHubSource].into();
        assert_eq!(
            plan(&desired, &running(&before)),
            stop(true),
            "another kind has nothing to say"
        );
        desired.unread = [spec::Kind::Subscription].into();
        assert_eq!(plan(&desired, &running(&before)), stop(false), "nobody knows");
    }

    /// Proves: CH-4, OP-3
    #[test]
    fn a_dispatcher_that_ended_is_started_again_or_its_cursor_deleted() {
        let before = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let ended = || ActualState {
            ended: [ObjectName::new("default", "s")].into(),
            ..running(&before)
        };
        let again = Plan {
            start: vec![subscription("s", "c", 1)],
            ..Plan::default()
        };
        assert_eq!(plan(&before, &ended()), again);
        let deleted = Plan {
            stop: vec![(ObjectName::new("default", "s"), true)],
            ..Plan::default()
        };
        assert_eq!(plan(&spec(&[channel("c", 1)], &[]), &ended()), deleted);
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
        let desired = spec(&[channel("c", 1)], &[made("2")]);
        let expected = Plan {
            stop: vec![(ObjectName::new("default", "s"), true)],
            start: vec![made("2")],
            ..Plan::default()
        };
        assert_eq!(plan(&desired, &running(&before)), expected);
    }

    #[test]
    fn a_deleted_channel_takes_its_deliveries_but_not_their_places() {
        let before = spec(&[channel("c", 1)], &[subscription("s", "c", 1)]);
        let desired = spec(&[], &[subscription("s", "c", 1)]);
        let expected = Plan {
            stop: vec![(ObjectName::new("default", "s"), false)],
            close: vec![ObjectName::new("default", "c")],
            start: vec![subscription("s", "c", 1)],
            ..Plan::default()
        };
        assert_eq!(plan(&desired, &running(&before)), expected);
    }
}
