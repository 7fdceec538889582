//! The producer that all channels of a cluster share: idempotent, pipelined, acknowledged by all in-sync replicas.
//!
//! A batch is enqueued in one go, so its records lie next to each other, and is done when every record's report is in. What
//! is under way is bounded by permits, which a batch keeps until then, also when its caller has gone away: librdkafka's own
//! queue never fills, and appends wait for each other instead of being refused.
//!
//! No timer of ours runs: librdkafka gives up a record after 15 s. While a cluster is known to be down, one append
//! a second is let through to find out, and the others are refused at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use event::{Event, kafka_form};
use parking_lot::Mutex;
use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    client::Health,
    clients::{Clients, Sends},
    connection::Connection,
    gather::{Group, Told},
};

/// What is under way to the broker at most, in units of 1 KiB; a record costs at least one. librdkafka's queue holds more
/// of both (100 000 records, 1 GiB), so it is never full.
const UNDER_WAY_MAX: u32 = 64 << 10;
const UNIT: usize = 1 << 10;

/// What a record has besides its event: lengths, and prefixes of its headers' names. Some 40 bytes, and 5 for each attribute.
const FRAME: usize = 256;

/// A record to write.
pub(crate) struct Outgoing {
    key: Option<Bytes>,
    /// `None`: a tombstone.
    value: Option<Bytes>,
    headers: OwnedHeaders,
    bytes: usize,
}

impl Outgoing {
    pub(crate) fn event(event: &Event) -> Self {
        let mut headers = OwnedHeaders::new_with_capacity(12);
        for (name, value) in kafka_form::headers(event) {
            headers = headers.insert(Header {
                key: &name,
                value: Some(value.as_bytes()),
            });
        }
        Self {
            key: kafka_form::key(event).map(|key| Bytes::copy_from_slice(key.as_bytes())),
            // Without data there is no value, which only a compacted topic would take for more than that.
            value: Some(event.data().clone()),
            headers,
            bytes: event.size(),
        }
    }

    pub(crate) fn keyed(key: &[u8], value: Option<&[u8]>) -> Self {
        Self {
            key: Some(Bytes::copy_from_slice(key)),
            value: value.map(Bytes::copy_from_slice),
            headers: OwnedHeaders::new_with_capacity(0),
            bytes: key.len() + value.map_or(0, <[u8]>::len),
        }
    }

    /// What it takes of a request, as a rule at most, bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes + FRAME
    }

    #[must_use]
    pub(crate) fn with_key(mut self, key: &[u8]) -> Self {
        self.key = Some(Bytes::copy_from_slice(key));
        self
    }
}

/// Where the last record of a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) partition: i32,
    pub(crate) offset: u64,
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("Kafka is down; the last try failed: {0}")]
    Down(String),
    /// Some of it may have been written.
    #[error("Kafka did not acknowledge it")]
    Failed(#[source] KafkaError),
    #[error("the producer was closed")]
    Closed,
}

/// Leave to write some records.
pub(crate) struct Admitted {
    records: usize,
    permit: OwnedSemaphorePermit,
}

pub(crate) type Done = oneshot::Sender<Told>;

impl Admitted {
    /// `done` is told when every record's report is in.
    pub(crate) fn batch(self, done: Done) -> Batch {
        Batch {
            left: AtomicUsize::new(self.records),
            group: None,
            outcome: Mutex::new(Outcome {
                last: None,
                failed: None,
                done: Some(done),
                permit: Some(self.permit),
            }),
        }
    }
}

/// Records that are written next to each other.
pub(crate) struct Batch {
    left: AtomicUsize,
    /// Who else is waited for.
    group: Option<Arc<Group>>,
    outcome: Mutex<Outcome>,
}

struct Outcome {
    last: Option<Written>,
    failed: Option<KafkaError>,
    done: Option<Done>,
    permit: Option<OwnedSemaphorePermit>,
}

/// What a record's report leads back to.
pub(crate) struct Ticket {
    batch: Arc<Batch>,
    is_last: bool,
}

impl Ticket {
    /// What became of its record.
    pub(crate) fn report(&self, result: Result<Written, KafkaError>) {
        self.batch.report(self.is_last, result);
    }
}

impl Batch {
    #[must_use]
    pub(crate) fn of(mut self, group: &Arc<Group>) -> Self {
        self.group = Some(group.clone());
        self
    }

    fn report(&self, is_last: bool, result: Result<Written, KafkaError>) {
        let mut outcome = self.outcome.lock();
        match result {
            Ok(written) if is_last => outcome.last = Some(written),
            Ok(_) => {}
            Err(error) => outcome.failed = Some(error),
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        outcome.permit = None;
        let result = match (outcome.failed.take(), outcome.last) {
            (None, Some(written)) => Ok(written),
            (Some(error), _) => Err(error),
            (None, None) => Err(KafkaError::Canceled),
        };
        match (outcome.done.take(), &self.group) {
            (Some(done), Some(group)) => group.tell(done, result),
            // The caller may have gone away.
            (Some(done), None) => drop(done.send(result)),
            (None, _) => {}
        }
    }
}

/// All its reports are in, or it was never enqueued.
impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            group.one_less();
        }
    }
}

pub(crate) struct Producer {
    clients: Clients,
    under_way: Arc<Semaphore>,
    health: Arc<Health>,
    /// Batches are enqueued one after the other, so that their records stay together.
    enqueue: Mutex<()>,
}

impl Producer {
    pub(crate) fn new(connection: &Connection) -> Result<Self, KafkaError> {
        let health = Arc::new(Health::default());
        let clients = Clients::new(connection, &health)?;
        Ok(Self {
            clients,
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX as usize)),
            health,
            enqueue: Mutex::default(),
        })
    }

    /// Why the cluster does not acknowledge now, if it does not.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.health.why()
    }

    /// What the client said last about a connection that failed.
    pub(crate) fn said(&self) -> Option<String> {
        self.health.said()
    }

    /// Waits until the records may be under way; refuses while the cluster is down. Cancel safe.
    pub(crate) async fn admit(&self, records: &[Outgoing]) -> Result<Admitted, WriteError> {
        if let Some(why) = self.health.refusal() {
            return Err(WriteError::Down(why));
        }
        let cost = |record: &Outgoing| u32::try_from(record.bytes / UNIT + 1).unwrap_or(UNDER_WAY_MAX);
        let cost = records
            .iter()
            .map(cost)
            .fold(0_u32, u32::saturating_add)
            .min(UNDER_WAY_MAX);
        let permit = self.under_way.clone().acquire_many_owned(cost).await;
        Ok(Admitted {
            records: records.len(),
            permit: permit.map_err(|_| WriteError::Closed)?,
        })
    }

    /// Writes the records next to each other (with a key, in its partition) and tells where the last one is.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have written them.
    pub(crate) async fn write(
        &self,
        topic: &str,
        records: Vec<Outgoing>,
        partition: Option<i32>,
    ) -> Result<Written, WriteError> {
        let admitted = self.admit(&records).await?;
        let (done, result) = oneshot::channel();
        let sends = Sends::group_of(records.len());
        self.enqueue(sends, topic, records, partition, admitted.batch(done));
        self.judged(result.await)
    }

    /// What a batch was told. It is told nothing when the client is gone.
    pub(crate) fn judged(&self, told: Result<Told, oneshot::error::RecvError>) -> Result<Written, WriteError> {
        match told {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => {
                self.clients.renew();
                Err(WriteError::Failed(error))
            }
            Err(_) => Err(WriteError::Closed),
        }
    }

    /// Hands records to the client; the batch is told what became of them.
    pub(crate) fn enqueue(
        &self,
        sends: Sends,
        topic: &str,
        records: Vec<Outgoing>,
        partition: Option<i32>,
        batch: Batch,
    ) {
        let Some(client) = self.clients.get(sends) else {
            return;
        };
        let (count, batch) = (records.len(), Arc::new(batch));
        let _together = self.enqueue.lock();
        for (index, record) in records.into_iter().enumerate() {
            let ticket = Box::new(Ticket {
                batch: batch.clone(),
                is_last: index + 1 == count,
            });
            let mut out = BaseRecord::with_opaque_to(topic, ticket).headers(record.headers);
            out.key = record.key.as_deref();
            out.payload = record.value.as_deref();
            out.partition = partition;
            client.context().one_more();
            if let Err((error, refused)) = client.send(out) {
                client.context().one_less();
                refused.delivery_opaque.report(Err(error));
            }
        }
    }

    /// Waits until what was enqueued is acknowledged or given up, some seconds at most. Blocks.
    pub(crate) fn flush(&self) {
        self.clients.flush();
    }

    /// Ends it; what it was handed and is not acknowledged soon is given up.
    pub(crate) fn end(&self) {
        self.clients.end();
    }
}
