//! The most recent events, decoded once and shared by all cursors of a channel.
//!
//! A cursor that keeps up never touches the disk; one that is behind reads segments and leaves this alone. What every
//! cursor settled is dropped, so in the steady state it is nearly empty; its bounds are for when it is not.

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
/// What a channel may keep even when others took the folder's share.
const TAIL_BYTES_MIN: usize = 256 << 10;
/// What an event costs beyond its bytes.
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
    /// The place of the first one.
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

    pub(crate) fn get(&self, place: u64) -> Option<&Recent> {
        let index = usize::try_from(place.checked_sub(self.base)?).ok()?;
        self.recent.get(index)
    }

    /// Adds what was committed from `first` on; `low` is the place below which every cursor is done.
    pub(crate) fn extend(&mut self, first: u64, events: impl Iterator<Item = Recent>, low: u64) {
        if first != self.base + self.recent.len() as u64 {
            self.forget(usize::MAX);
            self.base = first;
        }
        let before = self.bytes;
        for recent in events {
            self.bytes += recent.event.size() + OVERHEAD;
            self.recent.push_back(recent);
        }
        self.budget.0.fetch_add(self.bytes - before, Ordering::Relaxed);
        let settled = usize::try_from(low.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.forget(settled);
        while self.bytes > self.allowed() {
            self.forget(1);
        }
    }

    /// Drops what every cursor settled, when a channel is quiet.
    pub(crate) fn trim(&mut self, low: u64) {
        self.forget(usize::try_from(low.saturating_sub(self.base)).unwrap_or(usize::MAX));
        self.recent.shrink_to(self.recent.len() * 2);
    }

    fn allowed(&self) -> usize {
        if self.budget.0.load(Ordering::Relaxed) > FOLDER_BYTES_MAX {
            TAIL_BYTES_MIN
        } else {
            TAIL_BYTES_MAX
        }
    }

    fn forget(&mut self, count: usize) {
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
