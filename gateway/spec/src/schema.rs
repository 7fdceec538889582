//! The schema of documents, as data: one description that checks files at the line and column, and becomes the CRDs.
//!
//! Because both come from here, a document that is valid in one way of running is valid in the other. What only the gateway
//! can tell is in `validate.rs` and `set.rs`: settings that depend on a backend, expressions, what other documents say. Of that
//! the API server knows nothing, and the object's conditions tell.

use std::borrow::Cow;

pub(crate) mod declare;
pub(crate) mod forms;
pub(crate) mod kinds;
mod openapi;
mod report;
pub(crate) mod rules;
mod shapes;
pub(crate) mod special;
pub(crate) mod target;

pub(crate) use declare::{FieldType, document_enum, document_struct};
pub(crate) use forms::Form;
pub(crate) use openapi::{openapi, validations};
pub(crate) use report::{Path, Report};
use rules::{Fixed, Rule};
pub(crate) use shapes::*;

use crate::{
    nearest::suggestion,
    redact,
    tree::{Key, Mark, Node, Value},
};

/// Largest event any of our own logs takes, bytes (CONTRACT IN-3).
pub(crate) const EVENT_BYTES_MAX: i64 = 32 << 20;

pub(crate) enum Shape {
    /// Anything: checked elsewhere, or not ours.
    Any,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    Text(Form),
    /// Bytes: a whole number, or text such as `512Mi`.
    Quantity,
    List {
        of: Box<Shape>,
        min: usize,
        /// Where entries have rules, and the API server has to know how many there can be.
        max: Option<usize>,
        /// The text field that differs in all entries, which are maps.
        key: Option<&'static str>,
    },
    Map(Map),
    Object(Object),
    /// A shape that OpenAPI has no type for: text or a map, a list or a map, itself again. One function checks it, the other
    /// describes it to the API server as far as OpenAPI allows.
    Special {
        check: fn(&Node, &Path<'_>, &mut Report),
        openapi: fn() -> serde_json::Value,
        /// The objects that may be in it.
        parts: Vec<Shape>,
    },
}

/// Keys of one form, values of one shape.
pub(crate) struct Map {
    pub(crate) of: Box<Shape>,
    pub(crate) keys: Form,
    /// Keys that mean something else, and what is told then.
    pub(crate) not: (&'static [&'static str], &'static str),
    /// As for lists.
    pub(crate) max: Option<usize>,
}

#[derive(Default)]
pub(crate) struct Object {
    /// The object in a sentence.
    pub(crate) describe: &'static str,
    pub(crate) fields: Vec<Field>,
    /// Names a secret: what is written here by mistake is not shown.
    pub(crate) secret: bool,
    /// Names of the release before, and what to write today.
    pub(crate) renamed: &'static [(&'static str, &'static str)],
    /// Fields beyond ours are someone else's: `metadata`, a Kubernetes Service.
    pub(crate) open: bool,
    pub(crate) rules: Vec<Rule>,
    pub(crate) fixed: Vec<Fixed>,
    /// The objects that an open one may be in truth, which only the gateway can tell.
    pub(crate) may_be: Vec<Shape>,
}

pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    /// A sentence.
    pub(crate) describe: &'static str,
}

impl Field {
    /// Describes the field: in a sentence, or for a required one in the phrase that a message about its absence ends with.
    pub(crate) fn description(&self) -> Cow<'static, str> {
        if !self.required {
            return self.describe.into();
        }
        let sentence = self.describe.trim_end_matches('.');
        let mut rest = sentence.chars();
        let first = rest.next().map(|first| first.to_ascii_lowercase());
        first.into_iter().chain(rest).collect::<String>().into()
    }
}

/// Checks `node` against `shape`; `above` is where to point when the node itself is too large to point at.
pub(crate) fn check(shape: &Shape, node: &Node, above: Mark, path: &Path<'_>, report: &mut Report) {
    match (shape, &node.value) {
        (Shape::Any, _) | (Shape::Boolean, Value::Boolean(_)) => {}
        (Shape::Special { check, .. }, _) => check(node, path, report),
        (Shape::Integer { min, max }, Value::Integer(value)) => {
            if *value < i128::from(*min) {
                report.add(node.at, path, format!("{value} is too small: {min} at least"));
            } else if *value > i128::from(*max) {
                report.add(node.at, path, format!("{value} is too large: {max} at most"));
            }
        }
        (Shape::Integer { .. }, Value::Number(number)) => {
            let message = whole_number(*number, report.written(node.at));
            report.add(node.at, path, message);
        }
        (Shape::Integer { .. }, Value::Text(text)) if text.parse::<i64>().is_ok() && !report.names_secret => {
            let message = format!("expected a whole number, found text: write {text} without quotes");
            report.add(node.at, path, message);
        }
        (Shape::Text(form), Value::Text(text)) => check_text(*form, text, node, path, report),
        (Shape::Text(_), Value::Integer(_) | Value::Number(_) | Value::Boolean(_)) => {
            let kind = node.kind();
            report.add(
                node.at,
                path,
                format!("expected text, found {kind}: put it in quotes if it is meant as text"),
            );
        }
        (Shape::Quantity, Value::Integer(_) | Value::Text(_)) => {
            if let Err(message) = forms::quantity_of(node) {
                report.add(node.at, path, message);
            }
        }
        (Shape::List { of, min, max, key }, Value::List(items)) => {
            if items.len() < *min {
                report.add(above, path, "the list is empty: it needs at least one entry");
            }
            at_most(*max, items.len(), above, path, report);
            for (index, item) in items.iter().enumerate() {
                check(of, item, item.at, &Path::Index(path, index), report);
            }
            if let Some(key) = key {
                same_key(key, items, path, report);
            }
        }
        (Shape::Map(map), Value::Map(entries)) => check_map(map, entries, node, above, path, report),
        (Shape::Object(object), Value::Map(_)) if object.secret => {
            let before = std::mem::replace(&mut report.names_secret, true);
            check_object(object, node, above, path, report);
            report.names_secret = before;
        }
        (Shape::Object(object), Value::Map(_)) => check_object(object, node, above, path, report),
        (Shape::Object(Object { secret: true, .. }), _) => {
            let message = format!(
                "expected {}, found {}; name a secret here, never write one down",
                shape.kind(),
                node.kind()
            );
            report.add_secret(above, path, message);
        }
        _ => {
            let at = if node.is_scalar() { node.at } else { above };
            let instead = instead(shape, &node.value);
            let message = format!("expected {}, found {}{instead}", shape.kind(), node.kind());
            report.add(at, path, message);
        }
    }
}

fn check_text(form: Form, text: &str, node: &Node, path: &Path<'_>, report: &mut Report) {
    if let Err(message) = form.check(text) {
        let message = if report.names_secret {
            without(&message, text)
        } else {
            message
        };
        report.add(node.at, path, message);
    }
}

fn check_map(map: &Map, entries: &[(Key, Node)], node: &Node, above: Mark, path: &Path<'_>, report: &mut Report) {
    twice(node, path, report);
    at_most(map.max, entries.len(), above, path, report);
    for (key, value) in entries {
        let here = Path::Key(path, &key.name);
        let (not, words) = map.not;
        match map.keys.check(&key.name) {
            Err(message) => report.add(key.at, &here, message),
            Ok(()) if not.contains(&&*key.name) => {
                report.add(key.at, &here, format!("`{}` {words}", key.name));
            }
            Ok(()) => check(&map.of, value, key.at, &here, report),
        }
    }
}

/// A number that is no whole one, and what to write for it. YAML 1.1, which kubectl reads, takes `010` as octal.
fn whole_number(number: f64, written: Option<&str>) -> String {
    let octal = written.and_then(|text| {
        let digits = text.strip_prefix('0').filter(|rest| !rest.is_empty())?;
        i64::from_str_radix(digits, 8).ok()
    });
    match (octal, written) {
        (Some(octal), Some(text)) => {
            let decimal = text.trim_start_matches('0');
            format!(
                "expected a whole number, found `{text}`, which kubectl reads as {octal}: write {octal}, or {decimal}"
            )
        }
        (None, Some(text)) if number.fract() == 0.0 && number.abs() < 1e15 => {
            format!("expected a whole number, found `{text}`: write {number:.0}")
        }
        _ => "expected a whole number, found a number with a fraction or an exponent".to_owned(),
    }
}

/// Suggests a map where a text was written. The text is not repeated: an address may carry credentials.
fn instead(shape: &Shape, value: &Value) -> String {
    let (Shape::Object(object), Value::Text(text)) = (shape, value) else {
        return String::new();
    };
    let has = |name: &str| object.fields.iter().any(|field| field.name == name);
    let is_name = Form::Name.check(text).is_ok();
    if has("uri") {
        return match text.contains("://") {
            true => ": write { uri: URL }".to_owned(),
            false => ": write { uri: URL }, or { ref: { apiVersion: ..., kind: ..., name: ... } }".to_owned(),
        };
    }
    match has("name") && is_name {
        true => format!(": write {{ name: {text} }}"),
        false => String::new(),
    }
}

/// A message without the text that it is about.
fn without(message: &str, text: &str) -> String {
    let start: String = text.chars().take(forms::SHOWN).collect();
    [format!("`{text}`"), format!("`{start}...`")]
        .iter()
        .fold(message.to_owned(), |message, shown| message.replace(shown, "the text"))
}

fn at_most(max: Option<usize>, count: usize, above: Mark, path: &Path<'_>, report: &mut Report) {
    if let Some(max) = max.filter(|max| count > *max) {
        report.add(above, path, format!("has {count} entries: {max} at most"));
    }
}

fn check_object(object: &Object, node: &Node, above: Mark, path: &Path<'_>, report: &mut Report) {
    let Value::Map(entries) = &node.value else { return };
    let before = report.found.len();
    twice(node, path, report);
    for (key, value) in entries {
        let here = Path::Key(path, &key.name);
        match object.fields.iter().find(|field| field.name == key.name) {
            // `key:` with nothing after it says the same as no key.
            Some(_) if value.is_null() => {}
            Some(field) => check(&field.shape, value, key.at, &here, report),
            None if object.open => {}
            None if object.renamed.iter().any(|(before, _)| *before == key.name) => {
                let today = object.renamed.iter().find(|(before, _)| *before == key.name);
                let today = today.map_or("something else", |(_, today)| today);
                report.add(key.at, &here, format!("`{}` is called {today} today", key.name));
            }
            None => {
                let meant = suggestion(&key.name, object.fields.iter().map(|field| field.name));
                let message = if meant.is_empty() {
                    let known: Vec<_> = object.fields.iter().map(|field| field.name).collect();
                    format!("unknown field `{}`; known here: {}", key.name, known.join(", "))
                } else {
                    format!("unknown field `{}`{meant}", key.name)
                };
                match redact::sounds_secret(&key.name) {
                    true => report.add_secret(key.at, &here, message),
                    false => report.add(key.at, &here, message),
                }
            }
        }
    }
    for field in object
        .fields
        .iter()
        .filter(|field| field.required && node.get(field.name).is_none())
    {
        report.add(
            above,
            &Path::Key(path, field.name),
            format!("`{}` is required: {}", field.name, field.description()),
        );
    }
    // A fault that was reported already may be the reason that a rule is broken.
    if report.found.len() == before {
        object
            .rules
            .iter()
            .for_each(|rule| rule.check(node, above, path, report));
    }
}

/// Entries of a list that have the same key.
fn same_key(key: &str, items: &[Node], path: &Path<'_>, report: &mut Report) {
    let text = |item: &Node| item.get(key).and_then(Node::text).map(str::to_owned);
    for (index, item) in items.iter().enumerate() {
        let Some(text) = text(item) else { continue };
        if let Some(first) = items[..index]
            .iter()
            .position(|earlier| earlier.get(key).and_then(Node::text) == Some(&text))
        {
            let entry = Path::Index(path, index);
            let message = format!(
                "`{text}` is the {key} of another entry, number {}: choose another one",
                first + 1
            );
            report.add(item.mark(key), &Path::Key(&entry, key), message);
        }
    }
}

/// A key that is written twice: one of the two would be ignored.
pub(crate) fn twice(node: &Node, path: &Path<'_>, report: &mut Report) {
    let Value::Map(entries) = &node.value else { return };
    for (index, (key, _)) in entries.iter().enumerate() {
        if let Some((first, _)) = entries[..index].iter().find(|(earlier, _)| earlier.name == key.name) {
            let message = format!("`{}` is written twice, first in line {}", key.name, first.at.line);
            report.add(key.at, &Path::Key(path, &key.name), message);
        }
    }
}

impl Shape {
    /// The fields that must be there.
    pub(crate) fn required(&self) -> impl Iterator<Item = &Field> {
        let fields = self.object().into_iter().flat_map(|object| &object.fields);
        fields.filter(|field| field.required)
    }

    pub(crate) fn object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Any | Self::Special { .. } => "something else",
            Self::Boolean => "true or false",
            Self::Integer { .. } => "a whole number",
            Self::Text(_) => "text",
            Self::Quantity => "a number of bytes, or text such as 512Mi",
            Self::List { .. } => "a list",
            Self::Map(_) | Self::Object(_) => "a map",
        }
    }
}
