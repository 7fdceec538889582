//! Metrics of the embedded channels' logs and of their data folder, read when metrics are scraped.

use std::{collections::HashMap, fmt, sync::Arc, sync::Weak};

use channel_embedded::{DataFolder, EmbeddedChannel, SYNC_BUCKETS_SECONDS, Stats};
use channel_memory::Budget;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use spec::ObjectName;

/// The logs that are open, by the channel they belong to.
pub(crate) type OpenLogs = Arc<Mutex<HashMap<ObjectName, Weak<EmbeddedChannel>>>>;

#[derive(Debug)]
pub(crate) struct LogMetrics {
    pub(crate) logs: OpenLogs,
    pub(crate) folder: DataFolder,
    pub(crate) memory: Budget,
}

impl Collector for LogMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut logs: Vec<(ObjectName, Stats)> = {
            let open = self.logs.lock();
            let alive = open
                .iter()
                .filter_map(|(name, log)| Some((name.clone(), log.upgrade()?)));
            alive.map(|(name, log)| (name, log.stats())).collect()
        };
        logs.sort_by(|a, b| a.0.cmp(&b.0));
        let mut family = |name, help, metric: fn(&Stats) -> Box<dyn EncodeMetric>| {
            let kind = metric(&Stats::default()).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (channel, stats) in &logs {
                let labels = [("namespace", &*channel.namespace), ("name", &*channel.name)];
                metric(stats).encode(family.encode_family(&labels)?)?;
            }
            Ok(())
        };
        family("headgate_log_written_bytes", "Bytes written for events", |stats| {
            Box::new(ConstCounter::new(stats.appended_bytes))
        })?;
        family(
            "headgate_log_writes_failed",
            "Writes that failed, a full disk included",
            |stats| Box::new(ConstCounter::new(stats.failed_writes)),
        )?;
        family("headgate_log_segments", "Files that hold events", |stats| {
            Box::new(ConstGauge::new(stats.segments))
        })?;
        family(
            "headgate_log_cut_bytes",
            "Bytes of an unfinished write cut off when the log was opened",
            |stats| Box::new(ConstGauge::new(stats.cut_bytes)),
        )?;
        family(
            "headgate_log_repeats",
            "Events that were stored before, inside the dedup window, and not stored again",
            |stats| Box::new(ConstCounter::new(stats.repeats)),
        )?;
        family(
            "headgate_log_repeats_forgotten",
            "Events whose repeats are stored again before the dedup window has passed, for want of room",
            |stats| Box::new(ConstCounter::new(stats.repeats_evicted_early)),
        )?;
        family(
            "headgate_log_sync_seconds",
            "Duration of syncs, one for each write of a batch",
            |stats| Box::new(Syncs(stats.clone())),
        )?;
        self.encode_data(&mut encoder)
    }
}

impl LogMetrics {
    /// Encodes what belongs to no channel: the data folder and the memory budget.
    fn encode_data(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let syncs = ConstCounter::new(self.folder.syncs());
        syncs.encode(encoder.encode_descriptor(
            "headgate_data_syncs",
            "Syncs that made events durable, each for one or more channels",
            None,
            syncs.metric_type(),
        )?)?;
        let used = ConstGauge::new(self.folder.reserved_space_used());
        used.encode(encoder.encode_descriptor(
            "headgate_data_reserved_used_bytes",
            "Bytes of the reserved space that a full disk has taken",
            None,
            used.metric_type(),
        )?)?;
        let mut gauge = |name, help, bytes| {
            let gauge = ConstGauge::<u64>::new(bytes);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "headgate_memory_used_bytes",
            "Bytes that all in-memory channels hold together",
            self.memory.used() as u64,
        )?;
        gauge(
            "headgate_memory_budget_bytes",
            "Bytes that all in-memory channels may hold together",
            self.memory.total() as u64,
        )?;
        let Some(space) = self.folder.space() else {
            return Ok(());
        };
        gauge(
            "headgate_data_free_bytes",
            "Bytes that are free on the disk of the data folder",
            space.free,
        )?;
        gauge(
            "headgate_data_disk_bytes",
            "Bytes of the disk of the data folder",
            space.total,
        )
    }
}

/// A histogram that was counted elsewhere.
struct Syncs(Stats);

impl EncodeMetric for Syncs {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = SYNC_BUCKETS_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.sync_buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(self.0.sync_seconds_sum, self.0.syncs, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
