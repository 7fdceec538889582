//! The dead letters of a channel: a stream of their own, each deleted when a person is done with it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_nats::jetstream::ErrorCode;
use async_trait::async_trait;
use channel::{AppendError, Durability, Letter, Letters, Offset, ReadError, Stored};
use event::Event;
use uuid::Uuid;

use crate::{
    PAGE_BYTES,
    api::ApiError,
    connection::Server,
    error::{RETRY_AFTER, unavailable, unreadable},
    message::{Outgoing, incoming},
    publisher::{Fault, Publisher},
    reader,
};

/// Letters held at most. Full, they are refused, and their events stay where they are.
const LETTERS_MAX: u64 = 1_000_000;

pub(crate) struct NatsLetters {
    server: Arc<Server>,
    stream: String,
    publisher: Publisher,
    durability: Durability,
    count: AtomicU64,
    closed: AtomicBool,
}

impl NatsLetters {
    pub(crate) fn new(server: Arc<Server>, stream: String, durability: Durability, count: u64) -> Self {
        Self {
            publisher: Publisher::new(stream.as_str().into(), false),
            server,
            stream,
            durability,
            count: AtomicU64::new(count),
            closed: AtomicBool::new(false),
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
        self.closed.store(true, Ordering::SeqCst);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Letters for NatsLetters {
    async fn store(&self, letter: &Event) -> Result<Stored, AppendError> {
        if self.is_closed() {
            return Err(AppendError::Closed);
        }
        if self.count() >= LETTERS_MAX {
            return Err(AppendError::Full {
                retry_after: RETRY_AFTER,
            });
        }
        // One that was removed and comes again is another letter.
        let message = Outgoing::with_id(letter, Uuid::now_v7().simple().to_string());
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

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<Letter>, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        let (mut page, mut bytes) = (Vec::new(), 0);
        let see = |message: &async_nats::jetstream::Message| {
            let Some(message) = incoming(message) else { return true };
            // A stream that somebody else writes to may hold what is no letter.
            let Ok(event) = message.content else { return true };
            bytes += event.size();
            if bytes > PAGE_BYTES && !page.is_empty() {
                return false;
            }
            page.push(Letter {
                offset: Offset(message.sequence),
                stored_at: message.stored_at,
                event,
            });
            page.len() < max
        };
        let from = reader::from_sequence(from.0);
        reader::page(&self.server, &self.stream, from, None, max, see)
            .await
            .map_err(unreadable)?;
        Ok(page)
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        let mut wanted: Vec<u64> = offsets
            .iter()
            .map(|offset| offset.0)
            .filter(|place| *place > 0)
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut removed = 0;
        for sequence in wanted {
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

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

fn is_not_there(error: &ApiError) -> bool {
    let ApiError::Refused(said) = error else { return false };
    match said.error_code() {
        ErrorCode::NO_MESSAGE_FOUND | ErrorCode::SEQUENCE_NOT_FOUND => true,
        ErrorCode::STREAM_MESSAGE_DELETE_FAILED => {
            let text = said.to_string();
            // `EOF`: beyond the last.
            ["no message found", "deleted message", "EOF"]
                .iter()
                .any(|said| text.contains(said))
        }
        _ => false,
    }
}
