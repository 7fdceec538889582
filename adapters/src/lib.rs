//! The adapter contract: how events from upstream enter the gateway.
//!
//! An adapter turns upstream facts into events and offers them to its outlet. The outlet's [`Accepted`] is the only thing
//! that lets it acknowledge upstream or save a checkpoint (CONTRACT SR-1). A refusal says when to try again; an adapter
//! slows down and buffers nothing without a bound (SR-5).
//!
//! Two shapes: an [`Adapter`] runs and pulls; a [`Hook`] is called by an HTTP request that the gateway's listener received.

mod checkpoint;
mod counters;
mod per_source;
mod report;
mod source;
#[cfg(feature = "suite")]
pub mod suite;
mod unready;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use channel::Stored;
use event::Event;
use tokio_util::sync::CancellationToken;

pub use checkpoint::{Checkpoint, FileCheckpoint, MARK_MAX_BYTES, MemoryCheckpoint, StateError, replace_file};
pub use counters::{Counters, SourceMetrics};
pub use per_source::{Family, Labels, Measured, PerSource, Sample, Samples, labels};
pub use report::{CONDITIONS, FIELDS, Report, ReportedState};
pub use source::{ACCEPTED, Source, Unstored};
pub use status::{Cause, Condition, Reason, Severity, Truth, chain};
pub use unready::Unready;

/// Proof that events passed the ingress and are stored.
#[derive(Clone, Copy, Debug)]
#[must_use = "upstream may be acknowledged only with this"]
pub struct Accepted(Stored);

impl Accepted {
    /// Makes the proof; for the ingress alone.
    pub fn stored(stored: Stored) -> Self {
        Self(stored)
    }

    /// Returns the channel's proof of storage.
    pub fn stored_proof(&self) -> Stored {
        self.0
    }
}

/// Why events were not accepted. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("channel is full")]
    Full { retry_after: Duration },
    #[error("disk is full")]
    DiskFull { retry_after: Duration },
    #[error("channel is unavailable: {reason}")]
    Unavailable { reason: String, retry_after: Duration },
    #[error("event of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("gateway is draining")]
    Draining { retry_after: Duration },
    #[error("no such channel")]
    NoChannel,
}

impl Refused {
    /// When to offer the events again; `None` when that is unknown, or waiting cannot help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after }
            | Self::DiskFull { retry_after }
            | Self::Unavailable { retry_after, .. }
            | Self::Draining { retry_after } => Some(*retry_after),
            Self::TooLarge { .. } | Self::NoChannel => None,
        }
    }

    /// The refusal's name in conditions, metrics and docs/reasons.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Full { .. } => Reason::Full,
            Self::DiskFull { .. } => Reason::DiskFull,
            Self::Unavailable { .. } => Reason::Unavailable,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::Draining { .. } => Reason::Draining,
            Self::NoChannel => Reason::NoChannel,
        }
    }
}

/// Stores a source's events.
#[async_trait]
pub trait Accept: Send + Sync {
    /// Stores the events, all or none; returns once they are stored.
    ///
    /// # Errors
    /// None of the events is stored.
    async fn accept(&self, events: Vec<Event>) -> Result<Accepted, Refused>;
}

/// Where one adapter's events go: its sink, resolved.
pub type Outlet = Arc<dyn Accept>;

/// A source that pulls, or manages resources upstream. Made from a [`Source`], which it keeps.
///
/// A fault that may pass (an upstream that is down, a missing right) is a condition in the source's report, and the adapter
/// retries; an error or a panic ends the run, shows as the condition `Deployed`, and the gateway runs the adapter again with backoff.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// Runs until `stop`, then ends within seconds. One run at a time; what is to outlive it is in the checkpoint.
    async fn run(&self, stop: CancellationToken) -> Result<(), Cause>;

    /// The source was deleted and its run has ended: deletes what was created upstream for it. Called once, under a deadline;
    /// the gateway logs an error and goes on.
    async fn delete(&self) -> Result<(), Cause> {
        Ok(())
    }
}

/// One HTTP request to a source that is called, its body already read and bounded.
#[derive(Debug)]
pub struct HookRequest {
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body, whole and within the hook's limit.
    pub body: Bytes,
}

/// The answer to the caller.
#[derive(Debug)]
pub struct HookAnswer {
    /// The status of the answer.
    pub status: http::StatusCode,
    /// A phrase for the caller; sent as `text/plain`.
    pub message: String,
    /// The `Retry-After` of the answer.
    pub retry_after: Option<Duration>,
    /// Where the caller is to learn how durably its events are stored (CONTRACT IN-2): the proof that they are.
    pub accepted: Option<Accepted>,
}

impl HookAnswer {
    /// An answer and nothing more.
    pub fn new(status: http::StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
            accepted: None,
        }
    }
}

/// A source that is called: `POST /hooks/NAMESPACE/NAME` on the ingress listener. The listener answers 405 and 404 and
/// bounds the body before it calls.
#[async_trait]
pub trait Hook: Send + Sync {
    /// Largest body taken, in bytes; more is a 413 before it is buffered whole.
    fn max_body_bytes(&self) -> usize;

    async fn call(&self, request: HookRequest) -> HookAnswer;
}
