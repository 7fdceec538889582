//! Filters: how they are checked, described to the API server, and compiled. Every dialect becomes one kind of expression.

use std::collections::BTreeMap;

use cesql::{Expression, Filter, Span};
use serde_json::{Value as Json, json};

use crate::{
    expression,
    fault::Within,
    nearest::suggestion,
    schema::{
        Form, Map, Path, Report, Shape, check,
        declare::{field_type, misfit, text},
        openapi,
        special::special,
        twice,
    },
    tree::{Node, Value},
};

const DIALECTS: [&str; 7] = ["exact", "prefix", "suffix", "all", "any", "not", "cesql"];

/// Filters with more entries are better one expression; the API server has to know how many there can be.
pub(crate) const FILTERS_MAX: usize = 64;
/// Likewise of the attributes that one filter names.
const ATTRIBUTES_MAX: usize = 64;

// Compiled as it is read: a document is read once and built often.
field_type!(Filter, special(filter, schema), None, |node| {
    let Value::Map(entries) = &node.value else {
        return Err(misfit(node, "a filter"));
    };
    let [(dialect, value)] = entries.as_slice() else {
        return Err("a filter has one dialect".to_owned());
    };
    let filter = match dialect.name.as_str() {
        "exact" => Ok(Self::exact(pairs(&BTreeMap::read(value)?))),
        "prefix" => Ok(Self::prefix(pairs(&BTreeMap::read(value)?))),
        "suffix" => Ok(Self::suffix(pairs(&BTreeMap::read(value)?))),
        "all" => Self::all(Vec::read(value)?),
        "any" => Self::any(Vec::read(value)?),
        "not" => Self::negated(Self::read(value)?),
        // `sql` is its name in that specification, `cesql` in Knative.
        "cesql" | "sql" => Self::cesql(text(value)?.parse::<Expression>().map_err(|error| error.to_string())?),
        other => return Err(format!("unknown filter dialect `{other}`")),
    };
    filter.map_err(|error| format!("a filter: {error}"))
});

fn pairs(expected: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    expected.iter().map(|(name, value)| (&**name, &**value))
}

/// A filter for the API server: one dialect, its names and values. What is below `all`, `any` and `not`, and expressions, the
/// gateway looks at.
fn schema() -> Json {
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

/// One filter of the CloudEvents Subscriptions API: a map of exactly one dialect.
fn filter(node: &Node, path: &Path<'_>, report: &mut Report) {
    let Value::Map(entries) = &node.value else {
        let message = format!(
            "expected a map of one of {}, found {}",
            DIALECTS.join(", "),
            node.kind()
        );
        return report.add(node.at, path, message);
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

/// An expression that is no filter: each fault is reported at the word that is meant.
fn expression(text: &str, node: &Node, path: &Path<'_>, report: &mut Report) {
    let part = |at: Span| Within {
        text: text.to_owned(),
        start: at.start,
        end: at.end,
    };
    match expression::read(text) {
        Ok(checked) => checked
            .doubts
            .into_iter()
            .for_each(|doubt| report.warn_within(node, path, part(doubt.at), doubt.message)),
        Err(faults) => faults
            .into_iter()
            .for_each(|fault| report.add_within(node, path, part(fault.at), fault.message)),
    }
}
