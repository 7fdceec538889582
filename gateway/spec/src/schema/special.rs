//! What OpenAPI has no words for: filters, `startFrom`, `env`, a dedup window.

use std::time::Duration;

use cesql::Expression;
use serde_json::{Value as Json, json};

use super::{Form, Map, Path, Report, check, field, forms, object, openapi, parts::secret_selector, required, twice};
use crate::{
    duration,
    fault::Within,
    nearest::suggestion,
    schema::Shape,
    tree::{self, Node},
};

const DIALECTS: [&str; 7] = ["exact", "prefix", "suffix", "all", "any", "not", "cesql"];

/// Filters with more entries are better one expression; the API server has to know how many there can be.
pub(crate) const FILTERS_MAX: usize = 64;
/// Likewise of the attributes that one filter names.
const ATTRIBUTES_MAX: usize = 64;

/// A filter for the API server: one dialect, its names and values. What is below `all`, `any` and `not`, and expressions, the
/// gateway looks at.
pub(crate) fn filter_schema() -> Json {
    let attributes = openapi(&filter_attributes(), "Attributes and what they have to be.");
    let nested = json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let several = json!({ "type": "array", "minItems": 1, "items": nested });
    let expression = json!({ "type": "string", "description": "An expression in CloudEvents SQL." });
    json!({
        "type": "object",
        "description": "One of exact, prefix, suffix, all, any, not, cesql.",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "exact": attributes, "prefix": attributes, "suffix": attributes,
            "all": several, "any": several, "not": nested,
            "cesql": expression, "sql": expression,
        },
    })
}

fn filter_attributes() -> Shape {
    Shape::Map(Map {
        of: Box::new(Shape::Text(Form::Filled)),
        keys: Form::Attribute,
        not: (&[], ""),
        max: Some(ATTRIBUTES_MAX),
    })
}

/// A value of one type among several. The API server applies each word only to values of its own type: a pattern to texts,
/// properties to maps, bounds to numbers. None of them keeps a number out but bounds that none can keep.
fn typeless(described: &str, more: Json) -> Json {
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

/// One filter of the CloudEvents Subscriptions API: a map of exactly one dialect.
pub(crate) fn filter(node: &Node, path: &Path<'_>, report: &mut Report) {
    let tree::Value::Map(entries) = &node.value else {
        return report.add(
            node.at,
            path,
            format!(
                "expected a map of one of {}, found {}",
                DIALECTS.join(", "),
                node.kind()
            ),
        );
    };
    twice(node, path, report);
    if entries.is_empty() {
        return report.add(
            node.at,
            path,
            format!("the filter is empty: it needs one of {}", DIALECTS.join(", ")),
        );
    }
    if let [_, (second, _), ..] = entries.as_slice() {
        let message = "a filter has one dialect: write a second filter, or put both under `all` or `any`";
        report.add(second.at, &Path::Key(path, &second.name), message);
    }
    for (key, value) in entries {
        let here = Path::Key(path, &key.name);
        match (key.name.as_str(), &value.value) {
            ("exact" | "prefix" | "suffix", tree::Value::Map(pairs)) => {
                if pairs.is_empty() {
                    report.add(key.at, &here, "no attribute is named");
                }
                check(&filter_attributes(), value, key.at, &here, report);
            }
            ("exact" | "prefix" | "suffix", _) => {
                report.add(
                    key.at,
                    &here,
                    format!("expected a map of attribute to text, found {}", value.kind()),
                );
            }
            ("all" | "any", tree::Value::List(items)) => {
                if items.is_empty() {
                    report.add(key.at, &here, "the list is empty: it needs at least one filter");
                }
                for (index, item) in items.iter().enumerate() {
                    filter(item, &Path::Index(&here, index), report);
                }
            }
            ("all" | "any", _) => report.add(
                key.at,
                &here,
                format!("expected a list of filters, found {}", value.kind()),
            ),
            ("not", _) => filter(value, &here, report),
            ("cesql" | "sql", tree::Value::Text(text)) => expression(text, value, &here, report),
            ("cesql" | "sql", _) => {
                let message = format!("expected an expression, found {}: put it in quotes", value.kind());
                report.add(key.at, &here, message);
            }
            (name, _) => {
                let meant = suggestion(name, DIALECTS);
                let meant = if meant.is_empty() {
                    format!("; known: {}", DIALECTS.join(", "))
                } else {
                    meant
                };
                report.add(key.at, &here, format!("unknown filter dialect `{name}`{meant}"));
            }
        }
    }
}

/// An expression that is none is told at the word where it stops being one.
fn expression(text: &str, node: &Node, path: &Path<'_>, report: &mut Report) {
    if let Err(error) = text.parse::<Expression>() {
        let part = Within {
            text: text.to_owned(),
            start: error.at.start,
            end: error.at.end,
        };
        report.add_within(node, path, part, error.message);
    }
}

pub(crate) fn start_from_schema() -> Json {
    let more = json!({
        "pattern": "^(latest|earliest)$",
        "maxItems": 0,
        "maxProperties": 1,
        "properties": {
            "time": openapi(&Shape::Text(Form::Timestamp), "From this time on."),
            "offset": openapi(&Shape::Integer { min: 0, max: i64::MAX }, "From this place in the channel on."),
        },
        // Of a map: to everything else, `required` does not apply.
        "anyOf": [{ "required": ["time"] }, { "required": ["offset"] }],
    });
    typeless("latest, earliest, {time: RFC 3339} or {offset: n}.", more)
}

/// `latest`, `earliest`, `{time}` or `{offset}`.
pub(crate) fn start_from(node: &Node, path: &Path<'_>, report: &mut Report) {
    const WANTED: &str = "expected latest, earliest, {time: 2026-01-31T12:00:00Z} or {offset: 0}";
    match &node.value {
        tree::Value::Text(text) if matches!(text.as_str(), "latest" | "earliest") => {}
        tree::Value::Text(text) => {
            let meant = suggestion(text, ["latest", "earliest"]);
            report.add(node.at, path, format!("{WANTED}, found `{text}`{meant}"));
        }
        tree::Value::Map(entries) => {
            let form = object(vec![
                field("time", Shape::Text(Form::Timestamp), "A time."),
                field(
                    "offset",
                    Shape::Integer { min: 0, max: i64::MAX },
                    "A place in the channel.",
                ),
            ]);
            check(&form, node, node.at, path, report);
            if entries.len() != 1 {
                report.add(node.at, path, format!("{WANTED}: one of them"));
            }
        }
        _ => report.add(node.at, path, format!("{WANTED}, found {}", node.kind())),
    }
}

/// As many as a process can be expected to read; the API server has to know how many there can be.
const VARIABLES_MAX: usize = 512;

fn variable() -> Shape {
    let from = object(vec![
        field("secretKeyRef", secret_selector(true), "A secret's key."),
        field("configMapKeyRef", super::settings(), "On Kubernetes alone."),
        field("fieldRef", super::settings(), "On Kubernetes alone."),
        field("resourceFieldRef", super::settings(), "On Kubernetes alone."),
    ]);
    object(vec![
        required("name", Shape::Text(Form::Filled), "the variable's name"),
        field("value", Shape::Text(Form::Free), "Its value."),
        field("valueFrom", from, "Where its value comes from."),
    ])
}

pub(crate) fn env_schema() -> Json {
    let mut variable = openapi(&variable(), "");
    without_rules(&mut variable);
    let more = json!({
        // No text.
        "pattern": "$.",
        "maxItems": VARIABLES_MAX,
        "items": variable,
        "additionalProperties": openapi(&Shape::Text(Form::Free), ""),
    });
    typeless("A list of {name, value} as Kubernetes has it, or a map.", more)
}

/// Below a value without a type the API server takes no rules: there it asks texts to be some, and the gateway for their form.
fn without_rules(schema: &mut Json) {
    if let Json::Object(map) = schema {
        if map.remove("x-kubernetes-validations").is_some() && map["type"] == "string" {
            map.insert("minLength".to_owned(), json!(1));
        }
        map.values_mut().for_each(without_rules);
    }
}

/// A list of `{name, value}` as Kubernetes has it, or a map.
pub(crate) fn env(node: &Node, path: &Path<'_>, report: &mut Report) {
    match &node.value {
        tree::Value::List(_) => check(
            &super::short_list(variable(), VARIABLES_MAX),
            node,
            node.at,
            path,
            report,
        ),
        tree::Value::Map(_) => check(&super::map(Shape::Text(Form::Free)), node, node.at, path, report),
        _ => report.add(
            node.at,
            path,
            format!("expected a list of {{name, value}} or a map, found {}", node.kind()),
        ),
    }
}

/// For what the API server is told nothing of: settings of a backend, which another object names.
pub(crate) fn unsaid() -> Json {
    json!({ "x-kubernetes-preserve-unknown-fields": true })
}

/// One text, or several in a list.
pub(crate) fn text_or_list(node: &Node, path: &Path<'_>, report: &mut Report) {
    one_or_list(Form::Filled, node, path, report);
}

/// One URL, or several in a list.
pub(crate) fn url_or_list(node: &Node, path: &Path<'_>, report: &mut Report) {
    one_or_list(Form::HttpUrl, node, path, report);
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

/// How long a repeat is known.
pub(crate) fn dedup(node: &Node, path: &Path<'_>, report: &mut Report) {
    let before = report.found.len();
    check(&Shape::Text(Form::Duration), node, node.at, path, report);
    let written = match &node.value {
        tree::Value::Text(text) if report.found.len() == before => duration::parse(text).ok(),
        _ => None,
    };
    if written.is_some_and(|window| !(DEDUP_MIN..=DEDUP_MAX).contains(&window)) {
        report.add(
            node.at,
            path,
            "a dedup window is from PT1S to P1D long; leave it out to have none",
        );
    }
}

/// A size that is more than nothing.
pub(crate) fn size(node: &Node, path: &Path<'_>, report: &mut Report) {
    match forms::quantity_of(node) {
        Ok(0) => report.add(node.at, path, "must be more than nothing"),
        Ok(_) => {}
        Err(message) => report.add(node.at, path, message),
    }
}
