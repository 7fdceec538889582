//! What a log counted, for the metrics of whoever runs it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the sync histogram's buckets, in seconds; the last one is open. A sync takes 0.1 ms on a disk with a
/// write-back cache and 10 ms on one without.
pub const SYNC_BUCKETS_SECONDS: [f64; 11] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0,
];

/// Counters of one channel since it was opened, letters not included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Events stored.
    pub appends: u64,
    /// Bytes written for them.
    pub appended_bytes: u64,
    /// Writes, each with one sync.
    pub syncs: u64,
    /// Syncs by duration: bucket `i` counts those up to `SYNC_BUCKETS_SECONDS[i]`, the last one the rest.
    pub sync_buckets: [u64; SYNC_BUCKETS_SECONDS.len() + 1],
    pub sync_seconds_sum: f64,
    pub sync_seconds_max: f64,
    /// Writes that failed, a full disk included.
    pub failed_writes: u64,
    /// Segments there are now.
    pub segments: u64,
    /// Records read when the log was opened.
    pub recovered_records: u64,
    /// Bytes of an unfinished write cut off when the log was opened.
    pub cut_bytes: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) failed_writes: AtomicU64,
    pub(crate) recovered_records: AtomicU64,
    pub(crate) cut_bytes: AtomicU64,
    sync_buckets: [AtomicU64; SYNC_BUCKETS_SECONDS.len() + 1],
    sync_micros_sum: AtomicU64,
    sync_micros_max: AtomicU64,
}

    /// Events that were stored before, inside the dedup window, and not stored again.
    pub repeats: u64,
    /// Events whose repeats are not known any more although the window has not passed: there were too many.
    pub repeats_forgotten_early: u64,
impl Counters {
    pub(crate) fn synced(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = SYNC_BUCKETS_SECONDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(SYNC_BUCKETS_SECONDS.len());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sync_buckets[bucket].fetch_add(1, Relaxed);
    pub(crate) repeats: AtomicU64,
        self.sync_micros_sum.fetch_add(micros, Relaxed);
        self.sync_micros_max.fetch_max(micros, Relaxed);
    }

    pub(crate) fn snapshot(&self, segments: usize) -> Stats {
        let sync_buckets = std::array::from_fn(|bucket| self.sync_buckets[bucket].load(Relaxed));
        Stats {
            appends: self.appends.load(Relaxed),
            appended_bytes: self.appended_bytes.load(Relaxed),
            syncs: sync_buckets.iter().sum(),
            sync_buckets,
            sync_seconds_sum: Duration::from_micros(self.sync_micros_sum.load(Relaxed)).as_secs_f64(),
            sync_seconds_max: Duration::from_micros(self.sync_micros_max.load(Relaxed)).as_secs_f64(),
            failed_writes: self.failed_writes.load(Relaxed),
            segments: segments as u64,
            recovered_records: self.recovered_records.load(Relaxed),
            cut_bytes: self.cut_bytes.load(Relaxed),
        }
    }
}
            repeats: self.repeats.load(Relaxed),
            repeats_forgotten_early: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced(counters: &Counters, count: usize, millis: u64) {
        for _ in 0..count {
            counters.synced(Duration::from_millis(millis));
