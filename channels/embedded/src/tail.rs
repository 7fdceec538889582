//! The most recent events, decoded once and shared by all cursors of a channel.
//!
//! A cursor that keeps up never reads the disk; a cursor that lags behind reads segments and does not use the tail.
//! Events that every cursor settled are dropped, so the tail is nearly empty in the steady state. The bounds matter
//! only when it is not.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use event::Event;

/// Bytes one channel keeps at most: a few seconds of 1 KiB events at full speed.
const TAIL_BYTES_MAX: usize = 8 << 20;
/// Bytes all channels of a folder keep at most, so that the process stays under 100 MB with many of them.
const FOLDER_BYTES_MAX: usize = 24 << 20;
/// Bytes a channel may keep even if other channels used the folder's budget.
const TAIL_BYTES_MIN: usize = 256 << 10;
/// Estimated bytes of an event beyond its contents.
const OVERHEAD: usize = 128;

/// Bytes in the tails of one folder.
#[derive(Clone, Default)]
pub(crate) struct Budget(Arc<AtomicUsize>);

pub(crate) struct Recent {
    pub(crate) event: Event,
    pub(crate) stored_ms: u64,
}

pub(crate) struct Tail {
    recent: VecDeque<Recent>,
    /// The offset of the first event.
    base: u64,
    bytes: usize,
    budget: Budget,
}

impl Tail {
    pub(crate) fn new(base: u64, budget: Budget) -> Self {
        Self {
            recent: VecDeque::new(),
            base,
            bytes: 0,
            budget,
        }
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&Recent> {
        let index = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.recent.get(index)
    }

    /// Adds the events committed from `first` on. `low` is the offset below which every cursor has settled.
    pub(crate) fn extend(&mut self, first: u64, events: impl Iterator<Item = Recent>, low: u64) {
        if first != self.base + self.recent.len() as u64 {
            self.delete(usize::MAX);
            self.base = first;
        }
        let before = self.bytes;
        for recent in events {
            self.bytes += recent.event.size() + OVERHEAD;
            self.recent.push_back(recent);
        }
        self.budget.0.fetch_add(self.bytes - before, Ordering::Relaxed);
        let settled = usize::try_from(low.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.delete(settled);
        while self.bytes > self.allowed() {
            self.delete(1);
        }
    }

    /// Drops the events that every cursor settled, when a channel is quiet.
    pub(crate) fn trim(&mut self, low: u64) {
        self.delete(usize::try_from(low.saturating_sub(self.base)).unwrap_or(usize::MAX));
        self.recent.shrink_to(self.recent.len() * 2);
    }

    fn allowed(&self) -> usize {
        if self.budget.0.load(Ordering::Relaxed) > FOLDER_BYTES_MAX {
            TAIL_BYTES_MIN
        } else {
            TAIL_BYTES_MAX
        }
    }

    fn delete(&mut self, count: usize) {
        let before = self.bytes;
        for _ in 0..count.min(self.recent.len()) {
            if let Some(recent) = self.recent.pop_front() {
                self.bytes -= recent.event.size() + OVERHEAD;
                self.base += 1;
            }
        }
        self.budget.0.fetch_sub(before - self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
