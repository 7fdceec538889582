//! What a document may say, as data: one description that checks files at the line and column, and becomes the CRDs.
//!
//! Because both come from here, a document that is valid in one way of running is valid in the other. What only the gateway
//! can tell is in `validate.rs` and `set.rs`: settings that depend on a backend, expressions, what other documents say. Of that
//! the API server knows nothing, and the object's conditions tell.

pub(crate) mod backends;
pub(crate) mod forms;
pub(crate) mod kinds;
mod openapi;
pub(crate) mod parts;
pub(crate) mod rules;
pub(crate) mod special;
mod target;

pub(crate) use forms::Form;
pub(crate) use openapi::{openapi, validations};
use rules::{Fixed, Rule};

use crate::{
    fault::{Found, Within},
    nearest::suggestion,
    tree::{Mark, Node, Value},
};

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
    },
    Map(Map),
    Object(Object),
    /// What OpenAPI has no type for: text or a map, a list or a map, itself again. One function checks it, the other says of it
    /// to the API server what can be said.
    Special {
        check: fn(&Node, &Path<'_>, &mut Report),
        openapi: fn() -> serde_json::Value,
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
    pub(crate) fields: Vec<Field>,
    /// Names a secret: what is written here by mistake is not shown.
    pub(crate) secret: bool,
    /// Fields beyond ours are someone else's: `metadata`, a Kubernetes Service.
    pub(crate) open: bool,
    pub(crate) rules: Vec<Rule>,
    pub(crate) fixed: Vec<Fixed>,
}

pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    pub(crate) describe: &'static str,
}

/// Where the check is, as a path that costs nothing until a fault needs it.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl Path<'_> {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(Path::Root, name) => (*name).to_owned(),
            Self::Key(above, name) => format!("{}.{name}", above.text()),
            Self::Index(above, index) => format!("{}[{index}]", above.text()),
        }
    }
}

/// Collects what is found in one document.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) found: Vec<Found>,
    /// The whole document is secret: no line of it is shown.
    pub(crate) secret: bool,
}

impl Report {
    pub(crate) fn add(&mut self, at: Mark, path: &Path<'_>, message: impl Into<String>) {
        self.add_with_reason(at, path, "Invalid", message);
    }

    pub(crate) fn add_with_reason(
        &mut self,
        at: Mark,
        path: &Path<'_>,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let found = Found {
            secret: self.secret,
            ..Found::new(at, path.text(), reason, message)
        };
        self.found.push(found);
    }

    /// At a part of the text that `node` is.
    pub(crate) fn add_within(&mut self, node: &Node, path: &Path<'_>, part: Within, message: impl Into<String>) {
        let found = Found {
            secret: self.secret,
            within: Some(part),
            ..Found::new(node.at, path.text(), "Invalid", message)
        };
        self.found.push(found);
    }

    /// At a path of `root`, or the nearest part above it that is there.
    pub(crate) fn at(&mut self, root: &Node, path: &str, message: impl Into<String>) {
        let found = Found {
            secret: self.secret,
            ..Found::new(root.mark(path), path, "Invalid", message)
        };
        self.found.push(found);
    }

    fn add_secret(&mut self, at: Mark, path: &Path<'_>, message: String) {
        self.found.push(Found {
            secret: true,
            ..Found::new(at, path.text(), "Invalid", message)
        });
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
        (Shape::Text(form), Value::Text(text)) => {
            if let Err(message) = form.check(text) {
                report.add(node.at, path, message);
            }
        }
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
        (Shape::List { of, min, max }, Value::List(items)) => {
            if items.len() < *min {
                report.add(above, path, "the list is empty: it needs at least one entry");
            }
            at_most(*max, items.len(), above, path, report);
            for (index, item) in items.iter().enumerate() {
                check(of, item, item.at, &Path::Index(path, index), report);
            }
        }
        (Shape::Map(map), Value::Map(entries)) => {
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
            report.add(at, path, format!("expected {}, found {}", shape.kind(), node.kind()));
        }
    }
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
            None => {
                let meant = suggestion(&key.name, object.fields.iter().map(|field| field.name));
                let message = if meant.is_empty() {
                    let known: Vec<_> = object.fields.iter().map(|field| field.name).collect();
                    format!("unknown field `{}`; known here: {}", key.name, known.join(", "))
                } else {
                    format!("unknown field `{}`{meant}", key.name)
                };
                report.add(key.at, &here, message);
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
            format!("`{}` is required: {}", field.name, field.describe),
        );
    }
    // What is wrong already may be why a rule is not kept.
    if report.found.len() == before {
        object
            .rules
            .iter()
            .for_each(|rule| rule.check(node, above, path, report));
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

/// A field that may be absent.
pub(crate) fn field(name: &'static str, shape: Shape, describe: &'static str) -> Field {
    Field {
        name,
        shape,
        required: false,
        describe,
    }
}

/// A field that must be there.
pub(crate) fn required(name: &'static str, shape: Shape, describe: &'static str) -> Field {
    Field {
        name,
        shape,
        required: true,
        describe,
    }
}

pub(crate) fn object(fields: Vec<Field>) -> Shape {
    Shape::Object(Object {
        fields,
        ..Object::default()
    })
}

pub(crate) fn list(of: Shape) -> Shape {
    Shape::List {
        of: Box::new(of),
        min: 0,
        max: None,
    }
}

/// A list that has so many entries at most.
pub(crate) fn short_list(of: Shape, max: usize) -> Shape {
    Shape::List {
        of: Box::new(of),
        min: 0,
        max: Some(max),
    }
}

pub(crate) fn filled_list(of: Shape, max: usize) -> Shape {
    Shape::List {
        of: Box::new(of),
        min: 1,
        max: Some(max),
    }
}

/// A map with any keys.
pub(crate) fn map(of: Shape) -> Shape {
    Shape::Map(Map {
        of: Box::new(of),
        keys: Form::Free,
        not: (&[], ""),
        max: None,
    })
}

/// A map of which the fields are told elsewhere.
pub(crate) fn settings() -> Shape {
    Shape::Object(Object {
        open: true,
        ..Object::default()
    })
}
