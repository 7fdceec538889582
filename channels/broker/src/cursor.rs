//! The part of a cursor that outlives its holder.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use channel::{Cursor, CursorLease, CursorName, Delivery, Gap, GapReason, Offset, ReadError};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Events received and not settled beyond which a cursor asks for no more: twice what the data plane keeps in backoff for one
/// subscription, so that others are delivered while that is full.
pub const HELD_MAX: usize = 8192;
/// The same bound in bytes of events.
const HELD_BYTES_MAX: usize = 24 << 20;

/// Longest delay of a release: far beyond any backoff, and well inside what the clock can add.
const RELEASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Gaps remembered at most. The oldest are dropped first.
const GAPS_MAX: usize = 100;

/// State of a cursor that does not depend on the broker.
pub struct CursorCore {
    /// The cursor's name.
    pub name: CursorName,
    /// The lease that its one holder has.
    pub lease: CursorLease,
    /// Notified when the member may ask for messages again.
    pub room: Notify,
    gaps: Mutex<Vec<Gap>>,
}

impl CursorCore {
    /// A cursor without a holder.
    pub fn new(name: CursorName) -> Self {
        Self {
            name,
            lease: CursorLease::default(),
            room: Notify::new(),
            gaps: Mutex::default(),
        }
    }

    /// Records that events are gone which were not settled.
    pub fn missed(&self, offsets: std::ops::Range<Offset>, reason: GapReason) {
        let (from, to) = (offsets.start, offsets.end);
        tracing::warn!(cursor = %self.name, from = from.0, to = to.0, reason = reason.as_str(), "events are gone that were not settled");
        let mut gaps = self.gaps.lock();
        if gaps.len() >= GAPS_MAX {
            gaps.remove(0);
        }
        gaps.push(Gap {
            from,
            to,
            found_at: SystemTime::now(),
            reason,
        });
    }

    /// The known gaps, oldest first.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.lock().clone()
    }

    /// Keeps the gaps of the cursor that had another member before: see [`crate::OpenCursor::retire`].
    pub(crate) fn inherit(&self, gaps: Vec<Gap>) {
        *self.gaps.lock() = gaps;
    }
}

/// The time until which a released event waits; `None`: it is due now.
pub fn release_time(after: Duration) -> Option<Instant> {
    (!after.is_zero()).then(|| Instant::now() + after.min(RELEASE_MAX))
}

/// How much a cursor holds: events that were received and not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldSize {
    /// Events that may be held at once.
    pub events: usize,
    /// Bytes of events that may be held at once.
    pub bytes: usize,
}

impl HeldSize {
    /// Counts an event of that many bytes.
    pub fn add(&mut self, bytes: usize) {
        self.events += 1;
        self.bytes += bytes;
    }

    /// Counts an event of that many bytes no more.
    pub fn remove(&mut self, bytes: usize) {
        self.events -= 1;
        self.bytes -= bytes;
    }

    /// Whether no more messages are to be asked for.
    pub fn is_full(self) -> bool {
        self.events >= HELD_MAX || self.bytes >= HELD_BYTES_MAX
    }

    /// Whether it is half empty again: the broker is not asked for single messages.
    pub fn has_room(self) -> bool {
        self.events <= HELD_MAX / 2 && self.bytes <= HELD_BYTES_MAX / 2
    }
}

/// A cursor of a broker: what its holder and its member share.
pub trait BrokerCursor: Send + Sync + 'static {
    /// The name of the member, for log lines.
    const MEMBER: &'static str;
    /// How long ending a cursor waits for its member.
    const END_MAX: Duration;
    /// Whether a member that takes longer is aborted. Otherwise it goes on leaving, because dropping its client would block.
    const ABORTS_LATE: bool;

    /// The state that every cursor has.
    fn core(&self) -> &CursorCore;

    /// Makes everything due again that the former holder took and did not settle.
    fn take_over(&self);

    /// Takes at most `max` deliveries. With none, returns when the next release comes due, if one waits.
    ///
    /// # Errors
    /// That time.
    fn take(self: &Arc<Self>, max: usize) -> Result<Vec<Delivery>, Option<Instant>>;
}

/// The holder of a cursor.
pub(crate) struct Held<C: BrokerCursor>(Arc<C>);

impl<C: BrokerCursor> Held<C> {
    /// Takes the lease of a cursor. `None`: it has a holder.
    pub(crate) fn new(cursor: &Arc<C>) -> Option<Self> {
        if !cursor.core().lease.take() {
            return None;
        }
        cursor.take_over();
        Some(Self(cursor.clone()))
    }
}

#[async_trait]
impl<C: BrokerCursor> Cursor for Held<C> {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        let max = max.max(1);
        self.0.core().lease.wait_for(|| self.0.take(max)).await
    }
}

impl<C: BrokerCursor> Drop for Held<C> {
    fn drop(&mut self) {
        self.0.core().lease.leave();
    }
}
