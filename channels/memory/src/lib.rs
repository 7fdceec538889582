//! A channel in memory: events live in a ring from the slowest cursor on, as long as this process.
//!
//! It promises `Process` and no replay: what every cursor settled is gone at once, and with no cursor nothing is kept.
//! It is bounded in events and in bytes; full, it refuses (CONTRACT CH-9) and never discards.
//!
//! Cost is the point. An append takes one short lock and wakes a cursor only when it sleeps; a cursor takes many events
//! under one lock, sharing their bytes; a settlement locks its own cursor, and the ring only when the slowest cursor
//! moved. A publisher is held up briefly by a full ring rather than refused at once, but only while waiting helps:
//! see [`ring::Ring::admit`].

mod cursor;
mod letters;
mod ring;

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
    AppendError, Channel, Cursor, CursorName, CursorStatus, Depth, Durability, Letters, Offset, Promises, ReadError,
    Record, Standing, Start, Stored,
};
use event::Event;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout_at};

use crate::{
    cursor::{MemoryCursor, Shared},
    letters::MemoryLetters,
    ring::{Admission, Ring},
};

/// How long an append waits for space before it is refused. Long enough for a subscriber that keeps up on average to
/// make room (at 20 000 events/s, a thousand places), short beside any publisher's timeout.
const SPACE_WAIT: Duration = Duration::from_millis(50);

/// What a refused publisher is told: enough for a tenth of the ring to drain at a modest rate.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Sum of sizes one `next` or `read` returns: a batch of large events must not hold a second copy of the ring's bound.
const PAGE_BYTES: usize = 4 << 20;

/// Sizes of a memory channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Events held at most.
    pub capacity: usize,
    /// Bytes of events held at most.
    pub max_bytes: usize,
    /// Largest event taken, in bytes of attributes and data together; at most [`Settings::EVENT_BYTES_MAX`].
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
    letters: MemoryLetters,
}

pub(crate) struct Inner {
    pub(crate) ring: Mutex<Ring>,
    /// Appends waiting for space, woken one by one so that they are served in order.
    space: Notify,
    waiting: AtomicUsize,
    /// Readers without a cursor, waiting for something new.
    grown: Notify,
    watching: AtomicUsize,
    max_event_bytes: AtomicUsize,
}

impl MemoryChannel {
    pub fn new(settings: Settings) -> Self {
        let inner = Inner {
            ring: Mutex::new(Ring::new(settings)),
            space: Notify::new(),
            waiting: AtomicUsize::new(0),
            grown: Notify::new(),
            watching: AtomicUsize::new(0),
            max_event_bytes: AtomicUsize::new(settings.max_event_bytes.min(Settings::EVENT_BYTES_MAX)),
        };
        Self {
            inner: Arc::new(inner),
            letters: MemoryLetters::default(),
        }
    }

    /// After [`Channel::close`].
    pub fn is_closed(&self) -> bool {
        self.inner.ring.lock().closed
    }

    /// Changes the sizes of a channel in use. A smaller bound refuses new events until the ring fits; nothing held is
    /// dropped.
    pub fn configure(&self, settings: Settings) {
        self.inner.max_event_bytes.store(
            settings.max_event_bytes.min(Settings::EVENT_BYTES_MAX),
            Ordering::Relaxed,
        );
        self.inner.ring.lock().configure(settings);
        self.inner.pass_space_on();
    }

    /// Events accepted while there was no cursor: stored nowhere, delivered to nobody, as with any subscription made
    /// after the fact.
    pub fn unheard(&self) -> u64 {
        self.inner.ring.lock().unheard
    }
}

/// Counts a waiting task for as long as it waits, also when it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inner {
    /// A cursor's settled prefix moved away from `before`. Frees what every cursor settled, and lets a waiting append
    /// in; only the slowest cursor, the one that stood where the ring begins, makes that worth a look.
    pub(crate) fn moved(&self, before: Offset) {
        let mut ring = self.ring.lock();
        let freed = ring.earliest() >= before && ring.trim();
        drop(ring);
        if freed {
            self.pass_space_on();
        }
    }

    fn pass_space_on(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.space.notify_one();
        }
    }

    /// One attempt to append. `Ok(None)`: there is no space now, and waiting for it is worth while.
    fn try_append(&self, events: &[Event], bytes: usize, queued: bool) -> Result<Option<Stored>, AppendError> {
        let (last, cursors) = {
            let mut ring = self.ring.lock();
            // Who comes now stands behind those who wait already.
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
            cursor.seat.wake();
        }
        if self.watching.load(Ordering::SeqCst) > 0 {
            self.grown.notify_waiters();
        }
        Ok(Some(Stored::at(Durability::Process, last)))
    }

    async fn wait_for_space(&self, events: &[Event], bytes: usize) -> Result<Stored, AppendError> {
        let _waiting = Counted::enter(&self.waiting);
        let deadline = tokio::time::Instant::now() + SPACE_WAIT;
        let result = loop {
            let space = self.space.notified();
            match self.try_append(events, bytes, true) {
                Ok(None) => {}
                Ok(Some(stored)) => break Ok(stored),
                Err(refused) => break Err(refused),
            }
            if timeout_at(deadline, space).await.is_err() {
                self.ring.lock().waited_in_vain();
                break Err(AppendError::Full {
                    retry_after: RETRY_AFTER,
                });
            }
        };
        // What woke this one may be enough for the next.
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
        let (shared, forgotten) = self.inner.ring.lock().subscribe(name, owner, start)?;
        if let Some(forgotten) = forgotten {
            forgotten.seat.end();
            self.inner.pass_space_on();
        }
        Ok(Box::new(MemoryCursor::new(self.inner.clone(), shared)))
    }

    async fn forget(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let forgotten = {
            let mut ring = self.inner.ring.lock();
            if ring.closed {
                return Err(ReadError::Closed);
            }
            let forgotten = ring.forget(name, owner);
            ring.trim();
            forgotten
        };
        if let Some(cursor) = forgotten {
            cursor.seat.end();
            self.inner.pass_space_on();
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

    async fn stretches(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        let ring = self.inner.ring.lock();
        if ring.closed {
            return Err(ReadError::Closed);
        }
        let begin = ring.place(start);
        Ok(vec![begin..ring.next().max(begin)])
    }

    fn standing(&self, cursor: &CursorName, place: Offset) -> Option<Standing> {
        // Cloned, so that the ring is free when the cursor locks itself.
        let shared = self.inner.ring.lock().cursor(cursor).cloned()?;
        Some(shared.standing(place))
    }

    async fn grown(&self, from: Offset) {
        let _watching = Counted::enter(&self.inner.watching);
        loop {
            let grown = self.inner.grown.notified();
            {
                let ring = self.inner.ring.lock();
                if ring.closed || ring.next() > from {
                    return;
                }
            }
            grown.await;
        }
    }

    fn letters(&self) -> &dyn Letters {
        &self.letters
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
        // A cursor that takes events locks itself and then the ring: never the other way round.
        let status = |cursor: &Arc<Shared>| {
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
            ring.cursors()
        };
        for cursor in &*cursors {
            cursor.seat.end();
        }
        self.letters.close();
        self.inner.space.notify_waiters();
        self.inner.grown.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
