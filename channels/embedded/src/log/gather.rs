//! How appends become one write: they are encoded into a buffer as they come, and wait for its turn.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use event::Event;
use tokio::{sync::oneshot, time::Instant};

use super::{GATHER_BYTES_MAX, Log, Refusal};
use crate::{
    clock,
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
}

impl Log {
    /// Stores the events; returns the last one's place once they are synced.
    pub(crate) async fn append(self: &Arc<Self>, events: &[Event]) -> Result<u64, Refusal> {
        let (answer, last) = loop {
            let room = self.room.notified();
            if let Some(waiting) = self.gather(events)? {
                break waiting;
            }
            room.await;
        };
        let Ok(answer) = answer.await else {
            return Err(Refusal::Unavailable(Arc::new(io::Error::other(
                "the write was given up",
            ))));
        };
        answer.map(|()| last)
    }

    /// Puts the events into the next write; `None` when it is large enough already.
    #[expect(clippy::type_complexity, reason = "the pair lives for three lines")]
    fn gather(
        self: &Arc<Self>,
        events: &[Event],
    ) -> Result<Option<(oneshot::Receiver<Result<(), Refusal>>, u64)>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let mut gathering = self.gathering.lock();
        if gathering.closed {
            return Err(Refusal::Closed);
        }
        if gathering.batch.bytes.len() > GATHER_BYTES_MAX {
            return Ok(None);
        }
        // A clock set back must not make a search by time miss events.
        let stored_ms = gathering.last_ms.max(clock::to_ms(SystemTime::now()));
        gathering.last_ms = stored_ms;
        for (index, event) in events.iter().enumerate() {
            let offset = gathering.next;
            gathering.next += 1;
            let batch = &mut gathering.batch;
            let at = batch.bytes.len();
            let flags = if at == 0 { FIRST_OF_COMMIT } else { 0 }
                | if index == 0 { FIRST_OF_BATCH } else { 0 }
                | if index + 1 == events.len() { LAST_OF_BATCH } else { 0 };
            put_record(&mut batch.bytes, self.salt, offset, stored_ms, flags, |out| {
                event.encode(out);
            });
            batch.entries.push(Entry {
                event: event.clone(),
                stored_ms,
                at,
            });
        }
        let last = gathering.next.saturating_sub(1);
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
        Ok(Some((receiver, last)))
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
