//! CloudEvents in Google Pub/Sub messages, read in binary and structured mode.
//!
//! In binary mode (CloudEvents' Pub/Sub protocol binding) attributes are message attributes `ce-NAME`, `datacontenttype` is
//! `content-type`, and the message's data is the event's. Values are plain text: nothing is percent-encoded, since message
//! attributes hold any text. In structured mode `content-type` is `application/cloudevents+json` and the data is the event.

use bytes::Bytes;

use crate::{
    Event,
    http_form::DecodeError,
    message::{assemble, ensure_same, invalid, is_structured, partition_key, structured, with_room},
};

const CONTENT_TYPE: &str = "content-type";
const PREFIX: &str = "ce-";
/// Every event in binary mode has it, and no sender sets it by chance.
const VERSION: &str = "ce-specversion";

/// Reads a message. `None`: it carries no CloudEvent. An error: it says that it does, and is none. A `key`, the message's
/// ordering key, becomes `partitionkey` where the event has none.
///
/// Names are taken in any case: SDKs write `content-type` and `Content-Type`.
pub fn decode<'a>(
    attributes: impl Iterator<Item = (&'a str, &'a str)>,
    key: Option<&'a str>,
    data: &Bytes,
) -> Option<Result<Event, DecodeError>> {
    let mut entries: Vec<(String, &str)> = Vec::new();
    let (mut content_type, mut binary) = (None, false);
    for (attribute, value) in attributes {
        let attribute = attribute.to_ascii_lowercase();
        binary |= attribute == VERSION;
        if attribute == CONTENT_TYPE {
            content_type = Some(value);
        } else if let Some(name) = attribute.strip_prefix(PREFIX) {
            entries.push((name.to_owned(), value));
        }
    }
    let key = key.and_then(|key| partition_key(key.as_bytes()));
    if let Some(media) = content_type.filter(|media| is_structured(media)) {
        return Some(structured(media, key, data).and_then(with_room));
    }
    binary.then(|| in_binary_mode(entries, content_type, key, data).and_then(with_room))
}

fn in_binary_mode<'a>(
    mut entries: Vec<(String, &'a str)>,
    content_type: Option<&'a str>,
    key: Option<&'a str>,
    data: &Bytes,
) -> Result<Event, DecodeError> {
    entries.sort_unstable();
    if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(invalid(format!("attribute {} is there twice", twice[0].0)));
    }
    let beside = entries.iter().find(|(name, _)| name == "datacontenttype");
    if let (Some((_, beside)), Some(media)) = (beside, content_type) {
        ensure_same(media, beside, "ce-datacontenttype")?;
    }
    let others = [("datacontenttype", content_type), ("partitionkey", key)];
    for (name, value) in others {
        if let Some(value) = value
            && !entries.iter().any(|(known, _)| known == name)
        {
            entries.push((name.to_owned(), value));
        }
    }
    let entries: Vec<(&str, &str)> = entries.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assemble(&entries, "", data.clone())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const REQUIRED: [(&str, &str); 4] = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
    ];

    fn read(attributes: &[(&str, &str)], key: Option<&str>, data: &str) -> Option<Result<Event, DecodeError>> {
        decode(
            attributes.iter().copied(),
            key,
            &Bytes::copy_from_slice(data.as_bytes()),
        )
    }

    /// Proves: SR-3
    #[test]
    fn an_event_in_binary_mode_is_read_as_it_is() {
        let mut attributes = REQUIRED.to_vec();
        attributes.extend([
            ("Content-Type", "text/plain"),
            ("ce-subject", "a b 100% é"),
            ("other", "x"),
        ]);
        let event = read(&attributes, None, "hello").unwrap().unwrap();
        assert_eq!(event.text("subject"), Some("a b 100% é"));
        assert_eq!(event.text("datacontenttype"), Some("text/plain"));
        assert_eq!(event.text("other"), None);
        assert_eq!(event.attributes().count(), 6);
        assert_eq!(&event.data()[..], b"hello");
    }

    #[test]
    fn an_event_in_structured_mode_is_read_whatever_else_is_there() {
        let document = r#"{"specversion":"1.0","id":"2","source":"/s","type":"t","data":{"a": 1.50}}"#;
        let mut attributes = REQUIRED.to_vec();
        attributes.push(("content-type", "Application/CloudEvents+JSON; charset=utf-8"));
        let event = read(&attributes, Some("k"), document).unwrap().unwrap();
        assert_eq!((event.id(), event.text("partitionkey")), ("2", Some("k")));
        assert_eq!(&event.data()[..], br#"{"a": 1.50}"#);
    }

    #[test]
    fn the_ordering_key_yields_to_the_events_own() {
        let key = |attributes: &[(&str, &str)]| {
            let event = read(attributes, Some("outer"), "").unwrap().unwrap();
            event.text("partitionkey").map(str::to_owned)
        };
        assert_eq!(key(&REQUIRED).as_deref(), Some("outer"));
        let mut own = REQUIRED.to_vec();
        own.push(("ce-partitionkey", "inner"));
        assert_eq!(key(&own).as_deref(), Some("inner"));
    }

    #[test]
    fn a_message_without_an_event_is_told_from_a_broken_one() {
        assert!(read(&[], None, "{}").is_none());
        assert!(read(&[("content-type", "application/json")], None, "{}").is_none());
        assert!(read(&REQUIRED[1..], None, "{}").is_none(), "no ce-specversion");
        assert!(read(&REQUIRED[..3], None, "").unwrap().is_err(), "no ce-type");
        let mut twice = REQUIRED.to_vec();
        twice.push(("CE-ID", "2"));
        assert!(read(&twice, None, "").unwrap().is_err());
        let batch = [("content-type", "application/cloudevents-batch+json")];
        assert!(matches!(
            read(&batch, None, "[]"),
            Some(Err(DecodeError::UnsupportedFormat(_)))
        ));
    }
}
