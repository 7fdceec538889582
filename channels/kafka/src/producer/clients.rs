//! The two producers of a cluster, which differ in when they send.
//!
//! librdkafka's thread is woken by the first record it is handed, and there is no way to tell it that more are coming but to
//! let it linger. With `bench --only kafka` on two cores: a group of one is acknowledged in 0.5 ms without lingering, 1.6 ms with;
//! 16 connections get 9800 events a second through instead of 5600, for the same CPU; 64 connections, whose groups are
//! large, cost a fifth more CPU without.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::{error::KafkaError, producer::Producer as _};
use tokio::time::Instant;

use super::{
    client::{self, Client},
    health::Health,
    sends::Sends,
};
use crate::connection::Connection;

/// A record that no broker acknowledged within this is given up (milliseconds): longer than the election of a new leader takes,
/// shorter than publishers wait for an answer.
const APPEND_MAX_MS: &str = "15000";

/// Records of one request at most, bytes: a topic that takes less in one request cannot be a channel.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

/// A close waits this long for acknowledgements.
const FLUSH_MAX: Duration = Duration::from_secs(5);

fn start(sends: Sends, connection: &Connection, health: &Arc<Health>) -> Result<Arc<Client>, KafkaError> {
    let mut config = connection.config();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // As the Java client does, so that a key means the same partition for every writer.
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", APPEND_MAX_MS)
        .set("message.max.bytes", "104857600")
        .set("batch.size", BATCH_BYTES.to_string())
        .set("max.in.flight.requests.per.connection", "1")
        .set("queue.buffering.max.kbytes", "1048576")
        .set("queue.buffering.max.messages", "200000");
    let linger_ms = match sends {
        Sends::AtOnce => "0",
        // Longer than handing over takes. It lasts a whole one in truth: librdkafka's poll rounds up.
        Sends::Lingering => "0.5",
    };
    config.set("queue.buffering.max.ms", linger_ms);
    client::start(&config, sends, health.clone())
}

pub(crate) struct Clients {
    connection: Connection,
    health: Arc<Health>,
    /// By [`Sends`]; `None` in the end.
    both: Mutex<Option<[Arc<Client>; 2]>>,
}

impl Clients {
    pub(crate) fn new(connection: &Connection, health: &Arc<Health>) -> Result<Self, KafkaError> {
        let both = [
            start(Sends::AtOnce, connection, health)?,
            start(Sends::Lingering, connection, health)?,
        ];
        Ok(Self {
            connection: connection.clone(),
            health: health.clone(),
            both: Mutex::new(Some(both)),
        })
    }

    /// `None` in the end.
    pub(crate) fn get(&self, sends: Sends) -> Option<Arc<Client>> {
        let both = self.both.lock();
        Some(both.as_ref()?[sends as usize].clone())
    }

    /// After [`Self::end`].
    pub(crate) fn are_ended(&self) -> bool {
        self.both.lock().is_none()
    }

    /// An idempotent producer that lost track of what the broker has (its topic was deleted, records were lost) refuses
    /// everything from then on: a new one begins a new sequence.
    pub(crate) fn renew(&self) {
        let mut both = self.both.lock();
        for (sends, client) in Sends::ALL.into_iter().zip(both.iter_mut().flatten()) {
            let Some(broken) = client.client().fatal_error() else {
                continue;
            };
            tracing::warn!(code = %broken.0, why = broken.1, "the Kafka producer is replaced");
            match start(sends, &self.connection, &self.health) {
                Ok(new) => *client = new,
                Err(error) => tracing::error!(%error, "no new Kafka producer"),
            }
        }
    }

    /// Waits until what was handed over is acknowledged or given up, some seconds at most. Blocks.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        for client in Sends::ALL.map(|sends| self.get(sends)) {
            let Some(client) = client else { continue };
            if let Err(error) = client.flush(deadline.duration_since(Instant::now())) {
                tracing::warn!(%error, "some records were not acknowledged before the channel was closed");
            }
        }
    }

    /// Lets go of both; what they were handed and is not acknowledged soon is given up.
    pub(crate) fn end(&self) {
        drop(self.both.lock().take());
    }
}
