//! Group commit: one `syncfs` for the files of many logs, where the file system supports it and it pays.
//!
//! A `syncfs` also writes what other programs have left to write: cheap on a volume of our own, expensive beside a
//! running build. So the cost of each is compared with syncing the files one by one, and group commit pauses for a
//! while once it has cost too much. docs/embedded-performance.md shows the gain: 500 channels with 10 events/s each
//! need 981 syncs/s instead of 4998, and half the CPU time.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::storage::Storage;

/// Each sync of a single file counts for an eighth of the expected duration.
const SMOOTHING: u32 = 8;
/// The expected duration of a file's sync before the first was measured.
const ALONE_AT_FIRST: Duration = Duration::from_millis(1);
/// How much longer group commits may take in total than syncing the files one by one; savings count against it. A
/// single slow one proves little where other programs use the disk and the processors.
const LOSS_MAX: Duration = Duration::from_millis(200);
/// How long group commit pauses then. The pause doubles when the next one is expensive, too.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

pub(crate) struct GroupSync {
    storage: Arc<dyn Storage>,
    /// Held during a `syncfs`: one at a time.
    turn: Mutex<()>,
    costs: Mutex<Costs>,
    count: AtomicU64,
}

struct Costs {
    alone: Duration,
    /// The file system does not support it, or it failed once.
    impossible: bool,
    loss: Duration,
    not_before: Option<Instant>,
    pause: Duration,
}

impl GroupSync {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self {
            storage,
            turn: Mutex::new(()),
            costs: Mutex::new(Costs {
                alone: ALONE_AT_FIRST,
                impossible: false,
                loss: Duration::ZERO,
                not_before: None,
                pause: PAUSE_MIN,
            }),
            count: AtomicU64::new(0),
        })
    }

    /// Syncs so far, of single files and of groups.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Whether several files should be synced by a group commit.
    pub(crate) fn prefers_syncfs(&self) -> bool {
        let costs = self.costs.lock();
        !costs.impossible && costs.not_before.is_none_or(|time| Instant::now() >= time)
    }

    /// Makes everything durable that was written so far in these folders, one file each. Returns the duration, or
    /// `None` if it did not: then each file must be synced by itself, which also reports the ones that fail. Blocks.
    ///
    /// The kernel reports a failure once, to the first caller, and it may concern a file that another thread has
    /// written and not synced yet. So calls take turns, and after a failure group commit is never used again.
    pub(crate) fn sync_filesystem(&self, dirs: &[&Path]) -> Option<Duration> {
        let _turn = self.turn.lock();
        if !self.prefers_syncfs() {
            return None;
        }
        let started = Instant::now();
        let synced = self.storage.sync_filesystem(dirs);
        let took = started.elapsed();
        self.count.fetch_add(1, Relaxed);
        let mut costs = self.costs.lock();
        match synced {
            Ok(true) => {
                costs.judge(took, u32::try_from(dirs.len()).unwrap_or(u32::MAX));
                Some(took)
            }
            Ok(false) => {
                costs.impossible = true;
                None
            }
            Err(error) => {
                costs.impossible = true;
                drop(costs);
                tracing::warn!(%error, "syncfs failed, files are synced one by one from now on");
                None
            }
        }
    }

    /// Records the duration of one file's sync.
    pub(crate) fn record_file_sync(&self, took: Duration) {
        self.count.fetch_add(1, Relaxed);
        let mut costs = self.costs.lock();
        costs.alone = costs.alone - costs.alone / SMOOTHING + took / SMOOTHING;
    }
}

impl Costs {
    fn judge(&mut self, took: Duration, files: u32) {
        let one_by_one = self.alone.saturating_mul(files);
        self.loss = (self.loss + took).saturating_sub(one_by_one);
        if self.loss > LOSS_MAX {
            self.leave_alone();
        } else if self.loss.is_zero() {
            self.pause = PAUSE_MIN;
        }
    }

    fn leave_alone(&mut self) {
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.loss = LOSS_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn syncs_of_everything_that_are_dear_are_left_alone_longer_each_time_and_cheap_ones_forgive() {
        let mut costs = Costs {
            alone: Duration::from_millis(1),
            impossible: false,
            loss: Duration::ZERO,
            not_before: None,
            pause: PAUSE_MIN,
        };
        for _ in 0..100 {
            costs.judge(LOSS_MAX, 10);
            (0..20).for_each(|_| costs.judge(Duration::from_micros(200), 11));
        }
        assert_eq!(costs.not_before, None, "the others have saved as much");
        costs.judge(LOSS_MAX + Duration::from_millis(11), 10);
        for pause in [PAUSE_MIN, PAUSE_MIN * 2, PAUSE_MIN * 4] {
            assert_eq!(costs.not_before, Some(Instant::now() + pause));
            costs.judge(Duration::from_millis(11), 10);
        }
        for _ in 0..20 {
            costs.judge(Duration::from_secs(5), 2);
        }
        assert_eq!(costs.not_before, Some(Instant::now() + PAUSE_MAX));
        (0..30).for_each(|_| costs.judge(Duration::from_millis(1), 11));
        assert_eq!(costs.pause, PAUSE_MIN);
    }
}
