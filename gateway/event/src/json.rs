//! The JSON event format (CloudEvents JSON format 1.0.2, and 0.3): read and written without touching the data.
//!
//! JSON data is a slice of the document it came in, and leaves as those bytes (CONTRACT IN-7). Data of another content type is
//! the content of its JSON string, or what its base64 decodes to.

use std::{borrow::Cow, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    Event, SpecVersion, ValueKind, attributes, attributes::CONTENT_TYPE, http_form::DecodeError, message::with_room,
};

/// The attribute of 0.3 that says that `data` is base64. Stored data is decoded, so the attribute belongs to the document, not to the event.
const CONTENT_ENCODING: &str = "datacontentencoding";

/// A JSON object's members in order, values untouched.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object that is a CloudEvent")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(12);
                while let Some(BorrowedText(name)) = map.next_key()? {
                    // JSON leaves repeated names open, serde_json keeps the last: an event must not depend on that.
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(serde::de::Error::custom(format!("attribute {name} is there twice")));
                    }
                    if members.len() > attributes::COUNT_MAX {
                        return Err(serde::de::Error::custom(format!(
                            "more attributes than the {} that an event may have",
                            attributes::BROUGHT_MAX
                        )));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// `Cow<str>` by itself always copies.
#[derive(serde::Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

/// A document from outside.
pub(crate) fn read(document: &Bytes) -> Result<Event, DecodeError> {
    parse(document).and_then(with_room)
}

/// As [`read`], of what the gateway may have written itself: with its own attributes it has more.
pub(crate) fn parse(document: &Bytes) -> Result<Event, DecodeError> {
    let Members(members) =
        serde_json::from_slice(document).map_err(|e| DecodeError::Invalid(format!("not a CloudEvent in JSON: {e}")))?;
    let version = members.iter().find(|(name, _)| name == "specversion");
    let version = version
        .and_then(|(_, raw)| text(raw))
        .and_then(|text| SpecVersion::parse(&text));
    let mut entries: Vec<(Cow<'_, str>, Cow<'_, str>, ValueKind)> = Vec::with_capacity(members.len());
    let (mut data, mut data_base64) = (None, None);
    for (name, raw) in members {
        match &*name {
            "data" => data = Some(raw),
            "data_base64" if version != Some(SpecVersion::V03) => data_base64 = Some(raw),
            _ => {
                if let Some((value, kind)) = value(&name, raw)? {
                    entries.push((name, value, kind));
                }
            }
        }
    }
    let attribute = |expected: &str| {
        entries
            .iter()
            .find(|(name, ..)| name == expected)
            .map(|(_, value, _)| &**value)
    };
    let content_type = attribute(CONTENT_TYPE);
    let encoding = attribute(CONTENT_ENCODING).filter(|_| version == Some(SpecVersion::V03));
    let is_implied = content_type.is_none() && data.is_some() && encoding.is_none();
    let data = match (data, data_base64, encoding) {
        (Some(_), Some(_), _) => return Err(DecodeError::Invalid("both data and data_base64 are there".into())),
        (None, None, _) => Bytes::new(),
        (None, Some(raw), _) => decoded("data_base64", raw)?,
        (Some(raw), None, Some(encoding)) if encoding.eq_ignore_ascii_case("base64") => decoded("data", raw)?,
        (Some(_), None, Some(encoding)) => {
            return Err(DecodeError::Invalid(format!(
                "datacontentencoding {encoding:?} is not \"base64\""
            )));
        }
        (Some(raw), None, None) => match text(raw).filter(|_| !is_json(content_type)) {
            Some(text) => Bytes::from(text.into_owned()),
            None => document.slice_ref(raw.get().as_bytes()),
        },
    };
    if encoding.is_some() {
        entries.retain(|(name, ..)| name != CONTENT_ENCODING);
    }
    let entries = entries.iter().map(|(name, value, kind)| (&**name, &**value, *kind));
    let attributes = attributes::write(entries.clone(), entries.len(), is_implied)
        .map_err(|e| DecodeError::Invalid(e.to_string()))?;
    Ok(Event { attributes, data })
}

/// An attribute's value; null means that it is not there.
fn value<'a>(name: &str, raw: &'a RawValue) -> Result<Option<(Cow<'a, str>, ValueKind)>, DecodeError> {
    let json = raw.get();
    let invalid = |what: &str| DecodeError::Invalid(format!("attribute {name}: {what} is no attribute value"));
    match json.as_bytes().first() {
        Some(b'"') => match text(raw) {
            Some(text) => Ok(Some((text, ValueKind::String))),
            None => Err(DecodeError::Invalid(format!(
                "attribute {name}: string has an unpaired surrogate"
            ))),
        },
        Some(b't' | b'f') => Ok(Some((Cow::Borrowed(json), ValueKind::Boolean))),
        Some(b'n') => Ok(None),
        Some(b'[') => Err(invalid("an array")),
        Some(b'{') => Err(invalid("an object")),
        _ => match json.parse::<i32>() {
            // Canonical: `-0` is `0`.
            Ok(number) => Ok(Some((Cow::Owned(number.to_string()), ValueKind::Integer))),
            Err(_) => Err(invalid(&format!("{json} (only integers of 32 bits are)"))),
        },
    }
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<BorrowedText<'_>>(raw.get())
        .ok()
        .map(|text| text.0)
}

fn decoded(name: &str, raw: &RawValue) -> Result<Bytes, DecodeError> {
    let bytes = text(raw).and_then(|text| BASE64_STANDARD.decode(&*text).ok());
    bytes
        .map(Bytes::from)
        .ok_or_else(|| DecodeError::Invalid(format!("{name} is no base64 string")))
}

/// `*/json` and `*+json`; without a content type JSON is meant (JSON format, section 3.1).
pub(crate) fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return true };
    let media = media_type(content_type).to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}

/// Data of these travels as a JSON string, which people can read; everything else as base64.
fn is_text(content_type: Option<&str>) -> bool {
    let media = media_type(content_type.unwrap_or_default()).to_ascii_lowercase();
    media.starts_with("text/") || media.ends_with("/xml") || media.ends_with("+xml")
}

/// Without parameters.
pub(crate) fn media_type(content_type: &str) -> &str {
    content_type
        .split_once(';')
        .map_or(content_type, |(media, _)| media)
        .trim()
}

pub(crate) fn write(event: &Event, out: &mut Vec<u8>) {
    write_with(event, is_json_text(&event.data), out);
}

/// As [`write`], so that [`parse`] gives the data back byte for byte: JSON with spaces around it would lose them.
pub(crate) fn write_exact(event: &Event, out: &mut Vec<u8>) {
    let is_trimmed = event.data.trim_ascii().len() == event.data.len();
    write_with(event, is_trimmed && is_json_text(&event.data), out);
}

fn write_with(event: &Event, is_json_text: bool, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, value)) in event.attributes().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(name, out);
        out.push(b':');
        match value.kind {
            ValueKind::String => string(value.text, out),
            ValueKind::Boolean | ValueKind::Integer => out.extend_from_slice(value.text.as_bytes()),
        }
    }
    if !event.data.is_empty() {
        data(event, is_json_text, out);
    }
    out.push(b'}');
}

fn data(event: &Event, is_json_text: bool, out: &mut Vec<u8>) {
    let content_type = event.text(CONTENT_TYPE);
    let version = event.spec_version();
    if is_json_text && is_json(content_type) {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(&event.data);
        return;
    }
    // Binary 0.3 may say itself that its body is base64: then the body is what belongs into `data`.
    let as_text = (is_text(content_type) && !is_json(content_type)) || event.text(CONTENT_ENCODING).is_some();
    if let Some(text) = std::str::from_utf8(&event.data).ok().filter(|_| as_text) {
        out.extend_from_slice(b",\"data\":");
        string(text, out);
        return;
    }
    match version {
        SpecVersion::V10 => out.extend_from_slice(b",\"data_base64\":"),
        SpecVersion::V03 => out.extend_from_slice(b",\"datacontentencoding\":\"base64\",\"data\":"),
    }
    string(&BASE64_STANDARD.encode(&event.data), out);
}

/// Whether it may stand in a document as it is. What is skipped is not checked for UTF-8, so that is asked first.
fn is_json_text(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Writing a string into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}
