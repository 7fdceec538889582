//! CloudEvents in NATS messages: written in binary mode, read in binary and structured mode.
//!
//! The released NATS protocol binding (1.0.2) knows structured mode alone, from before NATS had headers. In binary mode, as
//! SDKs write it, attributes are headers `ce-NAME`, percent-encoded as in HTTP (a NATS header ends at a line break and loses
//! the spaces around it), `datacontenttype` is `content-type`, and the payload is the data. As on Kafka, the names of attributes
//! that were numbers or booleans go along in one header more ([`TYPES_HEADER`]), which others ignore.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    Event,
    http_form::DecodeError,
    message::{assemble, invalid, is_structured, structured, types},
    percent,
};

/// Names the attributes that are not strings: `i:NAME` and `b:NAME`, separated by commas. Only there when one is.
pub const TYPES_HEADER: &str = "headgate-types";

const CONTENT_TYPE: &str = "content-type";
const PREFIX: &str = "ce-";
/// The media type of structured mode.
const STRUCTURED: &str = "application/cloudevents+json";

/// A message's headers for an event, in the order of its attributes.
pub fn headers(event: &Event) -> impl Iterator<Item = (Cow<'static, str>, Cow<'_, str>)> {
    let named = event.attributes().map(|(name, value)| {
        let header = match name {
            "datacontenttype" if goes_as_it_is(value.text) => return (Cow::Borrowed(CONTENT_TYPE), value.text.into()),
            "specversion" => Cow::Borrowed("ce-specversion"),
            "id" => Cow::Borrowed("ce-id"),
            "source" => Cow::Borrowed("ce-source"),
            "type" => Cow::Borrowed("ce-type"),
            "time" => Cow::Borrowed("ce-time"),
            _ => Cow::Owned(format!("{PREFIX}{name}")),
        };
        let text = percent::encode(value.text)
            .and_then(|encoded| String::from_utf8(encoded).ok())
            .map_or(Cow::Borrowed(value.text), Cow::Owned);
        (header, text)
    });
    named.chain(types(event).map(|types| (Cow::Borrowed(TYPES_HEADER), Cow::Owned(types))))
}

/// A media type that a header keeps without being encoded.
fn goes_as_it_is(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..=0x7E).contains(&byte)) && value.trim() == value
}

/// Reads a message, whoever wrote it. One without any header of the binding is structured mode, as the binding has it.
pub fn decode<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>, payload: Bytes) -> Result<Event, DecodeError> {
    let mut entries: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(12);
    let (mut types, mut content_type) = ("", None);
    for (header, value) in headers {
        if header == TYPES_HEADER {
            types = value;
        } else if header.eq_ignore_ascii_case(CONTENT_TYPE) {
            content_type = Some(value);
        } else if let Some(name) = header
            .get(..PREFIX.len())
            .filter(|start| start.eq_ignore_ascii_case(PREFIX))
        {
            let name = &header[name.len()..];
            if entries.iter().any(|(known, _)| *known == name) {
                return Err(invalid(format!("header {header} is there twice")));
            }
            entries.push((name, percent::decode(value)));
        }
    }
    if entries.is_empty() {
        let media = content_type.unwrap_or(STRUCTURED);
        if !is_structured(media) && !payload.starts_with(b"{") {
            return Err(invalid(
                "this message is no CloudEvent: it needs the headers ce-specversion, ce-id, ce-source and ce-type, or a CloudEvent in JSON as its payload",
            ));
        }
        return structured(if is_structured(media) { media } else { STRUCTURED }, None, &payload);
    }
    if let Some(media) = content_type.filter(|media| is_structured(media)) {
        return structured(media, None, &payload);
    }
    if let Some(media) = content_type
        && !entries.iter().any(|(name, _)| *name == "datacontenttype")
    {
        entries.push(("datacontenttype", media.into()));
    }
    if !entries.iter().any(|(name, _)| *name == "specversion") {
        return Err(invalid(
            "this message is no CloudEvent: it has no header ce-specversion",
        ));
    }
    // A client's headers are in no order; the same message is the same event, byte for byte.
    entries.sort_unstable_by_key(|(name, _)| *name);
    assemble(&entries, types, payload)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn round(event: &Event) -> Event {
        let headers: Vec<_> = headers(event)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        assert!(
            headers.iter().all(|(_, value)| goes_as_it_is(value)),
            "what a header cannot carry: {headers:?}"
        );
        let headers = headers.iter().map(|(name, value)| (&**name, &**value));
        decode(headers, event.data().clone()).unwrap()
    }

    fn message(headers: &[(&str, &str)], payload: &str) -> Result<Event, DecodeError> {
        decode(headers.iter().copied(), Bytes::from(payload.to_owned()))
    }

    const REQUIRED: [(&str, &str); 4] = [
        ("ce-type", "t"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-specversion", "1.0"),
    ];

    /// Proves: IN-7, IN-8
    #[test]
    fn an_event_comes_back_as_it_was() {
        let document = br#"{"specversion":"1.0","id":" 1 ","source":"/s","type":"t","subject":"\u20ac \"x\" 100%",
            "count":7,"flag":true,"text":"7","partitionkey":"k","data":{"a":1.50}}"#;
        for event in [
            Event::from_json(&Bytes::from_static(document)).unwrap(),
            Event::builder("1", "/s", "t").finish().unwrap(),
            Event::builder("1", "/s", "t")
                .data("text/plain; charset=\"utf-8\"", Bytes::from_static(&[0, 255]))
                .finish()
                .unwrap(),
            Event::builder("1", "/s", "t")
                .data("text/\u{20ac}", Bytes::from_static(b"{}"))
                .finish()
                .unwrap(),
        ] {
            assert_eq!(round(&event), event);
        }
    }

    #[test]
    fn messages_of_other_producers_are_read() {
        let mut headers = REQUIRED.to_vec();
        headers.extend([
            ("Nats-Msg-Id", "x"),
            ("Content-Type", "application/json"),
            ("ce-subject", "a b"),
        ]);
        let event = message(&headers, "{}").unwrap();
        assert_eq!(
            (event.text("subject"), event.text("datacontenttype"), &event.data()[..]),
            (Some("a b"), Some("application/json"), &b"{}"[..])
        );
        let capital = [
            ("Ce-type", "t"),
            ("CE-id", "1"),
            ("Ce-source", "/s"),
            ("ce-specversion", "1.0"),
        ];
        assert_eq!(message(&capital, "").unwrap().id(), "1");

        let document = r#"{"specversion":"1.0","id":"2","source":"/s","type":"t","data":[1]}"#;
        for headers in [
            &[][..],
            &[("content-type", "application/CloudEvents+json; charset=UTF-8")],
        ] {
            let event = message(headers, document).unwrap();
            assert_eq!((event.id(), &event.data()[..]), ("2", &b"[1]"[..]));
        }
        let avro = message(&[("content-type", "application/cloudevents+avro")], document);
        assert!(matches!(avro, Err(DecodeError::UnsupportedFormat(_))));
    }

    #[test]
    fn what_is_no_event_says_why() {
        let fault = |headers: &[(&str, &str)], payload: &str| message(headers, payload).unwrap_err().to_string();
        assert!(fault(&[], "[").contains("not a CloudEvent in JSON"));
        assert!(fault(&[("content-type", "text/plain")], "hello").contains("ce-specversion"));
        assert!(fault(&REQUIRED[..3], "").contains("ce-specversion"));
        assert!(fault(&REQUIRED[1..], "").contains("type"));
        let mut twice = REQUIRED.to_vec();
        twice.push(("ce-id", "2"));
        assert_eq!(fault(&twice, ""), "header ce-id is there twice");
    }
}
