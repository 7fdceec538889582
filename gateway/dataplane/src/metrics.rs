//! The data plane's counters. Labels come from the spec's objects and from enums, so the number of series is bounded by
//! the number of objects; a removed object takes its series along.

use std::{sync::Arc, time::SystemTime};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use spec::{ObjectName, Reason};

use crate::{inspect::traffic::SubscriptionTraffic, journey::settlement::End};

/// From a loopback round trip to the default `timeout`.
const ATTEMPT_SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// From a loopback delivery to an event that waited for hours: what `delivery` can make of it by default, and an outage.
const LATENCY_SECONDS: [f64; 14] = [
    0.005, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0,
];

/// Labels that name the object.
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

/// Labels that name the object and a reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    namespace: String,
    name: String,
    reason: Reason,
}

/// Reasons of refusals that a channel shows before there was one, so that a rate can be taken of the first.
const REFUSALS: [Reason; 11] = [
    Reason::Invalid,
    Reason::UnsupportedFormat,
    Reason::TooLarge,
    Reason::Full,
    Reason::DiskFull,
    Reason::Unavailable,
    Reason::Draining,
    Reason::Overloaded,
    Reason::Stalled,
    Reason::NoChannel,
    Reason::MethodNotAllowed,
];

type Counters = Family<ByObject, Counter>;
type Reasons = Family<ByReason, Counter>;
type Histograms = Family<ByObject, Histogram, fn() -> Histogram>;

/// Declares the metrics, and registers them in this order under these names and descriptions.
macro_rules! families {
    ($($field:ident: $kind:ty = $metric:expr, $name:literal, $help:literal;)*) => {
        struct Families {
            $($field: $kind,)*
        }

        impl Families {
            fn new(registry: &mut Registry) -> Self {
                let families = Self { $($field: $metric,)* };
                $(registry.register($name, $help, families.$field.clone());)*
                families
            }
        }
    };
}

families! {
    accepted: Counters = Default::default(),
        "headgate_events_accepted", "Events stored in a channel and answered 2xx";
    accepted_bytes: Counters = Default::default(),
        "headgate_events_accepted_bytes", "Attributes and data of those";
    refused: Reasons = Default::default(),
        "headgate_events_refused", "Requests a channel did not take";
    requests_refused: Family<Refusal, Counter> = Default::default(),
        "headgate_requests_refused", "Requests that reached no channel";
    connections: Gauge = Default::default(),
        "headgate_ingress_connections", "Open connections to the ingress";
    delivered: Counters = Default::default(),
        "headgate_events_delivered", "Events a subscription settled as taken";
    filtered: Counters = Default::default(),
        "headgate_events_filtered", "Events a subscription's filters left out";
    attempts_failed: Reasons = Default::default(),
        "headgate_attempts_failed", "Delivery attempts that failed";
    dead_lettered: Reasons = Default::default(),
        "headgate_events_dead_lettered", "Events that became dead letters";
    replies: Reasons = Default::default(),
        "headgate_replies", "Replies of subscribers by what became of them";
    in_flight: Family<ByObject, Gauge> = Default::default(),
        "headgate_deliveries_in_flight", "Events started and not settled, waits included";
    attempt_seconds: Histograms = Family::new_with_constructor(|| Histogram::new(ATTEMPT_SECONDS)),
        "headgate_attempt_seconds", "Duration of delivery attempts over HTTP";
    latency_seconds: Histograms = Family::new_with_constructor(|| Histogram::new(LATENCY_SECONDS)),
        "headgate_event_latency_seconds", "Time from an event's acceptance to its delivery";
}

#[derive(Clone)]
pub(crate) struct Metrics(Arc<Families>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    reason: Reason,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self(Arc::new(Families::new(registry)))
    }

    pub(crate) fn connections(&self) -> &Gauge {
        &self.0.connections
    }

    /// Counts a refused request that found no channel.
    pub(crate) fn request_refused(&self, reason: Reason) {
        self.0.requests_refused.get_or_create(&Refusal { reason }).inc();
    }

    pub(crate) fn endpoint(&self, channel: &ObjectName) -> EndpointMetrics {
        let by = ByObject::from(channel);
        EndpointMetrics {
            accepted: self.0.accepted.get_or_create_owned(&by),
            accepted_bytes: self.0.accepted_bytes.get_or_create_owned(&by),
            refused: REFUSALS.map(|reason| (reason, self.0.refused.get_or_create_owned(&by_reason(channel, reason)))),
            families: self.clone(),
            name: channel.clone(),
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
            latency_seconds: self.0.latency_seconds.get_or_create_owned(&by),
            failed: Counter::default(),
            dead_lettered: Counter::default(),
            replies: Replies {
                passed: reply(Reason::Passed),
                without_target: reply(Reason::Dropped),
                malformed: reply(Reason::Malformed),
                too_large: reply(Reason::TooLarge),
            },
            families: self.clone(),
            name: name.clone(),
        }
    }

    pub(crate) fn remove_channel(&self, name: &ObjectName) {
        let by = ByObject::from(name);
        self.0.accepted.remove(&by);
        self.0.accepted_bytes.remove(&by);
        for reason in Reason::ALL {
            self.0.refused.remove(&by_reason(name, *reason));
        }
    }

    pub(crate) fn remove_subscription(&self, name: &ObjectName) {
        let by = ByObject::from(name);
        self.0.delivered.remove(&by);
        self.0.filtered.remove(&by);
        self.0.in_flight.remove(&by);
        self.0.attempt_seconds.remove(&by);
        self.0.latency_seconds.remove(&by);
        for reason in Reason::ALL {
            let by = by_reason(name, *reason);
            self.0.replies.remove(&by);
            self.0.attempts_failed.remove(&by);
            self.0.dead_lettered.remove(&by);
        }
    }
}

fn by_reason(name: &ObjectName, reason: Reason) -> ByReason {
    ByReason {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        reason,
    }
}

/// The metrics of one channel's endpoint.
pub(crate) struct EndpointMetrics {
    pub(crate) accepted: Counter,
    pub(crate) accepted_bytes: Counter,
    refused: [(Reason, Counter); REFUSALS.len()],
    families: Metrics,
    name: ObjectName,
}

impl EndpointMetrics {
    pub(crate) fn refused(&self, reason: Reason) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == reason) {
            counter.inc();
        } else {
            let by = by_reason(&self.name, reason);
            self.families.0.refused.get_or_create(&by).inc();
        }
    }
}

pub(crate) struct Replies {
    pub(crate) passed: Counter,
    pub(crate) without_target: Counter,
    pub(crate) malformed: Counter,
    pub(crate) too_large: Counter,
}

/// The metrics of one subscription.
pub(crate) struct SubscriptionMetrics {
    delivered: Counter,
    filtered: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) attempt_seconds: Histogram,
    latency_seconds: Histogram,
    /// The sums of all reasons, which are asked for more often than the registry could add them up.
    failed: Counter,
    dead_lettered: Counter,
    pub(crate) replies: Replies,
    families: Metrics,
    name: ObjectName,
}

impl SubscriptionMetrics {
    /// Counts how the journey of an event ended that was stored at that time.
    pub(crate) fn ended(&self, end: End, stored_at: SystemTime) {
        match end {
            End::Delivered | End::Forwarded | End::Replied => {
                self.delivered.inc();
                // A clock that was set back says nothing.
                if let Ok(latency) = stored_at.elapsed() {
                    self.latency_seconds.observe(latency.as_secs_f64());
                }
            }
            End::Filtered => {
                self.filtered.inc();
            }
            End::DeadLettered(reason) => {
                let by = by_reason(&self.name, reason);
                self.families.0.dead_lettered.get_or_create(&by).inc();
                self.dead_lettered.inc();
            }
            End::Released => {}
        }
    }

    pub(crate) fn attempt_failed(&self, reason: Reason) {
        self.families
            .0
            .attempts_failed
            .get_or_create(&by_reason(&self.name, reason))
            .inc();
        self.failed.inc();
    }

    /// Returns the counts since the subscription was started.
    pub(crate) fn traffic(&self) -> SubscriptionTraffic {
        SubscriptionTraffic {
            delivered: self.delivered.get(),
            left_out: self.filtered.get(),
            failed: self.failed.get(),
            dead_lettered: self.dead_lettered.get(),
        }
    }
}
