//! The producer that all channels of a cluster share: idempotent, pipelined, acknowledged by all in-sync replicas.
//!
//! A batch is enqueued in one go, so its records lie next to each other, and is done when every record's report is in. What
//! is under way is bounded by permits, which a batch keeps until then, also when its caller has gone away: librdkafka's own
//! queue never fills, and appends wait for each other instead of being refused.
//!
//! No timer of ours runs: librdkafka gives up a record after 15 s. While a cluster is known to be down, one append
//! a second is let through to find out, and the others are refused at once.

mod batch;
mod client;
mod clients;
mod group_commit;
mod health;
mod record;
mod sends;

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::{
    error::KafkaError,
    producer::{BaseRecord, Producer as _},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::{
    batch::{Batch, BatchResult, Done, Ticket},
    clients::Clients,
    health::Health,
    sends::Sends,
};
pub(crate) use self::{
    clients::BATCH_BYTES,
    group_commit::GroupCommit,
    record::{Outgoing, WriteError, Written},
};
use crate::connection::Connection;

/// The bound of what is under way to the broker, in units of 1 KiB; a record costs at least one. librdkafka's queue holds more
/// of both (100 000 records, 1 GiB), so it is never full.
const UNDER_WAY_MAX: u32 = 64 << 10;
const UNIT: usize = 1 << 10;

/// Leave to write some records.
pub(crate) struct Admitted {
    records: usize,
    permit: OwnedSemaphorePermit,
}

impl Admitted {
    /// `done` is told when every record's report is in.
    fn batch(self, done: Done) -> Batch {
        Batch::new(self.records, self.permit, done)
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
    pub(crate) fn outage(&self) -> Option<String> {
        self.health.why()
    }

    /// The client's last report about a connection that failed.
    pub(crate) fn reported(&self) -> Option<String> {
        self.health.reported()
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

    /// Reads the result of a batch. It has none when the client is gone, or when the task that reports it panicked.
    pub(crate) fn judged(&self, result: Result<BatchResult, oneshot::error::RecvError>) -> Result<Written, WriteError> {
        match result {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => {
                self.clients.renew();
                Err(WriteError::Failed(error))
            }
            Err(_) if self.clients.are_ended() => Err(WriteError::Closed),
            Err(_) => Err(WriteError::Failed(KafkaError::Canceled)),
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
        let _adjacent = self.enqueue.lock();
        for (index, record) in records.into_iter().enumerate() {
            let ticket = Box::new(Ticket::new(&batch, index + 1 == count));
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
