//! Counters of a log for the metrics, and whether its disk was slow recently.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Upper bounds of the sync histogram's buckets, in seconds; the last one is open. A sync takes 0.1 ms on a disk with a
/// write-back cache and 10 ms on one without.
pub const SYNC_BUCKETS_SECONDS: [f64; 11] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0,
];

/// A disk is slow if more than one sync in a hundred takes longer than this, and publishers wait that long. It is ten
/// times what a disk without a write-back cache takes, and a bucket bound.
pub const SLOW_SYNC: Duration = Duration::from_millis(100);
/// Syncs are judged over one to two of these periods: long enough for a hundred of them, short enough to notice soon
/// that a disk has recovered.
const JUDGED_OVER: Duration = Duration::from_secs(60);
/// With fewer syncs, one in a hundred means nothing.
const JUDGED_FROM: u64 = 10;
/// A single slow sync does not make a slow disk: the machine may have been busy for a moment.
const SLOW_MIN: u64 = 2;

type Buckets = [u64; SYNC_BUCKETS_SECONDS.len() + 1];

/// Counters of one channel since it was opened, without dead letters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Events stored.
    pub appends: u64,
    /// Bytes written for them.
    pub appended_bytes: u64,
    /// Writes that were synced. A group commit counts once for each log.
    pub syncs: u64,
    /// Syncs by duration: bucket `i` counts those up to `SYNC_BUCKETS_SECONDS[i]`, the last one the rest.
    pub sync_buckets: Buckets,
    /// Duration of all syncs together, in seconds.
    pub sync_seconds_sum: f64,
    /// Duration of the longest sync, in seconds.
    pub sync_seconds_max: f64,
    /// Failed writes, including those on a full disk.
    pub failed_writes: u64,
    /// Current number of segments.
    pub segments: u64,
    /// Records read when the log was opened.
    pub recovered_records: u64,
    /// Bytes of an unfinished write that were cut off when the log was opened.
    pub cut_bytes: u64,
    /// Repeats inside the dedup window, which were not stored again.
    pub repeats: u64,
    /// Events evicted from the dedup window early, because there were too many: their repeats are stored.
    pub repeats_evicted_early: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) failed_writes: AtomicU64,
    pub(crate) recovered_records: AtomicU64,
    pub(crate) cut_bytes: AtomicU64,
    pub(crate) repeats: AtomicU64,
    sync_buckets: [AtomicU64; SYNC_BUCKETS_SECONDS.len() + 1],
    sync_micros_sum: AtomicU64,
    sync_micros_max: AtomicU64,
    recent: Mutex<Recent>,
}

/// Syncs of this period and of the previous one.
#[derive(Default)]
struct Recent {
    began: Option<Instant>,
    now: Buckets,
    before: Buckets,
}

impl Recent {
    fn roll(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = now.duration_since(began);
        if passed >= JUDGED_OVER {
            // After a longer pause no sync is recent.
            self.before = if passed < JUDGED_OVER * 2 {
                self.now
            } else {
                Buckets::default()
            };
            self.now = Buckets::default();
            self.began = Some(now);
        }
    }

    fn count(&mut self, bucket: usize, now: Instant) {
        self.roll(now);
        self.now[bucket] += 1;
    }

    /// The bucket bound that all but one in a hundred syncs kept; `None` if there are too few.
    fn p99(&mut self, now: Instant) -> Option<f64> {
        self.roll(now);
        let counts: Buckets = std::array::from_fn(|bucket| self.now[bucket] + self.before[bucket]);
        let total: u64 = counts.iter().sum();
        if total < JUDGED_FROM {
            return None;
        }
        let mut above = total;
        let bounds = SYNC_BUCKETS_SECONDS.into_iter().chain([f64::INFINITY]);
        counts.into_iter().zip(bounds).find_map(|(count, bound)| {
            above -= count;
            (above * 100 <= total || above < SLOW_MIN).then_some(bound)
        })
    }
}

impl Counters {
    /// Why the disk counts as slow, if it does.
    pub(crate) fn slow(&self) -> Option<String> {
        let p99 = self.recent.lock().p99(Instant::now())?;
        (p99 > SLOW_SYNC.as_secs_f64()).then(|| {
            let most = match SYNC_BUCKETS_SECONDS.last() {
                Some(longest) if p99 > *longest => format!("more than {longest} s"),
                _ => format!("up to {p99} s"),
            };
            format!(
                "more than one sync in a hundred took longer than {} ms of late, {most}: publishers wait as long",
                SLOW_SYNC.as_millis()
            )
        })
    }

    pub(crate) fn synced(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = SYNC_BUCKETS_SECONDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(SYNC_BUCKETS_SECONDS.len());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sync_buckets[bucket].fetch_add(1, Relaxed);
        self.recent.lock().count(bucket, Instant::now());
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
            repeats: self.repeats.load(Relaxed),
            repeats_evicted_early: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced(counters: &Counters, count: usize, millis: u64) {
        for _ in 0..count {
            counters.synced(Duration::from_millis(millis));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_slow_when_more_than_one_sync_in_a_hundred_is_and_not_for_ever() {
        let counters = Counters::default();
        synced(&counters, 9, 3000);
        assert_eq!(counters.slow(), None, "too few to say");
        synced(&counters, 991, 1);
        assert_eq!(counters.slow(), None, "nine in a thousand");
        synced(&counters, 2, 300);
        let why = counters.slow();
        assert!(
            why.as_ref().is_some_and(|why| why.contains("longer than 100 ms")),
            "{why:?}"
        );
        tokio::time::advance(JUDGED_OVER).await;
        assert!(counters.slow().is_some(), "a minute ago is of late");
        synced(&counters, 100, 1);
        assert_eq!(counters.slow(), None);
        tokio::time::advance(JUDGED_OVER).await;
        synced(&counters, 20, 5000);
        assert!(counters.slow().is_some_and(|why| why.contains("more than 2 s")));
        tokio::time::advance(JUDGED_OVER * 2).await;
        assert_eq!(counters.slow(), None, "nothing is known of late");
    }
}
