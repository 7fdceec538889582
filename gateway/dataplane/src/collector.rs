//! Depths, asked for when metrics are scraped: nothing is counted per event for them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Weak,
    time::{Duration, SystemTime},
};

use channel::Durability;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};

use crate::{metrics::ByObject, plane::Shared};

pub(crate) struct Depths(Weak<Shared>);

impl Depths {
    /// Weak, because the plane's owner keeps the registry.
    pub(crate) fn new(shared: Weak<Shared>) -> Self {
        Self(shared)
    }
}

impl fmt::Debug for Depths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Depths")
    }
}

/// One gauge over many objects.
struct Family {
    name: &'static str,
    help: &'static str,
    values: Vec<(ByObject, f64)>,
}

impl Collector for Depths {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        for family in families(&shared) {
            let gauge = ConstGauge::new(0.0);
            let mut encoder = encoder.encode_descriptor(family.name, family.help, None, gauge.metric_type())?;
            for (labels, value) in &family.values {
                ConstGauge::new(*value).encode(encoder.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

fn families(shared: &Shared) -> Vec<Family> {
    let family = |name, help| Family {
        name,
        help,
        values: Vec::new(),
    };
    let mut unsettled = family(
        "headgate_channel_unsettled_events",
        "Events not settled by the subscription furthest behind",
    );
    let mut bytes = family("headgate_channel_bytes", "Bytes a channel holds in memory or on disk");
    let mut letters = family(
        "headgate_channel_dead_letters",
        "Letters in a channel's dead-letter log",
    );
    let mut refusing = family("headgate_channel_refusing", "1 while a channel refuses events");
    let mut slow = family(
        "headgate_channel_slow",
        "1 while storing takes longer than it should: the disk is slow",
    );
    let mut durability = family(
        "headgate_channel_durability",
        "What a channel was found to promise: 0 process, 1 disk, 2 quorum, 3 quorum-fsync",
    );
    let mut shortfalls = family(
        "headgate_channel_durability_shortfalls",
        "Settings because of which a channel promises less than it could",
    );
    let mut missing = family(
        "headgate_channel_missing_events",
        "Events that are gone although not everybody had settled them",
    );
    let mut missing_letters = family(
        "headgate_channel_missing_dead_letters",
        "Letters that are gone although nobody removed them",
    );
    let mut lag = family(
        "headgate_subscription_unsettled_events",
        "Events a subscription has not settled",
    );
    let mut age = family(
        "headgate_subscription_oldest_seconds",
        "Age of the oldest event a subscription has not settled",
    );
    let now = SystemTime::now();
    let open: Vec<_> = {
        let state = shared.state.lock();
        state
            .channels
            .iter()
            .map(|(name, open)| (name.clone(), open.channel.clone()))
            .collect()
    };
    for (name, channel) in open {
        let depth = channel.depth();
        let by = ByObject::from(&name);
        let behind = depth.cursors.iter().map(|cursor| cursor.unsettled).max().unwrap_or(0);
        unsettled.values.push((by.clone(), behind as f64));
        if let Some(held) = depth.bytes {
            bytes.values.push((by.clone(), held as f64));
        }
        refusing
            .values
            .push((by.clone(), f64::from(u8::from(depth.refusing.is_some()))));
        slow.values
            .push((by.clone(), f64::from(u8::from(depth.slow.is_some()))));
        let gone: u64 = depth.gaps.iter().map(|gap| gap.to.0 - gap.from.0).sum();
        missing.values.push((by.clone(), gone as f64));
        let promised = match channel.promises().durability {
            Durability::Process => 0.0,
            Durability::Disk => 1.0,
            Durability::Quorum => 2.0,
            Durability::QuorumFsync => 3.0,
        };
        durability.values.push((by.clone(), promised));
        shortfalls.values.push((by.clone(), channel.findings().len() as f64));
        missing_letters
            .values
            .push((by.clone(), channel.letters().missing() as f64));
        letters.values.push((by, channel.letters().count() as f64));
        let mut subscriptions = BTreeMap::new();
        for cursor in depth.cursors {
            let Some((namespace, subscription)) = cursor.name.as_str().split_once('/') else {
                continue;
            };
            let subscription = spec::ObjectName::new(namespace, subscription);
            let oldest = cursor
                .oldest
                .and_then(|oldest| now.duration_since(oldest).ok())
                .unwrap_or_default();
            // That of a former subscription of the same name may still be there: one series, of what is furthest behind.
            let most: &mut (u64, Duration) = subscriptions.entry(subscription).or_default();
            *most = (cursor.unsettled.max(most.0), oldest.max(most.1));
        }
        for (subscription, (behind, oldest)) in subscriptions {
            let by = ByObject::from(&subscription);
            lag.values.push((by.clone(), behind as f64));
            age.values.push((by, oldest.as_secs_f64()));
        }
    }
    vec![
        unsettled,
        bytes,
        letters,
        refusing,
        slow,
        durability,
        shortfalls,
        missing,
        missing_letters,
        lag,
        age,
    ]
}
