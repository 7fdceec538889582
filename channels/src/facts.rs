//! The facts of a dead letter, which the gateway keeps beside its event (CONTRACT DL-6).
//!
//! DeadLetterFacts are kept apart from the event's attributes: a sender fills those, so facts among them could be forged, or find no room.
//! A channel stores the encoded facts as it gets them. The writer of a dead letter encodes them: the data plane, or a channel on
//! a broker for a record that is no event.
//!
//! The form: a version byte (1), the length of a JSON object (u32, little endian), the object, and the answer's body.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use event::Event;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;
const HEAD: usize = 5;

/// Bytes of an answer's body that are kept at most (CONTRACT DL-6: 64 KiB).
pub const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// A destination and a detail are cut to this: a URL or an expression a person can still read, and what a record and a header of
/// any channel kind have room for.
pub const TEXT_MAX_BYTES: usize = 4 * 1024;

/// Encoded facts are at most this large, so that a channel can leave room for them: the answer, three texts that JSON may escape
/// to two bytes for one, and the rest. They fit into the 128 KiB that a NATS channel reserves.
pub const FACTS_MAX_BYTES: usize = ANSWER_MAX_BYTES + 2 * 3 * TEXT_MAX_BYTES + 1024;

/// The event type of a dead letter about a record that is no CloudEvent.
pub const NOT_AN_EVENT: &str = "dev.headgate.notanevent";

/// Bytes of a record that is no event that are kept at most, so that a dead letter about it fits wherever an event does.
const NOT_AN_EVENT_MAX_BYTES: usize = 256 << 10;

/// The facts of one dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeadLetterFacts {
    /// `NAMESPACE/NAME`.
    pub subscription: String,
    /// The word of the reason, as docs/reasons has it.
    pub reason: String,
    /// The fault that was found before any attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The HTTP status of the last answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// How often delivery was attempted.
    pub attempts: u32,
    /// Where the event was going: a URL without credentials, or `channel NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// When delivery was attempted first.
    #[serde(with = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub first_attempt: Option<SystemTime>,
    /// When delivery was attempted last.
    #[serde(with = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<SystemTime>,
    /// The last answer's body, without what is over [`ANSWER_MAX_BYTES`].
    #[serde(skip)]
    pub answer: Bytes,
}

/// Bytes that are no facts of a version this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable facts of a dead letter: {0}")]
pub struct UnreadableFacts(&'static str);

impl DeadLetterFacts {
    /// The stored form, at most [`FACTS_MAX_BYTES`] long: what is too long is cut.
    pub fn encode(&self) -> Bytes {
        let bounded = Self {
            subscription: cut(&self.subscription),
            detail: self.detail.as_deref().map(cut),
            destination: self.destination.as_deref().map(cut),
            ..self.clone()
        };
        let answer = &self.answer[..self.answer.len().min(ANSWER_MAX_BYTES)];
        let mut out = BytesMut::with_capacity(HEAD + 512 + answer.len());
        out.put_u8(VERSION);
        out.put_u32_le(0);
        // Strings, numbers and a writer in memory: nothing here can fail.
        let _ = serde_json::to_writer((&mut out).writer(), &bounded);
        let length = u32::try_from(out.len() - HEAD).unwrap_or(u32::MAX);
        out[1..HEAD].copy_from_slice(&length.to_le_bytes());
        out.put_slice(answer);
        out.freeze()
    }

    /// Reads what [`Self::encode`] wrote; the answer shares the buffer.
    pub fn decode(facts: &Bytes) -> Result<Self, UnreadableFacts> {
        let head: &[u8; HEAD] = facts.first_chunk().ok_or(UnreadableFacts("there are none"))?;
        if head[0] != VERSION {
            return Err(UnreadableFacts("unknown version"));
        }
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let object = facts
            .get(HEAD..HEAD.saturating_add(length))
            .ok_or(UnreadableFacts("cut short"))?;
        let read: Self = serde_json::from_slice(object).map_err(|_| UnreadableFacts("malformed"))?;
        Ok(Self {
            answer: facts.slice(HEAD + length..),
            ..read
        })
    }
}

/// Bounded, and on one line: an expression or an error may hold control characters, which no list shows.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX_BYTES)].replace(char::is_control, " ")
}

/// Makes the event of a dead letter about a record that is no CloudEvent: it carries the record's bytes and says where they lie.
///
/// `system` is the scheme of its source (`kafka`, `nats`), `log` the topic or stream, `position` the record's position in it.
pub fn not_an_event(system: &str, log: &str, position: &str, payload: &Bytes) -> Event {
    let payload = payload.slice(..payload.len().min(NOT_AN_EVENT_MAX_BYTES));
    // A stream may be named with characters that no URI has.
    let named = |c: char| {
        if c.is_ascii_alphanumeric() || "-._~".contains(c) {
            c
        } else {
            '_'
        }
    };
    let source = format!("{system}:{}", log.chars().map(named).collect::<String>());
    let id = format!("{}/{position}", event::storable(log));
    Event::builder(&id, &source, NOT_AN_EVENT)
        .data("application/octet-stream", payload)
        .finish()
        .expect("an id with a slash, a source of unreserved characters and a constant type are valid")
}

mod milliseconds {
    use super::{Duration, SystemTime};
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        match since.and_then(|since| u64::try_from(since.as_millis()).ok()) {
            Some(millis) => serializer.serialize_some(&millis),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        let millis = Option::<u64>::deserialize(deserializer)?;
        Ok(millis.and_then(|millis| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn facts(answer: usize) -> DeadLetterFacts {
        DeadLetterFacts {
            subscription: "default/audit".into(),
            reason: "SinkError".into(),
            detail: Some("\"\u{20ac}\\".into()),
            code: Some(500),
            attempts: 3,
            destination: Some("http://sink/".into()),
            first_attempt: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
            last_attempt: None,
            answer: vec![0xff; answer].into(),
        }
    }

    /// Proves: DL-6
    #[test]
    fn facts_come_back_with_the_whole_answer() {
        for answer in [0, 1, 768, ANSWER_MAX_BYTES] {
            assert_eq!(DeadLetterFacts::decode(&facts(answer).encode()).unwrap(), facts(answer));
        }
        assert_eq!(
            DeadLetterFacts::decode(&facts(ANSWER_MAX_BYTES + 1).encode()).unwrap(),
            facts(ANSWER_MAX_BYTES)
        );
    }

    #[test]
    fn encoded_facts_are_bounded_whatever_they_say() {
        let long = || "\u{1}\"".repeat(50_000);
        let encoded = DeadLetterFacts {
            subscription: long(),
            detail: Some(long()),
            destination: Some(long()),
            ..facts(1_000_000)
        };
        let encoded = encoded.encode();
        assert!(encoded.len() <= FACTS_MAX_BYTES, "{}", encoded.len());
        assert_eq!(
            DeadLetterFacts::decode(&encoded).unwrap().destination.unwrap().len(),
            TEXT_MAX_BYTES
        );
    }

    #[test]
    fn bytes_that_are_no_facts_are_refused() {
        let good = facts(3).encode();
        for bytes in [
            &b""[..],
            b"\x01",
            b"{}",
            b"\x02\0\0\0\0",
            b"\x01\xff\xff\xff\xff{}",
            b"\x01\x01\0\0\0{",
            &good[..20],
        ] {
            assert!(
                DeadLetterFacts::decode(&Bytes::copy_from_slice(bytes)).is_err(),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_record_of_any_log_becomes_an_event() {
        for log in ["orders", "a b{c}|\u{7f}\u{1}", ""] {
            let event = not_an_event("nats", log, "7", &Bytes::from_static(b"x"));
            assert_eq!((event.kind(), &event.data()[..]), (NOT_AN_EVENT, &b"x"[..]));
        }
    }
}
