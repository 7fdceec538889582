//! A channel on Kafka: a topic for the events, one for the letters, one that knows the cursors, and a consumer group per cursor.
//!
//! What it promises is what the topic's replication and settings promise, found out when it is opened (CONTRACT CH-8).
//! Records are CloudEvents in Kafka's protocol binding, so other producers and consumers share the topics.
//!
//! Where things are: [`Cluster`] holds the clients that all channels share; `topic` makes or adopts; `gather` and `producer`
//! write through `clients`; `group` is a cursor's consumer; `cursor` is what it holds and settles; `bookmark` is what a commit
//! says; `table` follows the compacted topics under `letters` and `registry`; `reader` looks without a group.

mod bookmark;
mod client;
mod clients;
mod cluster;
mod connection;
mod cursor;
mod durability;
mod error;
mod gather;
mod group;
mod kafka_channel;
mod leave;
mod letters;
mod logging;
mod place;
mod producer;
mod reader;
mod record;
mod registry;
mod retention;
mod table;
mod topic;

use std::time::Duration;

pub use crate::{
    cluster::Cluster,
    connection::{Connection, Security},
    error::OpenError,
    kafka_channel::KafkaChannel,
};

/// Sum of sizes one `next`, `read` or `list` returns.
const PAGE_BYTES: usize = 4 << 20;

/// A channel on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The events' topic; letters and cursors have it as a prefix.
    pub topic: String,
    /// Of a topic that is made; default 1.
    pub partitions: Option<i32>,
    /// Of a topic that is made; default is the cluster's.
    pub replication: Option<i32>,
    /// Older events go, settled or not. `None`: they go a day after everybody settled them.
    pub retention: Option<Duration>,
    /// Largest event taken, bytes; at most what the topic takes.
    pub max_event_bytes: Option<usize>,
}

#[cfg(test)]
mod tests;
