//! The state file of a log: cursors, attempts, gaps and how far the log is known to be durable.
//!
//! Changes are appended; when they outgrow what they say, the whole state is written to a new file that takes the old
//! one's name. Every record has a marker and a checksum, so a damaged one costs itself. Records only ever add (settled
//! places, attempts, gaps), so one that is lost makes events come again, never makes one disappear.

mod file;
mod record;

use std::collections::BTreeMap;

use channel::{Attempts, Gap, Offset, Watermark};

pub(crate) use self::{
    file::StateFile,
    record::{put_checkpoint, put_created, put_forgotten, put_gap, put_settled, put_tried},
};

/// How far a log is known to be durable: recovery begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The base of the segment being written.
    pub(crate) segment: u64,
    /// Where its last durable record ends.
    pub(crate) position: u64,
    /// The place of the next event.
    pub(crate) next: u64,
    /// When the last event was stored.
    pub(crate) last_ms: u64,
    pub(crate) salt: u32,
}

/// A cursor as it was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedCursor {
    pub(crate) name: String,
    pub(crate) settled: Watermark,
    pub(crate) attempts: BTreeMap<Offset, Attempts>,
}

/// Everything in a state file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) cursors: BTreeMap<u32, SavedCursor>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Saved {
    /// The number a new cursor gets: never one that an older record of the file could mean.
    pub(crate) fn next_id(&self) -> u32 {
        self.cursors.last_key_value().map_or(0, |(id, _)| id + 1)
    }

    /// No place below this was left unsettled by everybody.
    pub(crate) fn floor(&self) -> u64 {
        self.cursors
            .values()
            .map(|cursor| cursor.settled.top().0)
            .max()
            .unwrap_or(0)
    }
}
