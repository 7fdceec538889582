//! The state file of a log: cursors, attempts, gaps, and the checkpoint.
//!
//! Changes are appended. When the file has outgrown its contents, the whole state is written to a new file that
//! replaces it. Every record has a marker and a checksum, so damage costs one record. Records only add (settled
//! offsets, attempts, gaps), so a lost one makes events come again and never makes one disappear. The exception is the
//! record that a cursor exists. So a copy of the whole state is kept beside it, rewritten whenever a cursor is created
//! or deleted.

mod file;
mod record;

use std::collections::{BTreeMap, BTreeSet};

use channel::{Attempts, Gap, Offset, Watermark};

pub(crate) use self::{
    file::{COPY_NAME, NAME, StateFile, StateReport, read},
    record::{put_checkpoint, put_created, put_deleted, put_gap, put_owned, put_settled, put_tried},
};

/// How far a log is known to be durable. Recovery begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The base of the active segment.
    pub(crate) segment: u64,
    /// Where its last durable record ends.
    pub(crate) position: u64,
    /// The offset of the next event.
    pub(crate) next: u64,
    /// When the last event was stored.
    pub(crate) last_ms: u64,
    pub(crate) salt: u32,
}

/// A saved cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedCursor {
    pub(crate) name: String,
    /// The uid of its subscription, if known.
    pub(crate) owner: Option<String>,
    pub(crate) settled: Watermark,
    pub(crate) attempts: BTreeMap<Offset, Attempts>,
}

/// The contents of a state file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) cursors: BTreeMap<u32, SavedCursor>,
    /// Ids of deleted cursors.
    pub(crate) deleted: BTreeSet<u32>,
    /// Settled offsets of cursors whose creation record is damaged. The copy may have it.
    pub(crate) orphans: BTreeMap<u32, Watermark>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Saved {
    /// The id of a new cursor: never one that an older record of the file could refer to.
    pub(crate) fn next_id(&self) -> u32 {
        let known = self.cursors.last_key_value().map(|(id, _)| *id);
        let known = known
            .max(self.orphans.last_key_value().map(|(id, _)| *id))
            .max(self.deleted.last().copied());
        known.map_or(0, |id| id.saturating_add(1))
    }

    /// Adds what only the copy contains. The copy is older: a cursor found only there resumes from what it had settled
    /// then.
    pub(crate) fn complete(&mut self, copy: Self) {
        for (id, known) in copy.cursors {
            if self.deleted.contains(&id) {
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

    /// Some cursor settled an offset right below this one, so no offset below it may be used again.
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
