//! Deletes the segments of a channel that retention allows and limits demand.

use std::{io, time::SystemTime};

use channel::{GapReason, Offset};

use super::{StateSaver, Store};
use crate::{
    clock,
    retention::{Limits, Verdict, View, judge},
    storage::is_full,
};

/// The active segment is sealed when it spans this fraction of an age limit, so that ages are kept to about that.
const SEAL_FRACTION: u64 = 8;

impl Store {
    /// Deletes the segments that retention allows and limits demand. Blocks.
    pub(crate) fn retain(&self) -> io::Result<()> {
        let now_ms = clock::to_ms(SystemTime::now());
        let limits = Limits::of(&self.settings.lock());
        self.seal_old(now_ms, &limits)?;
        // Held so that no cursor is created at an offset in a segment that is deleted.
        let mut saver = self.saver.lock();
        let sealed = self.log.sealed();
        let mut views = Vec::with_capacity(sealed.len());
        for (index, (segment, end)) in sealed.iter().enumerate() {
            let last_ms = match (segment.last_ms(), sealed.get(index + 1)) {
                (Some(known), _) => Some(known),
                (None, Some((next, _))) => self.log.start_ms(next)?,
                (None, None) => self.log.active_start_ms()?,
            };
            views.push(View {
                base: segment.base,
                end: *end,
                bytes: segment.length(),
                last_ms,
            });
        }
        let active_bytes = self
            .log
            .bytes()
            .saturating_sub(views.iter().map(|view| view.bytes).sum());
        let verdict = judge(&views, active_bytes, self.log.low(), now_ms, &limits);
        self.record_verdict(&mut saver, &verdict)?;
        let doomed: Vec<_> = sealed
            .into_iter()
            .take(verdict.delete)
            .map(|(segment, _)| segment)
            .collect();
        if !doomed.is_empty() {
            tracing::debug!(path = %self.log.dir().display(), segments = doomed.len(), "segments deleted");
        }
        self.log.unlink(&doomed)
    }

    /// Saves durably what the deletion rests on: the gap that a limit makes, or that the cursors have settled the
    /// rest. A cursor restored to an earlier offset would find the deleted events missing.
    fn record_verdict(&self, saver: &mut StateSaver, verdict: &Verdict) -> io::Result<()> {
        if let Some(dropped) = verdict.dropped.clone() {
            self.log.add_gap(dropped.clone(), GapReason::Limit);
            for cursor in &*self.log.cursors() {
                cursor.skip(Offset(0)..Offset(dropped.end));
            }
        } else if verdict.delete == 0 {
            return Ok(());
        }
        let is_limited = self.log.gaps().iter().any(|gap| gap.reason == GapReason::Limit);
        match self.save_with(saver, true, &[]) {
            // Only a deletion frees space now, and an unnecessary gap is better than a disk that stays full. A gap
            // made by a limit must be saved, though.
            Err(error) if is_full(&error) && !is_limited => Ok(()),
            saved => saved,
        }
    }

    fn seal_old(&self, now_ms: u64, limits: &Limits) -> io::Result<()> {
        let age = limits
            .limit_age_ms
            .map_or(limits.age_ms, |limit| limit.min(limits.age_ms));
        if let Some(active) = self.log.active()
            && let Some(begun) = self.log.start_ms(&active)?
            && begun + age / SEAL_FRACTION <= now_ms
        {
            self.log.seal()?;
        }
        Ok(())
    }
}
