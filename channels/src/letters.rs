//! The dead-letter log of a channel: what could not be delivered, kept until a person decides.
//!
//! A letter is an [`Event`]: the original plus the extensions of CONTRACT DL-6 (the data plane writes and reads them).
//! Letters are never removed by retention, only by [`Letters::remove`].

use std::time::SystemTime;

use async_trait::async_trait;
use event::Event;

use crate::{AppendError, Offset, ReadError, Stored};

/// A stored letter.
#[derive(Clone, Debug)]
pub struct Letter {
    pub offset: Offset,
    pub stored_at: SystemTime,
    pub event: Event,
}

#[async_trait]
pub trait Letters: Send + Sync {
    /// Stores a letter; returns once it is as durable as the channel's events are. A letter may be larger than the
    /// channel's `max_event_bytes` (it carries the answer too) and is not refused for that.
    async fn store(&self, letter: &Event) -> Result<Stored, AppendError>;

    /// Up to `max` letters with a place at or after `from`, oldest first, without the removed ones.
    async fn list(&self, from: Offset, max: usize) -> Result<Vec<Letter>, ReadError>;

    /// Removes the letters at these places, durably; returns how many there were.
    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError>;

    /// How many letters there are.
    fn count(&self) -> u64;

    /// How many are known to be lost: stored, never removed, and not to be read back.
    fn missing(&self) -> u64 {
        0
    }
}
