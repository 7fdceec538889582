//! The producer that all channels of a cluster share: idempotent, pipelined, acknowledged by all in-sync replicas.
//!
//! A batch is enqueued in one go, so its records lie next to each other, and is done when every record's report is in. What
//! is under way is bounded by permits, which a batch keeps until then, also when its caller has gone away: librdkafka's own
//! queue never fills, and appends wait for each other instead of being refused.
//!
//! No timer of ours runs: librdkafka gives up a record after [`APPEND_MAX_MS`]. While a cluster is known to be down, one append
//! a second is let through to find out, and the others are refused at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use event::{Event, kafka_form};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message,
    config::FromClientConfigAndContext,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use crate::{connection::Connection, gather::Group, logging};

/// A record that no broker acknowledged within this is given up (milliseconds): longer than the election of a new leader takes,
/// shorter than publishers wait for an answer.
const APPEND_MAX_MS: &str = "15000";

/// What is under way to the broker at most, in units of 1 KiB; a record costs at least one. librdkafka's queue holds more
/// of both (100 000 records, 1 GiB), so it is never full.
const UNDER_WAY_MAX: u32 = 64 << 10;
const UNIT: usize = 1 << 10;

/// Records of one request at most, bytes: a topic that takes less in one request cannot be a channel.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

/// A close waits this long for acknowledgements.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// While the cluster is down, one append in this time is let through to find out whether it still is.
const PROBE_EVERY: Duration = Duration::from_secs(1);

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

type Done = oneshot::Sender<Result<Written, KafkaError>>;

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
        if let Some(done) = outcome.done.take() {
            // The caller may have gone away.
            let _ = done.send(result);
        }
    }
}

/// All its reports are in, or it was never enqueued.
impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            group.done();
        }
    }
}

/// Whether the cluster can be reached, as far as anybody noticed.
#[derive(Default)]
struct Health {
    outage: Mutex<Option<Outage>>,
    /// What the client said last about a connection: a refused password is told nowhere else.
    said: Mutex<Option<String>>,
}

struct Outage {
    last_probe: Instant,
    why: String,
}

impl Health {
    fn is_well(&self) {
        let mut outage = self.outage.lock();
        if outage.take().is_some() {
            tracing::info!("Kafka acknowledges again");
        }
    }

    fn failed(&self, why: &str) {
        let mut outage = self.outage.lock();
        if outage.is_none() {
            tracing::warn!(why, "Kafka does not acknowledge, appends are refused until it does");
        }
        let last_probe = Instant::now();
        *outage = Some(Outage {
            last_probe,
            why: why.to_owned(),
        });
    }

    /// The reason to refuse an append now, unless it is to find out.
    fn refusal(&self) -> Option<String> {
        let mut outage = self.outage.lock();
        let outage = outage.as_mut()?;
        if outage.last_probe.elapsed() >= PROBE_EVERY {
            outage.last_probe = Instant::now();
            return None;
        }
        Some(outage.why.clone())
    }

    fn why(&self) -> Option<String> {
        self.outage.lock().as_ref().map(|outage| outage.why.clone())
    }
}

pub(crate) struct Reports {
    health: Arc<Health>,
}

impl ClientContext for Reports {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.health.failed(reason);
        } else {
            *self.health.said.lock() = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let result = match delivery {
            Ok(message) => {
                self.health.is_well();
                Ok(Written {
                    partition: message.partition(),
                    offset: u64::try_from(message.offset()).unwrap_or_default(),
                })
            }
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) {
                    self.health.failed("no acknowledgement within 15 s");
                }
                Err(error.clone())
            }
        };
        ticket.batch.report(ticket.is_last, result);
    }
}

pub(crate) struct Producer {
    connection: Connection,
    /// Taken in the end, replaced when librdkafka declares it unusable.
    producer: Mutex<Option<Arc<ThreadedProducer<Reports>>>>,
    under_way: Arc<Semaphore>,
    health: Arc<Health>,
    /// Batches are enqueued one after the other, so that their records stay together.
    enqueue: Mutex<()>,
}

impl Producer {
    pub(crate) fn new(connection: &Connection) -> Result<Self, KafkaError> {
        let health = Arc::new(Health::default());
        let producer = Self::client(connection, health.clone())?;
        Ok(Self {
            connection: connection.clone(),
            producer: Mutex::new(Some(Arc::new(producer))),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX as usize)),
            health,
            enqueue: Mutex::default(),
        })
    }

    fn client(connection: &Connection, health: Arc<Health>) -> Result<ThreadedProducer<Reports>, KafkaError> {
        let mut config = connection.config();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // As the Java client does, so that a key means the same partition whoever writes it.
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", APPEND_MAX_MS)
            .set("message.max.bytes", "104857600")
            .set("batch.size", BATCH_BYTES.to_string())
            // Long enough for all that is handed over in one go to be in one request: see `gather`, which waits for others.
            .set("queue.buffering.max.ms", "0.1")
            .set("max.in.flight.requests.per.connection", "1")
            .set("queue.buffering.max.kbytes", "1048576")
            .set("queue.buffering.max.messages", "200000");
        ThreadedProducer::from_config_and_context(&config, Reports { health })
    }

    /// An idempotent producer that lost track of what the broker has (its topic was deleted, records were lost) refuses
    /// everything from then on: a new one begins a new sequence.
    fn renew(&self) {
        let mut current = self.producer.lock();
        let Some(broken) = current.as_ref().and_then(|producer| producer.client().fatal_error()) else {
            return;
        };
        tracing::warn!(code = %broken.0, why = broken.1, "the Kafka producer is replaced");
        match Self::client(&self.connection, self.health.clone()) {
            Ok(new) => {
                let old = current.replace(Arc::new(new));
                // Its last owner joins its thread.
                tokio::task::spawn_blocking(move || drop(old));
            }
            Err(error) => tracing::error!(%error, "no new Kafka producer"),
        }
    }

    /// Why the cluster does not acknowledge now, if it does not.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.health.why()
    }

    /// What the client said last about a connection that failed.
    pub(crate) fn said(&self) -> Option<String> {
        self.health.said.lock().clone()
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
        self.enqueue(topic, records, partition, admitted.batch(done));
        self.judged(result.await)
    }

    /// What a batch was told. It is told nothing when the client is gone.
    pub(crate) fn judged(
        &self,
        told: Result<Result<Written, KafkaError>, oneshot::error::RecvError>,
    ) -> Result<Written, WriteError> {
        match told {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => {
                self.renew();
                Err(WriteError::Failed(error))
            }
            Err(_) => Err(WriteError::Closed),
        }
    }

    /// Hands records to the client; the batch is told what became of them.
    pub(crate) fn enqueue(&self, topic: &str, records: Vec<Outgoing>, partition: Option<i32>, batch: Batch) {
        let Some(producer) = self.producer.lock().clone() else {
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
            if let Err((error, refused)) = producer.send(out) {
                refused
                    .delivery_opaque
                    .batch
                    .report(refused.delivery_opaque.is_last, Err(error));
            }
        }
    }

    /// Waits until what was enqueued is acknowledged or given up, some seconds at most. Blocks.
    pub(crate) fn flush(&self) {
        let producer = self.producer.lock().clone();
        if let Some(producer) = producer
            && let Err(error) = producer.flush(FLUSH_MAX)
        {
            tracing::warn!(%error, "some records were not acknowledged before the channel was closed");
        }
    }

    /// Takes the client out, to be dropped where blocking is allowed: that joins its thread.
    pub(crate) fn take(&self) -> Option<Arc<ThreadedProducer<Reports>>> {
        self.producer.lock().take()
    }
}
