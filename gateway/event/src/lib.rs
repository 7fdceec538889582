//! The CloudEvent value and its forms: HTTP binary, structured, batch; JSON; the stored form.
//!
//! An [`Event`] is two shared slices: a checked table of attributes and the data as received. Cloning it copies nothing, and
//! its data is never parsed, re-serialised or otherwise touched on the way (CONTRACT IN-7). Nothing here waits or does I/O.

mod attributes;
pub mod http_form;
#[cfg(feature = "interop")]
mod interop;
mod json;
pub mod kafka_form;
mod message;
pub mod nats_form;
mod percent;
pub mod pubsub_form;
mod rules;

use std::fmt;

use bytes::{BufMut, Bytes};

pub use attributes::{BROUGHT_MAX, BROUGHT_MAX_BYTES};
pub use rules::storable;

/// Which version of the specification an event says it follows: the one received is the one sent on (CONTRACT IN-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecVersion {
    V03,
    V10,
}

impl SpecVersion {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "0.3" => Some(Self::V03),
            "1.0" => Some(Self::V10),
            _ => None,
        }
    }
}

/// How a value was typed; everything compares by its canonical text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    String,
    Boolean,
    Integer,
}

impl ValueKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::String, Self::Boolean, Self::Integer]
            .get(usize::from(byte))
            .copied()
    }

    fn to_byte(self) -> u8 {
        self as u8
    }
}

/// An attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// Canonical text: `true`, `-5`, or the string itself.
    pub text: &'a str,
    /// The type of the attribute.
    pub kind: ValueKind,
}

/// An attribute that CloudEvents does not allow; Display names it and says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAttribute {
    name: String,
    why: String,
}

impl InvalidAttribute {
    pub(crate) fn new(name: &str, why: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            why: why.into(),
        }
    }
}

impl fmt::Display for InvalidAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            f.write_str(&self.why)
        } else {
            write!(f, "attribute {}: {}", self.name, self.why)
        }
    }
}

impl std::error::Error for InvalidAttribute {}

/// Bytes that are no stored event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed record: {0}")]
pub struct Malformed(&'static str);

/// A valid CloudEvent. Cheap to clone: two reference-counted slices.
///
/// Two are equal when they say the same: attributes have no order (CloudEvents 1.0, "Context Attributes").
#[derive(Clone, Eq)]
pub struct Event {
    attributes: Bytes,
    data: Bytes,
}

impl Event {
    /// A 1.0 event; [`Edit::finish`] checks it.
    pub fn builder(id: &str, source: &str, kind: &str) -> Edit {
        let edit = Edit {
            attributes: attributes::Table::default(),
            data: Bytes::new(),
        };
        edit.set("specversion", "1.0")
            .set("id", id)
            .set("source", source)
            .set("type", kind)
    }

    /// Returns the attribute `id`.
    pub fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    /// Returns the attribute `source`.
    pub fn source(&self) -> &str {
        self.text("source").unwrap_or_default()
    }

    /// The `type` attribute.
    pub fn kind(&self) -> &str {
        self.text("type").unwrap_or_default()
    }

    /// Returns the version in which the event came and leaves.
    pub fn spec_version(&self) -> SpecVersion {
        self.text("specversion")
            .and_then(SpecVersion::parse)
            .unwrap_or(SpecVersion::V10)
    }

    /// Returns an attribute by its name.
    pub fn attribute(&self, name: &str) -> Option<Value<'_>> {
        attributes::find(&self.attributes, name)
    }

    /// The canonical text of an attribute (context attribute or extension).
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attribute(name).map(|value| value.text)
    }

    /// The content type of the data: `datacontenttype`, or the one that JSON implies for an event that came in it without one.
    pub fn content_type(&self) -> Option<&str> {
        let implied = || attributes::is_implied(&self.attributes).then_some(attributes::IMPLIED_TYPE);
        self.text(attributes::CONTENT_TYPE).or_else(implied)
    }

    /// Whether the data calls itself a CloudEvent (`datacontenttype: application/cloudevents+json`): in binary mode a receiver would
    /// take the data for the whole event, so such an event is written in structured mode everywhere.
    pub fn holds_an_event(&self) -> bool {
        self.text(attributes::CONTENT_TYPE).is_some_and(message::is_structured)
    }

    /// Checks that the event leaves room for the gateway's own attributes (CONTRACT IN-8). The forms of events from outside
    /// have checked it; code that adds attributes to such an event checks it again.
    pub fn ensure_room(&self) -> Result<(), InvalidAttribute> {
        attributes::ensure_room(self.attributes().map(|(name, value)| (name, value.text)))
    }

    /// Several attributes in one pass: what `names[i]` has comes to `found[i]`, which is left alone when there is none.
    pub fn select<'a>(&'a self, names: &[impl AsRef<str>], found: &mut [Option<Value<'a>>]) {
        attributes::select(&self.attributes, names, found);
    }

    /// All context attributes and extensions, `specversion`, `id`, `source`, `type` first.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, Value<'_>)> + Clone {
        attributes::Entries::of(&self.attributes)
    }

    /// The data as received; empty when there is none.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Bytes of attributes and data together: what limits are compared with.
    pub fn size(&self) -> usize {
        self.attributes.len() + self.data.len()
    }

    /// A changed copy that shares the data.
    pub fn edit(&self) -> Edit {
        Edit {
            attributes: attributes::Table::of(&self.attributes),
            data: self.data.clone(),
        }
    }

    /// The stored form: length of the attribute table (u32, little endian), the table, the data. A table is at most
    /// `TABLE_MAX_BYTES`, so its length fits.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(u32::try_from(self.attributes.len()).unwrap_or(u32::MAX));
        out.put_slice(&self.attributes);
        out.put_slice(&self.data);
    }

    /// Reads the stored form back; the event shares the buffer it is given.
    #[expect(clippy::needless_pass_by_value, reason = "the buffer becomes the event's")]
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let head = bytes.first_chunk::<4>().ok_or(Malformed("shorter than its head"))?;
        let end = 4 + u32::from_le_bytes(*head) as usize;
        if end > bytes.len() {
            return Err(Malformed("attribute table is cut short"));
        }
        attributes::check(&bytes[4..end])?;
        Ok(Self {
            attributes: bytes.slice(4..end),
            data: bytes.slice(end..),
        })
    }

    /// The event as a JSON document (`application/cloudevents+json`).
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size() + 256);
        json::write(self, &mut out);
        out
    }

    /// The same on one line, for people and for streams of one document a line. Only JSON data can have line breaks of its own,
    /// between its tokens; here they are spaces. What is delivered keeps them.
    pub fn to_json_line(&self) -> Vec<u8> {
        let mut line = self.to_json();
        for byte in &mut line {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        line
    }

    /// Reads a JSON document; JSON data stays the bytes it is in the document.
    pub fn from_json(document: &Bytes) -> Result<Self, http_form::DecodeError> {
        json::read(document)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        let same = |(name, value)| other.attribute(name) == Some(value);
        self.data == other.data
            && (self.attributes == other.attributes
                || self.attributes().count() == other.attributes().count() && self.attributes().all(same))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in self.attributes() {
            map.entry(&name, &value.text);
        }
        map.entry(&"data", &self.data).finish()
    }
}

/// Collects changes to an event; [`Edit::finish`] checks names and values.
#[derive(Clone, Debug)]
pub struct Edit {
    attributes: attributes::Table,
    data: Bytes,
}

impl Edit {
    /// Sets a string attribute.
    #[must_use]
    pub fn set(self, name: &str, value: &str) -> Self {
        self.set_value(
            name,
            Value {
                text: value,
                kind: ValueKind::String,
            },
        )
    }

    /// Sets an attribute with its type.
    #[must_use]
    pub fn set_value(mut self, name: &str, value: Value<'_>) -> Self {
        self.attributes.set(name, value.text, value.kind);
        self
    }

    /// Removes an attribute, if it is there.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        self.attributes.remove(name);
        self
    }

    /// Sets the data and says what it is (`datacontenttype`).
    #[must_use]
    pub fn data(mut self, content_type: &str, data: Bytes) -> Self {
        self.data = data;
        self.set("datacontenttype", content_type)
    }

    /// Checks the attributes and makes the event.
    ///
    /// # Errors
    /// The first attribute that the specification does not permit.
    pub fn finish(self) -> Result<Event, InvalidAttribute> {
        Ok(Event {
            attributes: self.attributes.finish()?,
            data: self.data,
        })
    }
}
