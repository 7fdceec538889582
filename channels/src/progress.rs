//! The progress of one cursor: the offsets handed out, released and settled.
//!
//! A pure state machine that implementations keeping their cursors in this process share: `memory`, `embedded` and `kafka`. It
//! decides which offset is handed out next. The implementation decides where events are, how offsets become durable and how
//! to wait. Time is whatever the caller counts in (`T`): it is only compared.
//!
//! Rules it keeps: an offset is in flight at most once at a time. A released offset comes again before one that was never
//! handed out, not before its time, lowest first. A settled offset never comes again.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Attempts, Offset, SettlementState, Watermark};

/// The largest number of offsets handed out and not settled, those waiting out a release included. Beyond it nothing new is handed out until
/// some settle: this bounds what a cursor remembers (about 200 bytes each, 26 MB) even when every event is in backoff.
pub const UNSETTLED_MAX: u64 = 131_072;

/// The number of a cursor's holder. A release by an earlier holder is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder(u64);

/// One cursor's progress through a log.
#[derive(Clone, Debug)]
pub struct Progress<T> {
    settled: Watermark,
    /// The next offset that was never handed out; every offset below is settled, due, waiting or in flight.
    position: Offset,
    /// Released, to be handed out now.
    due: BTreeSet<Offset>,
    /// Released, to be handed out at a time. May hold settled offsets, which are skipped when their time comes.
    waiting: BTreeSet<(T, Offset)>,
    attempts: BTreeMap<Offset, Attempts>,
    holder: Holder,
}

impl<T: Ord + Copy> Progress<T> {
    /// A new cursor that begins at `start`.
    pub fn new(start: Offset) -> Self {
        Self::restore(Watermark::new(start), BTreeMap::new())
    }

    /// A cursor as it was stored. Every unsettled offset is due again, in stored order. The holder itself keeps the wait of an
    /// event that was tried, because only the holder knows which other events must wait behind it (CH-6).
    pub fn restore(settled: Watermark, attempts: BTreeMap<Offset, Attempts>) -> Self {
        let tried = attempts.last_key_value().map_or(Offset(0), |(offset, _)| offset.next());
        let mut progress = Self {
            position: settled.top().max(tried),
            settled,
            due: BTreeSet::new(),
            waiting: BTreeSet::new(),
            attempts: BTreeMap::new(),
            holder: Holder::default(),
        };
        for (offset, attempts) in attempts {
            if progress.settled.is_settled(offset) {
                continue;
            }
            progress.attempts.insert(offset, attempts);
        }
        progress.make_all_due();
        progress
    }

    /// Begins a new holder: offsets that earlier holders took and did not settle are due again.
    pub fn take_over(&mut self) -> Holder {
        self.holder.0 += 1;
        self.make_all_due();
        self.holder
    }

    /// Takes the next offset below `end` to hand out, released ones first. `None`: nothing before
    /// [`Self::next_due`] or a new event. `end` may lie below a due offset, while the events of a restored cursor are still
    /// being read.
    pub fn take(&mut self, now: impl FnOnce() -> T, end: Offset) -> Option<Offset> {
        if !self.waiting.is_empty() {
            self.make_due(now());
        }
        while let Some(offset) = self.due.first().copied().filter(|offset| *offset < end) {
            self.due.pop_first();
            if !self.settled.is_settled(offset) {
                return Some(offset);
            }
        }
        let offset = self.settled.next_unsettled(self.position);
        if offset >= end || self.settled.unsettled(self.position.max(self.settled.top())) >= UNSETTLED_MAX {
            return None;
        }
        self.position = offset.next();
        Some(offset)
    }

    /// Makes an offset due again that was taken and could not be read.
    pub fn put_back(&mut self, offset: Offset) {
        self.due.insert(offset);
    }

    /// The time when the next released offset is due, if one waits.
    pub fn next_due(&self) -> Option<T> {
        self.waiting.first().map(|(time, _)| *time)
    }

    /// Settles an offset, also one that an earlier holder took. `true` when the settled prefix grew.
    pub fn settle(&mut self, offset: Offset) -> bool {
        let before = self.settled.settled_below();
        if self.settled.settle(offset) && !self.attempts.is_empty() {
            self.attempts.remove(&offset);
        }
        self.settled.settled_below() > before
    }

    /// Settles a range whose events no longer exist (a gap).
    pub fn skip(&mut self, offsets: std::ops::Range<Offset>) {
        self.settled.settle_range(offsets.clone());
        let gone: Vec<Offset> = self.attempts.range(offsets).map(|(offset, _)| *offset).collect();
        for offset in gone {
            self.attempts.remove(&offset);
        }
    }

    /// Releases an offset, to be handed out at `due` (`None`: now). `false`: ignored, because it is settled or a later holder
    /// has it.
    pub fn release(&mut self, holder: Holder, offset: Offset, due: Option<T>) -> bool {
        if holder != self.holder || self.settled.is_settled(offset) {
            return false;
        }
        match due {
            Some(time) => self.waiting.insert((time, offset)),
            None => self.due.insert(offset),
        };
        true
    }

    /// Records the attempts of an offset that is not settled. `false`: it is settled.
    pub fn remember(&mut self, offset: Offset, attempts: Attempts) -> bool {
        if self.settled.is_settled(offset) {
            return false;
        }
        self.attempts.insert(offset, attempts);
        true
    }

    /// Returns the attempts that were recorded for an event.
    pub fn attempts_of(&self, offset: Offset) -> Attempts {
        if self.attempts.is_empty() {
            return Attempts::default();
        }
        self.attempts.get(&offset).copied().unwrap_or_default()
    }

    /// Whether one offset is settled.
    pub fn settlement_state(&self, offset: Offset) -> SettlementState {
        if self.settled.is_settled(offset) {
            SettlementState::Settled
        } else {
            SettlementState::Open(self.attempts_of(offset))
        }
    }

    /// The attempts of every offset that was tried and is not settled.
    pub fn attempts(&self) -> &BTreeMap<Offset, Attempts> {
        &self.attempts
    }

    /// Returns which offsets are settled.
    pub fn settled(&self) -> &Watermark {
        &self.settled
    }

    /// The next offset that was never handed out.
    pub fn position(&self) -> Offset {
        self.position.max(self.settled.settled_below())
    }

    /// The lowest unsettled offset below `end`, those in flight included.
    pub fn oldest(&self, end: Offset) -> Option<Offset> {
        Some(self.settled.settled_below()).filter(|offset| *offset < end)
    }

    fn make_due(&mut self, now: T) {
        while let Some((time, offset)) = self.waiting.first().copied()
            && time <= now
        {
            self.waiting.pop_first();
            self.due.insert(offset);
        }
    }

    fn make_all_due(&mut self) {
        let waiting: BTreeSet<Offset> = self.waiting.iter().map(|(_, offset)| *offset).collect();
        let mut offset = self.settled.settled_below();
        loop {
            offset = self.settled.next_unsettled(offset);
            if offset >= self.position {
                return;
            }
            if !waiting.contains(&offset) {
                self.due.insert(offset);
            }
            offset = offset.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take_all(progress: &mut Progress<u32>, now: u32, end: u64) -> Vec<u64> {
        std::iter::from_fn(|| progress.take(|| now, Offset(end)))
            .map(|offset| offset.0)
            .collect()
    }

    /// Proves: CH-3
    #[test]
    fn what_was_in_flight_and_what_was_tried_survives_a_restart_in_stored_order() {
        let mut settled = Watermark::new(Offset(2));
        settled.settle_range(Offset(4)..Offset(6));
        let attempts = [3, 7]
            .map(|offset| {
                (
                    Offset(offset),
                    Attempts {
                        failed: 1,
                        ..Attempts::default()
                    },
                )
            })
            .into();
        let mut progress = Progress::<u32>::restore(settled, attempts);
        assert_eq!(take_all(&mut progress, 0, 9), [2, 3, 6, 7, 8]);
        assert_eq!(progress.attempts_of(Offset(7)).failed, 1);
    }

    /// Proves: CH-3
    #[test]
    fn what_is_due_waits_until_the_caller_has_it() {
        let mut settled = Watermark::new(Offset(2));
        settled.settle_range(Offset(4)..Offset(6));
        let mut progress = Progress::<u32>::restore(settled, BTreeMap::new());
        assert!(take_all(&mut progress, 0, 2).is_empty());
        assert_eq!(take_all(&mut progress, 0, 3), [2]);
        assert_eq!(take_all(&mut progress, 0, 7), [3, 6]);
    }

    /// Proves: CH-2
    #[test]
    fn nothing_new_is_handed_out_beyond_the_bound_and_settling_makes_room() {
        let mut progress = Progress::<u32>::new(Offset(0));
        let end = UNSETTLED_MAX + 10;
        assert_eq!(take_all(&mut progress, 0, end).len() as u64, UNSETTLED_MAX);
        progress.settle(Offset(77));
        assert_eq!(take_all(&mut progress, 0, end), [UNSETTLED_MAX]);
        let holder = progress.take_over();
        assert_eq!(
            take_all(&mut progress, 0, end).len() as u64,
            UNSETTLED_MAX,
            "released ones always come"
        );
        assert!(progress.release(holder, Offset(5), None));
        assert_eq!(take_all(&mut progress, 0, end), [5]);
    }

    #[test]
    fn a_skipped_range_is_settled_with_its_attempts_and_holds_nothing_up() {
        let mut progress = Progress::<u32>::new(Offset(0));
        assert_eq!(take_all(&mut progress, 0, 4), [0, 1, 2, 3]);
        assert!(progress.remember(Offset(1), Attempts::default()));
        progress.skip(Offset(0)..Offset(8));
        assert!(progress.attempts().is_empty() && !progress.remember(Offset(1), Attempts::default()));
        assert_eq!(
            (progress.settled().settled_below(), take_all(&mut progress, 0, 10)),
            (Offset(8), vec![8, 9])
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Grow,
        Take,
        Settle(usize),
        Release(usize, u32),
        Drop(usize),
        TakeOver,
        Pass,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Grow),
            6 => Just(Step::Take),
            3 => (0usize..8).prop_map(Step::Settle),
            2 => (0usize..8, 1u32..4).prop_map(|(which, after)| Step::Release(which, after)),
            1 => (0usize..8).prop_map(Step::Drop),
            1 => Just(Step::TakeOver),
            2 => Just(Step::Pass),
        ]
    }

    proptest! {
        /// Every offset is in flight once, waiting, due or settled: never twice in flight, never lost.
        ///
        /// Proves: CH-3
        #[test]
        fn every_offset_comes_until_it_is_settled(steps in prop::collection::vec(step(), 0..120)) {
            let mut progress = Progress::<u32>::new(Offset(0));
            let mut holder = progress.take_over();
            let (mut end, mut now, mut in_flight, mut settled) = (0u64, 0u32, Vec::new(), BTreeSet::new());
            let mut not_before: BTreeMap<u64, u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Grow => end += 1,
                    Step::Pass => now += 1,
                    Step::Take => {
                        if let Some(offset) = progress.take(|| now, Offset(end)) {
                            prop_assert!(!in_flight.contains(&offset) && !settled.contains(&offset));
                            prop_assert!(not_before.remove(&offset.0).is_none_or(|time| time <= now));
                            in_flight.push(offset);
                        }
                    }
                    Step::TakeOver => {
                        holder = progress.take_over();
                        in_flight.clear();
                    }
                    Step::Settle(which) if !in_flight.is_empty() => {
                        let offset = in_flight.swap_remove(which % in_flight.len());
                        progress.settle(offset);
                        settled.insert(offset);
                    }
                    Step::Release(which, after) if !in_flight.is_empty() => {
                        let offset = in_flight.swap_remove(which % in_flight.len());
                        prop_assert!(progress.release(holder, offset, Some(now + after)));
                        not_before.insert(offset.0, now + after);
                    }
                    Step::Drop(which) if !in_flight.is_empty() => {
                        let offset = in_flight.swap_remove(which % in_flight.len());
                        prop_assert!(progress.release(holder, offset, None));
                    }
                    Step::Settle(_) | Step::Release(..) | Step::Drop(_) => {}
                }
            }
            let mut came: BTreeSet<Offset> = in_flight.into_iter().collect();
            came.extend(std::iter::from_fn(|| progress.take(|| u32::MAX, Offset(end))));
            came.extend(&settled);
            prop_assert_eq!(came, (0..end).map(Offset).collect::<BTreeSet<_>>());
            prop_assert_eq!(progress.settled().unsettled(Offset(end)), end - settled.len() as u64);
            prop_assert!(progress.settled().settled_below().0 <= end && progress.next_due().is_none());
        }
    }
}
