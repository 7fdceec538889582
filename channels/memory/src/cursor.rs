//! A cursor of the memory channel: its progress under its own lock, its holder's end, and the receipts it hands out.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use channel::{
    Attempts, Cursor, CursorName, Delivery, Offset, ReadError, Seat, Settle, SettleError, Standing,
    progress::{Holder, Progress},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Inner, PAGE_BYTES};

/// Releases further ahead than this come back then: far beyond any backoff, and well inside what the clock can add.
const RELEASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The part of a cursor that outlives its holder.
pub(crate) struct Shared {
    pub(crate) name: CursorName,
    owner: OnceLock<String>,
    progress: Mutex<Progress<Instant>>,
    /// A copy of the progress's own, read by the ring without this cursor's lock.
    settled_below: AtomicU64,
    pub(crate) seat: Seat,
}

impl Shared {
    /// A new cursor, held by its maker.
    pub(crate) fn new(name: CursorName, start: Offset) -> Self {
        let seat = Seat::default();
        seat.take();
        Self {
            name,
            owner: OnceLock::new(),
            progress: Mutex::new(Progress::new(start)),
            settled_below: AtomicU64::new(start.0),
            seat,
        }
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.get().map(String::as_str)
    }

    /// One of nobody becomes the owner's.
    pub(crate) fn belongs_to(&self, owner: Option<&str>) {
        if let Some(owner) = owner {
            self.owner.get_or_init(|| owner.to_owned());
        }
    }

    pub(crate) fn settled_below(&self) -> Offset {
        Offset(self.settled_below.load(Ordering::Acquire))
    }

    /// What is settled, and how many places below `next` are not.
    pub(crate) fn status(&self, next: Offset) -> (Offset, u64) {
        let progress = self.progress.lock();
        (progress.settled().settled_below(), progress.settled().unsettled(next))
    }

    pub(crate) fn standing(&self, place: Offset) -> Standing {
        self.progress.lock().standing(place)
    }
}

/// The holder of a cursor.
pub(crate) struct MemoryCursor {
    channel: Arc<Inner>,
    shared: Arc<Shared>,
    holder: Holder,
}

impl MemoryCursor {
    pub(crate) fn new(channel: Arc<Inner>, shared: Arc<Shared>) -> Self {
        let holder = shared.progress.lock().take_over();
        Self {
            channel,
            shared,
            holder,
        }
    }

    /// Takes what is there; the time to look again when it is nothing.
    fn take(&self, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let mut progress = self.shared.progress.lock();
        let ring = self.channel.ring.lock();
        let (mut bytes, mut taken) = (0, Vec::new());
        while taken.len() < max && bytes < PAGE_BYTES {
            let Some(place) = progress.take(Instant::now, ring.next()) else {
                break;
            };
            let Some((event, stored_at)) = ring.event(place) else {
                // The ring keeps everything from the slowest cursor on, so an unsettled place is always held.
                debug_assert!(false, "place {place} is not settled and not held");
                continue;
            };
            bytes += event.size();
            let receipt = Receipt {
                channel: self.channel.clone(),
                shared: self.shared.clone(),
                holder: self.holder,
                place,
            };
            taken.push(Delivery::new(
                event.clone(),
                place,
                stored_at,
                progress.attempts_of(place),
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
        self.shared.seat.wait_for(|| self.take(max)).await
    }
}

impl Drop for MemoryCursor {
    fn drop(&mut self) {
        self.shared.seat.leave();
    }
}

struct Receipt {
    channel: Arc<Inner>,
    shared: Arc<Shared>,
    holder: Holder,
    place: Offset,
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        if self.shared.seat.has_ended() {
            return Err(SettleError);
        }
        let before = {
            let mut progress = self.shared.progress.lock();
            let before = progress.settled().settled_below();
            if !progress.settle(self.place) {
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
        if self.shared.progress.lock().release(self.holder, self.place, due) {
            self.shared.seat.wake();
        }
    }

    fn remember(&mut self, attempts: Attempts) {
        self.shared.progress.lock().remember(self.place, attempts);
    }
}
