//! How appends become one write: they are encoded into a buffer as they come, and wait for its turn.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use event::Event;
use tokio::{sync::oneshot, time::Instant};

use super::{GATHER_BYTES_MAX, Log, Refusal};
use crate::{
    clock,
    dedup::Window,
    format::{FIRST_OF_BATCH, FIRST_OF_COMMIT, LAST_OF_BATCH, put_record},
};

pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) stored_ms: u64,
    /// Where its record begins in the batch's bytes.
    pub(super) at: usize,
}

pub(super) type Waiter = oneshot::Sender<Result<(), Refusal>>;

/// What one write will hold.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    pub(super) waiters: Vec<Waiter>,
}

impl Batch {
    /// Empties it for the next use; a buffer that grew for large events is given back.
    pub(super) fn reset(mut self) -> Self {
        if self.bytes.capacity() > GATHER_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.entries.clear();
        self.waiters.clear();
        self
    }
}

pub(super) struct Gathering {
    pub(super) batch: Batch,
    /// The place the next event gets.
    pub(super) next: u64,
    pub(super) last_ms: u64,
    /// In the committers' queue, or being committed.
    pub(super) submitted: bool,
    /// How many appends the committing thread waits for; never reached while it does not.
    pub(super) crowd: usize,
    pub(super) closed: bool,
    /// Where repeats are not stored again: what was stored lately.
    pub(super) window: Option<Window>,
}

impl Gathering {
    /// A write failed: no place from this one on was given away, and nothing there is known.
    pub(super) fn back_to(&mut self, place: u64) {
        self.next = place;
        if let Some(window) = &mut self.window {
            window.forget_from(place);
        }
    }
}

/// What became of an append so far.
enum Gathered {
    /// It is part of the next write; what its last event's place will be.
    Waiting(oneshot::Receiver<Result<(), Refusal>>, u64),
    /// All of it was stored before, the last event at this place.
    Known(u64),
    /// The next write is large enough already.
    NoRoom,
}

impl Log {
    /// Stores the events; returns the last one's place once they are synced.
    pub(crate) async fn append(self: &Arc<Self>, events: &[Event]) -> Result<u64, Refusal> {
        let (answer, last) = loop {
            let room = self.room.notified();
            match self.gather(events)? {
                Gathered::Waiting(answer, last) => break (answer, last),
                Gathered::Known(last) => return Ok(last),
                Gathered::NoRoom => room.await,
            }
        };
        let Ok(answer) = answer.await else {
            return Err(Refusal::Unavailable(Arc::new(io::Error::other(
                "the write was given up",
            ))));
        };
        answer.map(|()| last)
    }

    /// Puts the events into the next write, but those that a dedup window knows.
    fn gather(self: &Arc<Self>, events: &[Event]) -> Result<Gathered, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let mut gathering = self.gathering.lock();
        if gathering.closed {
            return Err(Refusal::Closed);
        }
        if gathering.batch.bytes.len() > GATHER_BYTES_MAX {
            return Ok(Gathered::NoRoom);
        }
        // A clock set back must not make a search by time miss events.
        let stored_ms = gathering.last_ms.max(clock::to_ms(SystemTime::now()));
        gathering.last_ms = stored_ms;
        let next = gathering.next;
        let known = match &mut gathering.window {
            Some(window) => window.admit(events, next, stored_ms),
            None => Vec::new(),
        };
        let is_fresh = |index: &usize| known.get(*index).is_none_or(Option::is_none);
        let last_fresh = (0..events.len()).rev().find(is_fresh);
        let mut flags = FIRST_OF_BATCH;
        for (index, event) in events.iter().enumerate().filter(|(index, _)| is_fresh(index)) {
            let offset = gathering.next;
            gathering.next += 1;
            let batch = &mut gathering.batch;
            let at = batch.bytes.len();
            flags |= if at == 0 { FIRST_OF_COMMIT } else { 0 };
            flags |= if Some(index) == last_fresh { LAST_OF_BATCH } else { 0 };
            put_record(&mut batch.bytes, self.salt, offset, stored_ms, flags, |out| {
                event.encode(out);
            });
            batch.entries.push(Entry {
                event: event.clone(),
                stored_ms,
                at,
            });
            flags = 0;
        }
        let repeats = events.len() - usize::try_from(gathering.next - next).unwrap_or_default();
        self.counters.repeats.fetch_add(repeats as u64, Ordering::Relaxed);
        let last = match known.last() {
            Some(Some(place)) => *place,
            _ => gathering.next.saturating_sub(1),
        };
        // What is known may still be on its way to the disk: then it is waited for, and shares the fate of that write.
        if last_fresh.is_none() && known.iter().flatten().all(|place| *place < self.committed()) && !known.is_empty() {
            return Ok(Gathered::Known(last));
        }
        gathering.batch.waiters.push(sender);
        let crowded = gathering.batch.waiters.len() == gathering.crowd;
        let submit = !std::mem::replace(&mut gathering.submitted, true);
        drop(gathering);
        if crowded {
            self.crowded.notify_one();
        }
        if submit {
            self.committers.submit(self.clone());
        }
        Ok(Gathered::Waiting(receiver, last))
    }

    /// Takes what has gathered, after a short wait for those who are about to append: whoever was just answered is often
    /// back with the next event within microseconds, and a sync for half of them costs as much as one for all.
    ///
    /// It waits only for as many as were there lately and a fraction of what a sync takes, so a lone publisher is never
    /// held up. Sleeping, not yielding: a thread that yields on a busy machine comes back milliseconds later.
    pub(super) fn gathered(&self, crowd: usize, patience: Duration, spare: Batch) -> Batch {
        let mut gathering = self.gathering.lock();
        if gathering.batch.waiters.len() < crowd && !patience.is_zero() {
            gathering.crowd = crowd;
            let until = Instant::now() + patience;
            while gathering.batch.waiters.len() < crowd && gathering.batch.bytes.len() <= GATHER_BYTES_MAX {
                if self.crowded.wait_until(&mut gathering, until.into_std()).timed_out() {
                    break;
                }
            }
            gathering.crowd = usize::MAX;
        }
        std::mem::replace(&mut gathering.batch, spare)
    }
}
