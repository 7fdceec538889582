//! The dead letters of a channel: a compacted topic with one partition, a key per letter, removed by tombstones.
//!
//! Letters are records as events are, so Kafka's own tools show them. Where each one lies is known; what it says is read
//! when somebody asks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use channel::{AppendError, Durability, Letter, Letters, Offset, ReadError, Stored};
use event::Event;
use uuid::Uuid;

use crate::{
    PAGE_BYTES,
    cluster::Cluster,
    error::{RETRY_AFTER, is_too_large, unavailable, unreadable},
    producer::{Outgoing, WriteError},
    record::{incoming, offset},
    table::Table,
};

/// Letters held at most, about 200 bytes of memory each. Full, they are refused, and their events stay where they are.
const LETTERS_MAX: u64 = 1_000_000;

pub(crate) struct KafkaLetters {
    cluster: Arc<Cluster>,
    table: Arc<Table>,
    durability: Durability,
    closed: AtomicBool,
}

impl KafkaLetters {
    pub(crate) fn new(cluster: Arc<Cluster>, table: Arc<Table>, durability: Durability) -> Self {
        Self {
            cluster,
            table,
            durability,
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.cluster.follower.close(&self.table.topic);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Letters for KafkaLetters {
    async fn store(&self, letter: &Event) -> Result<Stored, AppendError> {
        if self.is_closed() {
            return Err(AppendError::Closed);
        }
        if self.table.len() >= LETTERS_MAX {
            return Err(AppendError::Full {
                retry_after: RETRY_AFTER,
            });
        }
        let key = Uuid::now_v7().to_string();
        let record = Outgoing::event(letter).with_key(key.as_bytes());
        let written = self
            .cluster
            .producer
            .write(&self.table.topic, vec![record], Some(0))
            .await;
        let written = written.map_err(|error| match error {
            WriteError::Failed(ref kafka) if is_too_large(kafka) => unavailable(format!(
                "a letter of {} bytes is more than topic {} takes: raise its max.message.bytes",
                letter.size(),
                self.table.topic
            )),
            WriteError::Closed => AppendError::Closed,
            error => unavailable(error),
        })?;
        self.table.seen(written.offset + 1).await;
        Ok(Stored::at(self.durability, Offset(written.offset)))
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<Letter>, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        let (table, topic) = (self.table.clone(), self.table.topic.clone());
        let Some((start, _)) = table.at_or_after(from.0).filter(|_| max > 0) else {
            return Ok(Vec::new());
        };
        let until = table.end();
        let read = self.cluster.reader.run(move |reader| {
            let (mut page, mut bytes) = (Vec::new(), 0);
            let read = reader.page(&topic, 0, start, until, |message| {
                // Removed, or no letter of ours.
                if table.key_at(offset(message)).is_none() {
                    return true;
                }
                let record = incoming(message);
                let Ok(event) = record.content else { return true };
                bytes += event.size();
                if bytes > PAGE_BYTES && !page.is_empty() {
                    return false;
                }
                page.push(Letter {
                    offset: Offset(record.offset),
                    stored_at: record.stored_at,
                    event,
                });
                page.len() < max
            });
            read.map(|()| page)
        });
        read.await.map_err(unreadable)?.map_err(unreadable)
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        let mut keys: Vec<_> = offsets
            .iter()
            .filter_map(|offset| self.table.key_at(offset.0))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(0);
        }
        let tombstones = keys.iter().map(|key| Outgoing::keyed(key, None)).collect();
        let written = self
            .cluster
            .producer
            .write(&self.table.topic, tombstones, Some(0))
            .await;
        let written = written.map_err(unreadable)?;
        self.table.seen(written.offset + 1).await;
        Ok(keys.len())
    }

    fn count(&self) -> u64 {
        self.table.len()
    }
}
