//! The state of a cursor: its progress, its unsaved changes, and its lease. It outlives the holder.
//!
//! The log reads how far it has settled and wakes its lease; the store saves it; cursor.rs delivers from it.

use std::{
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use channel::{Attempts, CursorLease, CursorName, Offset, SettlementState, Watermark, progress::Progress};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::state::{SavedCursor, put_created, put_owned, put_settled, put_tried};

/// A cursor, without its holder.
pub(crate) struct CursorState {
    pub(crate) name: CursorName,
    pub(crate) id: u32,
    owner: OnceLock<String>,
    pub(crate) state: Mutex<State>,
    /// Mirrors the progress, so that the log reads it without the lock.
    settled_below: AtomicU64,
    pub(crate) lease: CursorLease,
}

pub(crate) struct State {
    pub(crate) progress: Progress<Instant>,
    /// Settled since the last save.
    settled: Vec<Offset>,
    /// Offsets were skipped since the last save; the next save writes the new settled prefix.
    skipped: bool,
    /// Tried since the last save.
    tried: Vec<Offset>,
}

impl CursorState {
    pub(crate) fn new(id: u32, name: CursorName, start: Offset) -> Self {
        Self::with(id, name, Progress::new(start))
    }

    /// Restores a saved cursor.
    pub(crate) fn restore(id: u32, saved: SavedCursor) -> Self {
        let progress = Progress::restore(saved.settled, saved.attempts);
        let cursor = Self::with(id, CursorName::new(saved.name), progress);
        cursor.belongs_to(saved.owner.as_deref());
        cursor
    }

    fn with(id: u32, name: CursorName, progress: Progress<Instant>) -> Self {
        Self {
            name,
            id,
            owner: OnceLock::new(),
            settled_below: AtomicU64::new(progress.settled().settled_below().0),
            state: Mutex::new(State {
                progress,
                settled: Vec::new(),
                skipped: false,
                tried: Vec::new(),
            }),
            lease: CursorLease::default(),
        }
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.get().map(String::as_str)
    }

    /// Sets the owner of a cursor that has none; returns `true` if it did, and the owner must be saved.
    pub(crate) fn belongs_to(&self, owner: Option<&str>) -> bool {
        owner.is_some_and(|owner| self.owner.set(owner.to_owned()).is_ok())
    }

    pub(crate) fn put_owner(&self, out: &mut Vec<u8>) {
        if let Some(owner) = self.owner() {
            put_owned(out, self.id, owner);
        }
    }

    pub(crate) fn settled_below(&self) -> Offset {
        Offset(self.settled_below.load(Ordering::Acquire))
    }

    /// Returns the settled prefix, and how many offsets below `next` are unsettled.
    pub(crate) fn status(&self, next: Offset) -> (Offset, u64) {
        let state = self.state.lock();
        (
            state.progress.settled().settled_below(),
            state.progress.settled().unsettled(next),
        )
    }

    pub(crate) fn settlement_state(&self, offset: Offset) -> SettlementState {
        self.state.lock().progress.settlement_state(offset)
    }

    /// Settles offsets that hold nothing readable.
    pub(crate) fn skip(&self, offsets: Range<Offset>) {
        let mut state = self.state.lock();
        state.skip(offsets);
        self.moved(&state);
        drop(state);
        self.lease.wake();
    }

    pub(crate) fn settle(&self, offset: Offset) {
        let mut state = self.state.lock();
        if state.progress.settle(offset) {
            self.moved(&state);
        }
        state.settled.push(offset);
    }

    /// Records the attempts at an event; `false` if it is settled already.
    pub(crate) fn remember(&self, offset: Offset, attempts: Attempts) -> bool {
        let mut state = self.state.lock();
        let is_remembered = state.progress.remember(offset, attempts);
        if is_remembered {
            state.tried.push(offset);
        }
        is_remembered
    }

    /// Publishes the settled prefix of `state`, which the caller has changed.
    pub(crate) fn moved(&self, state: &State) {
        self.settled_below
            .store(state.progress.settled().settled_below().0, Ordering::Release);
    }

    /// Appends the changes since the last save to `out`, and clears them.
    pub(crate) fn put_changes(&self, out: &mut Vec<u8>) {
        let mut state = self.state.lock();
        if !state.settled.is_empty() || state.skipped {
            let below = state.progress.settled().settled_below();
            let mut news = Watermark::new(below);
            for offset in state.settled.drain(..).filter(|offset| *offset >= below) {
                news.settle(offset);
            }
            put_settled(out, self.id, below, news.above());
            state.skipped = false;
        }
        let State { progress, tried, .. } = &mut *state;
        tried.sort_unstable();
        tried.dedup();
        for offset in tried.drain(..) {
            if let Some(attempts) = progress.attempts().get(&offset) {
                put_tried(out, self.id, offset, attempts);
            }
        }
    }

    /// Appends the complete state to `out`, for a new file. Changes since the last save are written once more by the
    /// next save.
    pub(crate) fn put_state(&self, out: &mut Vec<u8>) {
        let state = self.state.lock();
        let settled = state.progress.settled();
        put_created(out, self.id, settled.settled_below(), self.name.as_str());
        self.put_owner(out);
        if settled.ranges() > 0 {
            put_settled(out, self.id, settled.settled_below(), settled.above());
        }
        for (offset, attempts) in state.progress.attempts() {
            put_tried(out, self.id, *offset, attempts);
        }
    }
}

impl State {
    /// Settles offsets that hold nothing readable. [`CursorState::moved`] has to follow.
    pub(crate) fn skip(&mut self, offsets: Range<Offset>) {
        // Above the settled prefix a skipped offset is saved like a settled one; if it is not, it is found missing
        // again.
        self.progress.skip(offsets);
        self.skipped = true;
    }
}
