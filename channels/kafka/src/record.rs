//! A record as it was read: copied out of the client's buffers, which a borrowed message would pin.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use channel::{StoredDeadLetter, not_an_event};
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

/// A record that is no CloudEvent.
pub(crate) struct NotAnEvent {
    pub(crate) why: DecodeError,
    pub(crate) value: Bytes,
}

/// The header of a letter's facts. It is no attribute, whatever its value: those begin with `ce_`.
pub(crate) const FACTS_HEADER: &str = "headgate_facts";

/// A key and its value; a value of `None` removes it.
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) key: Box<[u8]>,
    pub(crate) value: Option<Bytes>,
}

/// Reads a record of the events' topic; without `keys` its key is left out of the event.
pub(crate) fn incoming(message: &BorrowedMessage<'_>, keys: bool) -> Incoming {
    let key = message.key().filter(|_| keys);
    let value = message.payload().map_or_else(Bytes::new, Bytes::copy_from_slice);
    let decoded = match message.headers() {
        Some(headers) => {
            let pairs = headers.iter().map(|header| (header.key, header.value));
            kafka_form::decode(pairs, key, value.clone())
        }
        None => kafka_form::decode(std::iter::empty(), key, value.clone()),
    };
    Incoming {
        partition: message.partition(),
        offset: offset(message),
        stored_at: stored_at(message),
        content: decoded.map_err(|why| NotAnEvent { why, value }),
    }
}

/// A record of the letters' topic: its event and its facts, which a record of another program has not.
///
/// Its key is the letter's own name in the table, so it says nothing of the event.
pub(crate) fn dead_letter(message: &BorrowedMessage<'_>) -> StoredDeadLetter {
    let payload = message.payload().map_or_else(Bytes::new, Bytes::copy_from_slice);
    let headers = || message.headers().into_iter().flat_map(Headers::iter);
    let facts = headers()
        .find(|header| header.key == FACTS_HEADER)
        .and_then(|header| header.value);
    let pairs = headers().map(|header| (header.key, header.value));
    let event = kafka_form::decode_stored(pairs, None, payload.clone());
    let channel_offset = || format!("{}/{}", message.partition(), message.offset());
    StoredDeadLetter {
        offset: channel::Offset(offset(message)),
        stored_at: stored_at(message),
        event: event.unwrap_or_else(|_| not_an_event("kafka", message.topic(), &channel_offset(), &payload)),
        facts: facts.map_or_else(Bytes::new, Bytes::copy_from_slice),
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
