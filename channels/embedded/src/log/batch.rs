//! How appends become one write: they are encoded into the pending batch, and wait until it is committed.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use event::Event;
use tokio::{sync::oneshot, time::Instant};

use super::{BATCH_BYTES_MAX, Log, Refusal};
use crate::{
    clock,
    dedup::Window,
    format::{FIRST_OF_BATCH, FIRST_OF_COMMIT, LAST_OF_BATCH, WITH_FACTS, put_facts, put_record},
};

pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) stored_ms: u64,
    /// Where its record begins in the batch's bytes.
    pub(super) at: usize,
}

pub(super) type Waiter = oneshot::Sender<Result<(), Refusal>>;

/// The contents of one write.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    pub(super) waiters: Vec<Waiter>,
}

impl Batch {
    /// Empties the batch for reuse; frees a buffer that grew for large events.
    pub(super) fn reset(mut self) -> Self {
        if self.bytes.capacity() > BATCH_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.entries.clear();
        self.waiters.clear();
        self
    }
}

pub(super) struct AppendState {
    pub(super) batch: Batch,
    /// The offset of the next event.
    pub(super) next: u64,
    pub(super) last_ms: u64,
    /// The log is in the committers' queue, or being committed.
    pub(super) submitted: bool,
    /// How many appends the committer thread waits for; `usize::MAX` while it does not wait.
    pub(super) expected_appends: usize,
    pub(super) closed: bool,
    /// The recently stored events, whose repeats are not stored again.
    pub(super) window: Option<Window>,
}

impl AppendState {
    /// After a failed write: `offset` and those above it are free again, and their events are no longer remembered.
    pub(super) fn roll_back_to(&mut self, offset: u64) {
        self.next = offset;
        if let Some(window) = &mut self.window {
            window.remove_from(offset);
        }
    }
}

/// The outcome of enqueueing an append.
enum Queued {
    /// It is part of the next write; the last event will have this offset.
    Waiting(oneshot::Receiver<Result<(), Refusal>>, u64),
    /// All events were stored before, the last one at this offset.
    Known(u64),
    /// The pending batch is full.
    NoRoom,
}

impl Log {
    /// Stores the events; returns the offset of the last one once they are synced.
    ///
    /// # Cancel safety
    /// A cancelled call may have stored the events.
    pub(crate) async fn append(self: &Arc<Self>, events: &[Event]) -> Result<u64, Refusal> {
        self.append_with(events, &[]).await
    }

    /// Like [`Self::append`], for one event with the facts of its dead letter.
    pub(crate) async fn append_dead_letter(self: &Arc<Self>, event: &Event, facts: &[u8]) -> Result<u64, Refusal> {
        self.append_with(std::slice::from_ref(event), facts).await
    }

    async fn append_with(self: &Arc<Self>, events: &[Event], facts: &[u8]) -> Result<u64, Refusal> {
        let (answer, last) = loop {
            let taken = self.batch_taken.notified();
            match self.enqueue(events, facts)? {
                Queued::Waiting(answer, last) => break (answer, last),
                Queued::Known(last) => return Ok(last),
                Queued::NoRoom => taken.await,
            }
        };
        let Ok(answer) = answer.await else {
            return Err(Refusal::Unavailable(Arc::new(io::Error::other(
                "the commit failed unexpectedly",
            ))));
        };
        answer.map(|()| last)
    }

    /// Adds the events to the pending batch, except for those in the dedup window.
    fn enqueue(self: &Arc<Self>, events: &[Event], facts: &[u8]) -> Result<Queued, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let mut append_state = self.append_state.lock();
        if append_state.closed {
            return Err(Refusal::Closed);
        }
        if append_state.batch.bytes.len() > BATCH_BYTES_MAX {
            return Ok(Queued::NoRoom);
        }
        // A search by time must not miss events after the clock was set back.
        let stored_ms = append_state.last_ms.max(clock::to_ms(SystemTime::now()));
        append_state.last_ms = stored_ms;
        let next = append_state.next;
        let known = match &mut append_state.window {
            Some(window) => window.admit(events, next, stored_ms),
            None => Vec::new(),
        };
        let is_fresh = |index: &usize| known.get(*index).is_none_or(Option::is_none);
        let last_fresh = (0..events.len()).rev().find(is_fresh);
        let mut flags = FIRST_OF_BATCH;
        for (index, event) in events.iter().enumerate().filter(|(index, _)| is_fresh(index)) {
            let offset = append_state.next;
            append_state.next += 1;
            let batch = &mut append_state.batch;
            let at = batch.bytes.len();
            flags |= if at == 0 { FIRST_OF_COMMIT } else { 0 };
            flags |= if Some(index) == last_fresh { LAST_OF_BATCH } else { 0 };
            flags |= if facts.is_empty() { 0 } else { WITH_FACTS };
            put_record(&mut batch.bytes, self.salt, offset, stored_ms, flags, |out| {
                put_facts(out, facts);
                event.encode(out);
            });
            batch.entries.push(Entry {
                event: event.clone(),
                stored_ms,
                at,
            });
            flags = 0;
        }
        let repeats = events.len() - usize::try_from(append_state.next - next).unwrap_or_default();
        self.counters.repeats.fetch_add(repeats as u64, Ordering::Relaxed);
        let last = match known.last() {
            Some(Some(offset)) => *offset,
            _ => append_state.next.saturating_sub(1),
        };
        // The original may not be durable yet. Then the repeat waits for that write, and fails with it.
        if last_fresh.is_none() && known.iter().flatten().all(|offset| *offset < self.committed()) && !known.is_empty()
        {
            return Ok(Queued::Known(last));
        }
        append_state.batch.waiters.push(sender);
        let is_full = append_state.batch.waiters.len() == append_state.expected_appends;
        let submit = !std::mem::replace(&mut append_state.submitted, true);
        drop(append_state);
        if is_full {
            self.batch_ready.notify_one();
        }
        if submit {
            self.committers.submit(self.clone());
        }
        Ok(Queued::Waiting(receiver, last))
    }

    /// Takes the pending batch, after a short wait for expected appends: a publisher that was just answered often
    /// appends again within microseconds, and a sync for half of them costs as much as one for all.
    ///
    /// It waits only for as many appends as the last commit had, and only a fraction of a sync's duration, so a lone
    /// publisher is never delayed. It sleeps instead of yielding: a thread that yields on a busy machine comes back
    /// milliseconds later.
    pub(super) fn take_batch(&self, expected_appends: usize, patience: Duration, spare: Batch) -> Batch {
        let mut append_state = self.append_state.lock();
        if append_state.batch.waiters.len() < expected_appends && !patience.is_zero() {
            append_state.expected_appends = expected_appends;
            let until = Instant::now() + patience;
            while append_state.batch.waiters.len() < expected_appends
                && append_state.batch.bytes.len() <= BATCH_BYTES_MAX
            {
                if self
                    .batch_ready
                    .wait_until(&mut append_state, until.into_std())
                    .timed_out()
                {
                    break;
                }
            }
            append_state.expected_appends = usize::MAX;
        }
        std::mem::replace(&mut append_state.batch, spare)
    }
}
