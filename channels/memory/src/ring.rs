//! The ring: events from the slowest cursor on, its bounds, and the admission of appends.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::SystemTime,
};

use channel::{CursorName, Offset, ReadError, Record, Start, is_anothers};
use event::Event;

use crate::{Settings, budget::Account, cursor::CursorState, watch::WatchQueue};

/// Once refusing, the ring refuses until it is this full at most (in percent). That is room for more than a handful of
/// publishers, so that a stuck subscriber makes them fail fast instead of waiting in turns.
const REOPEN_PERCENT: usize = 90;

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Welcome,
    /// Full, but the slowest cursor moved recently. Left when there is space, or after a bounded wait.
    Wait,
    /// Full, and an append has waited in vain. Left when enough has drained.
    Refused,
    Closed,
}

struct Held {
    event: Event,
    stored_at: SystemTime,
}

pub(crate) struct Ring {
    held: VecDeque<Held>,
    /// The offset of the first event held.
    base: u64,
    bytes: usize,
    /// Its account in the shared memory budget.
    account: Account,
    /// Bytes of the last append if the shared budget refused it, else 0.
    refused_bytes: usize,
    settings: Settings,
    /// Replaced as a whole, so that an append can wake them outside the lock.
    cursors: Arc<[Arc<CursorState>]>,
    /// Readers without a cursor: few, usually none.
    watches: Vec<Weak<WatchQueue>>,
    /// An append has waited in vain for space.
    refusing: bool,
    last_stored_at: SystemTime,
    pub(crate) unheard: u64,
    pub(crate) closed: bool,
}

impl Ring {
    pub(crate) fn new(settings: Settings, account: Account) -> Self {
        Self {
            held: VecDeque::new(),
            base: 0,
            bytes: 0,
            account,
            refused_bytes: 0,
            settings,
            cursors: Arc::new([]),
            watches: Vec::new(),
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

    pub(crate) fn cursors(&self) -> Arc<[Arc<CursorState>]> {
        self.cursors.clone()
    }

    pub(crate) fn cursor(&self, name: &CursorName) -> Option<&Arc<CursorState>> {
        self.cursors.iter().find(|cursor| cursor.name == *name)
    }

    /// Decides on an append. Publishers wait briefly while that helps (a slightly slow subscriber paces them), and are
    /// refused at once after a wait in vain (a stuck subscriber must not cost every publisher the wait). An empty ring
    /// accepts any batch: a batch that never fits would be refused for ever.
    pub(crate) fn admit(&mut self, events: usize, bytes: usize) -> Admission {
        if self.closed {
            return Admission::Closed;
        }
        if self.cursors.is_empty() {
            self.refusing = false;
            return Admission::Welcome;
        }
        self.refused_bytes = 0;
        if self.held.is_empty() {
            self.refusing = false;
            return self.within_budget(bytes);
        }
        if self.refusing {
            self.refusing = !self.below(REOPEN_PERCENT);
        }
        let fits = self.held.len() + events <= self.settings.capacity && self.bytes + bytes <= self.settings.max_bytes;
        match (fits, self.refusing) {
            (_, true) => Admission::Refused,
            (true, false) => self.within_budget(bytes),
            (false, false) => Admission::Wait,
        }
    }

    /// Waiting does not help: other channels hold the memory.
    fn within_budget(&mut self, bytes: usize) -> Admission {
        if self.account.hold(self.bytes + bytes) {
            return Admission::Welcome;
        }
        self.refused_bytes = bytes;
        Admission::Refused
    }

    pub(crate) fn wait_timed_out(&mut self) {
        self.refusing = !self.below(REOPEN_PERCENT);
    }

    pub(crate) fn refusing(&self) -> Option<String> {
        if self.refused_bytes > 0 && !self.account.could_hold(self.bytes + self.refused_bytes) {
            return Some(format!(
                "the memory of all in-memory channels together ({} bytes, --memory-budget) is used up, and this one has its share: {} bytes held",
                self.account.total(),
                self.bytes
            ));
        }
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

    /// Adds the events; returns the offset of the last one (of the last one ever if there are none).
    pub(crate) fn push(&mut self, events: &[Event], bytes: usize, now: SystemTime) -> Offset {
        // A search by time must not miss events after the clock was set back.
        self.last_stored_at = self.last_stored_at.max(now);
        self.push_to_watches(events);
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

    /// Passes events that are about to be stored to the watches.
    fn push_to_watches(&mut self, events: &[Event]) {
        if self.watches.is_empty() {
            return;
        }
        let (first, stored_at) = (self.next().0, self.last_stored_at);
        self.watches.retain(|watch| {
            let Some(queue) = watch.upgrade() else { return false };
            let records = (first..).zip(events).map(|(offset, event)| Record {
                offset: Offset(offset),
                stored_at,
                event: event.clone(),
            });
            queue.push(records);
            true
        });
    }

    /// Adds a watch, which receives events stored from now on.
    pub(crate) fn watch(&mut self) -> Arc<WatchQueue> {
        let queue = Arc::new(WatchQueue::default());
        if self.closed {
            queue.end();
        } else {
            self.watches.push(Arc::downgrade(&queue));
        }
        queue
    }

    pub(crate) fn end_watches(&mut self) {
        let watches = std::mem::take(&mut self.watches);
        watches.iter().filter_map(Weak::upgrade).for_each(|queue| queue.end());
    }

    /// Drops what every cursor settled; returns `true` if that freed something.
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
        if self.base > before {
            self.account.shrink(self.bytes);
        }
        self.base > before
    }

    pub(crate) fn event(&self, offset: Offset) -> Option<(&Event, SystemTime)> {
        let index = usize::try_from(offset.0.checked_sub(self.base)?).ok()?;
        self.held.get(index).map(|held| (&held.event, held.stored_at))
    }

    pub(crate) fn stored_at(&self, offset: Offset) -> Option<SystemTime> {
        self.event(offset).map(|(_, stored_at)| stored_at)
    }

    /// The events held from `offset` on.
    pub(crate) fn from(&self, offset: Offset) -> impl Iterator<Item = Record> + '_ {
        let skip = usize::try_from(offset.0.saturating_sub(self.base))
            .unwrap_or(usize::MAX)
            .min(self.held.len());
        self.held
            .range(skip..)
            .zip(self.base + skip as u64..)
            .map(|(held, offset)| Record {
                offset: Offset(offset),
                stored_at: held.stored_at,
                event: held.event.clone(),
            })
    }

    /// Returns the cursor with its lease taken, and the cursor of another owner that was deleted for it.
    pub(crate) fn subscribe(
        &mut self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<(Arc<CursorState>, Option<Arc<CursorState>>), ReadError> {
        if self.closed {
            return Err(ReadError::Closed);
        }
        let mut deleted = None;
        match self.cursor(name) {
            Some(cursor) if is_anothers(cursor.owner(), owner) => {
                deleted = self.delete(name, None);
                self.trim();
            }
            Some(cursor) if cursor.lease.take() => {
                cursor.belongs_to(owner);
                return Ok((cursor.clone(), None));
            }
            Some(_) => return Err(ReadError::InUse { name: name.to_string() }),
            None => {}
        }
        let cursor = Arc::new(CursorState::new(name.clone(), self.offset(start)));
        cursor.belongs_to(owner);
        self.cursors = self.cursors.iter().cloned().chain([cursor.clone()]).collect();
        Ok((cursor, deleted))
    }

    pub(crate) fn delete(&mut self, name: &CursorName, owner: Option<&str>) -> Option<Arc<CursorState>> {
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

    pub(crate) fn offset(&self, start: Start) -> Offset {
        match start {
            Start::Latest => self.next(),
            Start::Earliest => self.earliest(),
            Start::Offset(offset) => offset.clamp(self.earliest(), self.next()),
            Start::Time(time) => Offset(self.base + self.held.partition_point(|held| held.stored_at < time) as u64),
        }
    }
}
