//! A compacted topic as a table: keys with their newest values, followed as long as it is open.
//!
//! The topic is the one truth. A write returns when its record came back to the reader, so a writer finds what it
//! wrote, and several gateways see the same. Values are kept only where they are wanted; otherwise where they lie is enough.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use channel::supervised;
use parking_lot::Mutex;
use rdkafka::{
    Message, Offset as KafkaOffset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::{KafkaError, KafkaResult},
};
use tokio::sync::{Notify, watch};

use crate::{
    connection::Connection,
    reader::{ASK_MAX, Ends, Quiet},
    record::{Entry, entry},
};

/// Which values of a key are kept.
#[derive(Clone, Copy)]
pub(crate) enum Values {
    /// Where the newest lies is enough.
    No,
    /// The newest; one that does not replace the one before it is taken for not written.
    Newest { replaces: fn(&[u8], &[u8]) -> bool },
}

/// The newest state of a topic's keys.
pub(crate) struct Table {
    pub(crate) topic: String,
    values: Values,
    rows: Mutex<Rows>,
    /// The offset after the last record seen.
    seen: watch::Sender<u64>,
    /// Makes the next record of the topic panic.
    #[cfg(test)]
    pub(crate) panics: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Rows {
    by_offset: BTreeMap<u64, (Arc<[u8]>, Option<Bytes>)>,
    offset_of: HashMap<Arc<[u8]>, u64>,
}

impl Rows {
    fn apply(&mut self, key: Arc<[u8]>, value: Option<Bytes>, offset: u64, values: Values) {
        let before = self.offset_of.get(&key).copied();
        if let (Values::Newest { replaces }, Some(new), Some(before)) = (values, &value, before)
            && let Some((_, Some(old))) = self.by_offset.get(&before)
            && !replaces(old, new)
        {
            return;
        }
        if let Some(before) = before {
            self.by_offset.remove(&before);
            self.offset_of.remove(&key);
        }
        if let Some(value) = value {
            self.offset_of.insert(key.clone(), offset);
            let value = matches!(values, Values::Newest { .. }).then_some(value);
            self.by_offset.insert(offset, (key, value));
        }
    }
}

impl Table {
    pub(crate) fn new(topic: String, values: Values) -> Self {
        Self {
            topic,
            values,
            rows: Mutex::default(),
            seen: watch::Sender::new(0),
            #[cfg(test)]
            panics: std::sync::atomic::AtomicBool::new(false),
        }
    }

    fn apply(&self, entry: Entry) {
        let Entry { key, value, offset } = entry;
        // Also when the row panics: the record is there, and its writer must not wait for ever.
        let _seen = supervised::at_end(|| {
            self.seen.send_replace(offset + 1);
        });
        #[cfg(test)]
        assert!(
            !self.panics.swap(false, std::sync::atomic::Ordering::SeqCst),
            "a test asks for it"
        );
        self.rows.lock().apply(key.into(), value, offset, self.values);
    }

    /// Returns when the record before `offset` was seen. Cancel safe.
    pub(crate) async fn seen(&self, offset: u64) {
        // The sender is ours, so it cannot be gone.
        let _ = self.seen.subscribe().wait_for(|seen| *seen >= offset).await;
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.lock().by_offset.len() as u64
    }

    /// The first row at or after `offset`: where it lies and its key.
    pub(crate) fn at_or_after(&self, offset: u64) -> Option<(u64, Arc<[u8]>)> {
        let rows = self.rows.lock();
        rows.by_offset
            .range(offset..)
            .next()
            .map(|(offset, (key, _))| (*offset, key.clone()))
    }

    pub(crate) fn key_at(&self, offset: u64) -> Option<Arc<[u8]>> {
        self.rows.lock().by_offset.get(&offset).map(|(key, _)| key.clone())
    }

    /// One past the newest row.
    pub(crate) fn end(&self) -> u64 {
        self.rows
            .lock()
            .by_offset
            .last_key_value()
            .map_or(0, |(offset, _)| offset + 1)
    }

    /// All rows with their values, oldest first.
    pub(crate) fn rows(&self) -> Vec<(Arc<[u8]>, Bytes)> {
        let rows = self.rows.lock();
        let row = |(key, value): &(Arc<[u8]>, Option<Bytes>)| (key.clone(), value.clone().unwrap_or_default());
        rows.by_offset.values().map(row).collect()
    }
}

/// Follows all tables of a cluster with one consumer.
pub(crate) struct Follower {
    consumer: Mutex<Option<Arc<StreamConsumer<Quiet>>>>,
    tables: Arc<Mutex<HashMap<String, Arc<Table>>>>,
    stopped: Arc<Notify>,
}

impl Follower {
    pub(crate) fn new(connection: &Connection) -> KafkaResult<Self> {
        let mut config = connection.config();
        config
            .set("group.id", "headgate-reader")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set("auto.offset.reset", "earliest")
            // No transactions are written to tables. Asked where a topic ends, this client counts open transactions, too.
            .set("isolation.level", "read_uncommitted")
            // The writer waits for the record to come back.
            .set("fetch.min.bytes", "1")
            .set("queued.max.messages.kbytes", "4096");
        let consumer: Arc<StreamConsumer<Quiet>> = Arc::new(config.create_with_context(Quiet)?);
        let tables: Arc<Mutex<HashMap<String, Arc<Table>>>> = Arc::default();
        let stopped = Arc::new(Notify::new());
        let (own, known, ends) = (consumer.clone(), tables.clone(), stopped.clone());
        let servers = connection.bootstrap_servers.clone();
        tokio::spawn(async move {
            supervised::until_done("tables of Kafka", servers, || follow(&own, &known, &ends)).await;
            // Closing the client waits for brokers: not on a thread of the runtime.
            tokio::task::spawn_blocking(move || drop(own));
        });
        Ok(Self {
            consumer: Mutex::new(Some(consumer)),
            tables,
            stopped,
        })
    }

    /// Begins to follow a table; returns when everything up to its present end was read.
    pub(crate) async fn open(&self, table: Arc<Table>, ends: Ends) -> KafkaResult<()> {
        let from = i64::try_from(ends.low).unwrap_or_default();
        let topic = table.topic.clone();
        self.tables.lock().insert(topic.clone(), table.clone());
        let consumer = self.consumer.lock().clone().ok_or(KafkaError::Canceled)?;
        consumer.incremental_assign(&assignment(&topic, KafkaOffset::Offset(from))?)?;
        if ends.high > ends.low {
            table.seen(ends.high).await;
        }
        Ok(())
    }

    /// Blocks. Where partitions end, what open transactions hold back included, by partition.
    pub(crate) fn highs(&self, topic: &str, partitions: i32) -> KafkaResult<Vec<u64>> {
        let consumer = self.consumer.lock().clone().ok_or(KafkaError::Canceled)?;
        let high = |partition| {
            let (_, high) = consumer.fetch_watermarks(topic, partition, ASK_MAX)?;
            Ok(u64::try_from(high).unwrap_or_default())
        };
        (0..partitions).map(high).collect()
    }

    pub(crate) fn close(&self, topic: &str) {
        self.tables.lock().remove(topic);
        let consumer = self.consumer.lock().clone();
        if let (Some(consumer), Ok(assignment)) = (consumer, assignment(topic, KafkaOffset::Invalid)) {
            // It is not assigned when opening it failed.
            let _ = consumer.incremental_unassign(&assignment);
        }
    }

    /// Lets go of the client, which its task gives up on a thread that may block.
    pub(crate) fn stop(&self) {
        drop(self.consumer.lock().take());
        self.stopped.notify_one();
    }
}

fn assignment(topic: &str, offset: KafkaOffset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    if offset == KafkaOffset::Invalid {
        list.add_partition(topic, 0);
    } else {
        list.add_partition_offset(topic, 0, offset)?;
    }
    Ok(list)
}

async fn follow(consumer: &StreamConsumer<Quiet>, tables: &Mutex<HashMap<String, Arc<Table>>>, stopped: &Notify) {
    loop {
        let received = tokio::select! {
            biased;
            () = stopped.notified() => return,
            received = consumer.recv() => received,
        };
        match received {
            Ok(message) => {
                let table = tables.lock().get(message.topic()).cloned();
                if let Some(table) = table {
                    table.apply(entry(&message));
                }
            }
            // It goes on by itself; while brokers are away there is one such line at each try to reconnect.
            Err(error) => tracing::debug!(%error, "reading a table's topic"),
        }
    }
}
