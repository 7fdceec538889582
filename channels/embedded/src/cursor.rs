//! The holder of a cursor: polls events, and hands out receipts that settle and release them.
//!
//! A cursor that keeps up takes decoded events from the tail. A cursor that lags behind loads ranges of the log for
//! itself: one range ahead of it, and one for offsets that were released and are delivered again.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use channel::{Attempts, Cursor, Delivery, Offset, ReadError, Settle, SettleError, progress::Holder};
use event::Event;
use tokio::time::Instant;

use crate::{clock, cursor_state::CursorState, log::Chunk, store::Store};

/// Bytes of events that one `next` hands out at most. Also bounds what a lagging cursor holds beside its loaded
/// ranges.
const PAGE_BYTES: usize = 4 << 20;
/// Bytes loaded ahead: enough that hundreds of small events share one wake-up of a reading thread.
const READ_AHEAD_BYTES: usize = 256 << 10;
/// Bytes loaded for a redelivery: the neighbors are likely to be redelivered soon, the rest is not.
const REDELIVERY_BYTES: usize = 32 << 10;
/// The longest delay of a release: far beyond any backoff, and well inside what the clock can add.
const RELEASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The holder of a cursor.
pub(crate) struct EmbeddedCursor {
    store: Arc<Store>,
    shared: Arc<CursorState>,
    holder: Holder,
    read_ahead: Chunk,
    redelivery: Chunk,
}

/// The outcome of one poll.
enum Polled {
    Some(Vec<Delivery>),
    /// There is nothing to deliver. Poll again at this time, or when woken.
    None(Option<Instant>),
    /// The next offset must be read from disk; `true` if it was handed out before.
    Load(Offset, bool),
}

enum Lookup {
    Event(Event, u64),
    /// The offsets below this one hold nothing readable.
    Gone(u64),
    NotLoaded,
}

impl EmbeddedCursor {
    pub(crate) fn new(store: Arc<Store>, shared: Arc<CursorState>) -> Self {
        let holder = shared.state.lock().progress.take_over();
        Self {
            store,
            shared,
            holder,
            read_ahead: Chunk::default(),
            redelivery: Chunk::default(),
        }
    }

    fn take(&self, max: usize) -> Polled {
        let committed = Offset(self.store.log.committed());
        let mut state = self.shared.state.lock();
        let (mut bytes, mut taken) = (0, Vec::new());
        while taken.len() < max && bytes < PAGE_BYTES {
            let position = state.progress.position();
            let Some(offset) = state.progress.take(Instant::now, committed) else {
                break;
            };
            match self.find(offset) {
                Lookup::Event(event, stored_ms) => {
                    bytes += event.size();
                    let receipt = Receipt {
                        store: Arc::downgrade(&self.store),
                        shared: self.shared.clone(),
                        holder: self.holder,
                        offset,
                    };
                    let attempts = state.progress.attempts_of(offset);
                    taken.push(Delivery::new(
                        event,
                        offset,
                        clock::from_ms(stored_ms),
                        attempts,
                        Box::new(receipt),
                    ));
                }
                Lookup::Gone(end) => {
                    state.skip(offset..Offset(end));
                    self.shared.moved(&state);
                    self.store.changed();
                }
                Lookup::NotLoaded => {
                    state.progress.put_back(offset);
                    if taken.is_empty() {
                        return Polled::Load(offset, offset < position);
                    }
                    break;
                }
            }
        }
        if taken.is_empty() {
            Polled::None(state.progress.next_due())
        } else {
            Polled::Some(taken)
        }
    }

    fn find(&self, offset: Offset) -> Lookup {
        let recent = |tail: &crate::tail::Tail| {
            tail.get(offset.0)
                .map(|recent| (recent.event.clone(), recent.stored_ms))
        };
        if let Some((event, stored_ms)) = self.store.log.recent(recent) {
            return Lookup::Event(event, stored_ms);
        }
        for chunk in [&self.read_ahead, &self.redelivery] {
            if !chunk.covers.contains(&offset.0) {
                continue;
            }
            if let Some(read) = chunk.get(offset.0) {
                return Lookup::Event(read.event.clone(), read.stored_ms);
            }
            let after = chunk.records.partition_point(|read| read.offset < offset.0);
            return Lookup::Gone(chunk.records.get(after).map_or(chunk.covers.end, |read| read.offset));
        }
        Lookup::NotLoaded
    }

    /// Loads the range around `offset`.
    ///
    /// # Cancel safety
    /// Cancel safe: a loaded range is kept or loaded again, and nothing is handed out.
    async fn load(&mut self, offset: Offset, redelivery: bool) -> Result<(), ReadError> {
        let log = self.store.log.clone();
        let bytes = if redelivery { REDELIVERY_BYTES } else { READ_AHEAD_BYTES };
        let chunk = crate::blocking(move || {
            // Retention deletes only what every cursor settled, so whatever this one has not settled was lost in
            // another way.
            log.missing(offset.0..log.earliest());
            log.load(offset.0, bytes)
        })
        .await?;
        if self.store.log.has_unsaved_gaps() {
            self.store.changed();
        }
        *(if redelivery {
            &mut self.redelivery
        } else {
            &mut self.read_ahead
        }) = chunk;
        Ok(())
    }
}

#[async_trait]
impl Cursor for EmbeddedCursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        loop {
            if self.shared.lease.has_ended() {
                return Err(ReadError::Closed);
            }
            match self.take(max.max(1)) {
                Polled::Some(taken) => return Ok(taken),
                Polled::Load(offset, redelivery) => self.load(offset, redelivery).await?,
                Polled::None(poll_at) => {
                    // The cursor has caught up: free what was read from disk.
                    (self.read_ahead, self.redelivery) = (Chunk::default(), Chunk::default());
                    self.shared.lease.woken(poll_at).await;
                }
            }
        }
    }
}

impl Drop for EmbeddedCursor {
    fn drop(&mut self) {
        self.shared.lease.leave();
    }
}

struct Receipt {
    store: Weak<Store>,
    shared: Arc<CursorState>,
    holder: Holder,
    offset: Offset,
}

impl Receipt {
    fn changed(&self) {
        if let Some(store) = self.store.upgrade() {
            store.changed();
        }
    }
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        if self.shared.lease.has_ended() {
            return Err(SettleError);
        }
        self.shared.settle(self.offset);
        self.changed();
        Ok(())
    }

    fn release(self: Box<Self>, after: Duration) {
        let due = (!after.is_zero()).then(|| Instant::now() + after.min(RELEASE_MAX));
        if self.shared.state.lock().progress.release(self.holder, self.offset, due) {
            self.shared.lease.wake();
        }
    }

    fn remember(&mut self, attempts: Attempts) {
        if self.shared.remember(self.offset, attempts) {
            self.changed();
        }
    }
}
