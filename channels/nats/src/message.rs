//! Messages as they are written and read.

use std::{borrow::Cow, time::SystemTime};

use async_nats::{HeaderMap, HeaderName, header::IntoHeaderName as _};
use bytes::Bytes;
use event::{Event, nats_form};
use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

/// JetStream's own header for a message's identity: a second one with it, within the stream's duplicate window, is not
/// stored again.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// An event to publish.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    event: &'a Event,
    id: String,
}

impl<'a> Outgoing<'a> {
    /// One whose identity is its own: storing it again after an answer got lost stores nothing.
    pub(crate) fn new(event: &'a Event) -> Self {
        Self::with_id(event, identity(event))
    }

    pub(crate) fn with_id(event: &'a Event, id: String) -> Self {
        Self { event, id }
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
        headers
    }

    pub(crate) fn payload(&self) -> Bytes {
        self.event.data().clone()
    }

    /// Of the event.
    pub(crate) fn size(&self) -> usize {
        self.event.size()
    }
}

/// What makes an event the same: source and id, as CloudEvents has it, and everything else it says. A producer that uses an
/// id twice for different events loses neither; an event that came around a loop counts its hops, so it is another.
///
/// Nobody finds another source and id with the same hash. What an event says beside them only tells apart what its
/// own producer named alike, so for that a fast hash does: SHA-256 of all took 1.7 of 46 us an event
/// (perf of `bench --only "nats: 64"`).
fn identity(event: &Event) -> String {
    let mut attributes: Vec<(&str, &str)> = event.attributes().map(|(name, value)| (name, value.text)).collect();
    attributes.sort_unstable();
    let (mut named, mut said) = (Sha256::new(), Vec::with_capacity(512));
    for (name, value) in attributes {
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes();
        if matches!(name, "id" | "source") {
            named.update(length);
            named.update(value);
        } else {
            // A name holds no zero.
            said.extend_from_slice(name.as_bytes());
            said.push(0);
            said.extend_from_slice(&length);
            said.extend_from_slice(value.as_bytes());
        }
    }
    let said = XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(&said), event.data());
    let named = named.finalize();
    let named = named.first_chunk().copied().unwrap_or_default();
    format!("{:032x}{said:016x}", u128::from_be_bytes(named))
}

/// A message that was read from a stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) sequence: u64,
    pub(crate) stored_at: SystemTime,
    /// It was handed out before.
    pub(crate) again: bool,
    pub(crate) content: Result<Event, NoEvent>,
}

/// A message of somebody else that is no event.
#[derive(Debug)]
pub(crate) struct NoEvent {
    pub(crate) why: String,
    pub(crate) payload: Bytes,
}

/// Reads what a consumer was sent: `None` when it is no message of a stream, but an answer about a request.
pub(crate) fn incoming(message: &async_nats::jetstream::Message) -> Option<Incoming> {
    let info = message.info().ok()?;
    Some(Incoming {
        sequence: info.stream_sequence,
        stored_at: info.published.into(),
        again: info.delivered > 1,
        content: decode(message.headers.as_ref(), message.payload.clone()),
    })
}

fn decode(headers: Option<&HeaderMap>, payload: Bytes) -> Result<Event, NoEvent> {
    let all = headers.iter().flat_map(|headers| headers.iter());
    let texts = all.flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())));
    nats_form::decode(texts, payload.clone()).map_err(|error| NoEvent {
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
