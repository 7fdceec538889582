//! What the forms of brokers' messages share: types that go along with binary mode, and structured mode.

use std::fmt::Write;

use bytes::Bytes;

use crate::{Event, ValueKind, attributes, http_form::DecodeError, json};

/// What the types header says of an event; `None` where every attribute is a string.
pub(crate) fn types(event: &Event) -> Option<String> {
    let mut types = String::new();
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
    let all = entries.iter().map(|(name, value)| {
        let value = value.as_ref();
        (*name, value, kind(types, name, value))
    });
    let attributes = attributes::write(all, entries.len()).map_err(|error| invalid(error.to_string()))?;
    Ok(Event { attributes, data })
}

pub(crate) fn is_structured(content_type: &str) -> bool {
    const START: &str = "application/cloudevents";
    content_type
        .get(..START.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// Reads a message whose value is a whole event; a key becomes `partitionkey` where the event has none.
pub(crate) fn structured(content_type: &str, key: Option<&str>, document: &Bytes) -> Result<Event, DecodeError> {
    let media = json::media_type(content_type).to_ascii_lowercase();
    if !matches!(&*media, "application/cloudevents" | "application/cloudevents+json") {
        return Err(DecodeError::UnsupportedFormat(media));
    }
    let event = json::read(document)?;
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
    let named = |letter: &str| {
        types
            .split(',')
            .any(|entry| entry.split_once(':') == Some((letter, name)))
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
