//! One sync for many files, where the file system can do that and it is worth it.
//!
//! A sync of everything writes what others have left to write, too: cheap on a volume of our own, dear beside somebody's build.
//! So each is measured against syncs one by one, and there are none for a while when they have cost too much.

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

/// Each sync of one file counts for an eighth of what one is expected to take.
const SMOOTHING: u32 = 8;
/// What one is expected to take before there was one.
const ALONE_AT_FIRST: Duration = Duration::from_millis(1);
/// Syncs of everything may take so much more time together than the files would have one by one; what they save counts
/// against it. A single slow one says little where others use the disk and the processors, too.
const LOSS_MAX: Duration = Duration::from_millis(200);
/// For how long there are none then; twice as long when the next is dear, too.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

pub(crate) struct Syncs {
    storage: Arc<dyn Storage>,
    /// One sync of everything at a time.
    turn: Mutex<()>,
    costs: Mutex<Costs>,
    count: AtomicU64,
}

struct Costs {
    alone: Duration,
    /// The file system cannot, or could not once.
    impossible: bool,
    loss: Duration,
    not_before: Option<Instant>,
    pause: Duration,
}

impl Syncs {
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

    /// Syncs of either kind so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Are files to be synced together?
    pub(crate) fn are_shared(&self) -> bool {
        let costs = self.costs.lock();
        !costs.impossible && costs.not_before.is_none_or(|time| Instant::now() >= time)
    }

    /// Makes everything durable that was written so far in these folders, one file each; returns how long it took. `None`:
    /// it did not, and each file must be synced by itself, which also tells those that fail. Blocks.
    ///
    /// A failure is told once, to whoever asks first, and may be about files of somebody else, who has written and not
    /// synced: so one has its turn after the other, and after a failure nobody asks again.
    pub(crate) fn whole(&self, dirs: &[&Path]) -> Option<Duration> {
        let _turn = self.turn.lock();
        if !self.are_shared() {
            return None;
        }
        let started = Instant::now();
        let synced = self.storage.sync_whole(dirs);
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
                tracing::warn!(%error, "a sync of the file system failed, files are synced one by one from now on");
                None
            }
        }
    }

    /// One file was synced by itself.
    pub(crate) fn alone(&self, took: Duration) {
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
