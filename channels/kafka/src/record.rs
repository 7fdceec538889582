//! A record as it was read: copied out of the client's buffers, which a borrowed message would pin.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use event::{Event, http_form::DecodeError, kafka_form};
use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers},
};

/// One record of a topic.
pub(crate) struct Incoming {
    pub(crate) partition: i32,
    pub(crate) offset: u64,
    pub(crate) stored_at: SystemTime,
    pub(crate) content: Result<Event, NotAnEvent>,
}

/// A record that is no CloudEvent, whoever wrote it.
pub(crate) struct NotAnEvent {
    pub(crate) why: DecodeError,
    pub(crate) value: Bytes,
}

/// A key and its value; a value of `None` removes it.
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) key: Box<[u8]>,
    pub(crate) value: Option<Bytes>,
}

pub(crate) fn incoming(message: &BorrowedMessage<'_>) -> Incoming {
    let value = message.payload().map_or_else(Bytes::new, Bytes::copy_from_slice);
    let decoded = match message.headers() {
        Some(headers) => {
            let pairs = headers.iter().map(|header| (header.key, header.value));
            kafka_form::decode(pairs, message.key(), value.clone())
        }
        None => kafka_form::decode(std::iter::empty(), message.key(), value.clone()),
    };
    Incoming {
        partition: message.partition(),
        offset: offset(message),
        stored_at: stored_at(message),
        content: decoded.map_err(|why| NotAnEvent { why, value }),
    }
}

pub(crate) fn entry(message: &BorrowedMessage<'_>) -> Entry {
    Entry {
        offset: offset(message),
        key: message.key().unwrap_or_default().into(),
        value: message.payload().map(Bytes::copy_from_slice),
    }
}

pub(crate) fn offset(message: &BorrowedMessage<'_>) -> u64 {
    u64::try_from(message.offset()).unwrap_or_default()
}

fn stored_at(message: &BorrowedMessage<'_>) -> SystemTime {
    let millis = message
        .timestamp()
        .to_millis()
        .and_then(|millis| u64::try_from(millis).ok());
    millis
        .and_then(|millis| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
