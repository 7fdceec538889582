//! CloudEvents over HTTP (HTTP protocol binding 1.0.2): binary, structured and batch mode (CONTRACT IN-1, IN-5, IN-6).

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use serde_json::value::RawValue;

use crate::{Event, ValueKind, attributes, json, message, message::TRACE, percent};

/// Events of one batch at most: what fits into a body of 1 MiB at the smallest size that is an event.
const BATCH_MAX: usize = 16 * 1024;

const STRUCTURED_TYPE: &str = "application/cloudevents+json; charset=utf-8";

const STRUCTURED_PREFIX: &[u8] = b"application/cloudevents";

/// A message that was read.
#[derive(Debug)]
pub enum Decoded {
    One(Event),
    Batch(Vec<Event>),
}

/// Why a message is no event; Display names the fault for the sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A CloudEvents format we do not have (HTTP 415).
    #[error("event format {0} is not supported: send application/cloudevents+json, or binary mode with ce- headers")]
    UnsupportedFormat(String),
    /// HTTP 400.
    #[error("{0}")]
    Invalid(String),
}

/// Reads a message of any mode.
pub fn decode(headers: &HeaderMap, body: Bytes) -> Result<Decoded, DecodeError> {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return binary(headers, None, body).map(Decoded::One);
    };
    if headers.get_all(CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(DecodeError::Invalid("header content-type is there twice".into()));
    }
    let content_type = std::str::from_utf8(content_type.as_bytes())
        .map_err(|_| DecodeError::Invalid("header content-type is not UTF-8".into()))?;
    if !is_structured(content_type.as_bytes()) {
        return binary(headers, Some(content_type), body).map(Decoded::One);
    }
    let media = json::media_type(content_type).to_ascii_lowercase();
    match &*media {
        "application/cloudevents" | "application/cloudevents+json" => {
            check_charset(content_type)?;
            json::read(&body).map(Decoded::One)
        }
        "application/cloudevents-batch" | "application/cloudevents-batch+json" => {
            check_charset(content_type)?;
            batch(&body).map(Decoded::Batch)
        }
        _ => Err(DecodeError::UnsupportedFormat(media)),
    }
}

/// Says whether a message means to be a CloudEvent at all; it may still be an invalid one.
pub fn is_event(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| is_structured(value.as_bytes()))
        || ["ce-specversion", "ce-id", "ce-type"]
            .iter()
            .any(|name| headers.contains_key(*name))
}

fn is_structured(content_type: &[u8]) -> bool {
    content_type
        .get(..STRUCTURED_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED_PREFIX))
}

/// JSON is UTF-8 (RFC 8259, section 8.1); a sender that says otherwise means other bytes.
fn check_charset(content_type: &str) -> Result<(), DecodeError> {
    for parameter in content_type.split(';').skip(1) {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        let is_utf8 = ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|known| value.eq_ignore_ascii_case(known));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(DecodeError::Invalid(format!(
                "charset {value} is not supported: JSON events are UTF-8"
            )));
        }
    }
    Ok(())
}

fn binary(headers: &HeaderMap, content_type: Option<&str>, body: Bytes) -> Result<Event, DecodeError> {
    let mut entries: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(headers.len());
    let mut last = "";
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("ce-") else {
            continue;
        };
        // Values of one header come one after the other.
        if name == last {
            return Err(DecodeError::Invalid(format!("header ce-{name} is there twice")));
        }
        last = name;
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| DecodeError::Invalid(format!("header ce-{name} is not UTF-8: percent-encode it")))?;
        let value = percent::decode(value);
        if name == "datacontenttype" {
            // Senders that write it beside an equal content type say one thing twice.
            message::ensure_same(content_type.unwrap_or_default(), &value, "ce-datacontenttype")?;
            continue;
        }
        entries.push((name, value));
    }
    if !entries.iter().any(|(name, _)| *name == "specversion") {
        let what = if entries.is_empty() {
            "this is no CloudEvent"
        } else {
            "header ce-specversion is missing"
        };
        return Err(DecodeError::Invalid(format!(
            "{what}: send the headers ce-specversion, ce-id, ce-source and ce-type, or content-type application/cloudevents+json"
        )));
    }
    if let Some(content_type) = content_type {
        entries.push(("datacontenttype", Cow::Borrowed(content_type)));
    }
    let all = entries.iter().map(|(name, value)| (*name, &**value, ValueKind::String));
    let attributes =
        attributes::write_brought(all, entries.len(), false).map_err(|e| DecodeError::Invalid(e.to_string()))?;
    Ok(Event { attributes, data: body })
}

fn batch(body: &Bytes) -> Result<Vec<Event>, DecodeError> {
    let documents: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|e| DecodeError::Invalid(format!("not a JSON array of CloudEvents: {e}")))?;
    if documents.len() > BATCH_MAX {
        return Err(DecodeError::Invalid(format!(
            "{} events in one batch are more than {BATCH_MAX}",
            documents.len()
        )));
    }
    let read = |(index, document): (usize, &&RawValue)| {
        json::read(&body.slice_ref(document.get().as_bytes()))
            .map_err(|error| DecodeError::Invalid(format!("event {index} of the batch: {error}")))
    };
    documents.iter().enumerate().map(read).collect()
}

/// A trace that came in headers goes on as the attributes of CloudEvents' distributed tracing extension (CONTRACT DL-9).
pub fn traced(event: Event, headers: &HeaderMap) -> Event {
    let [parent, state] = TRACE.map(|name| headers.get(name).and_then(|value| value.to_str().ok()));
    message::traced(event, parent, state)
}

/// Writes `ce-*` and `content-type` headers and returns the body, which is the data itself.
///
/// An event whose data calls itself a CloudEvent is written in structured mode: in binary mode it would arrive as another event.
pub fn encode_binary(event: &Event, headers: &mut HeaderMap) -> Bytes {
    if event.holds_an_event() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED_TYPE));
        return message::document(event);
    }
    for (name, value) in event.attributes() {
        let sent = match percent::encode(value.text) {
            None => HeaderValue::from_maybe_shared(attributes::shared(&event.attributes, value.text)),
            Some(bytes) if name != "datacontenttype" => HeaderValue::from_maybe_shared(Bytes::from(bytes)),
            // A content type is a header of its own, with its own rules.
            Some(_) => HeaderValue::from_bytes(value.text.as_bytes()).or_else(|_| {
                HeaderValue::from_maybe_shared(Bytes::from(percent::encode(value.text).unwrap_or_default()))
            }),
        };
        // Attribute names are header names and encoded values are header values, by their rules.
        if let (Some(name), Ok(sent)) = (header_name(name), sent) {
            headers.insert(name, sent);
        }
    }
    if !headers.contains_key(CONTENT_TYPE) && attributes::is_implied(&event.attributes) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(attributes::IMPLIED_TYPE));
    }
    event.data.clone()
}

fn header_name(attribute: &str) -> Option<HeaderName> {
    Some(match attribute {
        "specversion" => HeaderName::from_static("ce-specversion"),
        "id" => HeaderName::from_static("ce-id"),
        "source" => HeaderName::from_static("ce-source"),
        "type" => HeaderName::from_static("ce-type"),
        "time" => HeaderName::from_static("ce-time"),
        "subject" => HeaderName::from_static("ce-subject"),
        "partitionkey" => HeaderName::from_static("ce-partitionkey"),
        "datacontenttype" => CONTENT_TYPE,
        other => {
            let mut name = [0_u8; 3 + 255];
            name[..3].copy_from_slice(b"ce-");
            name.get_mut(3..3 + other.len())?.copy_from_slice(other.as_bytes());
            return HeaderName::from_bytes(&name[..3 + other.len()]).ok();
        }
    })
}

/// Sets `content-type` and returns the JSON document.
pub fn encode_structured(event: &Event, headers: &mut HeaderMap) -> Bytes {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED_TYPE));
    event.to_json().into()
}
