//! The dead letters of a channel.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use channel::{AppendError, DeadLetterFacts, DeadLetterLog, Durability, Offset, ReadError, Stored, StoredDeadLetter};
use event::Event;
use tokio::time::sleep;

use super::{LATENCY, SimChannel, unavailable};
use crate::{history::Fact, scenario::Fault, subscribers::is_intact};

#[async_trait]
impl DeadLetterLog for SimChannel {
    async fn store(&self, event: &Event, facts: &Bytes) -> Result<Stored, AppendError> {
        sleep(LATENCY).await;
        if self.disk.fails(Fault::DeadLetters).is_some() {
            return Err(unavailable());
        }
        let mut content = self.disk.content.lock();
        if self.is_closed(&content) {
            return Err(AppendError::Closed);
        }
        let read = DeadLetterFacts::decode(facts).unwrap_or_default();
        let offset = content.next_dead_letter;
        content.next_dead_letter = offset.next();
        let stored = StoredDeadLetter {
            offset,
            stored_at: SystemTime::now(),
            event: event.clone(),
            facts: facts.clone(),
        };
        content.dead_letters.insert(offset, stored);
        self.disk.history.note(Fact::DeadLetterStored {
            channel: self.disk.number,
            place: offset.0,
            id: event.id().to_owned(),
            subscription: read.subscription,
            reason: read.reason,
            attempts: read.attempts,
            intact: is_intact(event),
        });
        Ok(Stored::at(Durability::Disk, offset))
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<StoredDeadLetter>, ReadError> {
        sleep(LATENCY).await;
        let content = self.disk.content.lock();
        Ok(content
            .dead_letters
            .range(from..)
            .take(max.min(20))
            .map(|(_, stored)| stored.clone())
            .collect())
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        sleep(LATENCY).await;
        let mut content = self.disk.content.lock();
        if self.is_closed(&content) {
            return Err(ReadError::Closed);
        }
        let removed: Vec<StoredDeadLetter> = offsets
            .iter()
            .filter_map(|offset| content.dead_letters.remove(offset))
            .collect();
        for stored in &removed {
            self.disk.history.note(Fact::DeadLetterRemoved {
                channel: self.disk.number,
                place: stored.offset.0,
                id: stored.event.id().to_owned(),
                subscription: DeadLetterFacts::decode(&stored.facts).unwrap_or_default().subscription,
            });
        }
        Ok(removed.len())
    }

    async fn end(&self) -> Result<Offset, ReadError> {
        Ok(self.disk.content.lock().next_dead_letter)
    }

    fn count(&self) -> u64 {
        self.disk.content.lock().dead_letters.len() as u64
    }
}
