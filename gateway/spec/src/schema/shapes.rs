//! Short ways to write shapes and their fields.

use super::{Field, Form, Map, Object, Shape};

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

pub(crate) fn integer(min: i64, max: i64) -> Shape {
    Shape::Integer { min, max }
}

pub(crate) fn list(of: Shape) -> Shape {
    Shape::List {
        of: Box::new(of),
        min: 0,
        max: None,
        key: None,
    }
}

/// A list that has so many entries at most.
pub(crate) fn short_list(of: Shape, max: usize) -> Shape {
    Shape::List {
        of: Box::new(of),
        min: 0,
        max: Some(max),
        key: None,
    }
}

pub(crate) fn filled_list(of: Shape, max: usize) -> Shape {
    Shape::List {
        of: Box::new(of),
        min: 1,
        max: Some(max),
        key: None,
    }
}

/// A list with at least one entry, in which the text field `key` differs in all entries.
pub(crate) fn keyed_list(of: Shape, key: &'static str, max: usize) -> Shape {
    Shape::List {
        of: Box::new(of),
        min: 1,
        max: Some(max),
        key: Some(key),
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
