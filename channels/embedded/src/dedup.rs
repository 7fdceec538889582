//! The dedup window of a log: which events were stored lately, so that a repeat of one is not stored again.
//!
//! An event is known by its `source` and `id`, which together name one event (CONTRACT SR-2), from when it was stored until
//! the window has passed; a repeat does not prolong that. What is kept of it is a fingerprint of 128 bits under keys that
//! nobody outside knows, so that two different events are never taken for one, by chance or on purpose.
//!
//! It promises nothing it cannot hold: its memory is bounded, and beyond that the oldest are forgotten early, which is
//! counted. After a start it is made again from the log itself (log/lately.rs), so it needs no file and survives what the
//! events survive.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use event::Event;

/// Events a window remembers: ten minutes of 760 events a second, in about 26 MB (32 bytes in the queue, 17 in the table, which
/// is full at seven eighths of a power of two: this number). One more would double the table.
pub(crate) const REMEMBERED_MAX: usize = (1 << 19) / 8 * 7;

/// The events stored lately. Places only grow, and so do times.
pub(crate) struct Window {
    span_ms: u64,
    keys: Arc<[RandomState; 2]>,
    /// By the first half of the fingerprint: where the event is.
    places: HashMap<u64, u64>,
    /// In stored order.
    stored: VecDeque<Remembered>,
    forgotten_early: u64,
    max: usize,
}

#[derive(Clone, Copy)]
struct Remembered {
    fingerprint: [u64; 2],
    place: u64,
    stored_ms: u64,
}

impl Window {
    pub(crate) fn new(span: Duration) -> Self {
        Self::holding(span, REMEMBERED_MAX)
    }

    fn holding(span: Duration, max: usize) -> Self {
        Self {
            span_ms: u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
            keys: Arc::new([RandomState::new(), RandomState::new()]),
            places: HashMap::new(),
            stored: VecDeque::new(),
            forgotten_early: 0,
            max,
        }
    }

    /// An empty one for what was stored before this one began; to be [`Self::put_before`] it.
    pub(crate) fn before(&self) -> Self {
        Self {
            span_ms: self.span_ms,
            keys: self.keys.clone(),
            places: HashMap::new(),
            stored: VecDeque::new(),
            forgotten_early: 0,
            max: self.max,
        }
    }

    /// Adds what was stored before this one began; nothing happens when that belongs to another window.
    pub(crate) fn put_before(&mut self, mut older: Self) {
        if !Arc::ptr_eq(&self.keys, &older.keys) {
            return;
        }
        for newer in self.stored.drain(..) {
            older.remember(newer.fingerprint, newer.place, newer.stored_ms);
        }
        *self = older;
    }

    pub(crate) fn span_ms(&self) -> u64 {
        self.span_ms
    }

    /// Events that were forgotten before their time, for want of room.
    pub(crate) fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// Says of each event where it is stored already, or `None` and remembers it: these get the places from `next` on.
    pub(crate) fn admit(&mut self, events: &[Event], mut next: u64, stored_ms: u64) -> Vec<Option<u64>> {
        self.forget_before(stored_ms);
        let mut known = Vec::with_capacity(events.len());
        for event in events {
            let fingerprint = self.fingerprint(event);
            let place = self.find(fingerprint);
            if place.is_none() {
                self.remember(fingerprint, next, stored_ms);
                next += 1;
            }
            known.push(place);
        }
        known
    }

    /// An event of the log, of a place above all others so far.
    pub(crate) fn read(&mut self, event: &Event, place: u64, stored_ms: u64) {
        let fingerprint = self.fingerprint(event);
        if self.find(fingerprint).is_none() {
            self.remember(fingerprint, place, stored_ms);
        }
    }

    /// The write of these failed: nothing at or above this place is stored.
    pub(crate) fn forget_from(&mut self, place: u64) {
        while let Some(last) = self.stored.pop_back_if(|last| last.place >= place) {
            self.lose(last);
        }
    }

    /// What is older than the window is no repeat any more.
    pub(crate) fn forget_before(&mut self, now_ms: u64) {
        let span_ms = self.span_ms;
        while let Some(first) = self
            .stored
            .pop_front_if(|first| first.stored_ms.saturating_add(span_ms) < now_ms)
        {
            self.lose(first);
        }
    }

    /// Gives memory back that the last minutes did not need.
    pub(crate) fn rest(&mut self) {
        if self.stored.capacity() > self.stored.len() * 4 {
            self.stored.shrink_to(self.stored.len() * 2);
            self.places.shrink_to(self.places.len() * 2);
        }
    }

    fn fingerprint(&self, event: &Event) -> [u64; 2] {
        let named = (event.source(), event.id());
        [self.keys[0].hash_one(named), self.keys[1].hash_one(named)]
    }

    fn find(&self, fingerprint: [u64; 2]) -> Option<u64> {
        let place = *self.places.get(&fingerprint[0])?;
        let at = self.stored.partition_point(|stored| stored.place < place);
        let stored = self.stored.get(at)?;
        (stored.fingerprint == fingerprint).then_some(place)
    }

    fn remember(&mut self, fingerprint: [u64; 2], place: u64, stored_ms: u64) {
        if self.stored.len() >= self.max
            && let Some(first) = self.stored.pop_front()
        {
            self.forgotten_early += 1;
            self.lose(first);
        }
        // Of two events with the same first half the later one is known.
        self.places.insert(fingerprint[0], place);
        self.stored.push_back(Remembered {
            fingerprint,
            place,
            stored_ms,
        });
    }

    fn lose(&mut self, gone: Remembered) {
        if self.places.get(&gone.fingerprint[0]) == Some(&gone.place) {
            self.places.remove(&gone.fingerprint[0]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn event(source: &str, id: u64) -> Event {
        Event::builder(&id.to_string(), source, "t").finish().unwrap()
    }

    #[test]
    fn an_event_is_known_by_source_and_id_together_until_its_time_has_passed() {
        let mut window = Window::new(Duration::from_secs(1));
        let events = [event("/a", 1), event("/b", 1), event("/a", 1), event("/a", 2)];
        assert_eq!(window.admit(&events, 10, 5000), [None, None, Some(10), None]);
        assert_eq!(window.admit(&events[1..2], 13, 6000), [Some(11)], "the very end of it");
        assert_eq!(
            window.admit(&events[..2], 13, 6001),
            [None, None],
            "a repeat prolongs nothing"
        );
        assert_eq!(window.admit(&events[..2], 15, 6001), [Some(13), Some(14)]);
    }

    #[test]
    fn what_failed_to_be_written_is_not_known() {
        let mut window = Window::new(Duration::from_secs(1));
        let events = [event("/a", 1), event("/a", 2)];
        let _ = window.admit(&events[..1], 0, 0);
        let _ = window.admit(&events[1..], 1, 0);
        window.forget_from(1);
        assert_eq!(window.admit(&events, 1, 0), [Some(0), None]);
    }

    #[test]
    fn beyond_its_bound_the_oldest_are_forgotten_and_counted() {
        let mut window = Window::holding(Duration::from_secs(1), 3);
        for id in 0..5 {
            let _ = window.admit(&[event("/a", id)], id, 0);
        }
        assert_eq!(
            (window.stored.len(), window.places.len(), window.forgotten_early()),
            (3, 3, 2)
        );
        assert_eq!(window.admit(&[event("/a", 2), event("/a", 1)], 5, 0), [Some(2), None]);
    }

    #[test]
    fn what_the_log_held_before_goes_in_front_of_what_came_meanwhile() {
        let mut window = Window::new(Duration::from_secs(1));
        let mut older = window.before();
        let _ = window.admit(&[event("/a", 7)], 7, 900);
        older.read(&event("/a", 6), 6, 100);
        window.put_before(older);
        window.put_before(Window::new(Duration::from_secs(1)));
        assert_eq!(
            window.admit(&[event("/a", 6), event("/a", 7)], 8, 1100),
            [Some(6), Some(7)]
        );
        assert_eq!(
            window.admit(&[event("/a", 6), event("/a", 7)], 8, 1101),
            [None, Some(7)]
        );
    }

    proptest! {
        /// Against a list of all that was stored, with its time.
        #[test]
        fn it_says_what_a_list_of_all_events_would_say(steps in prop::collection::vec((0u64..6, 0u64..40, prop::bool::ANY), 1..200)) {
            let mut window = Window::new(Duration::from_millis(100));
            let (mut stored, mut now) = (Vec::<(u64, u64)>::new(), 0);
            for (id, passed, fails) in steps {
                now += passed;
                let known = stored.iter().rposition(|(known, at)| *known == id && at + 100 >= now);
                let next = stored.len() as u64;
                prop_assert_eq!(window.admit(&[event("/a", id)], next, now), [known.map(|place| place as u64)]);
                match (known, fails) {
                    (None, true) => window.forget_from(next),
                    (None, false) => stored.push((id, now)),
                    (Some(_), _) => {}
                }
                prop_assert_eq!(window.places.len(), window.stored.len());
            }
        }
    }
}
