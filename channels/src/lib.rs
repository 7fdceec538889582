//! The channel contract: where accepted events live until every subscription is done with them.
//!
//! A channel appends events, hands them to named cursors, and keeps whatever a cursor has not settled. It promises
//! exactly what [`Promises`] says and nothing by default: an unsettled delivery comes back (CONTRACT CH-3), a full
//! channel refuses instead of discarding (CH-9), cursors do not disturb each other (CH-2).
//!
//! It deliberately knows nothing of subscribers, retries, filters or HTTP: those are the data plane's. What every
//! implementation must do is written as [`suite`], which each one runs.

mod delivery;
pub mod faulty;
pub mod letters;
pub mod progress;
mod seat;
#[cfg(feature = "suite")]
pub mod suite;
pub mod watermark;

pub use delivery::{Attempts, Delivered, Delivery, Discard, Disposition, Passed, Settle, SettleError};
pub use letters::{Letter, Letters};
pub use seat::Seat;
pub use watermark::Watermark;

use std::{
    fmt,
    ops::Range,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use event::Event;

/// The place of an event in its channel: counts up from 0, never reused, survives restarts where the channel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The place right after this one. The highest has none after it, and no channel keeps anything there: only somebody who asks
    /// for "all" names it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one subscription's place in a channel; the data plane makes it from the subscription's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorName(String);

impl CursorName {
    /// Any text is a name; implementations must not use it as a path unescaped.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CursorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a cursor is somebody else's than who asks for it.
///
/// Its owner is what its subscription is told apart by from one of the same name that was before it or comes after it: the uid
/// of an object. Documents in files have none, so `None` on either side is no difference.
pub fn is_anothers(owner: Option<&str>, asks: Option<&str>) -> bool {
    matches!((owner, asks), (Some(owner), Some(asks)) if owner != asks)
}

/// What survives what, weakest first: the order is meant to be compared.
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

/// What a channel promises. The suite tests exactly this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// How durable an event is once `append` returned.
    pub durability: Durability,
    /// Events, cursors and letters are still there for the next process. A broker keeps them even where it promises no
    /// more than `Process` about its own machine.
    pub survives_restart: bool,
    /// Places are one order, and every cursor follows it. Where it is not, events of one `partitionkey` keep theirs.
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
    /// For implementations of [`Channel`] and [`Letters`] alone: `last` is the place of the batch's last event.
    pub fn at(durability: Durability, last: Offset) -> Self {
        Self { durability, last }
    }

    pub fn durability(&self) -> Durability {
        self.durability
    }

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
    /// Somebody holds a cursor of that name already.
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
    /// The first kept event at or after this place; a place not reached yet means `Latest`.
    Offset(Offset),
}

/// One event read without a cursor: for people looking, never for delivering.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: Offset,
    pub stored_at: SystemTime,
    pub event: Event,
}

/// What one cursor still has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorStatus {
    pub name: CursorName,
    /// Whose it is, where that is known.
    pub owner: Option<String>,
    /// Every event below this place is settled.
    pub settled_below: Offset,
    /// Events not yet settled: those in flight and those not yet handed out.
    pub unsettled: u64,
    /// When the oldest unsettled event was stored.
    pub oldest: Option<SystemTime>,
}

/// How far a cursor is with one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It will not be handed out again.
    Settled,
    /// It waits, is in somebody's hands, or comes again; with what is remembered of its tries.
    Open(Attempts),
}

/// Why events are missing from a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The limit the user set was reached before every subscription was done with them.
    Limit,
    /// They could not be read back.
    Damage,
}

impl GapReason {
    /// The word used in logs and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Damage => "damage",
        }
    }
}

/// Places whose events are gone although not every subscription had settled them: recorded, never silent (CH-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first missing place.
    pub from: Offset,
    /// The place after the last missing one.
    pub to: Offset,
    pub found_at: SystemTime,
    pub reason: GapReason,
}

/// How much a channel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// The place of the oldest event kept, and the place the next one will get.
    pub earliest: Offset,
    pub next: Offset,
    /// Events that at least one cursor has not settled.
    pub unsettled: u64,
    /// Bytes held in memory or on disk, settled ones that are retained included. `None` where the backend does not say.
    pub bytes: Option<u64>,
    pub cursors: Vec<CursorStatus>,
    /// Known gaps, oldest first.
    pub gaps: Vec<Gap>,
    /// Why the channel refuses appends now, if it does: a phrase for a condition's message.
    pub refusing: Option<String>,
    /// Why storing takes longer than it should, if it does and that is known here: a phrase for a condition's message.
    pub slow: Option<String>,
}

/// A channel. Shared as `Arc<dyn Channel>`; every method may be called from many tasks at once.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// What is promised. Constant while the channel is open.
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

    /// Opens the cursor of that name for its owner, creating it at `start` when it does not exist yet. One of nobody becomes
    /// the owner's; `None` takes it whoever's it is. Of one name each owner has a cursor of its own: where one process alone
    /// has the channel, another's is forgotten; where several have it, another's stays until it is forgotten as that one's,
    /// for who is behind takes a former owner for the present one.
    ///
    /// # Guarantees
    /// When this returns, every event appended afterwards will be handed to this cursor, also after a restart where
    /// [`Promises::durability`] is more than `Process`: a new cursor is itself stored first. One holder at a time;
    /// dropping the cursor gives it back, with what was handed out and not settled.
    async fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Box<dyn Cursor>, ReadError>;

    /// Deletes the owner's cursor and frees what only it held; `None` means what was opened here by that name, and else what is
    /// nobody's. Nothing happens when there is none, or it is another's.
    ///
    /// # Guarantees
    /// No cursor of another owner is touched, also not one that another process makes at the same time.
    async fn forget(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError>;

    /// Up to `max` kept events from `from` on, oldest first, with no effect on any cursor. Stops early rather than
    /// read more than a few MiB; an empty page means there is nothing at or after `from` yet.
    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError>;

    /// Where what is kept from `start` on lies now, in the order to read it in: a stretch of places for each partition, and
    /// one where there are none. Kept for people, as [`Self::read`] is.
    ///
    /// Both ends are where they were when this was asked; [`Start::Latest`] gives empty stretches at the end. Two of these
    /// bound what was stored between two times.
    async fn stretches(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError>;

    /// How far the cursor of that name is with the event at a place. `None` where this process cannot say: it has no such cursor
    /// open, or another process has it, or that part of it. For people, as [`Self::read`] is.
    fn standing(&self, cursor: &CursorName, place: Offset) -> Option<Standing>;

    /// Returns when an event at or after `from` may be readable, or the channel is closed. Cancel safe.
    async fn grown(&self, from: Offset);

    /// The log of letters that could not be delivered from this channel, as durable as the channel itself.
    fn letters(&self) -> &dyn Letters;

    /// Where the backend's promise falls short of what it could be, or differs from what was asked for: each names what
    /// to change (CONTRACT CH-8).
    fn findings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Cheap enough to be asked once a second.
    fn depth(&self) -> Depth;

    /// Writes and syncs what is settled, then refuses everything with `Closed`. After a clean close nothing that was
    /// settled is handed out again (CH-5). Closing twice is fine.
    async fn close(&self);
}

/// One subscription's place in a channel.
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
