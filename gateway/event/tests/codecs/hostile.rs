//! No bytes make a decoder panic, and what one accepts is an event that every codec can carry.

use bytes::{Bytes, BytesMut};
use event::{
    Event,
    http_form::{self, Decoded},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{collection::vec, prelude::*};

use crate::any_event;

/// Reads a message and puts what it held through the other codecs.
fn carried(headers: &HeaderMap, body: Bytes) {
    let events = match http_form::decode(headers, body) {
        Ok(Decoded::One(event)) => vec![event],
        Ok(Decoded::Batch(events)) => events,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for event in events {
        let mut stored = BytesMut::new();
        event.encode(&mut stored);
        assert_eq!(Event::decode(stored.freeze()).unwrap(), event);
        // Grammar and UTF-8 are checked; a lone surrogate escape inside JSON data is the sender's to keep.
        let document = String::from_utf8(event.to_json()).unwrap();
        let back = Event::from_json(&document.into()).unwrap();
        assert_eq!(
            (back.id(), back.source(), back.kind()),
            (event.id(), event.source(), event.kind())
        );
        let mut headers = HeaderMap::new();
        let _ = http_form::encode_binary(&event, &mut headers);
        assert!(headers.contains_key("ce-id") || event.holds_an_event());
    }
}

fn content_type() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("application/cloudevents+json".to_owned()),
        Just("application/cloudevents-batch+json".to_owned()),
        Just("application/json".to_owned()),
        "application/cloudevents[ -~]{0,20}",
        "[ -~]{0,20}",
    ]
}

/// JSON with the words a decoder looks for, rightly and wrongly put together.
fn near_json() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"specversion\":\"1.0\"",
        "\"specversion\":\"0.3\"",
        "\"id\":\"1\"",
        "\"source\":\"/s\"",
        "\"type\":\"t\"",
        "\"data\":",
        "\"data_base64\":\"AA==\"",
        "\"datacontentencoding\":\"base64\"",
        "null",
        "1e999",
        "\"\\ud800\"",
        "\\",
        "\u{0}",
        "-0",
    ]);
    vec(words, 0..20).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    /// Proves: IN-5
    #[test]
    fn no_body_makes_a_decoder_panic(kind in content_type(), body in prop_oneof![near_json(), vec(any::<u8>(), 0..200)]) {
        let mut headers = HeaderMap::new();
        if let Ok(kind) = HeaderValue::from_str(&kind) {
            headers.insert("content-type", kind);
        }
        carried(&headers, body.into());
    }

    /// Proves: IN-5
    #[test]
    fn no_headers_make_a_decoder_panic(
        extra in vec(("ce-[!-~]{0,12}", vec(0x20..=0xFF_u8, 0..24)), 0..6),
        body in vec(any::<u8>(), 0..40),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (name, value) in extra {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value)) {
                headers.append(name, value);
            }
        }
        carried(&headers, body.into());
    }

    /// A good document with one byte changed or cut off.
    #[test]
    fn no_damage_makes_a_decoder_panic(event in any_event::event(), at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut headers = HeaderMap::new();
        let mut body = http_form::encode_structured(&event, &mut headers).to_vec();
        let at = at.index(body.len());
        if cut {
            body.truncate(at);
        } else {
            body[at] = byte;
        }
        carried(&headers, body.into());
    }

    #[test]
    fn no_stored_bytes_make_the_decoder_panic(event in any_event::event(), at in any::<prop::sample::Index>(), byte: u8, cut: bool, noise: Vec<u8>) {
        let mut stored = BytesMut::new();
        event.encode(&mut stored);
        let mut stored = stored.to_vec();
        let at = at.index(stored.len());
        if cut {
            stored.truncate(at);
        } else {
            stored[at] = byte;
        }
        for bytes in [stored, noise] {
            if let Ok(read) = Event::decode(bytes.into()) {
                let _ = (read.id().len(), read.to_json().len(), read.size());
                prop_assert!(read.attributes().count() >= 4);
            }
        }
    }
}

/// Binary mode takes any body under any content type: JSON must be checked before it becomes part of a document.
///
/// Proves: IN-7
#[test]
fn data_that_only_looks_like_json_is_sent_as_base64() {
    for data in [
        &b"{\"a\":\"\xff\"}"[..],
        b"{",
        b"1 2",
        b"\"\x01\"",
        b"nul",
        b"\xef\xbb\xbf{}",
    ] {
        let event = Event::builder("1", "/s", "t")
            .data("application/json", Bytes::from_static(data))
            .finish()
            .unwrap();
        let document = event.to_json();
        let json: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert!(json.get("data_base64").is_some(), "{}", data.escape_ascii());
        assert_eq!(Event::from_json(&document.into()).unwrap(), event);
    }
}

/// Nesting is bounded by the body's size alone: reading and writing do not recurse.
#[test]
fn deep_data_is_carried() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let document = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{deep}}}"#);
    let event = Event::from_json(&document.into()).unwrap();
    assert_eq!(event.data(), deep.as_bytes());
    assert_eq!(Event::from_json(&event.to_json().into()).unwrap(), event);
}
