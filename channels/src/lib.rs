//! The channel contract: where accepted events live until every subscription is done with them.
//!
//! A channel appends events, hands them to named cursors, and keeps whatever a cursor has not settled. It promises
//! exactly what [`Promises`] says and nothing by default: an unsettled delivery comes back (CONTRACT CH-3), a full
//! channel refuses instead of discarding (CH-9), cursors do not disturb each other (CH-2).
//!
//! It deliberately knows nothing of subscribers, retries, filters or HTTP: those are the data plane's. What every
//! implementation must do is written as [`suite`], which each one runs.

pub mod dead_letters;
mod delivery;
mod depth;
mod facts;
pub mod faulty;
mod lease;
pub mod progress;
#[cfg(feature = "suite")]
pub mod suite;
pub mod supervised;
mod tail;
pub mod watermark;

pub use dead_letters::{DeadLetterLog, StoredDeadLetter};
pub use delivery::{Attempts, Delivered, Delivery, Discard, Disposition, Passed, Settle, SettleError};
pub use depth::{CursorStatus, Depth, DiskTrouble, Gap, GapReason};
pub use facts::{
    ANSWER_MAX_BYTES, DeadLetterFacts, FACTS_MAX_BYTES, NOT_AN_EVENT, TEXT_MAX_BYTES, UnreadableFacts, not_an_event,
};
pub use lease::CursorLease;
pub use tail::{PageLimit, Tail, TailPage, Watch};
pub use watermark::Watermark;

use std::{
    fmt,
    ops::Range,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use event::Event;

/// The position of an event in its channel. Counts up from 0, is never reused, and survives restarts where the channel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset right after this one. `u64::MAX` is never a stored offset: callers use it to mean "everything".
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names the cursor of one subscription. The data plane makes it from the subscription's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorName(String);

impl CursorName {
    /// Any text is a name; implementations must not use it as a path unescaped.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CursorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a cursor belongs to another owner than the one that asks for it.
///
/// The owner is the uid of the Subscription that the cursor serves. It keeps a Subscription that was deleted and recreated
/// under the same name from resuming its predecessor's cursor. Documents in files have no uid, so `None` matches any owner.
pub fn is_anothers(owner: Option<&str>, asks: Option<&str>) -> bool {
    matches!((owner, asks), (Some(owner), Some(asks)) if owner != asks)
}

/// The failures that a stored event survives, weakest first: the order is meant to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Lives as long as this process.
    Process,
    /// Synced to a local disk: survives `kill -9` and a power cut.
    Disk,
    /// In the memory of a quorum of servers.
    Quorum,
    /// Synced by a quorum of servers.
    QuorumFsync,
}

impl Durability {
    /// The word used in `headgate-durability`, in `requireDurability` and in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Disk => "disk",
            Self::Quorum => "quorum",
            Self::QuorumFsync => "quorum-fsync",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The promises of a channel. The suite tests exactly these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// How durable an event is once `append` returned.
    pub durability: Durability,
    /// Events, cursors and dead letters are still there for the next process. A broker keeps them even where it promises no
    /// more than `Process` about its own machine.
    pub survives_restart: bool,
    /// Offsets are one order, and every cursor follows it. Otherwise only events of one `partitionkey` keep their order.
    pub total_order: bool,
    /// Settled events can be read again (`Start::Earliest`, `Start::Time`, `Start::Offset`) while they are retained.
    pub replay: bool,
    /// Attempts recorded with [`Delivery::remember`] survive a restart (DL-4).
    pub remembers_attempts: bool,
    /// Largest event taken, in bytes of attributes and data together.
    pub max_event_bytes: usize,
}

/// Proof that events are in a channel, as durable as it promises. Only channels make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the proof of storage is what allows an acknowledgement"]
pub struct Stored {
    durability: Durability,
    last: Offset,
}

impl Stored {
    /// For implementations of [`Channel`] and [`DeadLetterLog`] alone: `last` is the offset of the batch's last event.
    pub fn at(durability: Durability, last: Offset) -> Self {
        Self { durability, last }
    }

    /// Returns how durable the events are.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns the offset of the batch's last event.
    pub fn last(&self) -> Offset {
        self.last
    }
}

/// Why events were not stored. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The back-pressure of the whole system (HTTP 429).
    #[error("channel is full")]
    Full { retry_after: Duration },
    /// HTTP 413.
    #[error("event of {bytes} bytes exceeds the channel's {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// HTTP 507. Recovers by itself when there is space.
    #[error("disk is full")]
    DiskFull { retry_after: Duration },
    /// The backend cannot be reached or failed; it may recover (HTTP 503).
    #[error("channel is unavailable")]
    Unavailable {
        retry_after: Duration,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The channel was closed: the gateway drains, or the channel was deleted (HTTP 503).
    #[error("channel is closed")]
    Closed,
}

/// Why a cursor or a page could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("channel is closed")]
    Closed,
    /// Another caller holds a cursor of that name already.
    #[error("cursor {name} is in use")]
    InUse { name: String },
    #[error("channel cannot be read")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where a cursor that does not exist yet begins. An existing cursor goes on where it was, whatever this says (CH-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Only what is stored from now on.
    Latest,
    /// The oldest event still kept.
    Earliest,
    /// The first kept event stored at or after this time.
    Time(SystemTime),
    /// The first kept event at or after this offset; an offset not reached yet means `Latest`.
    Offset(Offset),
}

/// One event read without a cursor: shown to people, never delivered.
#[derive(Clone, Debug)]
pub struct Record {
    /// The event's offset.
    pub offset: Offset,
    /// When the channel stored it.
    pub stored_at: SystemTime,
    /// The event.
    pub event: Event,
}

/// Whether one cursor has settled one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementState {
    /// The event will not be handed out again.
    Settled,
    /// The event waits, is in flight, or will be handed out again; with its recorded attempts.
    Open(Attempts),
}

/// A channel. Shared as `Arc<dyn Channel>`; every method may be called from many tasks at once.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// The promises. Constant while the channel is open.
    fn promises(&self) -> Promises;

    /// Stores the events, all or none, next to each other and in this order.
    ///
    /// # Guarantees
    /// Returns once the events are as durable as [`Promises::durability`] says, and every cursor that existed before
    /// the call will be handed them (CH-1). On an error none of them is handed out, unless the error is
    /// [`AppendError::Unavailable`], after which they may be (the append's fate is unknown).
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped call may or may not have stored the events; all or none of them.
    async fn append(&self, events: &[Event]) -> Result<Stored, AppendError>;

    /// Opens the cursor `name`, creating it at `start` if it does not exist.
    ///
    /// # Ownership
    /// The owner is the uid of the Subscription that the cursor serves; see [`is_anothers`].
    ///
    /// | existing cursor | `owner`   | result |
    /// |-----------------|-----------|--------|
    /// | any             | `None`    | opened as it is |
    /// | unowned         | `Some(a)` | opened; `a` becomes its owner |
    /// | owned by `a`    | `Some(a)` | opened |
    /// | owned by `b`    | `Some(a)` | memory, embedded: `b`'s cursor is deleted, a new one is created at `start`. Kafka, NATS: a new one is created beside it, because another replica may still serve `b`; `delete(name, Some(b))` removes `b`'s. |
    ///
    /// # Guarantees
    /// When this returns, every event appended afterwards will be handed to this cursor, also after a restart where
    /// [`Promises::durability`] is more than `Process`: a new cursor is itself stored first. A cursor has one holder at a
    /// time. Dropping it releases the cursor and every delivery that was not settled.
    async fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Box<dyn Cursor>, ReadError>;

    /// Deletes the cursor `name` of this owner and frees what only it held. `None` means the cursor that this process opened
    /// under that name, or else the unowned one. Does nothing when there is no such cursor, or it has another owner.
    ///
    /// # Guarantees
    /// Never touches a cursor of another owner, even one that another process creates at the same time.
    async fn delete(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError>;

    /// Up to `max` kept events from `from` on, oldest first, with no effect on any cursor. Stops early rather than
    /// read more than a few MiB; an empty page means there is nothing at or after `from` yet.
    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError>;

    /// The ranges of offsets that hold the events kept from `start` on, in reading order: one range for each partition, one
    /// where the channel has no partitions. Shown to people, as [`Self::read`] is.
    ///
    /// Both ends are those of the moment of the call; [`Start::Latest`] gives empty ranges at the end. Two calls bound what
    /// was stored between two times.
    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError>;

    /// Whether the cursor has settled the event at `offset`. `None` where this process does not know: it has no such cursor
    /// open, or another process serves it or that partition of it. Shown to people, as [`Self::read`] is.
    fn settlement_state(&self, cursor: &CursorName, offset: Offset) -> Option<SettlementState>;

    /// Returns when an event at or after `from` may be readable, or the channel is closed. Cancel safe.
    ///
    /// Waits while [`Self::read`] would find nothing, also where events were stored that no cursor keeps.
    async fn grown(&self, from: Offset);

    /// A reader that receives the events stored from now on. `None` where settled events stay readable for a while: there
    /// [`Tail`] reads them.
    fn watch(&self) -> Option<Box<dyn Watch>> {
        None
    }

    /// The dead letters of this channel, as durable as the channel itself.
    fn dead_letters(&self) -> &dyn DeadLetterLog;

    /// Shortcomings of the backend's settings, one sentence each that names what to change (CONTRACT CH-8).
    fn findings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Why events that are stored are not delivered yet although the backend is well, if that is so for long: a phrase for a
    /// condition's message.
    fn held_back(&self) -> Option<String> {
        None
    }

    /// Cheap enough to be asked once a second.
    fn depth(&self) -> Depth;

    /// Writes and syncs what is settled, then refuses everything with `Closed`. After a clean close nothing that was
    /// settled is handed out again (CH-5). Closing twice is fine.
    async fn close(&self);
}

/// One subscription's reader of a channel.
#[async_trait]
pub trait Cursor: Send {
    /// Waits until there is something, then hands out at most `max` deliveries (never none), in stored order;
    /// released ones come again before new ones when their time has come.
    ///
    /// The sum of their sizes is bounded by the implementation (a few MiB), so that a large `max` is safe.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is handed out by a call that did not return.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError>;
}
