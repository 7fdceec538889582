//! CloudEvents in Kafka records (Kafka protocol binding 1.0.2): written in binary mode, read in binary and structured mode.
//!
//! Attributes are record headers `ce_NAME` in UTF-8, `datacontenttype` is the header `content-type`, the record's value is
//! the data, its key the attribute `partitionkey`. The binding has only strings; so that an event comes back as it was, the
//! names of attributes that were numbers or booleans go along in one header more ([`TYPES_HEADER`]), which others ignore.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    Event,
    http_form::DecodeError,
    message::{
        TRACE, assemble, content_type, document, ensure_same, invalid, is_structured, partition_key, structured,
        traced, types, with_room,
    },
};

/// Names the attributes that are not strings: `i:NAME` and `b:NAME`, separated by commas. Only there when one is.
pub const TYPES_HEADER: &str = "headgate_types";

const CONTENT_TYPE: &str = "content-type";
const PREFIX: &str = "ce_";
/// No attribute of its own: `content-type` carries it.
const BESIDE: &str = "ce_datacontenttype";

/// A record's headers for an event, in the order of its attributes.
///
/// An event whose data calls itself a CloudEvent is written in structured mode, and so is its [`value`].
pub fn headers(event: &Event) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let structured = event.holds_an_event();
    let content_type = content_type(event, structured);
    let named = event.attributes().filter(move |_| !structured).map(|(name, value)| {
        let header = match name {
            "datacontenttype" => Cow::Borrowed(CONTENT_TYPE),
            "specversion" => Cow::Borrowed("ce_specversion"),
            "id" => Cow::Borrowed("ce_id"),
            "source" => Cow::Borrowed("ce_source"),
            "type" => Cow::Borrowed("ce_type"),
            "time" => Cow::Borrowed("ce_time"),
            _ => Cow::Owned(format!("{PREFIX}{name}")),
        };
        (header, Cow::Borrowed(value.text))
    });
    let types = types(event).filter(|_| !structured);
    named
        .chain(content_type.map(|value| (Cow::Borrowed(CONTENT_TYPE), Cow::Borrowed(value))))
        .chain(types.map(|types| (Cow::Borrowed(TYPES_HEADER), Cow::Owned(types))))
}

/// A record's value for an event.
pub fn value(event: &Event) -> Bytes {
    if event.holds_an_event() {
        document(event)
    } else {
        event.data().clone()
    }
}

/// A record's key for an event.
pub fn key(event: &Event) -> Option<&str> {
    event.text("partitionkey")
}

/// Reads a record, also one that another program wrote. A missing value is an event without data; a key becomes `partitionkey` where the
/// record has no such header and the key is text that an attribute may have.
///
/// `traceparent` and `tracestate` as headers of their own, as OpenTelemetry writes them, continue the trace.
pub fn decode<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    key: Option<&'a [u8]>,
    value: Bytes,
) -> Result<Event, DecodeError> {
    decode_stored(headers, key, value).and_then(with_room)
}

/// As [`decode`], of what the gateway wrote itself: with its own attributes it has more than a stranger may bring.
pub fn decode_stored<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    key: Option<&'a [u8]>,
    value: Bytes,
) -> Result<Event, DecodeError> {
    let mut entries: Vec<(&str, &str)> = Vec::with_capacity(12);
    let (mut types, mut content_type, mut trace) = ("", None, [None; 2]);
    for (header, value) in headers {
        let name = match header.strip_prefix(PREFIX) {
            Some("datacontenttype") => BESIDE,
            Some(name) => name,
            None if header.eq_ignore_ascii_case(CONTENT_TYPE) => "datacontenttype",
            None if header == TYPES_HEADER => TYPES_HEADER,
            None => {
                if let Some(at) = TRACE.iter().position(|name| header.eq_ignore_ascii_case(name)) {
                    trace[at] = value.and_then(|value| std::str::from_utf8(value).ok());
                }
                continue;
            }
        };
        // A header without a value says that the attribute is not there.
        let Some(value) = value else { continue };
        let value = std::str::from_utf8(value).map_err(|_| invalid(format!("header {header} is not UTF-8")))?;
        if name == TYPES_HEADER {
            types = value;
            continue;
        }
        if name == BESIDE {
            content_type = Some(value);
            continue;
        }
        if entries.iter().any(|(known, _)| *known == name) {
            return Err(invalid(format!("header {header} is there twice")));
        }
        entries.push((name, value));
    }
    let find = |expected: &str| {
        entries
            .iter()
            .find(|(name, _)| *name == expected)
            .map(|(_, value)| *value)
    };
    let key = key.and_then(partition_key);
    let [parent, state] = trace;
    if let Some(content_type) = find("datacontenttype").filter(|value| is_structured(value)) {
        return Ok(traced(structured(content_type, key, &value)?, parent, state));
    }
    if let Some(beside) = content_type {
        ensure_same(
            find("datacontenttype").unwrap_or_default(),
            beside,
            "ce_datacontenttype",
        )?;
    }
    if find("specversion").is_none() {
        return Err(invalid(
            "this record is no CloudEvent: it needs the headers ce_specversion, ce_id, ce_source and ce_type, or content-type application/cloudevents+json",
        ));
    }
    if let Some(key) = key.filter(|_| find("partitionkey").is_none()) {
        entries.push(("partitionkey", key));
    }
    Ok(traced(assemble(&entries, types, value)?, parent, state))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn round(event: &Event) -> Event {
        let headers: Vec<_> = headers(event)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let headers = headers.iter().map(|(name, value)| (&**name, Some(value.as_bytes())));
        decode(headers, key(event).map(str::as_bytes), event.data().clone()).unwrap()
    }

    fn record(headers: &[(&str, Option<&str>)], key: Option<&[u8]>, value: &str) -> Result<Event, DecodeError> {
        let headers = headers.iter().map(|(name, value)| (*name, value.map(str::as_bytes)));
        decode(headers, key, Bytes::from(value.to_owned()))
    }

    const REQUIRED: [(&str, Option<&str>); 4] = [
        ("ce_type", Some("t")),
        ("ce_id", Some("1")),
        ("ce_source", Some("/s")),
        ("ce_specversion", Some("1.0")),
    ];

    /// Proves: IN-7, IN-8
    #[test]
    fn an_event_comes_back_as_it_was() {
        let document = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"\u20ac \"x\" 100%",
            "count":7,"flag":true,"text":"7","partitionkey":"k","data":{"a":1.50}}"#;
        for event in [
            Event::from_json(&Bytes::from_static(document)).unwrap(),
            Event::builder("1", "/s", "t").finish().unwrap(),
            Event::builder("1", "/s", "t")
                .data("text/plain; charset=\"utf-8\"", Bytes::from_static(&[0, 255]))
                .finish()
                .unwrap(),
        ] {
            assert_eq!(round(&event), event);
        }
        let names: Vec<_> = headers(&Event::from_json(&Bytes::from_static(document)).unwrap())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            names[4..],
            [
                "ce_subject=\u{20ac} \"x\" 100%",
                "ce_count=7",
                "ce_flag=true",
                "ce_text=7",
                "ce_partitionkey=k",
                "content-type=application/json",
                "headgate_types=d:datacontenttype,i:count,b:flag"
            ]
        );
    }

    #[test]
    fn records_of_other_producers_are_read() {
        let mut headers = REQUIRED.to_vec();
        headers.extend([
            ("ce_nothing", None),
            ("traceparent", Some("x")),
            ("Content-Type", Some("application/json")),
        ]);
        let event = record(&headers, Some(b"key"), "{}").unwrap();
        assert_eq!(
            (
                event.text("nothing"),
                event.text("traceparent"),
                event.text("partitionkey")
            ),
            (None, Some("x"), Some("key"))
        );
        assert_eq!(
            (event.text("datacontenttype"), &event.data()[..]),
            (Some("application/json"), &b"{}"[..])
        );
        // Numbers, the magic byte of a schema registry, no UTF-8, control characters: no partition key, and no fault.
        for key in [
            &[0xff][..],
            &[0, 0, 0, 0, 0, 0, 0, 42],
            &[0, 0, 0, 0, 7, b'k'],
            b"a\tb",
            b"",
        ] {
            assert_eq!(
                record(&REQUIRED, Some(key), "").unwrap().text("partitionkey"),
                None,
                "{key:?}"
            );
        }
        let mut beside = REQUIRED.to_vec();
        beside.extend([
            ("ce_datacontenttype", Some("Application/JSON")),
            ("content-type", Some("application/json")),
        ]);
        let event = record(&beside, None, "{}").unwrap();
        assert_eq!(event.text("datacontenttype"), Some("application/json"));

        let document = r#"{"specversion":"1.0","id":"2","source":"/s","type":"t","data":[1]}"#;
        let structured = |content_type| record(&[("content-type", Some(content_type))], Some(b"k"), document);
        let event = structured("application/CloudEvents+json; charset=UTF-8").unwrap();
        assert_eq!(
            (event.id(), event.text("partitionkey"), &event.data()[..]),
            ("2", Some("k"), &b"[1]"[..])
        );
        assert!(matches!(
            structured("application/cloudevents+avro"),
            Err(DecodeError::UnsupportedFormat(_))
        ));
        assert!(matches!(
            structured("application/cloudevents-batch+json"),
            Err(DecodeError::UnsupportedFormat(_))
        ));
    }

    #[test]
    fn what_is_no_event_says_why() {
        let fault =
            |headers: &[(&str, Option<&str>)], value: &str| record(headers, None, value).unwrap_err().to_string();
        assert!(fault(&[], "hello").contains("ce_specversion"));
        assert!(fault(&REQUIRED[..3], "").contains("ce_specversion"));
        assert!(fault(&REQUIRED[1..], "").contains("type"));
        let mut twice = REQUIRED.to_vec();
        twice.push(("ce_id", Some("2")));
        assert_eq!(fault(&twice, ""), "header ce_id is there twice");
        let mut misplaced = REQUIRED.to_vec();
        misplaced.push(("ce_datacontenttype", Some("text/plain")));
        assert!(fault(&misplaced, "").contains("content-type carries it"));
        misplaced.push(("content-type", Some("text/html")));
        assert!(fault(&misplaced, "").contains("content-type carries it"));
        let names: Vec<String> = (0..230).map(|number| format!("ce_x{number}")).collect();
        let mut many = REQUIRED.to_vec();
        many.extend(names.iter().map(|name| (name.as_str(), Some("1"))));
        assert!(fault(&many, "").contains("224"), "{}", fault(&many, ""));
        assert!(
            fault(&[("content-type", Some("application/cloudevents+json"))], "[").contains("not a CloudEvent in JSON")
        );
        let bytes = [("ce_id", Some(&[0xff][..]))];
        assert!(
            decode(bytes.into_iter(), None, Bytes::new())
                .unwrap_err()
                .to_string()
                .contains("not UTF-8")
        );
    }
}
