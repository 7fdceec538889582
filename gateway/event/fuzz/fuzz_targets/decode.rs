//! Any bytes as an HTTP message or a stored event: nothing panics, and what is accepted survives every codec.
//!
//! The first byte chooses the form. In binary mode the input is lines `name: value`, an empty line, the body.

#![no_main]

use bytes::{Bytes, BytesMut};
use event::{
    Event,
    http_form::{self, Decoded},
};
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((form, rest)) = input.split_first() else {
        return;
    };
    match form % 4 {
        0 => message(typed("application/cloudevents+json"), rest),
        1 => message(typed("application/cloudevents-batch+json"), rest),
        2 => {
            let (headers, body) = head(rest);
            message(headers, body);
        }
        _ => {
            if let Ok(event) = Event::decode(Bytes::copy_from_slice(rest)) {
                assert!(event.attributes().count() >= 4);
                let _ = event.to_json();
            }
        }
    }
});

fn typed(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
}

fn head(input: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    let mut rest = input;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            break;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}

fn message(headers: HeaderMap, body: &[u8]) {
    let events = match http_form::decode(&headers, Bytes::copy_from_slice(body)) {
        Ok(Decoded::One(event)) => vec![event],
        Ok(Decoded::Batch(events)) => events,
        Err(_) => return,
    };
    for event in events {
        let mut stored = BytesMut::new();
        event.encode(&mut stored);
        assert_eq!(Event::decode(stored.freeze()).expect("what was stored is read"), event);

        let document = String::from_utf8(event.to_json()).expect("JSON is UTF-8");
        let read = Event::from_json(&document.into()).expect("what was written is read");
        assert_eq!(texts(&read), texts(&event));

        let mut headers = HeaderMap::new();
        let body = http_form::encode_binary(&event, &mut headers);
        let Ok(Decoded::One(read)) = http_form::decode(&headers, body) else {
            panic!("what was sent is not taken: {event:?} {headers:?}");
        };
        assert_eq!(texts(&read), texts(&event));
        assert_eq!(read.data(), event.data());
    }
}

fn texts(event: &Event) -> Vec<(&str, &str)> {
    let mut texts: Vec<_> = event.attributes().map(|(name, value)| (name, value.text)).collect();
    texts.sort_unstable();
    texts
}
