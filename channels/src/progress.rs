//! What one cursor has handed out, what came back, and what is settled.
//!
//! A pure state machine that implementations keeping their cursors in this process share: `memory` and `embedded`. It
//! decides which place is handed out next; where the events are, how places become durable and how waiting is done are
//! theirs. Time is whatever the caller counts in (`T`): it is only compared.
//!
//! Rules it keeps: a place is in one holder's hands at most once at a time; what was released comes again before what
//! was never handed out, not before its time, lowest place first; a settled place never comes again.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Attempts, Offset, Watermark};

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
        Self::restore(Watermark::new(start), BTreeMap::new(), |_| None)
    }

    /// A cursor as it was stored: whatever was in flight or given back is due again, tried events when `due` says
    /// (`None`: now).
    pub fn restore(
        settled: Watermark,
        attempts: BTreeMap<Offset, Attempts>,
        due: impl Fn(&Attempts) -> Option<T>,
    ) -> Self {
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
            if let Some(time) = due(&attempts) {
                progress.waiting.insert((time, place));
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
    /// [`Self::next_due`] or something new.
    pub fn take(&mut self, now: impl FnOnce() -> T, end: Offset) -> Option<Offset> {
        if !self.waiting.is_empty() {
            self.come_due(now());
        }
        while let Some(place) = self.due.pop_first() {
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
