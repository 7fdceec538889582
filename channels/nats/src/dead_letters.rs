//! The dead letters of a channel: a stream of their own, each deleted when a person is done with it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_nats::jetstream::ErrorCode;
use async_trait::async_trait;
use bytes::Bytes;
use channel::{AppendError, DeadLetterLog, Durability, Offset, ReadError, Stored, StoredDeadLetter};
use channel_broker::{DEAD_LETTERS_MAX, OpenGate, Page, RETRY_AFTER, unavailable, unreadable};
use event::Event;
use uuid::Uuid;

use crate::{
    api::ApiError,
    connection::Server,
    message::{Outgoing, dead_letter},
    publisher::{Fault, Publisher},
    reader,
};

pub(crate) struct NatsDeadLetters {
    server: Arc<Server>,
    stream: String,
    publisher: Publisher,
    durability: Durability,
    count: AtomicU64,
    gate: OpenGate,
}

impl NatsDeadLetters {
    pub(crate) fn new(server: Arc<Server>, stream: String, durability: Durability, count: u64) -> Self {
        Self {
            publisher: Publisher::new(stream.as_str().into(), false),
            server,
            stream,
            durability,
            count: AtomicU64::new(count),
            gate: OpenGate::default(),
        }
    }

    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// As the server counts them: other gateways store and remove letters, too.
    pub(crate) fn counted(&self, count: u64) {
        self.count.store(count, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.gate.close();
    }
}

#[async_trait]
impl DeadLetterLog for NatsDeadLetters {
    async fn store(&self, event: &Event, facts: &Bytes) -> Result<Stored, AppendError> {
        self.gate.writable()?;
        if self.count() >= DEAD_LETTERS_MAX {
            return Err(AppendError::Full {
                retry_after: RETRY_AFTER,
            });
        }
        let message = Outgoing::dead_letter(event, facts, Uuid::now_v7().simple().to_string());
        match self.publisher.publish(&self.server, &[message]).await {
            Ok(sequence) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                Ok(Stored::at(self.durability, Offset(sequence)))
            }
            Err(Fault::TooLarge(bytes)) => Err(unavailable(format!(
                "a letter of {bytes} bytes is more than NATS takes: raise max_payload"
            ))),
            Err(Fault::NoSpace(_)) => Err(AppendError::DiskFull {
                retry_after: RETRY_AFTER,
            }),
            Err(fault) => Err(unavailable(fault)),
        }
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<StoredDeadLetter>, ReadError> {
        self.gate.readable()?;
        let mut page = Page::new(max);
        let see = |message: &async_nats::jetstream::Message| {
            let Some(dead_letter) = dead_letter(message, &self.stream) else {
                return true;
            };
            let bytes = dead_letter.size();
            page.push(dead_letter, bytes)
        };
        let from = reader::from_sequence(from.0);
        reader::page(&self.server, &self.stream, from, None, max, see)
            .await
            .map_err(unreadable)?;
        Ok(page.into_items())
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        self.gate.readable()?;
        let mut sequences: Vec<u64> = offsets
            .iter()
            .map(|offset| offset.0)
            .filter(|sequence| *sequence > 0)
            .collect();
        sequences.sort_unstable();
        sequences.dedup();
        let mut removed = 0;
        for sequence in sequences {
            match self.server.delete_message(&self.stream, sequence).await {
                Ok(()) => removed += 1,
                Err(error) if is_not_there(&error) => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        let gone = u64::try_from(removed).unwrap_or(u64::MAX);
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            Some(count.saturating_sub(gone))
        });
        Ok(removed)
    }

    async fn end(&self) -> Result<Offset, ReadError> {
        self.gate.readable()?;
        let info = self.server.stream_info(&self.stream).await.map_err(unreadable)?;
        Ok(Offset(
            info.map_or(0, |info| info.state.last_sequence.saturating_add(1)),
        ))
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

fn is_not_there(error: &ApiError) -> bool {
    let ApiError::Refused(refused) = error else {
        return false;
    };
    match refused.error_code() {
        ErrorCode::NO_MESSAGE_FOUND | ErrorCode::SEQUENCE_NOT_FOUND => true,
        ErrorCode::STREAM_MESSAGE_DELETE_FAILED => {
            let text = refused.to_string();
            // `EOF`: beyond the last.
            ["no message found", "deleted message", "EOF"]
                .iter()
                .any(|refused| text.contains(refused))
        }
        _ => false,
    }
}
