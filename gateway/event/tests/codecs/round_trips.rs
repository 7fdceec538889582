//! Every form read back is the event that was written.

use bytes::{Bytes, BytesMut};
use event::{
    Event, ValueKind,
    http_form::{self, Decoded},
};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use proptest::{collection::vec, prelude::*};

use crate::any_event;

fn read(headers: &HeaderMap, body: Bytes) -> Event {
    match http_form::decode(headers, body).unwrap() {
        Decoded::One(event) => event,
        Decoded::Batch(_) => panic!("one event became a batch"),
    }
}

/// Attributes by name and text, sorted: what a form must keep whatever order and kind it has.
fn attributes(event: &Event) -> Vec<(String, String)> {
    let mut all: Vec<_> = event
        .attributes()
        .map(|(name, value)| (name.to_owned(), value.text.to_owned()))
        .collect();
    all.sort();
    all
}

fn kinds(event: &Event) -> Vec<(String, ValueKind)> {
    let mut all: Vec<_> = event
        .attributes()
        .map(|(name, value)| (name.to_owned(), value.kind))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// In a JSON document white space around a value belongs to the document, not to the value.
fn significant(event: &Event) -> &[u8] {
    let white: &[char] = &[' ', '\t', '\n', '\r'];
    match std::str::from_utf8(event.data()) {
        Ok(text)
            if event
                .text("datacontenttype")
                .is_none_or(|kind| kind.to_lowercase().contains("json")) =>
        {
            text.trim_matches(white).as_bytes()
        }
        _ => event.data(),
    }
}

proptest! {
    /// Proves: IN-1, IN-6, IN-7
    #[test]
    fn binary_mode(event in any_event::event()) {
        let mut headers = HeaderMap::new();
        let body = http_form::encode_binary(&event, &mut headers);
        for (name, value) in &headers {
            prop_assert!(value.as_bytes().iter().all(|byte| (0x20..=0x7E).contains(byte)), "{name}: {value:?}");
        }
        let back = read(&headers, body);
        prop_assert_eq!(attributes(&back), attributes(&event));
        prop_assert_eq!(back.data(), event.data());
    }

    /// Proves: IN-1, IN-7
    #[test]
    fn structured_mode(event in any_event::event()) {
        let mut headers = HeaderMap::new();
        let body = http_form::encode_structured(&event, &mut headers);
        let back = read(&headers, body);
        prop_assert_eq!(attributes(&back), attributes(&event));
        prop_assert_eq!(kinds(&back), kinds(&event));
        prop_assert_eq!(significant(&back), significant(&event));
    }

    /// Proves: IN-1, IN-7
    #[test]
    fn batch_mode(events in vec(any_event::event(), 0..5)) {
        let documents: Vec<String> = events.iter().map(|event| String::from_utf8(event.to_json()).unwrap()).collect();
        let body = Bytes::from(format!("[{}]", documents.join(",")));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents-batch+json"));
        let Decoded::Batch(back) = http_form::decode(&headers, body).unwrap() else {
            panic!("a batch became one event")
        };
        prop_assert_eq!(back.len(), events.len());
        for (back, event) in back.iter().zip(&events) {
            prop_assert_eq!(attributes(back), attributes(event));
            prop_assert_eq!(significant(back), significant(event));
        }
    }

    /// From structured to binary and back: the modes a gateway turns into each other.
    ///
    /// Proves: IN-6, IN-7
    #[test]
    fn one_mode_into_the_other(event in any_event::event()) {
        let document = event.to_json();
        let structured = Event::from_json(&document.clone().into()).unwrap();
        let mut headers = HeaderMap::new();
        let body = http_form::encode_binary(&structured, &mut headers);
        let back = read(&headers, body);
        let mut expected = attributes(&event);
        let document: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&document).unwrap();
        let is_json = document.contains_key("data") && !document.contains_key("datacontentencoding");
        if is_json && !document.contains_key("datacontenttype") {
            // JSON that does not say so is said to be JSON where nothing else would tell.
            expected.push(("datacontenttype".to_owned(), "application/json".to_owned()));
            expected.sort();
        }
        prop_assert_eq!(attributes(&back), expected);
        prop_assert_eq!(significant(&back), significant(&event));
    }

    /// Proves: IN-7
    #[test]
    fn the_stored_form(event in any_event::event()) {
        let mut stored = BytesMut::new();
        event.encode(&mut stored);
        prop_assert_eq!(stored.len(), 4 + event.size());
        prop_assert_eq!(Event::decode(stored.freeze()).unwrap(), event);
    }

    #[test]
    fn an_edit_that_changes_nothing(event in any_event::event()) {
        prop_assert_eq!(event.edit().finish().unwrap(), event);
    }
}

/// Numbers that a parser would round, keys that a map would drop, white space inside.
///
/// Proves: IN-7
#[test]
fn json_data_leaves_as_the_bytes_that_came() {
    for data in [
        r#"{"a":1.00,"a":2, "big":123456789012345678901234567890, "e":1E+2}"#,
        "[ 1 ,2 ]",
        "null",
        "0.10",
        r#""\u0041\/""#,
    ] {
        let document = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#);
        let event = Event::from_json(&document.into()).unwrap();
        assert_eq!(event.data(), data);
        let again = String::from_utf8(event.to_json()).unwrap();
        assert!(again.contains(&format!(r#""data":{data}"#)), "{again}");
    }
}
