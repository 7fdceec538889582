//! Gaps of a log: offsets that hold nothing readable. Each is recorded once and saved once.

use std::{ops::Range, time::SystemTime};

use channel::{Gap, GapReason, Offset};

use super::Log;

/// Gaps kept one by one. Beyond it neighbors are joined, so that a ruined disk does not fill the memory too.
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

    /// Returns the gaps found since the last call, to be saved.
    pub(crate) fn unsaved_gaps(&self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps.lock().unsaved)
    }

    pub(crate) fn has_unsaved_gaps(&self) -> bool {
        !self.gaps.lock().unsaved.is_empty()
    }

    /// Records offsets as missing, and logs it the first time.
    pub(crate) fn add_gap(&self, offsets: Range<u64>, reason: GapReason) {
        if self.note_gap(offsets.clone(), reason) > 0 {
            tracing::warn!(path = %self.dir.display(), from = offsets.start, to = offsets.end, reason = reason.as_str(), "events are missing");
        }
    }

    /// Like [`Self::add_gap`], but silent; returns how many offsets are newly missing.
    pub(crate) fn note_gap(&self, offsets: Range<u64>, reason: GapReason) -> u64 {
        let gap = Gap {
            from: Offset(offsets.start),
            to: Offset(offsets.end),
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
        offsets.end - offsets.start
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
