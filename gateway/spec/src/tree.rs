//! A document as a tree that knows where each part of it stands.
//!
//! serde stops at the first fault and forgets positions behind `flatten` and `untagged`. A tree is read once and then
//! checked as often as needed, so that all faults of a document are told at once, each at its line and column. The YAML
//! reader's own budget (depth, nodes, alias expansion) bounds what a hostile file can cost.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// A place in a file. Lines and columns count from 1, columns in characters; `start..end` are bytes of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A value and where it stands.
#[derive(Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Mark,
    pub(crate) value: Value,
}

#[derive(Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    Integer(i128),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order written; a key that was written twice is there twice.
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: Mark,
}

/// Text that is no YAML, and where reading stopped.
pub(crate) struct Syntax {
    pub(crate) at: Mark,
    pub(crate) message: String,
}

/// Values of one document at most: a `kind: List` of 10 000 documents has some 250 000. Each takes about 100 bytes.
const NODES_MAX: usize = 1_000_000;

/// Reads one document that begins at byte `start` and line `line` (from 1) of its file. `None`: nothing but comments.
pub(crate) fn parse(text: &str, start: usize, line: usize) -> Result<Option<Node>, Syntax> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            // Each list and map has an end, too.
            max_events: 2 * NODES_MAX,
        },
    };
    let mut node: Node = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map_or(
            Mark {
                line: 1,
                column: 1,
                ..Mark::default()
            },
            Mark::from,
        );
        let mut at = at.found_in(text);
        at.shift(start, line - 1);
        let message = error.without_snippet().render();
        if message.contains("budget breached") {
            let message = format!(
                "the document is too large, nested too deep or expands too far ({NODES_MAX} values, 64 levels at most): split it"
            );
            return Syntax { at, message };
        }
        // The position is told by the mark, which counts in the file; the reader's own counts in the document.
        let message = message.split(" at line ").next().unwrap_or_default().trim().to_owned();
        Syntax { at, message }
    })?;
    if matches!(node.value, Value::Null) {
        return Ok(None);
    }
    node.shift(start, line - 1);
    Ok(Some(node))
}

impl Mark {
    /// With the byte that line and column mean: the scanner's errors carry none.
    fn found_in(self, text: &str) -> Self {
        let before: usize = text.split_inclusive('\n').take(self.line - 1).map(str::len).sum();
        let line = text[before..].split('\n').next().unwrap_or_default();
        let into = line
            .char_indices()
            .nth(self.column - 1)
            .map_or(line.len(), |(index, _)| index);
        let width = line[into..].chars().next().map_or(0, char::len_utf8);
        Self {
            start: before + into,
            end: before + into + width,
            ..self
        }
    }

    fn shift(&mut self, bytes: usize, lines: usize) {
        self.start += bytes;
        self.end += bytes;
        self.line += lines;
    }
}

impl From<Location> for Mark {
    fn from(location: Location) -> Self {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let start = location.span().byte_offset().map_or(0, number);
        let end = start + location.span().byte_len().map_or(0, number);
        Self {
            line: number(location.line()).max(1),
            column: number(location.column()).max(1),
            start,
            end,
        }
    }
}

impl Node {
    /// A map without entries.
    pub(crate) fn empty() -> Self {
        Self {
            at: Mark::default(),
            value: Value::Map(Vec::new()),
        }
    }

    fn shift(&mut self, bytes: usize, lines: usize) {
        self.at.shift(bytes, lines);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(bytes, lines)),
            Value::Map(entries) => {
                for (key, value) in entries {
                    key.at.shift(bytes, lines);
                    value.shift(bytes, lines);
                }
            }
            Value::Null | Value::Boolean(_) | Value::Integer(_) | Value::Number(_) | Value::Text(_) => {}
        }
    }

    /// The entry of a map, the first of that name; null counts as absent, as an empty `key:` in YAML means nothing.
    pub(crate) fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        let Value::Map(entries) = &self.value else { return None };
        entries
            .iter()
            .find(|(key, _)| key.name == name)
            .filter(|(_, node)| !node.is_null())
            .map(|(key, node)| (key, node))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|(_, node)| node)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        matches!(self.value, Value::Boolean(true))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Where `a.b[0].c` stands: the value when it is a scalar, else the key that leads to it; when there is no such part,
    /// the nearest there is above it.
    pub(crate) fn mark(&self, path: &str) -> Mark {
        let (mut node, mut at) = (self, self.at);
        let steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
        for step in steps {
            let next = match &node.value {
                Value::List(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item, item.at)),
                _ => node
                    .entry(step)
                    .map(|(key, value)| (value, if value.is_scalar() { value.at } else { key.at })),
            };
            let Some(found) = next else { break };
            (node, at) = found;
        }
        at
    }

    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self.value, Value::List(_) | Value::Map(_))
    }

    /// Returns the type of the value, for messages; never its content, which may be secret.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Boolean(_) => "a boolean",
            Value::Integer(_) | Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Builds the tree of an object from an API server. It has no position in a file: every mark is the default one.
    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Boolean(*value),
            Json::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(value), _) => Value::Integer(value),
                (None, value) => Value::Number(value.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(entries) => {
                let entry = |(name, value): (&String, &Json)| {
                    let (name, at) = (name.clone(), Mark::default());
                    (Key { name, at }, Self::from_json(value))
                };
                Value::Map(entries.iter().map(entry).collect())
            }
        };
        let at = Mark::default();
        Self { at, value }
    }

    /// Converts to JSON. The last one of duplicate keys counts; a document with duplicate keys is faulty and not used.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Boolean(value) => Json::Bool(*value),
            Value::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                (Err(_), Err(_)) => Json::String(value.to_string()),
            },
            Value::Number(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.name.clone(), value.to_json()))
                .collect(),
        }
    }

    /// As JSON without the entries that say nothing: `key:` means the same as no key.
    pub(crate) fn to_json_without_nulls(&self) -> serde_json::Value {
        match &self.value {
            Value::List(items) => items.iter().map(Self::to_json_without_nulls).collect(),
            Value::Map(entries) => {
                let present = entries.iter().filter(|(_, value)| !value.is_null());
                present
                    .map(|(key, value)| (key.name.clone(), value.to_json_without_nulls()))
                    .collect()
            }
            _ => self.to_json(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            at: spanned.referenced.into(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        // Keys are read as text: `on:`, `y:` and `5:` are names here, whatever YAML 1.1 thinks of them as values.
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            map.push((
                Key {
                    name: key.value,
                    at: key.referenced.into(),
                },
                entries.next_value::<Node>()?,
            ));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests;
