//! A channel on Kafka: a topic for the events, one for the letters, one that knows the cursors, and a consumer group per cursor.
//!
//! It promises what the topic's replication and settings promise, found out when it is opened (CONTRACT CH-8).
//! Records are CloudEvents in Kafka's protocol binding, so other producers and consumers share the topics.
//!
//! Where things are: [`Cluster`] holds the clients that all channels share; `topic` makes or adopts; `group_commit` and `producer`
//! write through `clients`; `group` is a cursor's consumer; `cursor` is what it holds and settles; `bookmark` is what a commit
//! says; `table` follows the compacted topics under `dead_letters` and `registry`; `reader` looks without a group.

mod bookmark;
mod cluster;
mod connection;
mod cursor;
mod dead_letters;
mod durability;
mod error;
mod group;
mod kafka_broker;
mod leave;
mod logging;
mod offset;
mod producer;
mod reader;
mod record;
mod registry;
mod retention;
mod table;
mod topic;
mod watch;

use std::time::Duration;

pub use crate::{
    cluster::Cluster,
    connection::{Connection, Security},
    error::OpenError,
    kafka_broker::{KafkaBroker, KafkaChannel},
};

/// A channel on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The events' topic; letters and cursors have it as a prefix.
    pub topic: String,
    /// Partitions of a topic that is created; default 1.
    pub partitions: Option<i32>,
    /// Replication factor of a topic that is created; default is the cluster's.
    pub replication: Option<i32>,
    /// Older events go, settled or not. `None`: they go a day after everybody settled them.
    pub retention: Option<Duration>,
    /// Largest event taken, bytes; at most what the topic takes.
    pub max_event_bytes: Option<usize>,
    /// Whether the key of another producer's record becomes the event's `partitionkey`.
    pub key_as_partition_key: bool,
}

#[cfg(test)]
mod tests;
