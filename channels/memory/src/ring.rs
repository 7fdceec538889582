//! The ring: events from the slowest cursor on, its bounds, and when a publisher is let in.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use channel::{CursorName, Offset, ReadError, Record, Start, is_anothers};
use event::Event;

use crate::{Settings, cursor::Shared};

/// Once refusing, the ring refuses until it is this empty (in percent): room for more than a handful of publishers, so
/// that a stuck subscriber makes them fail fast instead of waiting in turns.
const REOPEN_PERCENT: usize = 90;

/// May an append go ahead?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Welcome,
    /// Full, but the slowest cursor moved lately. Left when there is space, or after a bounded wait.
    Wait,
    /// Full, and somebody waited in vain. Left when enough has drained.
    Refused,
    Closed,
}

struct Held {
    event: Event,
    stored_at: SystemTime,
}

pub(crate) struct Ring {
    held: VecDeque<Held>,
    /// The place of the first one held.
    base: u64,
    bytes: usize,
    settings: Settings,
    /// Swapped whole, so that an append can wake them outside the lock.
    cursors: Arc<[Arc<Shared>]>,
    /// A wait for space ended in vain.
    refusing: bool,
    last_stored_at: SystemTime,
    pub(crate) unheard: u64,
    pub(crate) closed: bool,
}

impl Ring {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            held: VecDeque::new(),
            base: 0,
            bytes: 0,
            settings,
            cursors: Arc::new([]),
            refusing: false,
            last_stored_at: SystemTime::UNIX_EPOCH,
            unheard: 0,
            closed: false,
        }
    }

    pub(crate) fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(crate) fn earliest(&self) -> Offset {
        Offset(self.base)
    }

    pub(crate) fn next(&self) -> Offset {
        Offset(self.base + self.held.len() as u64)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn cursors(&self) -> Arc<[Arc<Shared>]> {
        self.cursors.clone()
    }

    pub(crate) fn cursor(&self, name: &CursorName) -> Option<&Arc<Shared>> {
        self.cursors.iter().find(|cursor| cursor.name == *name)
    }

    /// Publishers are held up briefly while that helps (a subscriber that is a little slower paces them), and refused
    /// at once after it did not (a stuck subscriber must not cost every publisher the wait). An empty ring takes any
    /// batch: refusing one that never fits would refuse it for ever.
    pub(crate) fn admit(&mut self, events: usize, bytes: usize) -> Admission {
        if self.closed {
            return Admission::Closed;
        }
        if self.held.is_empty() || self.cursors.is_empty() {
            self.refusing = false;
            return Admission::Welcome;
        }
        if self.refusing {
            self.refusing = !self.below(REOPEN_PERCENT);
        }
        let fits = self.held.len() + events <= self.settings.capacity && self.bytes + bytes <= self.settings.max_bytes;
        match (fits, self.refusing) {
            (_, true) => Admission::Refused,
            (true, false) => Admission::Welcome,
            (false, false) => Admission::Wait,
        }
    }

    pub(crate) fn waited_in_vain(&mut self) {
        self.refusing = !self.below(REOPEN_PERCENT);
    }

    pub(crate) fn refusing(&self) -> Option<String> {
        (self.refusing && !self.below(REOPEN_PERCENT)).then(|| {
            let slowest = self.cursors.iter().min_by_key(|cursor| cursor.settled_below());
            let name = slowest.map_or(String::new(), |cursor| {
                format!("; the slowest subscription is {}", cursor.name)
            });
            format!("full: {} events, {} bytes held{name}", self.held.len(), self.bytes)
        })
    }

    fn below(&self, percent: usize) -> bool {
        let low = |now: usize, max: usize| now <= max / 100 * percent + max % 100 * percent / 100;
        low(self.held.len(), self.settings.capacity) && low(self.bytes, self.settings.max_bytes)
    }

    /// Takes the events in; returns the last one's place (the last place given away so far when there are none).
    pub(crate) fn push(&mut self, events: &[Event], bytes: usize, now: SystemTime) -> Offset {
        // A clock set back must not make a search by time miss events.
        self.last_stored_at = self.last_stored_at.max(now);
        if self.cursors.is_empty() {
            self.base += events.len() as u64;
            self.unheard += events.len() as u64;
        } else {
            let stored_at = self.last_stored_at;
            self.held.extend(events.iter().map(|event| Held {
                event: event.clone(),
                stored_at,
            }));
            self.bytes += bytes;
        }
        Offset(self.next().0.saturating_sub(1))
    }

    /// Drops what every cursor settled; `true` when that freed something.
    pub(crate) fn trim(&mut self) -> bool {
        let next = self.next();
        let low = self
            .cursors
            .iter()
            .map(|cursor| cursor.settled_below())
            .min()
            .unwrap_or(next)
            .min(next);
        let before = self.base;
        while self.base < low.0
            && let Some(held) = self.held.pop_front()
        {
            self.bytes -= held.event.size();
            self.base += 1;
        }
        self.base > before
    }

    pub(crate) fn event(&self, place: Offset) -> Option<(&Event, SystemTime)> {
        let index = usize::try_from(place.0.checked_sub(self.base)?).ok()?;
        self.held.get(index).map(|held| (&held.event, held.stored_at))
    }

    pub(crate) fn stored_at(&self, place: Offset) -> Option<SystemTime> {
        self.event(place).map(|(_, stored_at)| stored_at)
    }

    /// What is held from a place on.
    pub(crate) fn from(&self, place: Offset) -> impl Iterator<Item = Record> + '_ {
        let skip = usize::try_from(place.0.saturating_sub(self.base))
            .unwrap_or(usize::MAX)
            .min(self.held.len());
        self.held
            .range(skip..)
            .zip(self.base + skip as u64..)
            .map(|(held, place)| Record {
                offset: Offset(place),
                stored_at: held.stored_at,
                event: held.event.clone(),
            })
    }

    /// The cursor, and another's of that name that was forgotten for it.
    pub(crate) fn subscribe(
        &mut self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<(Arc<Shared>, Option<Arc<Shared>>), ReadError> {
        if self.closed {
            return Err(ReadError::Closed);
        }
        let mut forgotten = None;
        match self.cursor(name) {
            Some(cursor) if is_anothers(cursor.owner(), owner) => {
                forgotten = self.forget(name, None);
                self.trim();
            }
            Some(cursor) if cursor.seat.take() => {
                cursor.belongs_to(owner);
                return Ok((cursor.clone(), None));
            }
            Some(_) => return Err(ReadError::InUse { name: name.to_string() }),
            None => {}
        }
        let cursor = Arc::new(Shared::new(name.clone(), self.place(start)));
        cursor.belongs_to(owner);
        self.cursors = self.cursors.iter().cloned().chain([cursor.clone()]).collect();
        Ok((cursor, forgotten))
    }

    pub(crate) fn forget(&mut self, name: &CursorName, owner: Option<&str>) -> Option<Arc<Shared>> {
        let cursor = self.cursor(name)?.clone();
        if is_anothers(cursor.owner(), owner) {
            return None;
        }
        self.cursors = self
            .cursors
            .iter()
            .filter(|cursor| cursor.name != *name)
            .cloned()
            .collect();
        Some(cursor)
    }

    pub(crate) fn place(&self, start: Start) -> Offset {
        match start {
            Start::Latest => self.next(),
            Start::Earliest => self.earliest(),
            Start::Offset(place) => place.clamp(self.earliest(), self.next()),
            Start::Time(time) => Offset(self.base + self.held.partition_point(|held| held.stored_at < time) as u64),
        }
    }
}
