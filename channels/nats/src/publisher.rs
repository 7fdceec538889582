//! Appending: one message alone, or several all or none.
//!
//! A lost answer means nothing is known: the same message is published again with the same identity until the server says
//! that it has it, old or new. Servers from 2.12 store several as an atomic batch ([`crate::batches`]); before, they go one after
//! the other, as single ones do ([`crate::plain`]).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::{
    Subject,
    jetstream::{
        ErrorCode,
        context::{PublishError, PublishErrorKind},
    },
};
use tokio::time::Instant;

use crate::{
    batches::{BATCH_MAX, Batches},
    connection::Server,
    error::answer,
    message::Outgoing,
    plain::Plain,
};

/// An append is given up after this. A leader election takes 2 to 5 s.
const PUBLISH_MAX: Duration = Duration::from_secs(15);

/// Between tries.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Why messages were not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// A limit of the stream.
    #[error("the stream is full: {0}")]
    Full(String),
    #[error("the server has no space: {0}")]
    NoSpace(String),
    #[error("a message of {0} bytes is larger than the server or the stream takes")]
    TooLarge(usize),
    #[error("NATS is not connected")]
    NotConnected,
    /// Its fate is unknown.
    #[error("no acknowledgement from JetStream")]
    Unknown(#[source] PublishError),
    /// It went together with others.
    #[error("{0}")]
    Together(String),
    #[error("JetStream refused")]
    Refused(#[source] PublishError),
}

pub(crate) enum Verdict {
    Again(Fault),
    Never(Fault),
    /// A batch holds what is stored already.
    Duplicates,
    /// The stream takes no batches.
    NoBatches,
}

/// Publishes to one stream.
pub(crate) struct Publisher {
    subject: Subject,
    atomic: AtomicBool,
    plain: Plain,
    batches: Batches,
}

impl Publisher {
    pub(crate) fn new(subject: Subject, atomic: bool) -> Self {
        Self {
            subject,
            atomic: AtomicBool::new(atomic),
            plain: Plain::default(),
            batches: Batches::default(),
        }
    }

    /// Stores them in this order; returns the last one's sequence.
    pub(crate) async fn publish(&self, server: &Server, messages: &[Outgoing<'_>]) -> Result<u64, Fault> {
        let deadline = Instant::now() + PUBLISH_MAX;
        let mut last = 0;
        for messages in messages.chunks(BATCH_MAX) {
            last = self.publish_some(server, messages, deadline).await?;
        }
        Ok(last)
    }

    async fn publish_some(&self, server: &Server, messages: &[Outgoing<'_>], deadline: Instant) -> Result<u64, Fault> {
        // After a first try whose answer is lost, a batch may be stored already: then one by one finds out.
        let mut atomic = messages.len() > 1 && self.atomic.load(Ordering::Relaxed);
        loop {
            if !server.is_connected() {
                return Err(Fault::NotConnected);
            }
            let tried = if atomic {
                self.batches.store(server, &self.subject, messages).await
            } else {
                self.plain.store(server, &self.subject, messages).await
            };
            let fault = match tried {
                Ok(sequence) => return Ok(sequence),
                Err(error) => error,
            };
            match fault {
                Verdict::Never(fault) => return Err(fault),
                Verdict::Duplicates => atomic = false,
                Verdict::NoBatches => {
                    self.atomic.store(false, Ordering::Relaxed);
                    atomic = false;
                }
                Verdict::Again(fault) if Instant::now() + TRY_AGAIN >= deadline => return Err(fault),
                Verdict::Again(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    }
}

pub(crate) fn judge(error: PublishError, size: usize) -> Verdict {
    if let Some(said) = answer(&error) {
        let text = said.to_string();
        return match said.error_code() {
            ErrorCode::STREAM_STORE_FAILED if text.contains("maximum") => Verdict::Never(Fault::Full(text)),
            ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::MEMORY_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES => Verdict::Never(Fault::NoSpace(text)),
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Verdict::Never(Fault::TooLarge(size)),
            ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE => Verdict::Duplicates,
            ErrorCode::ATOMIC_PUBLISH_DISABLED => Verdict::NoBatches,
            _ => Verdict::Again(Fault::Refused(error)),
        };
    }
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Verdict::Never(Fault::TooLarge(size)),
        // Nobody answers for the stream: it is gone, or has no leader yet.
        PublishErrorKind::StreamNotFound => Verdict::Again(Fault::Refused(error)),
        _ => Verdict::Again(Fault::Unknown(error)),
    }
}
