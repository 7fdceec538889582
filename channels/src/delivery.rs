//! A delivery: one event handed to one cursor, and the only ways it can end.
//!
//! It is consumed by [`Delivery::ack`] or [`Delivery::release`]; dropped, it is released. There is no third way, so
//! nothing is settled by time or by default (CONTRACT CH-3). `ack` takes a [`Disposition`], which can only be made from
//! evidence: a 2xx answer, or the proof that a reply or a dead letter is stored.

use std::time::{Duration, SystemTime};

use event::Event;

use crate::{Offset, Stored};

/// The recorded attempts so far; all zero for an event that was never tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Tries that failed.
    pub failed: u32,
    /// The HTTP status of the last failed try; `None` when there was no answer.
    pub last_status: Option<u16>,
    /// When the first try began.
    pub first_at: Option<SystemTime>,
    /// When the next try is due.
    pub next_at: Option<SystemTime>,
    /// The `Retry-After` of the last answer. With the policy it bounds the wait after a restart:
    /// `next_at` alone may be hours ahead when the clock was set back meanwhile.
    pub retry_after: Option<Duration>,
}

/// The channel's side of a delivery.
pub trait Settle: Send + Sync {
    /// Marks the event as done for this cursor. Must not block; it becomes durable in the channel's own rhythm, at
    /// the latest with a clean close.
    fn ack(self: Box<Self>) -> Result<(), SettleError>;

    /// Gives the event back: the cursor hands it out again, not before `after`. Must not block.
    fn release(self: Box<Self>, after: Duration);

    /// Keeps the attempts with the unsettled event, durably where the channel promises `remembers_attempts`.
    /// Must not block.
    fn remember(&mut self, attempts: Attempts);
}

/// The cursor this delivery came from is gone (closed, deleted, or taken by another replica): the event will come back.
#[derive(Debug, thiserror::Error)]
#[error("cursor is gone")]
pub struct SettleError;

/// Proof that a subscriber took the event. The data plane's table makes it from a 2xx answer.
#[derive(Debug)]
pub struct Delivered {
    status: u16,
}

impl Delivered {
    /// `None` unless the status is 2xx.
    pub fn by_status(status: u16) -> Option<Self> {
        (200..300).contains(&status).then_some(Self { status })
    }

    /// The answer's HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }
}

/// Why an event needs nothing of its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// The subscription's filter said no.
    Filtered,
    /// A person dropped it.
    Dropped,
}

/// Why a delivery may be settled.
#[derive(Debug)]
pub enum Disposition {
    /// The subscriber took it and there was nothing to pass on.
    Accepted(Delivered),
    /// The subscriber is a channel, and it is stored there.
    Forwarded(Stored),
    /// The subscriber took it and its reply is stored, or was taken by the reply's target.
    Replied(Passed),
    /// A dead letter about it is stored, or was taken by the dead-letter sink.
    DeadLettered(Passed),
    /// Nothing was to be done.
    Discarded(Discard),
}

/// Proof that a consequence (a reply, a dead letter) is where it belongs.
#[derive(Debug)]
pub enum Passed {
    Stored(Stored),
    Accepted(Delivered),
}

/// One event, handed to one cursor.
#[must_use = "a delivery that is not settled comes back"]
pub struct Delivery {
    event: Event,
    offset: Offset,
    stored_at: SystemTime,
    attempts: Attempts,
    receipt: Option<Box<dyn Settle>>,
}

impl Delivery {
    /// For implementations of [`crate::Cursor`].
    pub fn new(
        event: Event,
        offset: Offset,
        stored_at: SystemTime,
        attempts: Attempts,
        receipt: Box<dyn Settle>,
    ) -> Self {
        Self {
            event,
            offset,
            stored_at,
            attempts,
            receipt: Some(receipt),
        }
    }

    /// Returns the event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Returns the offset of the event in its channel.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Returns when the channel stored the event.
    pub fn stored_at(&self) -> SystemTime {
        self.stored_at
    }

    /// Returns the attempts that were recorded before this delivery.
    pub fn attempts(&self) -> Attempts {
        self.attempts
    }

    /// Records a failed try with the channel.
    pub fn remember(&mut self, attempts: Attempts) {
        self.attempts = attempts;
        if let Some(receipt) = &mut self.receipt {
            receipt.remember(attempts);
        }
    }

    /// Done: the evidence says so.
    pub fn ack(mut self, _why: Disposition) -> Result<(), SettleError> {
        match self.receipt.take() {
            Some(receipt) => receipt.ack(),
            None => Err(SettleError),
        }
    }

    /// Not done: comes back after that time.
    pub fn release(mut self, after: Duration) {
        if let Some(receipt) = self.receipt.take() {
            receipt.release(after);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            receipt.release(Duration::ZERO);
        }
    }
}
