//! Appending: one message alone, or several all or none.
//!
//! A lost answer means nothing is known: the same message is published again with the same identity until the server says
//! that it has it, old or new. Servers from 2.12 store several as an atomic batch ([`crate::batches`]); before, they are sent in
//! one piece.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::jetstream::{
    ErrorCode,
    context::{PublishAckFuture, PublishError, PublishErrorKind},
    message::PublishMessage,
};
use tokio::{sync::RwLock, time::Instant};

use crate::{
    batches::{BATCH_MAX, Batches},
    connection::Server,
    error::answer,
    message::Outgoing,
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
    subject: String,
    atomic: AtomicBool,
    /// Several in one piece hold it alone, single ones together.
    piece: RwLock<()>,
    batches: Batches,
}

impl Publisher {
    pub(crate) fn new(subject: String, atomic: bool) -> Self {
        Self {
            subject,
            atomic: AtomicBool::new(atomic),
            piece: RwLock::new(()),
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
            let tried = match messages {
                [message] => {
                    let _piece = self.piece.read().await;
                    self.single(server, message).await
                }
                _ if atomic => self.batches.store(server, &self.subject, messages).await,
                _ => self.in_one_piece(server, messages).await,
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

    async fn send(&self, server: &Server, message: PublishMessage, size: usize) -> Result<PublishAckFuture, Verdict> {
        let sent = server.context.send_publish(self.subject.clone(), message).await;
        sent.map_err(|error| judge(error, size))
    }

    async fn single(&self, server: &Server, message: &Outgoing<'_>) -> Result<u64, Verdict> {
        let publish = PublishMessage::build()
            .headers(message.headers())
            .payload(message.payload());
        let ack = self.send(server, publish, message.size()).await?;
        let ack = ack.await.map_err(|error| judge(error, message.size()))?;
        Ok(ack.sequence)
    }

    async fn in_one_piece(&self, server: &Server, messages: &[Outgoing<'_>]) -> Result<u64, Verdict> {
        let piece = self.piece.write().await;
        let mut acks = Vec::with_capacity(messages.len());
        for message in messages {
            let publish = PublishMessage::build()
                .headers(message.headers())
                .payload(message.payload());
            acks.push((self.send(server, publish, message.size()).await?, message.size()));
        }
        drop(piece);
        let mut last = 0;
        for (ack, size) in acks {
            last = ack.await.map_err(|error| judge(error, size))?.sequence;
        }
        Ok(last)
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
