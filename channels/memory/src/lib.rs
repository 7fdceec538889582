//! A channel in memory: a ring of events from the slowest cursor on. It lives as long as the process.
//!
//! It promises `Process` and no replay: events that every cursor settled are gone at once, and without a cursor
//! nothing is kept. A [`watch`] receives each event as it is stored. The channel is bounded in events and in bytes;
//! when full, it refuses (CONTRACT CH-9) and never discards.
//!
//! It is built to be cheap. An append takes one short lock and wakes only cursors that sleep. A cursor takes many
//! events under one lock, sharing their bytes. A settlement locks its own cursor, and the ring only if the slowest
//! cursor moved. A full ring delays a publisher briefly instead of refusing it at once, but only while waiting helps:
//! see [`ring::Ring::admit`].

mod budget;
mod cursor;
mod dead_letters;
mod ring;
mod watch;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use channel::{
    AppendError, Channel, Cursor, CursorName, CursorStatus, DeadLetterLog, Depth, Durability, Offset, Promises,
    ReadError, Record, SettlementState, Start, Stored, Watch,
};
use event::Event;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout_at};

pub use crate::budget::Budget;
use crate::{
    cursor::{CursorState, MemoryCursor},
    dead_letters::MemoryDeadLetters,
    ring::{Admission, Ring},
    watch::MemoryWatch,
};

/// How long an append waits for space before it is refused. Long enough for a subscriber that keeps up on average to
/// make room (a thousand events at 20 000 events/s), short beside any publisher's timeout.
const SPACE_WAIT: Duration = Duration::from_millis(50);

/// Retry delay for a refused publisher: enough for a tenth of the ring to drain at a modest rate.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bytes of events that one `next` or `read` returns at most: a page of large events must not double the ring's
/// memory.
const PAGE_BYTES: usize = 4 << 20;

/// Bounds of a memory channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Events held at most.
    pub capacity: usize,
    /// Bytes of events held at most.
    pub max_bytes: usize,
    /// Largest event accepted, in bytes of attributes and data together; at most [`Settings::EVENT_BYTES_MAX`].
    pub max_event_bytes: usize,
}

impl Settings {
    /// The limit of CONTRACT IN-3.
    pub const EVENT_BYTES_MAX: usize = 32 << 20;
}

impl Default for Settings {
    /// 10 000 events (API.md), 48 MiB (keeps the whole process under 100 MB when a closed loop of large events fills
    /// the ring), 32 MiB an event.
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_bytes: 48 << 20,
            max_event_bytes: Self::EVENT_BYTES_MAX,
        }
    }
}

/// A channel in memory.
pub struct MemoryChannel {
    inner: Arc<Inner>,
    dead_letters: MemoryDeadLetters,
}

pub(crate) struct Inner {
    pub(crate) ring: Mutex<Ring>,
    /// Appends waiting for space, woken one by one so that they are served in order.
    space: Notify,
    waiting: AtomicUsize,
    /// Readers without a cursor, waiting for a new event.
    grown: Notify,
    watching: AtomicUsize,
    max_event_bytes: AtomicUsize,
}

impl MemoryChannel {
    /// Creates a channel with a memory budget of its own.
    pub fn new(settings: Settings) -> Self {
        Self::within(settings, &Budget::default())
    }

    /// Creates a channel that shares a memory budget.
    pub fn within(settings: Settings, budget: &Budget) -> Self {
        let inner = Inner {
            ring: Mutex::new(Ring::new(settings, budget.account())),
            space: Notify::new(),
            waiting: AtomicUsize::new(0),
            grown: Notify::new(),
            watching: AtomicUsize::new(0),
            max_event_bytes: AtomicUsize::new(settings.max_event_bytes.min(Settings::EVENT_BYTES_MAX)),
        };
        Self {
            inner: Arc::new(inner),
            dead_letters: MemoryDeadLetters::new(budget.account()),
        }
    }

    /// Whether [`Channel::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.inner.ring.lock().closed
    }

    /// Changes the bounds of an open channel. A smaller bound refuses new events until the ring fits; nothing held is
    /// dropped.
    pub fn configure(&self, settings: Settings) {
        self.inner.max_event_bytes.store(
            settings.max_event_bytes.min(Settings::EVENT_BYTES_MAX),
            Ordering::Relaxed,
        );
        self.inner.ring.lock().configure(settings);
        self.inner.wake_next_append();
    }

    /// Events accepted while there was no cursor. They are stored nowhere and delivered to no subscription, because
    /// every later one starts after them.
    pub fn unheard(&self) -> u64 {
        self.inner.ring.lock().unheard
    }
}

/// Counts a waiting task, also if it is dropped.
struct WaitGuard<'a>(&'a AtomicUsize);

impl<'a> WaitGuard<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inner {
    /// Called when a cursor's settled prefix moved away from `before`. Frees what every cursor settled, and wakes a
    /// waiting append. Only a move of the slowest cursor, at the beginning of the ring, can free anything.
    pub(crate) fn moved(&self, before: Offset) {
        let mut ring = self.ring.lock();
        let freed = ring.earliest() >= before && ring.trim();
        drop(ring);
        if freed {
            self.wake_next_append();
        }
    }

    fn wake_next_append(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.space.notify_one();
        }
    }

    /// Tries to append once. `Ok(None)`: there is no space now, and waiting may help.
    fn try_append(&self, events: &[Event], bytes: usize, queued: bool) -> Result<Option<Stored>, AppendError> {
        let (last, cursors) = {
            let mut ring = self.ring.lock();
            // A new append queues behind the waiting ones.
            let crowded = !queued && self.waiting.load(Ordering::SeqCst) > 0;
            match ring.admit(events.len(), bytes) {
                Admission::Closed => return Err(AppendError::Closed),
                Admission::Refused => {
                    return Err(AppendError::Full {
                        retry_after: RETRY_AFTER,
                    });
                }
                Admission::Wait => return Ok(None),
                Admission::Welcome if crowded => return Ok(None),
                Admission::Welcome => (ring.push(events, bytes, SystemTime::now()), ring.cursors()),
            }
        };
        // Outside the lock: waking a task may cost a system call.
        for cursor in &*cursors {
            cursor.lease.wake();
        }
        if self.watching.load(Ordering::SeqCst) > 0 {
            self.grown.notify_waiters();
        }
        Ok(Some(Stored::at(Durability::Process, last)))
    }

    async fn wait_for_space(&self, events: &[Event], bytes: usize) -> Result<Stored, AppendError> {
        let _waiting = WaitGuard::enter(&self.waiting);
        let deadline = tokio::time::Instant::now() + SPACE_WAIT;
        let result = loop {
            let space = self.space.notified();
            match self.try_append(events, bytes, true) {
                Ok(None) => {}
                Ok(Some(stored)) => break Ok(stored),
                Err(refused) => break Err(refused),
            }
            if timeout_at(deadline, space).await.is_err() {
                self.ring.lock().wait_timed_out();
                break Err(AppendError::Full {
                    retry_after: RETRY_AFTER,
                });
            }
        };
        // The wake-up may be enough for the next waiting append, too.
        self.space.notify_one();
        result
    }
}

#[async_trait]
impl Channel for MemoryChannel {
    fn promises(&self) -> Promises {
        Promises {
            durability: Durability::Process,
            survives_restart: false,
            total_order: true,
            replay: false,
            remembers_attempts: false,
            max_event_bytes: self.inner.max_event_bytes.load(Ordering::Relaxed),
        }
    }

    async fn append(&self, events: &[Event]) -> Result<Stored, AppendError> {
        let limit = self.inner.max_event_bytes.load(Ordering::Relaxed);
        let mut bytes = 0;
        for event in events {
            let size = event.size();
            if size > limit {
                return Err(AppendError::TooLarge { bytes: size, limit });
            }
            bytes += size;
        }
        match self.inner.try_append(events, bytes, false)? {
            Some(stored) => Ok(stored),
            None => self.inner.wait_for_space(events, bytes).await,
        }
    }

    async fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Box<dyn Cursor>, ReadError> {
        let (shared, deleted) = self.inner.ring.lock().subscribe(name, owner, start)?;
        if let Some(deleted) = deleted {
            deleted.lease.end();
            self.inner.wake_next_append();
        }
        Ok(Box::new(MemoryCursor::new(self.inner.clone(), shared)))
    }

    async fn delete(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let deleted = {
            let mut ring = self.inner.ring.lock();
            if ring.closed {
                return Err(ReadError::Closed);
            }
            let deleted = ring.delete(name, owner);
            ring.trim();
            deleted
        };
        if let Some(cursor) = deleted {
            cursor.lease.end();
            self.inner.wake_next_append();
        }
        Ok(())
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        let ring = self.inner.ring.lock();
        if ring.closed {
            return Err(ReadError::Closed);
        }
        let mut bytes = 0;
        Ok(ring
            .from(from)
            .take(max)
            .take_while(|record| {
                let fits = bytes == 0 || bytes + record.event.size() <= PAGE_BYTES;
                bytes += record.event.size().max(1);
                fits
            })
            .collect())
    }

    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        let ring = self.inner.ring.lock();
        if ring.closed {
            return Err(ReadError::Closed);
        }
        let begin = ring.offset(start);
        Ok(vec![begin..ring.next().max(begin)])
    }

    fn settlement_state(&self, cursor: &CursorName, offset: Offset) -> Option<SettlementState> {
        // Cloned, so that the ring is unlocked when the cursor locks itself.
        let shared = self.inner.ring.lock().cursor(cursor).cloned()?;
        Some(shared.settlement_state(offset))
    }

    async fn grown(&self, from: Offset) {
        let _watching = WaitGuard::enter(&self.inner.watching);
        loop {
            let grown = self.inner.grown.notified();
            {
                let ring = self.inner.ring.lock();
                // Events that no cursor keeps are not readable: there is no cursor, or all have settled them.
                if ring.closed || ring.next() > from.max(ring.earliest()) {
                    return;
                }
            }
            grown.await;
        }
    }

    fn watch(&self) -> Option<Box<dyn Watch>> {
        Some(Box::new(MemoryWatch::new(self.inner.ring.lock().watch())))
    }

    fn dead_letters(&self) -> &dyn DeadLetterLog {
        &self.dead_letters
    }

    fn depth(&self) -> Depth {
        let (mut depth, cursors) = {
            let ring = self.inner.ring.lock();
            let (earliest, next) = (ring.earliest(), ring.next());
            let depth = Depth {
                earliest,
                next,
                unsettled: next.0 - earliest.0,
                bytes: Some(ring.bytes() as u64),
                refusing: ring.refusing(),
                ..Depth::default()
            };
            (depth, ring.cursors())
        };
        // Lock order: a cursor, then the ring. A cursor that takes events locks them in this order.
        let status = |cursor: &Arc<CursorState>| {
            let (settled_below, unsettled) = cursor.status(depth.next);
            let oldest = (unsettled > 0)
                .then(|| self.inner.ring.lock().stored_at(settled_below))
                .flatten();
            CursorStatus {
                name: cursor.name.clone(),
                owner: cursor.owner().map(str::to_owned),
                settled_below,
                unsettled,
                oldest,
            }
        };
        depth.cursors = cursors.iter().map(status).collect();
        depth
    }

    async fn close(&self) {
        let cursors = {
            let mut ring = self.inner.ring.lock();
            ring.closed = true;
            ring.end_watches();
            ring.cursors()
        };
        for cursor in &*cursors {
            cursor.lease.end();
        }
        self.dead_letters.close();
        self.inner.space.notify_waiters();
        self.inner.grown.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
