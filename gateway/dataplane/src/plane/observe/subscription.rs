//! The status of a subscription. Pure.

use spec::{
    Cause, Condition, Conditions, Reason, Severity, Status, Truth,
    model::{self, Target},
    status::{Fields, Paused, PhysicalSubscription, Redrive, SubscriptionStatus},
};

use crate::journey::{breaker::Health, sink::without_credentials};

/// The observed state of a subscription.
pub(super) struct Observation<'a> {
    pub(super) model: &'a model::Subscription,
    pub(super) channel: ChannelState,
    /// Why its cursor cannot be opened, or its deliveries ended.
    pub(super) failure: Option<Cause>,
    pub(super) running: Option<Running>,
    pub(super) redrive: Option<Redrive>,
}

/// How its channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelState {
    Open,
    NotReady,
    Missing,
}

/// The observed state of a subscription whose deliveries run.
#[derive(Default)]
pub(super) struct Running {
    /// Why nothing can be sent to a target that the document names.
    pub(super) unresolved: Option<Cause>,
    /// Whether `headgate pause` holds it.
    pub(super) is_paused: bool,
    pub(super) outage: Option<(Health, String)>,
    /// Whether its channel keeps one order for all events.
    pub(super) total_order: bool,
    pub(super) unsettled: Option<u64>,
}

pub(super) fn status(observation: Observation<'_>) -> Status {
    let Observation {
        model,
        channel,
        failure,
        running,
        redrive,
    } = observation;
    let channel_ready = match channel {
        ChannelState::Open if failure.is_some() => failure.map_or(Ok(()), Err),
        ChannelState::Open if running.is_some() => Ok(()),
        ChannelState::Open => Err(Cause::new(
            Reason::Deploying,
            "its place in the channel is being opened",
        )),
        ChannelState::NotReady => Err(Cause::new(
            Reason::ChannelNotReady,
            format!("channel {} is not ready: see its conditions", model.channel),
        )),
        ChannelState::Missing => Err(Cause::new(
            Reason::NotFound,
            format!(
                "channel {} does not exist: create it or correct spec.channel",
                model.channel
            ),
        )),
    };
    let paused = Paused {
        spec: model.paused,
        switch: running.as_ref().is_some_and(|running| running.is_paused),
    };
    let fields = SubscriptionStatus {
        physical_subscription: uris(model),
        until_dead_letter: until_dead_letter(model.delivery.backoff),
        paused,
        redrive,
        unsettled_events: running.as_ref().and_then(|running| running.unsettled),
    };
    let mut conditions = Conditions::default();
    add_paused(&mut conditions, paused);
    let mut unresolved = first_unresolved(model);
    if let Some(running) = running {
        conditions.warn("SinkHealthy", running.outage.map(outage));
        if model.ordering == model::Ordering::Total {
            let partitioned = || {
                let message = format!(
                    "ordering is total and channel {} has several partitions: events are in order within each; use a channel with numPartitions 1, or ordering key",
                    model.channel
                );
                Cause::new(Reason::OrderedPerPartition, message)
            };
            conditions.warn("Ordered", (!running.total_order).then(partitioned));
        }
        unresolved = unresolved.or(running.unresolved);
    }
    conditions.require("Resolved", unresolved.map_or(Ok(()), Err));
    conditions.require("ChannelReady", channel_ready);
    Status {
        conditions,
        fields: Fields::Subscription(fields),
    }
}

fn add_paused(conditions: &mut Conditions, paused: Paused) {
    let message = match (paused.spec, paused.switch) {
        (false, false) => None,
        (true, false) => Some("spec.paused is true"),
        (false, true) => Some("paused by a person: `headgate resume` lets it go on"),
        (true, true) => Some("spec.paused is true, and it was paused by a person, too"),
    };
    let truth = if message.is_some() { Truth::False } else { Truth::True };
    let cause = message.map(|message| Cause::new(Reason::Paused, message));
    conditions.add(Condition::new("Delivering", truth, Severity::Info, cause));
}

fn outage((health, failure): (Health, String)) -> Cause {
    match health {
        Health::Rejecting => Cause::new(
            Reason::SinkRejecting,
            format!(
                "10 events in a row were refused for good, at most 10 a second are started until one is taken: {failure}"
            ),
        ),
        Health::Failing | Health::Healthy => Cause::new(
            Reason::SinkFailing,
            format!("10 events in a row failed, one at a time is tried until one succeeds: {failure}"),
        ),
    }
}

/// Why the first of its targets that is not there is not.
fn first_unresolved(model: &model::Subscription) -> Option<Cause> {
    [&model.subscriber, &model.reply, &model.delivery.dead_letter_sink]
        .into_iter()
        .flatten()
        .find_map(|target| match target {
            Target::Unresolved(cause) => Some(cause.clone()),
            Target::Channel(_) | Target::Elsewhere { .. } | Target::Uri { .. } => None,
        })
}

/// Returns where its events go, without credentials.
pub(super) fn uris(model: &model::Subscription) -> PhysicalSubscription {
    let uri = |target: &Option<Target>| match target {
        Some(Target::Uri { url, .. }) => Some(without_credentials(url)),
        Some(Target::Channel(name) | Target::Elsewhere { channel: name, .. }) => Some(format!("channel {name}")),
        Some(Target::Unresolved(_)) | None => None,
    };
    PhysicalSubscription {
        subscriber: uri(&model.subscriber),
        reply: uri(&model.reply),
        dead_letter: uri(&model.delivery.dead_letter_sink),
    }
}

/// How long an event is retried on average, in words: "about 2 h".
fn until_dead_letter(policy: backoff::Policy) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "min")];
    /// Every attempt's jitter is half of its range on average.
    const AVERAGE: f64 = 0.5;
    let horizon = policy.horizon(AVERAGE);
    if policy.retry == 0 {
        return "at once".into();
    }
    let seconds = horizon.as_secs();
    // The largest unit of which it is one and a half or more, so that rounding keeps the size of the number.
    match UNITS.into_iter().find(|(unit, _)| seconds >= unit + unit / 2) {
        Some((unit, name)) => format!("about {} {name}", (seconds + unit / 2) / unit),
        None if seconds >= 2 => format!("about {seconds} s"),
        None => format!("about {} ms", horizon.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(model: &model::Subscription, channel: ChannelState, running: Option<Running>) -> Status {
        status(Observation {
            model,
            channel,
            failure: None,
            running,
            redrive: None,
        })
    }

    fn model() -> model::Subscription {
        let sink = "http://user:pass@sink/".parse().expect("it is a URL");
        model::Subscription {
            subscriber: Some(Target::uri(sink)),
            ..crate::tests::subscription("s", "a", "b")
        }
    }

    #[test]
    fn ready_needs_a_channel_a_cursor_and_targets() {
        let missing = Target::Unresolved(Cause::new(Reason::InvalidTarget, "correct it"));
        let lost = model::Subscription {
            reply: Some(missing),
            ..model()
        };
        let running = || Some(Running::default());
        let unsendable = Some(Running {
            unresolved: Some(Cause::new(Reason::InvalidTarget, "no host")),
            ..Running::default()
        });
        let cases = [
            (model(), ChannelState::Missing, None, "NotFound"),
            (model(), ChannelState::NotReady, running(), "ChannelNotReady"),
            (model(), ChannelState::Open, None, "Deploying"),
            (model(), ChannelState::Open, running(), ""),
            (model(), ChannelState::Open, unsendable, "InvalidTarget"),
            (lost.clone(), ChannelState::Open, running(), "InvalidTarget"),
            (lost, ChannelState::Missing, None, "InvalidTarget"),
        ];
        for (model, channel, running, expected) in cases {
            let status = observed(&model, channel, running);
            let ready = status.conditions.get("Ready").map(Condition::reason);
            assert_eq!(ready, Some(expected), "{channel:?}");
        }
    }

    #[test]
    fn a_sink_that_fails_is_a_warning_and_credentials_are_not_shown() {
        for (health, reason) in [(Health::Failing, "SinkFailing"), (Health::Rejecting, "SinkRejecting")] {
            let running = Running {
                outage: Some((health, "503".to_owned())),
                unsettled: Some(7),
                ..Running::default()
            };
            let status = observed(&model(), ChannelState::Open, Some(running));
            let said = |kind: &str| status.conditions.get(kind).map(Condition::reason);
            assert_eq!((said("SinkHealthy"), said("Ready")), (Some(reason), Some("")));
            let Fields::Subscription(fields) = status.fields else {
                panic!("not a subscription's")
            };
            assert_eq!(fields.unsettled_events, Some(7));
            let subscriber = fields.physical_subscription.subscriber.unwrap_or_default();
            assert!(!subscriber.contains("pass"), "{subscriber}");
        }
    }

    #[test]
    fn pausing_names_who_paused() {
        for (spec, switch, reason) in [
            (false, false, ""),
            (true, false, "Paused"),
            (false, true, "Paused"),
            (true, true, "Paused"),
        ] {
            let model = model::Subscription {
                paused: spec,
                ..model()
            };
            let running = Running {
                is_paused: switch,
                ..Running::default()
            };
            let status = observed(&model, ChannelState::Open, Some(running));
            assert_eq!(status.conditions.get("Delivering").map(Condition::reason), Some(reason));
            let Fields::Subscription(fields) = status.fields else {
                panic!("not a subscription's")
            };
            assert_eq!(fields.paused, Paused { spec, switch });
        }
    }
}
