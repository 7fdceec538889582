//! CloudEvents in NATS messages: written in binary mode, read in binary and structured mode.
//!
//! The released NATS protocol binding (1.0.2) knows structured mode alone, from before NATS had headers. In binary mode, as
//! SDKs write it, attributes are headers `ce-NAME`, percent-encoded as in HTTP (a NATS header ends at a line break and loses
//! the spaces around it), `datacontenttype` is `content-type`, and the payload is the data. As on Kafka, the names of attributes
//! that were numbers or booleans go along in one header more ([`TYPES_HEADER`]), which others ignore.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    Event, attributes,
    http_form::DecodeError,
    message::{
        STRUCTURED, TRACE, assemble, content_type, document, ensure_same, invalid, is_structured, structured, traced,
        types, with_room,
    },
    percent,
};

/// Names the attributes that are not strings: `i:NAME` and `b:NAME`, separated by commas. Only there when one is.
pub const TYPES_HEADER: &str = "headgate-types";

const CONTENT_TYPE: &str = "content-type";
const PREFIX: &str = "ce-";

/// JetStream refuses a message with more than 64 KiB of headers (error 10097 of nats-server 2.12). The rest is for those that the
/// client adds: the message's id, expectations and a batch's.
const HEADERS_MAX_BYTES: usize = 60 * 1024;

/// Attributes up to this size fit in any case: percent-encoding makes three bytes of one.
const ALWAYS_FIT_BYTES: usize = 16 * 1024;

/// Whether an event is written in structured mode: one whose data calls itself a CloudEvent, and one with more attributes than
/// headers take.
fn is_written_structured(event: &Event) -> bool {
    if event.holds_an_event() {
        return true;
    }
    if event.attributes.len() <= ALWAYS_FIT_BYTES {
        return false;
    }
    // A line is its name, `: `, its value and a line break.
    let bytes: usize = lines(event, false)
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    bytes > HEADERS_MAX_BYTES
}

/// A message's headers for an event, in the order of its attributes.
///
/// An event that is written in structured mode has its attributes in its [`payload`].
pub fn headers(event: &Event) -> impl Iterator<Item = (Cow<'static, str>, Cow<'_, str>)> {
    lines(event, is_written_structured(event))
}

fn lines(event: &Event, structured: bool) -> impl Iterator<Item = (Cow<'static, str>, Cow<'_, str>)> {
    let content_type = content_type(event, structured);
    let named = event.attributes().filter(move |_| !structured).map(|(name, value)| {
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
    let types = types(event).filter(|_| !structured);
    named
        .chain(content_type.map(|value| (Cow::Borrowed(CONTENT_TYPE), Cow::Borrowed(value))))
        .chain(types.map(|types| (Cow::Borrowed(TYPES_HEADER), Cow::Owned(types))))
}

/// A message's payload for an event.
pub fn payload(event: &Event) -> Bytes {
    if is_written_structured(event) {
        document(event)
    } else {
        event.data().clone()
    }
}

/// A media type that a header keeps without being encoded.
fn goes_as_it_is(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..=0x7E).contains(&byte)) && value.trim() == value
}

/// Reads a message, also one that another program wrote. One without any header of the binding is structured mode, as the binding has it.
///
/// Names are taken in any case: attributes have lower-case names, and clients write `Ce-Id` as HTTP does. `traceparent` and
/// `tracestate` as headers of their own, as OpenTelemetry writes them, continue the trace.
pub fn decode<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>, payload: Bytes) -> Result<Event, DecodeError> {
    decode_stored(headers, payload).and_then(with_room)
}

/// As [`decode`], of what the gateway wrote itself: with its own attributes it has more than a stranger may bring.
pub fn decode_stored<'a>(
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    payload: Bytes,
) -> Result<Event, DecodeError> {
    let mut trace = [None; 2];
    let named = headers.filter(|(header, value)| {
        let at = TRACE.iter().position(|name| header.eq_ignore_ascii_case(name));
        if let Some(at) = at {
            trace[at] = Some(*value);
        }
        at.is_none()
    });
    let event = read(named, payload)?;
    let [parent, state] = trace;
    Ok(traced(event, parent, state))
}

fn read<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>, payload: Bytes) -> Result<Event, DecodeError> {
    let mut entries: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(12);
    let (mut types, mut content_type) = ("", None);
    for (header, value) in headers {
        if header.eq_ignore_ascii_case(TYPES_HEADER) {
            types = value;
        } else if header.eq_ignore_ascii_case(CONTENT_TYPE) {
            content_type = Some(value);
        } else if let Some((_, name)) = header
            .split_at_checked(PREFIX.len())
            .filter(|(start, _)| start.eq_ignore_ascii_case(PREFIX))
        {
            let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                Cow::Owned(name.to_ascii_lowercase())
            } else {
                Cow::Borrowed(name)
            };
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
    if let Some(media) = content_type {
        if let Some((_, beside)) = entries.iter().find(|(name, _)| name == attributes::CONTENT_TYPE) {
            ensure_same(media, beside, "ce-datacontenttype")?;
        }
        entries.retain(|(name, _)| name != attributes::CONTENT_TYPE);
        entries.push((attributes::CONTENT_TYPE.into(), media.into()));
    }
    if !entries.iter().any(|(name, _)| *name == "specversion") {
        return Err(invalid(
            "this message is no CloudEvent: it has no header ce-specversion",
        ));
    }
    // A client's headers are in no order; the same message is the same event, byte for byte.
    entries.sort_unstable();
    let entries: Vec<(&str, &str)> = entries.iter().map(|(name, value)| (&**name, &**value)).collect();
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
        decode(headers, payload(event)).unwrap()
    }

    #[test]
    fn more_attributes_than_headers_take_are_written_in_structured_mode() {
        for (length, value, structured) in [(100, "v", false), (500, "v", true), (150, "\u{20ac}", true)] {
            let edit = Event::builder("1", "/s", "t").data("text/plain", Bytes::from_static(&[0, 255]));
            let full = (0..200).fold(edit, |edit, number| {
                edit.set(&format!("x{number}"), &value.repeat(length))
            });
            let event = full.finish().unwrap();
            let bytes: usize = headers(&event).map(|(name, value)| name.len() + value.len() + 4).sum();
            assert!(bytes <= HEADERS_MAX_BYTES, "{bytes} bytes of headers");
            assert_eq!(payload(&event) != *event.data(), structured, "{length} times {value}");
            assert_eq!(round(&event), event);
        }
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
            ("Ce-Type", "t"),
            ("CE-ID", "1"),
            ("Ce-Source", "/s"),
            ("Ce-Specversion", "1.0"),
            ("Ce-Datacontenttype", "text/plain"),
            ("Content-Type", "text/plain"),
            ("Traceparent", "00-x"),
            ("tracestate", "a=b"),
        ];
        let event = message(&capital, "").unwrap();
        assert_eq!(
            (
                event.id(),
                event.text("datacontenttype"),
                event.text("traceparent"),
                event.text("tracestate")
            ),
            ("1", Some("text/plain"), Some("00-x"), Some("a=b"))
        );
        let mut own = REQUIRED.to_vec();
        own.extend([("ce-traceparent", "own"), ("traceparent", "other")]);
        assert_eq!(message(&own, "").unwrap().text("traceparent"), Some("own"));

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
        twice[4].0 = "Ce-Id";
        assert_eq!(fault(&twice, ""), "header Ce-Id is there twice");
        let mut beside = REQUIRED.to_vec();
        beside.extend([("ce-datacontenttype", "text/plain"), ("content-type", "text/html")]);
        assert!(fault(&beside, "").contains("content-type carries it"));
    }
}
