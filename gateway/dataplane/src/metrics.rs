//! The data plane's counters. Labels come from the spec's objects and from enums, so the number of series is bounded by
//! the number of objects; a removed object takes its series along.

use std::{fmt::Write, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use spec::ObjectName;

use crate::failure::Reason;

/// From a loopback round trip to the default `timeout`.
const ATTEMPT_SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByObject {
    namespace: String,
    name: String,
}

impl From<&ObjectName> for ByObject {
    fn from(name: &ObjectName) -> Self {
        Self {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
        }
    }
}

/// Which object, and what about it: `reason`, `result`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    namespace: String,
    name: String,
    reason: Word,
}

/// A word out of a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Word(pub(crate) &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

/// Every word that can be a `reason` of a refusal at the ingress.
pub(crate) const REFUSALS: [&str; 11] = [
    "Invalid",
    "UnsupportedFormat",
    "TooLarge",
    "Full",
    "DiskFull",
    "Unavailable",
    "Draining",
    "Overloaded",
    "Stalled",
    "NoChannel",
    "MethodNotAllowed",
];

const FAILURES: [Reason; 9] = [
    Reason::SinkUnreachable,
    Reason::SinkTimeout,
    Reason::SinkError,
    Reason::SinkRejected,
    Reason::ReplyRefused,
    Reason::ReplyFailed,
    Reason::ReplyTooLarge,
    Reason::FilterError,
    Reason::Loop,
];

#[derive(Clone)]
pub(crate) struct Metrics(Arc<Families>);

type Histograms = Family<ByObject, Histogram, fn() -> Histogram>;

struct Families {
    accepted: Family<ByObject, Counter>,
    accepted_bytes: Family<ByObject, Counter>,
    refused: Family<ByReason, Counter>,
    requests_refused: Family<Refusal, Counter>,
    connections: Gauge,
    delivered: Family<ByObject, Counter>,
    filtered: Family<ByObject, Counter>,
    attempts_failed: Family<ByReason, Counter>,
    dead_lettered: Family<ByReason, Counter>,
    replies: Family<ByReason, Counter>,
    in_flight: Family<ByObject, Gauge>,
    attempt_seconds: Histograms,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    reason: Word,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let attempt_seconds: Histograms = Family::new_with_constructor(|| Histogram::new(ATTEMPT_SECONDS));
        let families = Families {
            accepted: Family::default(),
            accepted_bytes: Family::default(),
            refused: Family::default(),
            requests_refused: Family::default(),
            connections: Gauge::default(),
            delivered: Family::default(),
            filtered: Family::default(),
            attempts_failed: Family::default(),
            dead_lettered: Family::default(),
            replies: Family::default(),
            in_flight: Family::default(),
            attempt_seconds,
        };
        let f = &families;
        registry.register(
            "headgate_events_accepted",
            "Events stored in a channel and answered 2xx",
            f.accepted.clone(),
        );
        registry.register(
            "headgate_events_accepted_bytes",
            "Attributes and data of those",
            f.accepted_bytes.clone(),
        );
        registry.register(
            "headgate_events_refused",
            "Requests a channel did not take",
            f.refused.clone(),
        );
        registry.register(
            "headgate_requests_refused",
            "Requests that reached no channel",
            f.requests_refused.clone(),
        );
        registry.register(
            "headgate_ingress_connections",
            "Open connections to the ingress",
            f.connections.clone(),
        );
        registry.register(
            "headgate_events_delivered",
            "Events a subscription settled as taken",
            f.delivered.clone(),
        );
        registry.register(
            "headgate_events_filtered",
            "Events a subscription's filters left out",
            f.filtered.clone(),
        );
        registry.register(
            "headgate_attempts_failed",
            "Delivery attempts that failed",
            f.attempts_failed.clone(),
        );
        registry.register(
            "headgate_events_dead_lettered",
            "Events that became dead letters",
            f.dead_lettered.clone(),
        );
        registry.register(
            "headgate_replies",
            "Replies of subscribers by what became of them",
            f.replies.clone(),
        );
        registry.register(
            "headgate_deliveries_in_flight",
            "Events started and not settled, waits included",
            f.in_flight.clone(),
        );
        registry.register(
            "headgate_attempt_seconds",
            "Duration of delivery attempts over HTTP",
            f.attempt_seconds.clone(),
        );
        Self(Arc::new(families))
    }

    pub(crate) fn connections(&self) -> &Gauge {
        &self.0.connections
    }

    /// A request that found no channel.
    pub(crate) fn request_refused(&self, reason: &'static str) {
        self.0
            .requests_refused
            .get_or_create(&Refusal { reason: Word(reason) })
            .inc();
    }

    pub(crate) fn door(&self, channel: &ObjectName) -> DoorMetrics {
        let by = ByObject::from(channel);
        DoorMetrics {
            accepted: self.0.accepted.get_or_create_owned(&by),
            accepted_bytes: self.0.accepted_bytes.get_or_create_owned(&by),
            refused: REFUSALS.map(|reason| (reason, self.0.refused.get_or_create_owned(&by_reason(channel, reason)))),
        }
    }

    pub(crate) fn subscription(&self, name: &ObjectName) -> SubscriptionMetrics {
        let by = ByObject::from(name);
        let reply = |reason| self.0.replies.get_or_create_owned(&by_reason(name, reason));
        SubscriptionMetrics {
            delivered: self.0.delivered.get_or_create_owned(&by),
            filtered: self.0.filtered.get_or_create_owned(&by),
            in_flight: self.0.in_flight.get_or_create_owned(&by),
            attempt_seconds: self.0.attempt_seconds.get_or_create_owned(&by),
            replies: Replies {
                passed: reply("Passed"),
                without_target: reply("Dropped"),
                malformed: reply("Malformed"),
                too_large: reply("TooLarge"),
            },
            families: self.clone(),
            name: name.clone(),
        }
    }

    pub(crate) fn forget_channel(&self, name: &ObjectName) {
        let by = ByObject::from(name);
        self.0.accepted.remove(&by);
        self.0.accepted_bytes.remove(&by);
        for reason in REFUSALS {
            self.0.refused.remove(&by_reason(name, reason));
        }
    }

    pub(crate) fn forget_subscription(&self, name: &ObjectName) {
        let by = ByObject::from(name);
        self.0.delivered.remove(&by);
        self.0.filtered.remove(&by);
        self.0.in_flight.remove(&by);
        self.0.attempt_seconds.remove(&by);
        for reply in ["Passed", "Dropped", "Malformed", "TooLarge"] {
            self.0.replies.remove(&by_reason(name, reply));
        }
        for reason in FAILURES {
            self.0.attempts_failed.remove(&by_reason(name, reason.as_str()));
            self.0.dead_lettered.remove(&by_reason(name, reason.as_str()));
        }
    }
}

fn by_reason(name: &ObjectName, reason: &'static str) -> ByReason {
    ByReason {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        reason: Word(reason),
    }
}

/// One channel's way in.
pub(crate) struct DoorMetrics {
    pub(crate) accepted: Counter,
    pub(crate) accepted_bytes: Counter,
    refused: [(&'static str, Counter); REFUSALS.len()],
}

impl DoorMetrics {
    pub(crate) fn refused(&self, reason: &'static str) {
        if let Some((_, counter)) = self.refused.iter().find(|(name, _)| *name == reason) {
            counter.inc();
        }
    }
}

pub(crate) struct Replies {
    pub(crate) passed: Counter,
    pub(crate) without_target: Counter,
    pub(crate) malformed: Counter,
    pub(crate) too_large: Counter,
}

/// One subscription's.
pub(crate) struct SubscriptionMetrics {
    pub(crate) delivered: Counter,
    pub(crate) filtered: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) attempt_seconds: Histogram,
    pub(crate) replies: Replies,
    families: Metrics,
    name: ObjectName,
}

impl SubscriptionMetrics {
    pub(crate) fn attempt_failed(&self, reason: Reason) {
        self.families
            .0
            .attempts_failed
            .get_or_create(&by_reason(&self.name, reason.as_str()))
            .inc();
    }

    pub(crate) fn dead_lettered(&self, reason: Reason) {
        self.families
            .0
            .dead_lettered
            .get_or_create(&by_reason(&self.name, reason.as_str()))
            .inc();
    }
}
