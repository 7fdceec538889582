//! The state file of a log: cursors, attempts, gaps and how far the log is known to be durable.
//!
//! Changes are appended; when they outgrow what they say, the whole state is written to a new file that takes the old
//! one's name. Every record has a marker and a checksum, so a damaged one costs itself. Records only ever add (settled
//! places, attempts, gaps), so one that is lost makes events come again, never makes one disappear. One kind would: that a
//! cursor exists. So a copy of the whole state is kept beside it, made anew whenever cursors come or go.

mod file;
mod record;

use std::collections::{BTreeMap, BTreeSet};

use channel::{Attempts, Gap, Offset, Watermark};

pub(crate) use self::{
    file::{COPY_NAME, NAME, StateFile, StateFound, read},
    record::{put_checkpoint, put_created, put_forgotten, put_gap, put_owned, put_settled, put_tried},
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
    /// Whose it is, where that is known.
    pub(crate) owner: Option<String>,
    pub(crate) settled: Watermark,
    pub(crate) attempts: BTreeMap<Offset, Attempts>,
}

/// Everything in a state file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) cursors: BTreeMap<u32, SavedCursor>,
    /// Cursors that are gone for good.
    pub(crate) forgotten: BTreeSet<u32>,
    /// What is settled for cursors whose making was not found: its record is damaged, the copy may have it.
    pub(crate) orphans: BTreeMap<u32, Watermark>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Saved {
    /// The number a new cursor gets: never one that an older record of the file could mean.
    pub(crate) fn next_id(&self) -> u32 {
        let known = self.cursors.last_key_value().map(|(id, _)| *id);
        let known = known
            .max(self.orphans.last_key_value().map(|(id, _)| *id))
            .max(self.forgotten.last().copied());
        known.map_or(0, |id| id.saturating_add(1))
    }

    /// Adds what only the copy knows. It is older: a cursor it alone has comes again with what was settled then.
    pub(crate) fn complete(&mut self, copy: Self) {
        for (id, known) in copy.cursors {
            if self.forgotten.contains(&id) {
                continue;
            }
            let cursor = self.cursors.entry(id).or_insert_with(|| SavedCursor {
                name: known.name,
                owner: None,
                attempts: known.attempts,
                settled: Watermark::default(),
            });
            cursor.owner = cursor.owner.take().or(known.owner);
            settle_all(&mut cursor.settled, &known.settled);
            if let Some(orphan) = self.orphans.remove(&id) {
                settle_all(&mut cursor.settled, &orphan);
            }
        }
        for gap in copy.gaps {
            let known = |kept: &Gap| kept.from <= gap.from && gap.to <= kept.to;
            if !self.gaps.iter().any(known) {
                let at = self.gaps.partition_point(|kept| kept.from < gap.from);
                self.gaps.insert(at, gap);
            }
        }
        self.checkpoint = self.checkpoint.take().or(copy.checkpoint);
    }

    /// No place below this was left unsettled by everybody.
    pub(crate) fn floor(&self) -> u64 {
        self.cursors
            .values()
            .map(|cursor| &cursor.settled)
            .chain(self.orphans.values())
            .map(|settled| settled.top().0)
            .max()
            .unwrap_or(0)
    }
}

fn settle_all(settled: &mut Watermark, more: &Watermark) {
    settled.settle_range(Offset(0)..more.settled_below());
    for range in more.above() {
        settled.settle_range(range);
    }
}
