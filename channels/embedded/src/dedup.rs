//! The dedup window of a log: which events were stored recently, so that a repeat is not stored again.
//!
//! `source` and `id` together identify an event (CONTRACT SR-2). The window remembers an event from when it was stored
//! until the window has passed; a repeat does not extend that. It stores a fingerprint of 128 bits under random keys
//! that never leave the process, so two different events cannot be mistaken for one, by chance or on purpose.
//!
//! Its memory is bounded: beyond the bound the oldest entries are evicted early and counted. After a start the window
//! is rebuilt from the log (log/dedup_window.rs), so it needs no file and survives whatever the events survive.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use event::Event;

/// Events a window remembers: ten minutes at 760 events/s, in about 26 MB (32 bytes in the queue, 17 in the table,
/// which is full at seven eighths of a power of two: this number). One more would double the table.
pub(crate) const REMEMBERED_MAX: usize = (1 << 19) / 8 * 7;

/// The recently stored events. Offsets and times only grow.
pub(crate) struct Window {
    span_ms: u64,
    keys: Arc<[RandomState; 2]>,
    /// Offset of each event, by the first half of its fingerprint.
    offsets: HashMap<u64, u64>,
    /// In the order of storing.
    stored: VecDeque<Remembered>,
    evicted_early: u64,
    max: usize,
}

#[derive(Clone, Copy)]
struct Remembered {
    fingerprint: [u64; 2],
    offset: u64,
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
            offsets: HashMap::new(),
            stored: VecDeque::new(),
            evicted_early: 0,
            max,
        }
    }

    /// Creates an empty window for events stored before this one began, to be given to [`Self::prepend`].
    pub(crate) fn empty_predecessor(&self) -> Self {
        Self {
            span_ms: self.span_ms,
            keys: self.keys.clone(),
            offsets: HashMap::new(),
            stored: VecDeque::new(),
            evicted_early: 0,
            max: self.max,
        }
    }

    /// Adds the events stored before this window began. Ignores a window that did not come from
    /// [`Self::empty_predecessor`] of this one.
    pub(crate) fn prepend(&mut self, mut older: Self) {
        if !Arc::ptr_eq(&self.keys, &older.keys) {
            return;
        }
        for newer in self.stored.drain(..) {
            older.remember(newer.fingerprint, newer.offset, newer.stored_ms);
        }
        *self = older;
    }

    pub(crate) fn span_ms(&self) -> u64 {
        self.span_ms
    }

    /// Events that were evicted before the window had passed, for want of memory.
    pub(crate) fn evicted_early(&self) -> u64 {
        self.evicted_early
    }

    /// Returns for each event the offset it is stored at already, or `None`. New events are remembered at the offsets
    /// from `next` on.
    pub(crate) fn admit(&mut self, events: &[Event], mut next: u64, stored_ms: u64) -> Vec<Option<u64>> {
        self.expire_before(stored_ms);
        let mut known = Vec::with_capacity(events.len());
        for event in events {
            let fingerprint = self.fingerprint(event);
            let offset = self.find(fingerprint);
            if offset.is_none() {
                self.remember(fingerprint, next, stored_ms);
                next += 1;
            }
            known.push(offset);
        }
        known
    }

    /// Adds an event read from the log; its offset must be above all others so far.
    pub(crate) fn insert_stored(&mut self, event: &Event, offset: u64, stored_ms: u64) {
        let fingerprint = self.fingerprint(event);
        if self.find(fingerprint).is_none() {
            self.remember(fingerprint, offset, stored_ms);
        }
    }

    /// Removes the events at or above `offset`, whose write failed.
    pub(crate) fn remove_from(&mut self, offset: u64) {
        while let Some(last) = self.stored.pop_back_if(|last| last.offset >= offset) {
            self.unindex(last);
        }
    }

    /// Removes the events that are older than the window.
    pub(crate) fn expire_before(&mut self, now_ms: u64) {
        let span_ms = self.span_ms;
        while let Some(first) = self
            .stored
            .pop_front_if(|first| first.stored_ms.saturating_add(span_ms) < now_ms)
        {
            self.unindex(first);
        }
    }

    /// Frees memory that the last minutes did not need.
    pub(crate) fn rest(&mut self) {
        if self.stored.capacity() > self.stored.len() * 4 {
            self.stored.shrink_to(self.stored.len() * 2);
            self.offsets.shrink_to(self.offsets.len() * 2);
        }
    }

    fn fingerprint(&self, event: &Event) -> [u64; 2] {
        let named = (event.source(), event.id());
        [self.keys[0].hash_one(named), self.keys[1].hash_one(named)]
    }

    fn find(&self, fingerprint: [u64; 2]) -> Option<u64> {
        let offset = *self.offsets.get(&fingerprint[0])?;
        let at = self.stored.partition_point(|stored| stored.offset < offset);
        let stored = self.stored.get(at)?;
        (stored.fingerprint == fingerprint).then_some(offset)
    }

    fn remember(&mut self, fingerprint: [u64; 2], offset: u64, stored_ms: u64) {
        if self.stored.len() >= self.max
            && let Some(first) = self.stored.pop_front()
        {
            self.evicted_early += 1;
            self.unindex(first);
        }
        // If two events share the first half, the later one is found.
        self.offsets.insert(fingerprint[0], offset);
        self.stored.push_back(Remembered {
            fingerprint,
            offset,
            stored_ms,
        });
    }

    fn unindex(&mut self, gone: Remembered) {
        if self.offsets.get(&gone.fingerprint[0]) == Some(&gone.offset) {
            self.offsets.remove(&gone.fingerprint[0]);
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
        window.remove_from(1);
        assert_eq!(window.admit(&events, 1, 0), [Some(0), None]);
    }

    #[test]
    fn beyond_its_bound_the_oldest_are_forgotten_and_counted() {
        let mut window = Window::holding(Duration::from_secs(1), 3);
        for id in 0..5 {
            let _ = window.admit(&[event("/a", id)], id, 0);
        }
        assert_eq!(
            (window.stored.len(), window.offsets.len(), window.evicted_early()),
            (3, 3, 2)
        );
        assert_eq!(window.admit(&[event("/a", 2), event("/a", 1)], 5, 0), [Some(2), None]);
    }

    #[test]
    fn what_the_log_held_before_goes_in_front_of_what_came_meanwhile() {
        let mut window = Window::new(Duration::from_secs(1));
        let mut older = window.empty_predecessor();
        let _ = window.admit(&[event("/a", 7)], 7, 900);
        older.insert_stored(&event("/a", 6), 6, 100);
        window.prepend(older);
        window.prepend(Window::new(Duration::from_secs(1)));
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
        /// Compares the window with a list of everything stored.
        #[test]
        fn it_says_what_a_list_of_all_events_would_say(steps in prop::collection::vec((0u64..6, 0u64..40, prop::bool::ANY), 1..200)) {
            let mut window = Window::new(Duration::from_millis(100));
            let (mut stored, mut now) = (Vec::<(u64, u64)>::new(), 0);
            for (id, passed, fails) in steps {
                now += passed;
                let known = stored.iter().rposition(|(known, at)| *known == id && at + 100 >= now);
                let next = stored.len() as u64;
                prop_assert_eq!(window.admit(&[event("/a", id)], next, now), [known.map(|offset| offset as u64)]);
                match (known, fails) {
                    (None, true) => window.remove_from(next),
                    (None, false) => stored.push((id, now)),
                    (Some(_), _) => {}
                }
                prop_assert_eq!(window.offsets.len(), window.stored.len());
            }
        }
    }
}
