//! A channel on NATS JetStream: a stream for the events, one for the letters, one for attempts, and a durable consumer per
//! cursor.
//!
//! It promises what the stream's replication and settings promise, found out when it is opened (CONTRACT CH-8).
//! Messages are CloudEvents in NATS' protocol binding, so other publishers and consumers share the streams.
//!
//! Where things are: [`Server`] is the connection that all channels share; `api` asks JetStream; `stream` makes or adopts;
//! `publisher` writes; `consumer` is what a cursor has on the server; `member` is the task that pulls from it; `cursor` is what it
//! holds and settles; `dead_letters` and
//! `attempts` are the streams beside; `reader` looks without leaving anything there.

mod api;
mod attempts;
mod connection;
mod consumer;
mod cursor;
mod dead_letters;
mod durability;
mod error;
mod health;
mod member;
mod message;
mod monitoring;
mod names;
mod nats_broker;
mod publisher;
mod reader;
mod stream;
mod trim;

use std::time::Duration;

pub use crate::{
    connection::{Connection, Security, Server},
    error::OpenError,
    names::stream as stream_name,
    nats_broker::{NatsBroker, NatsChannel},
};

/// A channel on servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The channel's name, for people: log lines name it.
    pub channel: String,
    /// The events' stream; letters and attempts have it as a prefix.
    pub stream: String,
    /// Description of a stream that is created, for people.
    pub description: Option<String>,
    /// Replicas of a stream that this gateway creates or created; default 1.
    pub replicas: Option<usize>,
    /// Older events go, settled or not. `None`: they go a day after everybody settled them.
    pub max_age: Option<Duration>,
    /// The stream takes no more events than that. `None`: as many as the server has space for.
    pub max_bytes: Option<u64>,
    /// Largest event taken, bytes; at most what the server takes.
    pub max_event_bytes: Option<usize>,
    /// Monitoring endpoints, one for each server: `http://host:8222`.
    pub monitoring_urls: Vec<String>,
}

#[cfg(test)]
mod tests;
