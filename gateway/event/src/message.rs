//! Shared parts of the brokers' message forms: the types header of binary mode, and structured mode.

use std::fmt::Write;

use bytes::Bytes;

use crate::{Event, ValueKind, attributes, http_form::DecodeError, json, rules};

/// Headers of W3C Trace Context; the attributes of CloudEvents' distributed tracing extension have the same names.
pub(crate) const TRACE: [&str; 2] = ["traceparent", "tracestate"];
/// The media type of structured mode.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json";

/// In the types header: the content type was not there, JSON implied it.
const IMPLIED: &str = "d:datacontenttype";

/// A trace's header is longer than this by mistake: W3C Trace Context asks for 512 characters of `tracestate` to be passed on.
const TRACE_MAX_BYTES: usize = 4 * 1024;

/// The content type of a message where no attribute gives it: structured mode, or JSON that came without one.
pub(crate) fn content_type(event: &Event, structured: bool) -> Option<&'static str> {
    if structured {
        return Some(STRUCTURED);
    }
    let implied = event.text(attributes::CONTENT_TYPE).is_none() && attributes::is_implied(&event.attributes);
    implied.then_some(attributes::IMPLIED_TYPE)
}

/// The value of the types header; `None` where every attribute is a string.
pub(crate) fn types(event: &Event) -> Option<String> {
    let mut types = String::new();
    if attributes::is_implied(&event.attributes) {
        types.push_str(IMPLIED);
    }
    for (name, value) in event.attributes() {
        let kind = match value.kind {
            ValueKind::String => continue,
            ValueKind::Integer => 'i',
            ValueKind::Boolean => 'b',
        };
        let comma = if types.is_empty() { "" } else { "," };
        // Writing into a string cannot fail.
        let _ = write!(types, "{comma}{kind}:{name}");
    }
    (!types.is_empty()).then_some(types)
}

/// An event from its attributes as text, the types header and its data.
pub(crate) fn assemble(entries: &[(&str, impl AsRef<str>)], types: &str, data: Bytes) -> Result<Event, DecodeError> {
    let is_implied = types.split(',').any(|entry| entry == IMPLIED);
    let is_implied_type =
        |name: &str, value: &str| is_implied && name == attributes::CONTENT_TYPE && value == attributes::IMPLIED_TYPE;
    let is_implied = entries
        .iter()
        .any(|(name, value)| is_implied_type(name, value.as_ref()));
    let all = entries.iter().filter_map(|(name, value)| {
        let value = value.as_ref();
        (!is_implied_type(name, value)).then(|| (*name, value, kind(types, name, value)))
    });
    let attributes =
        attributes::write(all.clone(), all.count(), is_implied).map_err(|error| invalid(error.to_string()))?;
    Ok(Event { attributes, data })
}

/// Refuses a stranger's event that leaves no room for the gateway's own attributes.
pub(crate) fn with_room(event: Event) -> Result<Event, DecodeError> {
    match event.ensure_room() {
        Ok(()) => Ok(event),
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// A content type and a `datacontenttype` beside it are one, where they are equal; `header` names the second one.
pub(crate) fn ensure_same(content_type: &str, attribute: &str, header: &str) -> Result<(), DecodeError> {
    if content_type.trim().eq_ignore_ascii_case(attribute.trim()) {
        return Ok(());
    }
    Err(invalid(format!(
        "header {header}: it says {attribute:?} and content-type {content_type:?}; in binary mode content-type carries it"
    )))
}

/// A key that is no attribute's value (a number in bytes, the key of a schema registry) is no partition key.
pub(crate) fn partition_key(key: &[u8]) -> Option<&str> {
    let key = std::str::from_utf8(key).ok().filter(|key| !key.is_empty())?;
    rules::check("partitionkey", key, ValueKind::String)
        .is_ok()
        .then_some(key)
}

/// A trace that came in headers goes on as the attributes of CloudEvents' distributed tracing extension (CONTRACT DL-9), where the
/// event has none of its own. What is no attribute's value is no trace, either.
pub(crate) fn traced(event: Event, parent: Option<&str>, state: Option<&str>) -> Event {
    let is_usable = |text: &&str| !text.is_empty() && text.len() <= TRACE_MAX_BYTES;
    let Some(parent) = parent.filter(is_usable).filter(|_| event.text(TRACE[0]).is_none()) else {
        return event;
    };
    let mut edit = event.edit().set(TRACE[0], parent);
    if let Some(state) = state.filter(is_usable) {
        edit = edit.set(TRACE[1], state);
    }
    edit.finish().unwrap_or(event)
}

/// The event in structured mode, its data byte for byte.
pub(crate) fn document(event: &Event) -> Bytes {
    let mut out = Vec::with_capacity(event.size() + 256);
    json::write_exact(event, &mut out);
    out.into()
}

pub(crate) fn is_structured(content_type: &str) -> bool {
    const START: &str = "application/cloudevents";
    // A header's value is read without the spaces around it.
    content_type
        .trim_start()
        .get(..START.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// Reads a message whose value is a whole event; a key becomes `partitionkey` where the event has none.
pub(crate) fn structured(content_type: &str, key: Option<&str>, document: &Bytes) -> Result<Event, DecodeError> {
    let media = json::media_type(content_type).to_ascii_lowercase();
    if !matches!(&*media, "application/cloudevents" | "application/cloudevents+json") {
        return Err(DecodeError::UnsupportedFormat(media));
    }
    let event = json::parse(document)?;
    match key {
        Some(key) if event.text("partitionkey").is_none() => event
            .edit()
            .set("partitionkey", key)
            .finish()
            .map_err(|error| invalid(error.to_string())),
        _ => Ok(event),
    }
}

/// The type an attribute had, if the writer said so and the value is one.
fn kind(types: &str, name: &str, value: &str) -> ValueKind {
    let named = |code: &str| {
        types
            .split(',')
            .any(|entry| entry.split_once(':') == Some((code, name)))
    };
    if types.is_empty() {
        ValueKind::String
    } else if named("i") && value.parse::<i32>().is_ok() {
        ValueKind::Integer
    } else if named("b") && (value == "true" || value == "false") {
        ValueKind::Boolean
    } else {
        ValueKind::String
    }
}

pub(crate) fn invalid(what: impl Into<String>) -> DecodeError {
    DecodeError::Invalid(what.into())
}
