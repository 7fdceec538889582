//! Shapes that OpenAPI cannot describe: a text or a list, a size that is more than nothing, a dedup window.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{Form, Path, Report, Shape, check, forms, openapi};
use crate::{
    duration,
    tree::{self, Node},
};

/// A value of one type among several. The API server applies each word only to values of its own type: a pattern to texts,
/// properties to maps, bounds to numbers. None of them keeps a number out but bounds that none can keep.
pub(crate) fn typeless(described: &str, more: Json) -> Json {
    let mut schema = json!({
        "description": described,
        "x-kubernetes-preserve-unknown-fields": true,
        "minimum": 1,
        "maximum": 0,
    });
    if let (Some(schema), Json::Object(more)) = (schema.as_object_mut(), more) {
        schema.extend(more);
    }
    schema
}

/// A shape that one function checks, and another describes to the API server.
pub(crate) fn special(check: fn(&Node, &Path<'_>, &mut Report), openapi: fn() -> Json) -> Shape {
    Shape::Special {
        check,
        openapi,
        parts: Vec::new(),
    }
}

/// The schema of a text, or of a list of such texts.
fn one_or_list_schema(form: Form) -> Json {
    let list = super::filled_list(Shape::Text(form), ADDRESSES_MAX);
    json!({ "anyOf": [openapi(&Shape::Text(form), ""), openapi(&list, "")] })
}

/// One text, or several in a list.
pub(crate) fn text_or_list() -> Shape {
    special(
        |node, path, report| one_or_list(Form::Filled, node, path, report),
        || one_or_list_schema(Form::Filled),
    )
}

/// One URL, or several in a list.
pub(crate) fn url_or_list() -> Shape {
    special(
        |node, path, report| one_or_list(Form::HttpUrl, node, path, report),
        || one_or_list_schema(Form::HttpUrl),
    )
}

/// Enough to find the first of a large cluster's servers by.
const ADDRESSES_MAX: usize = 256;

fn one_or_list(form: Form, node: &Node, path: &Path<'_>, report: &mut Report) {
    let shape = match &node.value {
        tree::Value::List(_) => super::filled_list(Shape::Text(form), ADDRESSES_MAX),
        _ => Shape::Text(form),
    };
    check(&shape, node, node.at, path, report);
}

/// Shorter than this a window is over before a publisher tries again.
const DEDUP_MIN: Duration = Duration::from_secs(1);
/// Longer than this a window outlives what is kept for replay by default, which it is read from after a restart.
const DEDUP_MAX: Duration = Duration::from_secs(86_400);

/// The time in which a repeat is recognized.
pub(crate) fn dedup() -> Shape {
    special(
        |node, path, report| {
            let before = report.found.len();
            check(&Shape::Text(Form::Duration), node, node.at, path, report);
            let written = match &node.value {
                tree::Value::Text(text) if report.found.len() == before => duration::parse(text).ok(),
                _ => None,
            };
            if written.is_some_and(|window| !(DEDUP_MIN..=DEDUP_MAX).contains(&window)) {
                let message = "a dedup window is from PT1S to P1D long; leave it out to have none";
                report.add(node.at, path, message);
            }
        },
        || openapi(&Shape::Text(Form::Duration), ""),
    )
}

/// A size that is more than nothing.
pub(crate) fn size() -> Shape {
    special(
        |node, path, report| match forms::quantity_of(node) {
            Ok(0) => report.add(node.at, path, "must be more than nothing"),
            Ok(_) => {}
            Err(message) => report.add(node.at, path, message),
        },
        || openapi(&Shape::Quantity, ""),
    )
}
