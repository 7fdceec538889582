//! What one cursor has handed out, what came back, and what is settled.
//!
//! A pure state machine that implementations keeping their cursors in this process share: `memory`, `embedded` and `kafka`. It
//! decides which place is handed out next; where the events are, how places become durable and how waiting is done are
//! theirs. Time is whatever the caller counts in (`T`): it is only compared.
//!
//! Rules it keeps: a place is in one holder's hands at most once at a time; what was released comes again before what
//! was never handed out, not before its time, lowest place first; a settled place never comes again.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Attempts, Offset, Standing, Watermark};

/// Places handed out and not settled, those waiting out a release included. Beyond it nothing new is handed out until
/// some settle: this bounds what a cursor remembers (about 200 bytes each, 26 MB) even when every event is in backoff.
pub const UNSETTLED_MAX: u64 = 131_072;

/// The number of a cursor's holder: what an earlier one gives back does not concern the present one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder(u64);

/// One cursor's progress through a log.
#[derive(Clone, Debug)]
pub struct Progress<T> {
    settled: Watermark,
    /// The next place that was never handed out; everything below is settled, due, waiting or in flight.
    position: Offset,
    /// Given back, to be handed out now.
    due: BTreeSet<Offset>,
    /// Given back, to be handed out at a time. May name settled places, which are skipped when their time comes.
    waiting: BTreeSet<(T, Offset)>,
    attempts: BTreeMap<Offset, Attempts>,
    holder: Holder,
}

impl<T: Ord + Copy> Progress<T> {
    /// A new cursor: nothing below `start` concerns it.
    pub fn new(start: Offset) -> Self {
        Self::restore(Watermark::new(start), BTreeMap::new())
    }

    /// A cursor as it was stored: whatever was in flight, in backoff or given back is due again, in stored order. The wait
    /// of a tried event is its holder's to keep, who alone knows which others must wait behind it (CH-6).
    pub fn restore(settled: Watermark, attempts: BTreeMap<Offset, Attempts>) -> Self {
        let tried = attempts.last_key_value().map_or(Offset(0), |(place, _)| place.next());
        let mut progress = Self {
            position: settled.top().max(tried),
            settled,
            due: BTreeSet::new(),
            waiting: BTreeSet::new(),
            attempts: BTreeMap::new(),
            holder: Holder::default(),
        };
        for (place, attempts) in attempts {
            if progress.settled.is_settled(place) {
                continue;
            }
            progress.attempts.insert(place, attempts);
        }
        progress.everything_is_due();
        progress
    }

    /// A new holder begins: what earlier ones took and did not settle is due again.
    pub fn take_over(&mut self) -> Holder {
        self.holder.0 += 1;
        self.everything_is_due();
        self.holder
    }

    /// Takes the next place below `end` to hand out, released ones first. `None`: nothing before
    /// [`Self::next_due`] or something new. `end` may lie below what is due, when a restored cursor's events are only
    /// on their way to the caller.
    pub fn take(&mut self, now: impl FnOnce() -> T, end: Offset) -> Option<Offset> {
        if !self.waiting.is_empty() {
            self.come_due(now());
        }
        while let Some(place) = self.due.first().copied().filter(|place| *place < end) {
            self.due.pop_first();
            if !self.settled.is_settled(place) {
                return Some(place);
            }
        }
        let place = self.settled.next_unsettled(self.position);
        if place >= end || self.settled.unsettled(self.position.max(self.settled.top())) >= UNSETTLED_MAX {
            return None;
        }
        self.position = place.next();
        Some(place)
    }

    /// Takes back places that were taken and then could not be read: as if they had never been handed out.
    pub fn put_back(&mut self, place: Offset) {
        self.due.insert(place);
    }

    /// When the next released place comes due, if one waits.
    pub fn next_due(&self) -> Option<T> {
        self.waiting.first().map(|(time, _)| *time)
    }

    /// Settles a place, whoever holds it now. `true` when the prefix moved.
    pub fn settle(&mut self, place: Offset) -> bool {
        let before = self.settled.settled_below();
        if self.settled.settle(place) && !self.attempts.is_empty() {
            self.attempts.remove(&place);
        }
        self.settled.settled_below() > before
    }

    /// Settles a range at once: places that are no longer there (a gap).
    pub fn skip(&mut self, places: std::ops::Range<Offset>) {
        self.settled.settle_range(places.clone());
        let gone: Vec<Offset> = self.attempts.range(places).map(|(place, _)| *place).collect();
        for place in gone {
            self.attempts.remove(&place);
        }
    }

    /// Gives a place back, to be handed out at `due` (`None`: now). `false`: it concerns nobody, because it is settled
    /// or a later holder has it.
    pub fn release(&mut self, holder: Holder, place: Offset, due: Option<T>) -> bool {
        if holder != self.holder || self.settled.is_settled(place) {
            return false;
        }
        match due {
            Some(time) => self.waiting.insert((time, place)),
            None => self.due.insert(place),
        };
        true
    }

    /// Remembers the tries of a place that is not settled. `false`: it is.
    pub fn remember(&mut self, place: Offset, attempts: Attempts) -> bool {
        if self.settled.is_settled(place) {
            return false;
        }
        self.attempts.insert(place, attempts);
        true
    }

    pub fn attempts_of(&self, place: Offset) -> Attempts {
        if self.attempts.is_empty() {
            return Attempts::default();
        }
        self.attempts.get(&place).copied().unwrap_or_default()
    }

    /// How far this is with one place.
    pub fn standing(&self, place: Offset) -> Standing {
        if self.settled.is_settled(place) {
            Standing::Settled
        } else {
            Standing::Open(self.attempts_of(place))
        }
    }

    /// The places tried and not settled.
    pub fn attempts(&self) -> &BTreeMap<Offset, Attempts> {
        &self.attempts
    }

    pub fn settled(&self) -> &Watermark {
        &self.settled
    }

    /// The next place that was never handed out.
    pub fn position(&self) -> Offset {
        self.position.max(self.settled.settled_below())
    }

    /// The lowest place that will be handed out again or for the first time before `end`, in flight ones included.
    pub fn oldest(&self, end: Offset) -> Option<Offset> {
        Some(self.settled.settled_below()).filter(|place| *place < end)
    }

    fn come_due(&mut self, now: T) {
        while let Some((time, place)) = self.waiting.first().copied()
            && time <= now
        {
            self.waiting.pop_first();
            self.due.insert(place);
        }
    }

    fn everything_is_due(&mut self) {
        let waiting: BTreeSet<Offset> = self.waiting.iter().map(|(_, place)| *place).collect();
        let mut place = self.settled.settled_below();
        loop {
            place = self.settled.next_unsettled(place);
            if place >= self.position {
                return;
            }
            if !waiting.contains(&place) {
                self.due.insert(place);
            }
            place = place.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take_all(progress: &mut Progress<u32>, now: u32, end: u64) -> Vec<u64> {
        std::iter::from_fn(|| progress.take(|| now, Offset(end)))
            .map(|place| place.0)
            .collect()
    }

    /// Proves: CH-3
    #[test]
    fn what_was_in_flight_and_what_was_tried_survives_a_restart_in_stored_order() {
        let mut settled = Watermark::new(Offset(2));
        settled.settle_range(Offset(4)..Offset(6));
        let attempts = [3, 7]
            .map(|place| {
                (
                    Offset(place),
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
        /// Every place is in one hand, or waiting, or due, or settled: never in two hands, never lost.
        ///
        /// Proves: CH-3
        #[test]
        fn every_place_comes_until_it_is_settled(steps in prop::collection::vec(step(), 0..120)) {
            let mut progress = Progress::<u32>::new(Offset(0));
            let mut holder = progress.take_over();
            let (mut end, mut now, mut hands, mut settled) = (0u64, 0u32, Vec::new(), BTreeSet::new());
            let mut not_before: BTreeMap<u64, u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Grow => end += 1,
                    Step::Pass => now += 1,
                    Step::Take => {
                        if let Some(place) = progress.take(|| now, Offset(end)) {
                            prop_assert!(!hands.contains(&place) && !settled.contains(&place));
                            prop_assert!(not_before.remove(&place.0).is_none_or(|time| time <= now));
                            hands.push(place);
                        }
                    }
                    Step::TakeOver => {
                        holder = progress.take_over();
                        hands.clear();
                    }
                    Step::Settle(which) if !hands.is_empty() => {
                        let place = hands.swap_remove(which % hands.len());
                        progress.settle(place);
                        settled.insert(place);
                    }
                    Step::Release(which, after) if !hands.is_empty() => {
                        let place = hands.swap_remove(which % hands.len());
                        prop_assert!(progress.release(holder, place, Some(now + after)));
                        not_before.insert(place.0, now + after);
                    }
                    Step::Drop(which) if !hands.is_empty() => {
                        let place = hands.swap_remove(which % hands.len());
                        prop_assert!(progress.release(holder, place, None));
                    }
                    Step::Settle(_) | Step::Release(..) | Step::Drop(_) => {}
                }
            }
            let mut came: BTreeSet<Offset> = hands.into_iter().collect();
            came.extend(std::iter::from_fn(|| progress.take(|| u32::MAX, Offset(end))));
            came.extend(&settled);
            prop_assert_eq!(came, (0..end).map(Offset).collect::<BTreeSet<_>>());
            prop_assert_eq!(progress.settled().unsettled(Offset(end)), end - settled.len() as u64);
            prop_assert!(progress.settled().settled_below().0 <= end && progress.next_due().is_none());
        }
    }
}
