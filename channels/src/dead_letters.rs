//! The dead letters of a channel: events that could not be delivered, kept until a person decides.
//!
//! A dead letter is an [`Event`] exactly as it was accepted. Its [`DeadLetterFacts`](crate::DeadLetterFacts) lie beside it and
//! say why it is here: no sender can fill or forge them. Only [`DeadLetterLog::remove`] removes dead letters; retention never does.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use event::Event;

use crate::{AppendError, Offset, ReadError, Stored};

/// A stored dead letter.
#[derive(Clone, Debug)]
pub struct StoredDeadLetter {
    /// The dead letter's own offset in its log.
    pub offset: Offset,
    /// When the dead letter was stored.
    pub stored_at: SystemTime,
    /// The event, unchanged.
    pub event: Event,
    /// As they were stored; empty for a record that another program wrote.
    pub facts: Bytes,
}

impl StoredDeadLetter {
    /// Bytes of the event and the facts together. Pages and bounds of memory count these.
    pub fn size(&self) -> usize {
        self.event.size() + self.facts.len()
    }
}

/// The dead letters of one channel.
#[async_trait]
pub trait DeadLetterLog: Send + Sync {
    /// Stores a dead letter; returns once it is as durable as the channel's events are. The event and the facts come back byte for
    /// byte. `facts` are at most [`FACTS_MAX_BYTES`](crate::FACTS_MAX_BYTES) long; a dead letter may be larger than the channel's
    /// `max_event_bytes` and is not refused for that.
    async fn store(&self, event: &Event, facts: &Bytes) -> Result<Stored, AppendError>;

    /// Up to `max` dead letters at or after `from`, oldest first, without the removed ones.
    ///
    /// Lists everything that [`Self::count`] counts. A record that another program wrote is a dead letter without facts; one that is
    /// no event comes as [`not_an_event`](crate::not_an_event).
    async fn list(&self, from: Offset, max: usize) -> Result<Vec<StoredDeadLetter>, ReadError>;

    /// Removes the dead letters at these offsets, durably; returns how many there were.
    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError>;

    /// The offset after the newest dead letter stored now. A listing that begins with the newest starts here.
    async fn end(&self) -> Result<Offset, ReadError>;

    /// How many dead letters there are.
    fn count(&self) -> u64;

    /// Why dead letters are refused now, if they are: a phrase for a condition's message. Removing some helps.
    fn refusing(&self) -> Option<String> {
        None
    }

    /// How many are known to be lost: stored, never removed, and unreadable now.
    fn missing(&self) -> u64 {
        0
    }
}
