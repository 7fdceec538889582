//! A cursor of the memory channel: its progress under its own lock, its lease, and its receipts.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use channel::{
    Attempts, Cursor, CursorLease, CursorName, Delivery, Offset, ReadError, Settle, SettleError, SettlementState,
    progress::{Holder, Progress},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Inner, PAGE_BYTES};

/// The longest delay of a release: far beyond any backoff, and well inside what the clock can add.
const RELEASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The part of a cursor that outlives its holder.
pub(crate) struct CursorState {
    pub(crate) name: CursorName,
    owner: OnceLock<String>,
    progress: Mutex<Progress<Instant>>,
    /// Mirrors the progress, so that the ring reads it without this cursor's lock.
    settled_below: AtomicU64,
    pub(crate) lease: CursorLease,
}

impl CursorState {
    /// Creates a cursor whose lease is taken.
    pub(crate) fn new(name: CursorName, start: Offset) -> Self {
        let lease = CursorLease::default();
        lease.take();
        Self {
            name,
            owner: OnceLock::new(),
            progress: Mutex::new(Progress::new(start)),
            settled_below: AtomicU64::new(start.0),
            lease,
        }
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.get().map(String::as_str)
    }

    /// Sets the owner of a cursor that has none.
    pub(crate) fn belongs_to(&self, owner: Option<&str>) {
        if let Some(owner) = owner {
            self.owner.get_or_init(|| owner.to_owned());
        }
    }

    pub(crate) fn settled_below(&self) -> Offset {
        Offset(self.settled_below.load(Ordering::Acquire))
    }

    /// Returns the settled prefix, and how many offsets below `next` are unsettled.
    pub(crate) fn status(&self, next: Offset) -> (Offset, u64) {
        let progress = self.progress.lock();
        (progress.settled().settled_below(), progress.settled().unsettled(next))
    }

    pub(crate) fn settlement_state(&self, offset: Offset) -> SettlementState {
        self.progress.lock().settlement_state(offset)
    }
}

/// The holder of a cursor.
pub(crate) struct MemoryCursor {
    channel: Arc<Inner>,
    shared: Arc<CursorState>,
    holder: Holder,
}

impl MemoryCursor {
    pub(crate) fn new(channel: Arc<Inner>, shared: Arc<CursorState>) -> Self {
        let holder = shared.progress.lock().take_over();
        Self {
            channel,
            shared,
            holder,
        }
    }

    /// Takes the events that are due; if there are none, the time to poll again.
    fn take(&self, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let mut progress = self.shared.progress.lock();
        let ring = self.channel.ring.lock();
        let (mut bytes, mut taken) = (0, Vec::new());
        while taken.len() < max && bytes < PAGE_BYTES {
            let Some(offset) = progress.take(Instant::now, ring.next()) else {
                break;
            };
            let Some((event, stored_at)) = ring.event(offset) else {
                // The ring keeps everything from the slowest cursor on, so it holds every unsettled offset.
                debug_assert!(false, "offset {offset} is unsettled and not held");
                continue;
            };
            bytes += event.size();
            let receipt = Receipt {
                channel: self.channel.clone(),
                shared: self.shared.clone(),
                holder: self.holder,
                offset,
            };
            taken.push(Delivery::new(
                event.clone(),
                offset,
                stored_at,
                progress.attempts_of(offset),
                Box::new(receipt),
            ));
        }
        if taken.is_empty() {
            Err(progress.next_due())
        } else {
            Ok(taken)
        }
    }
}

#[async_trait]
impl Cursor for MemoryCursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        let max = max.max(1);
        self.shared.lease.wait_for(|| self.take(max)).await
    }
}

impl Drop for MemoryCursor {
    fn drop(&mut self) {
        self.shared.lease.leave();
    }
}

struct Receipt {
    channel: Arc<Inner>,
    shared: Arc<CursorState>,
    holder: Holder,
    offset: Offset,
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        if self.shared.lease.has_ended() {
            return Err(SettleError);
        }
        let before = {
            let mut progress = self.shared.progress.lock();
            let before = progress.settled().settled_below();
            if !progress.settle(self.offset) {
                return Ok(());
            }
            self.shared
                .settled_below
                .store(progress.settled().settled_below().0, Ordering::Release);
            before
        };
        self.channel.moved(before);
        Ok(())
    }

    fn release(self: Box<Self>, after: Duration) {
        let due = (!after.is_zero()).then(|| Instant::now() + after.min(RELEASE_MAX));
        if self.shared.progress.lock().release(self.holder, self.offset, due) {
            self.shared.lease.wake();
        }
    }

    fn remember(&mut self, attempts: Attempts) {
        self.shared.progress.lock().remember(self.offset, attempts);
    }
}
