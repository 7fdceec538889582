//! Messages as they are written and read.

use std::{borrow::Cow, time::SystemTime};

use async_nats::{HeaderMap, HeaderName, header::IntoHeaderName as _};
use bytes::Bytes;
use channel::{Offset, StoredDeadLetter, not_an_event};
use event::{Event, nats_form};
use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

/// JetStream's own header for a message's identity: a second one with it, within the stream's duplicate window, is not
/// stored again.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The header that says how many bytes at the end of a letter's payload are its facts: they are larger than headers may be
/// (64 KiB). It is no attribute: those begin with `ce-`.
pub(crate) const FACTS_HEADER: &str = "headgate-facts";

/// An event to publish.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    event: &'a Event,
    id: String,
    /// The facts of a dead letter; `None` for an event.
    facts: Option<&'a Bytes>,
}

impl<'a> Outgoing<'a> {
    /// One whose identity is its own: storing it again after an answer got lost stores nothing.
    pub(crate) fn new(event: &'a Event) -> Self {
        Self::with_id(event, identity(event))
    }

    /// A letter: one that was removed and comes again is another, so its identity is its own.
    pub(crate) fn dead_letter(event: &'a Event, facts: &'a Bytes, id: String) -> Self {
        Self {
            facts: Some(facts),
            ..Self::with_id(event, id)
        }
    }

    fn with_id(event: &'a Event, id: String) -> Self {
        Self { event, id, facts: None }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(const { HeaderName::from_static(MESSAGE_ID) }, &*self.id);
        for (name, value) in nats_form::headers(self.event) {
            let name = match name {
                Cow::Borrowed(known) => HeaderName::from_static(known),
                Cow::Owned(name) => name.into_header_name(),
            };
            headers.insert(name, value.into_owned());
        }
        if let Some(facts) = self.facts {
            let name = const { HeaderName::from_static(FACTS_HEADER) };
            headers.insert(name, facts.len().to_string());
        }
        headers
    }

    pub(crate) fn payload(&self) -> Bytes {
        let payload = nats_form::payload(self.event);
        match self.facts {
            None => payload,
            Some(facts) => [payload, facts.clone()].concat().into(),
        }
    }

    /// Bytes of the event and of a dead letter's facts.
    pub(crate) fn size(&self) -> usize {
        self.event.size() + self.facts.map_or(0, Bytes::len)
    }
}

/// The identity of an event: source and id, as in CloudEvents, and everything else in it. A producer that uses an
/// id twice for different events loses neither; an event that came around a loop counts its hops, so it is another.
///
/// No other source and id with the same hash can be found. The rest of an event only distinguishes events that its own producer
/// gave the same id, so for that a fast hash does: SHA-256 of all took 1.7 of 46 us an event
/// (perf of `bench --only "nats: 64"`).
fn identity(event: &Event) -> String {
    let mut attributes: Vec<(&str, &str)> = event.attributes().map(|(name, value)| (name, value.text)).collect();
    attributes.sort_unstable();
    let (mut named, mut digest) = (Sha256::new(), Vec::with_capacity(512));
    for (name, value) in attributes {
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes();
        if matches!(name, "id" | "source") {
            named.update(length);
            named.update(value);
        } else {
            // A name holds no zero.
            digest.extend_from_slice(name.as_bytes());
            digest.push(0);
            digest.extend_from_slice(&length);
            digest.extend_from_slice(value.as_bytes());
        }
    }
    let digest = XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(&digest), event.data());
    let named = named.finalize();
    let named = named.first_chunk().copied().unwrap_or_default();
    format!("{:032x}{digest:016x}", u128::from_be_bytes(named))
}

/// A message that was read from a stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) sequence: u64,
    pub(crate) stored_at: SystemTime,
    /// It was handed out before.
    pub(crate) redelivered: bool,
    pub(crate) content: Result<Event, MalformedMessage>,
}

/// A message of another program that is no event.
#[derive(Debug)]
pub(crate) struct MalformedMessage {
    pub(crate) why: String,
    pub(crate) payload: Bytes,
}

/// Reads what a consumer was sent: `None` when it is no message of a stream, but an answer about a request.
pub(crate) fn incoming(message: &async_nats::jetstream::Message) -> Option<Incoming> {
    let info = message.info().ok()?;
    Some(Incoming {
        sequence: info.stream_sequence,
        stored_at: info.published.into(),
        redelivered: info.delivered > 1,
        content: decode(message.headers.as_ref(), message.payload.clone()),
    })
}

/// Reads a message of the letters' stream; `None` as [`incoming`] has it. A message of another program has no facts.
pub(crate) fn dead_letter(message: &async_nats::jetstream::Message, stream: &str) -> Option<StoredDeadLetter> {
    let info = message.info().ok()?;
    let length = message.headers.as_ref().and_then(|headers| headers.get(FACTS_HEADER));
    let length: Option<usize> = length.and_then(|length| length.as_str().parse().ok());
    let mut payload = message.payload.clone();
    let begin = length.and_then(|length| payload.len().checked_sub(length));
    let facts = begin.map_or_else(Bytes::new, |begin| payload.split_off(begin));
    let event = nats_form::decode_stored(texts(message.headers.as_ref()), payload.clone());
    let malformed = |_| not_an_event("nats", stream, &info.stream_sequence.to_string(), &payload);
    Some(StoredDeadLetter {
        offset: Offset(info.stream_sequence),
        stored_at: info.published.into(),
        event: event.unwrap_or_else(malformed),
        facts,
    })
}

fn texts(headers: Option<&HeaderMap>) -> impl Iterator<Item = (&str, &str)> {
    let all = headers.into_iter().flat_map(|headers| headers.iter());
    all.flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())))
}

fn decode(headers: Option<&HeaderMap>, payload: Bytes) -> Result<Event, MalformedMessage> {
    nats_form::decode(texts(headers), payload.clone()).map_err(|error| MalformedMessage {
        why: error.to_string(),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_has_one_identity_and_any_difference_another() {
        let event = |id: &str, source: &str, extra: &str, data: &'static str| {
            let event = Event::builder(id, source, "t")
                .set("extra", extra)
                .data("text/plain", Bytes::from_static(data.as_bytes()));
            identity(&event.finish().expect("a valid event"))
        };
        let one = event("1", "/s", "x", "data");
        assert_eq!(one, event("1", "/s", "x", "data"));
        for other in [
            event("2", "/s", "x", "data"),
            event("1/", "s", "x", "data"),
            event("1", "/t", "x", "data"),
            event("1", "/s", "y", "data"),
            event("1", "/s", "x", "other"),
        ] {
            assert_ne!(one, other);
        }
    }
}
