//! A record to write, and what became of it.

use bytes::Bytes;
use event::{Event, kafka_form};
use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
};

/// Bytes of a record beside its event: lengths, and prefixes of its headers' names. Some 40 bytes, and 5 for each attribute.
const FRAME: usize = 256;

/// A record to write.
pub(crate) struct Outgoing {
    pub(super) key: Option<Bytes>,
    /// `None`: a tombstone.
    pub(super) value: Option<Bytes>,
    pub(super) headers: OwnedHeaders,
    pub(super) bytes: usize,
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
        let value = kafka_form::value(event);
        Self {
            key: kafka_form::key(event).map(|key| Bytes::copy_from_slice(key.as_bytes())),
            // Without data there is no value, which only a compacted topic would take for more than that.
            bytes: event.size().max(value.len()),
            value: Some(value),
            headers,
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

    /// Its size in a request, as a rule at most, bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes + FRAME
    }

    /// Adds a header of our own.
    #[must_use]
    pub(crate) fn with_header(mut self, key: &str, value: &[u8]) -> Self {
        self.bytes += key.len() + value.len();
        self.headers = self.headers.insert(Header {
            key,
            value: Some(value),
        });
        self
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
