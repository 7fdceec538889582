//! Places of a log that hold nothing readable any more: known once, saved once, visible.

use std::{ops::Range, time::SystemTime};

use channel::{Gap, GapReason, Offset};

use super::Log;

/// Gaps remembered one by one; beyond it neighbours are joined, so that a ruined disk does not fill the memory too.
const GAPS_MAX: usize = 1000;

#[derive(Default)]
pub(super) struct Gaps {
    pub(super) known: Vec<Gap>,
    /// Not yet in the state file.
    pub(super) unsaved: Vec<Gap>,
}

impl Log {
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        self.gaps.lock().known.clone()
    }

    /// Gaps found since the last call, to be saved.
    pub(crate) fn unsaved_gaps(&self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps.lock().unsaved)
    }

    pub(crate) fn has_unsaved_gaps(&self) -> bool {
        !self.gaps.lock().unsaved.is_empty()
    }

    /// Records places as missing, once, and says so.
    pub(crate) fn add_gap(&self, places: Range<u64>, reason: GapReason) {
        if self.note_gap(places.clone(), reason) > 0 {
            tracing::warn!(path = %self.dir.display(), from = places.start, to = places.end, reason = reason.as_str(), "events are missing");
        }
    }

    /// As [`Self::add_gap`] without a word; returns how many places, 0 when they were known to be missing.
    pub(crate) fn note_gap(&self, places: Range<u64>, reason: GapReason) -> u64 {
        let gap = Gap {
            from: Offset(places.start),
            to: Offset(places.end),
            found_at: SystemTime::now(),
            reason,
        };
        let mut gaps = self.gaps.lock();
        if gaps
            .known
            .iter()
            .any(|known| known.from <= gap.from && gap.to <= known.to)
        {
            return 0;
        }
        gaps.insert(gap);
        gaps.unsaved.push(gap);
        places.end - places.start
    }
}

impl Gaps {
    fn insert(&mut self, gap: Gap) {
        let at = self.known.partition_point(|known| known.from < gap.from);
        self.known.insert(at, gap);
        if self.known.len() > GAPS_MAX {
            let second = self.known.remove(1);
            self.known[0].to = self.known[0].to.max(second.to);
        }
    }
}
