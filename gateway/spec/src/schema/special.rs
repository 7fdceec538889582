//! What OpenAPI has no words for: filters, `startFrom`, `env`, a dedup window.

use std::time::Duration;

use cesql::Expression;

use super::{Form, Path, Report, check, field, forms, object, parts::secret_selector, required, twice};
use crate::{
    duration,
    fault::Within,
    nearest::suggestion,
    schema::Shape,
    tree::{Node, Value},
};

const DIALECTS: [&str; 7] = ["exact", "prefix", "suffix", "all", "any", "not", "cesql"];

/// One filter of the CloudEvents Subscriptions API: a map of exactly one dialect.
pub(crate) fn filter(node: &Node, path: &Path<'_>, report: &mut Report) {
    let Value::Map(entries) = &node.value else {
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
            ("exact" | "prefix" | "suffix", Value::Map(pairs)) => {
                twice(value, &here, report);
                if pairs.is_empty() {
                    report.add(key.at, &here, "no attribute is named");
                }
                for (name, wanted) in pairs {
                    let pair = Path::Key(&here, &name.name);
                    if let Err(message) = Form::Attribute.check(&name.name) {
                        report.add(name.at, &pair, message);
                    }
                    check(&Shape::Text(Form::Filled), wanted, name.at, &pair, report);
                }
            }
            ("exact" | "prefix" | "suffix", _) => {
                report.add(
                    key.at,
                    &here,
                    format!("expected a map of attribute to text, found {}", value.kind()),
                );
            }
            ("all" | "any", Value::List(items)) => {
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
            ("cesql" | "sql", Value::Text(text)) => expression(text, value, &here, report),
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

/// `latest`, `earliest`, `{time}` or `{offset}`.
pub(crate) fn start_from(node: &Node, path: &Path<'_>, report: &mut Report) {
    const WANTED: &str = "expected latest, earliest, {time: 2026-01-31T12:00:00Z} or {offset: 0}";
    match &node.value {
        Value::Text(text) if matches!(text.as_str(), "latest" | "earliest") => {}
        Value::Text(text) => {
            let meant = suggestion(text, ["latest", "earliest"]);
            report.add(node.at, path, format!("{WANTED}, found `{text}`{meant}"));
        }
        Value::Map(entries) => {
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

/// A list of `{name, value}` as Kubernetes has it, or a map.
pub(crate) fn env(node: &Node, path: &Path<'_>, report: &mut Report) {
    match &node.value {
        Value::List(items) => {
            let from = object(vec![
                field("secretKeyRef", secret_selector(true), "A secret's key."),
                field("configMapKeyRef", Shape::Any, "On Kubernetes alone."),
                field("fieldRef", Shape::Any, "On Kubernetes alone."),
                field("resourceFieldRef", Shape::Any, "On Kubernetes alone."),
            ]);
            let variable = object(vec![
                required("name", Shape::Text(Form::Filled), "the variable's name"),
                field("value", Shape::Text(Form::Free), "Its value."),
                field("valueFrom", from, "Where its value comes from."),
            ]);
            for (index, item) in items.iter().enumerate() {
                check(&variable, item, item.at, &Path::Index(path, index), report);
            }
        }
        Value::Map(_) => check(&super::map(Shape::Text(Form::Free)), node, node.at, path, report),
        _ => report.add(
            node.at,
            path,
            format!("expected a list of {{name, value}} or a map, found {}", node.kind()),
        ),
    }
}

/// One text, or several in a list.
pub(crate) fn text_or_list(node: &Node, path: &Path<'_>, report: &mut Report) {
    one_or_list(Form::Filled, node, path, report);
}

/// One URL, or several in a list.
pub(crate) fn url_or_list(node: &Node, path: &Path<'_>, report: &mut Report) {
    one_or_list(Form::HttpUrl, node, path, report);
}

fn one_or_list(form: Form, node: &Node, path: &Path<'_>, report: &mut Report) {
    let shape = match &node.value {
        Value::List(_) => super::filled_list(Shape::Text(form)),
        _ => Shape::Text(form),
    };
    check(&shape, node, node.at, path, report);
}

/// A size that is more than nothing.
/// Shorter than this a window is over before a publisher tries again.
const DEDUP_MIN: Duration = Duration::from_secs(1);
/// Longer than this a window outlives what is kept for replay by default, which it is read from after a restart.
const DEDUP_MAX: Duration = Duration::from_secs(86_400);

/// How long a repeat is known.
pub(crate) fn dedup(node: &Node, path: &Path<'_>, report: &mut Report) {
    let before = report.found.len();
    check(&Shape::Text(Form::Duration), node, node.at, path, report);
    let written = match &node.value {
        Value::Text(text) if report.found.len() == before => duration::parse(text).ok(),
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

pub(crate) fn size(node: &Node, path: &Path<'_>, report: &mut Report) {
    match forms::quantity_of(node) {
        Ok(0) => report.add(node.at, path, "must be more than nothing"),
        Ok(_) => {}
        Err(message) => report.add(node.at, path, message),
    }
}
