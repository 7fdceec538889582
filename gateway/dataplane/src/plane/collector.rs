//! Gauges of depths and of readiness, computed when metrics are scraped: nothing is counted per event for them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use channel::{Channel, Depth, Durability};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};
use spec::{ObjectName, Reason, Truth};

use super::{PlaneInner, observe::observe};
use crate::metrics::ByObject;

pub(crate) struct Depths(Weak<PlaneInner>);

impl Depths {
    /// Weak, because the plane's owner keeps the registry.
    pub(crate) fn new(shared: Weak<PlaneInner>) -> Self {
        Self(shared)
    }
}

impl fmt::Debug for Depths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Depths")
    }
}

/// A gauge's name, what it says, and its value for an object that has one.
type Gauge<T> = (&'static str, &'static str, fn(&T) -> Option<f64>);

/// All gauges of channels: there is no second list.
const OF_CHANNELS: &[Gauge<Sample>] = &[
    (
        "headgate_channel_unsettled_events",
        "Events not settled by the subscription furthest behind",
        |seen| {
            let behind = seen.depth.cursors.iter().map(|cursor| cursor.unsettled);
            Some(behind.max().unwrap_or(0) as f64)
        },
    ),
    (
        "headgate_channel_bytes",
        "Bytes a channel holds in memory or on disk",
        |seen| seen.depth.bytes.map(|bytes| bytes as f64),
    ),
    (
        "headgate_channel_dead_letters",
        "Letters in a channel's dead-letter log",
        |seen| Some(seen.channel.dead_letters().count() as f64),
    ),
    (
        "headgate_channel_refusing",
        "1 while a channel refuses events",
        |seen| Some(f64::from(seen.depth.refusing.is_some())),
    ),
    (
        "headgate_channel_slow",
        "1 while storing takes longer than it should: the disk is slow",
        |seen| Some(f64::from(seen.depth.slow.is_some())),
    ),
    (
        "headgate_channel_durability",
        "What a channel was found to promise: 0 process, 1 disk, 2 quorum, 3 quorum-fsync",
        |seen| {
            Some(match seen.channel.promises().durability {
                Durability::Process => 0.0,
                Durability::Disk => 1.0,
                Durability::Quorum => 2.0,
                Durability::QuorumFsync => 3.0,
            })
        },
    ),
    (
        "headgate_channel_durability_shortfalls",
        "Settings because of which a channel promises less than it could",
        |seen| Some(seen.channel.findings().len() as f64),
    ),
    (
        "headgate_channel_missing_events",
        "Events that are gone although not everybody had settled them",
        |seen| {
            let gone: u64 = seen.depth.gaps.iter().map(|gap| gap.to.0 - gap.from.0).sum();
            Some(gone as f64)
        },
    ),
    (
        "headgate_channel_missing_dead_letters",
        "Letters that are gone although nobody removed them",
        |seen| Some(seen.channel.dead_letters().missing() as f64),
    ),
];

const OF_SUBSCRIPTIONS: &[Gauge<Backlog>] = &[
    (
        "headgate_subscription_unsettled_events",
        "Events a subscription has not settled",
        |behind| Some(behind.unsettled as f64),
    ),
    (
        "headgate_subscription_oldest_seconds",
        "Age of the oldest event a subscription has not settled",
        |behind| Some(behind.oldest.as_secs_f64()),
    ),
];

/// The depth of a channel when metrics are scraped.
struct Sample {
    channel: Arc<dyn Channel>,
    depth: Depth,
}

/// How far behind a subscription is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Events that it has not settled.
    pub unsettled: u64,
    /// The age of the oldest of them.
    pub oldest: Duration,
}

/// Returns how far behind each subscription of an open channel is.
pub(crate) fn backlogs(shared: &PlaneInner) -> BTreeMap<ObjectName, Backlog> {
    subscriptions(&channels(shared))
}

impl Collector for Depths {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let channels = channels(&shared);
        let subscriptions = subscriptions(&channels);
        encode_gauges(&mut encoder, OF_CHANNELS, &channels)?;
        encode_gauges(&mut encoder, OF_SUBSCRIPTIONS, &subscriptions)?;
        encode_ready(&mut encoder, &shared)
    }
}

/// Encodes whether each object of this process is Ready. Objects of another replica are in the scrape of that one.
fn encode_ready(encoder: &mut DescriptorEncoder<'_>, shared: &PlaneInner) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let help = "1 while an object's condition Ready is True, otherwise 0";
    let mut family = encoder.encode_descriptor("headgate_object_ready", help, None, kind)?;
    for (key, status) in observe(shared).objects {
        let conditions = &status.conditions;
        let is_elsewhere = conditions
            .get("Here")
            .is_some_and(|here| here.reason() == Reason::Elsewhere.as_str());
        let Some(ready) = conditions.get("Ready").filter(|_| !is_elsewhere) else {
            continue;
        };
        let labels = [
            ("kind", key.kind.as_str()),
            ("namespace", &*key.name.namespace),
            ("name", &*key.name.name),
        ];
        ConstGauge::new(i64::from(ready.truth == Truth::True)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_gauges<T>(
    encoder: &mut DescriptorEncoder<'_>,
    gauges: &[Gauge<T>],
    objects: &BTreeMap<ObjectName, T>,
) -> Result<(), fmt::Error> {
    for (name, help, value) in gauges {
        let kind = ConstGauge::new(0.0).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (object, what) in objects {
            if let Some(value) = value(what) {
                ConstGauge::new(value).encode(family.encode_family(&ByObject::from(object))?)?;
            }
        }
    }
    Ok(())
}

fn channels(shared: &PlaneInner) -> BTreeMap<ObjectName, Sample> {
    let open: Vec<_> = {
        let state = shared.runtime.state.lock();
        let open = state.channels.iter();
        open.map(|(name, open)| (name.clone(), open.channel.clone())).collect()
    };
    let seen = |channel: Arc<dyn Channel>| Sample {
        depth: channel.depth(),
        channel,
    };
    open.into_iter().map(|(name, channel)| (name, seen(channel))).collect()
}

fn subscriptions(channels: &BTreeMap<ObjectName, Sample>) -> BTreeMap<ObjectName, Backlog> {
    let now = SystemTime::now();
    let mut subscriptions: BTreeMap<ObjectName, Backlog> = BTreeMap::new();
    for cursor in channels.values().flat_map(|seen| &seen.depth.cursors) {
        let Some((namespace, subscription)) = cursor.name.as_str().split_once('/') else {
            continue;
        };
        let oldest = cursor.oldest.and_then(|oldest| now.duration_since(oldest).ok());
        // That of a former subscription of the same name may still be there: one series, of what is furthest behind.
        let most = subscriptions
            .entry(ObjectName::new(namespace, subscription))
            .or_default();
        most.unsettled = most.unsettled.max(cursor.unsettled);
        most.oldest = most.oldest.max(oldest.unwrap_or_default());
    }
    subscriptions
}
