//! The dead letters of a channel: a compacted topic with one partition, a key per letter, removed by tombstones.
//!
//! Letters are records as events are, so Kafka's own tools show them. Where each one lies is known; what it says is read
//! when it is listed.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use channel::{AppendError, DeadLetterLog, Durability, Offset, ReadError, Stored, StoredDeadLetter};
use channel_broker::{DEAD_LETTERS_MAX, OpenGate, Page, RETRY_AFTER, unavailable, unreadable};
use event::Event;
use uuid::Uuid;

use crate::{
    cluster::Cluster,
    error::is_too_large,
    producer::{Outgoing, WriteError},
    record::{FACTS_HEADER, dead_letter, offset},
    table::Table,
};

pub(crate) struct KafkaDeadLetters {
    cluster: Arc<Cluster>,
    table: Arc<Table>,
    durability: Durability,
    gate: OpenGate,
}

impl KafkaDeadLetters {
    pub(crate) fn new(cluster: Arc<Cluster>, table: Arc<Table>, durability: Durability) -> Self {
        Self {
            cluster,
            table,
            durability,
            gate: OpenGate::default(),
        }
    }

    pub(crate) fn close(&self) {
        self.gate.close();
        self.cluster.follower.close(&self.table.topic);
    }
}

#[async_trait]
impl DeadLetterLog for KafkaDeadLetters {
    async fn store(&self, event: &Event, facts: &Bytes) -> Result<Stored, AppendError> {
        self.gate.writable()?;
        if self.table.len() >= DEAD_LETTERS_MAX {
            return Err(AppendError::Full {
                retry_after: RETRY_AFTER,
            });
        }
        let key = Uuid::now_v7().to_string();
        let record = Outgoing::event(event)
            .with_key(key.as_bytes())
            .with_header(FACTS_HEADER, facts);
        let written = self
            .cluster
            .producer
            .write(&self.table.topic, vec![record], Some(0))
            .await;
        let written = written.map_err(|error| match error {
            WriteError::Failed(ref kafka) if is_too_large(kafka) => unavailable(format!(
                "a letter of {} bytes is more than topic {} takes: raise its max.message.bytes",
                event.size() + facts.len(),
                self.table.topic
            )),
            WriteError::Closed => AppendError::Closed,
            error => unavailable(error),
        })?;
        self.table.seen(written.offset + 1).await;
        Ok(Stored::at(self.durability, Offset(written.offset)))
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<StoredDeadLetter>, ReadError> {
        self.gate.readable()?;
        let (table, topic) = (self.table.clone(), self.table.topic.clone());
        let Some((start, _)) = table.at_or_after(from.0).filter(|_| max > 0) else {
            return Ok(Vec::new());
        };
        let until = table.end();
        let read = self.cluster.reader.run(move |reader| {
            let mut page = Page::new(max);
            let read = reader.page(&topic, 0, start, until, |message| {
                // Removed.
                if table.key_at(offset(message)).is_none() {
                    return true;
                }
                let dead_letter = dead_letter(message);
                let bytes = dead_letter.size();
                page.push(dead_letter, bytes)
            });
            read.map(|()| page.into_items())
        });
        read.await.map_err(unreadable)?.map_err(unreadable)
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        self.gate.readable()?;
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

    async fn end(&self) -> Result<Offset, ReadError> {
        self.gate.readable()?;
        Ok(Offset(self.table.end()))
    }

    fn count(&self) -> u64 {
        self.table.len()
    }
}
