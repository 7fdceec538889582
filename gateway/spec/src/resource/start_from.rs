//! Where a new subscription starts: a word, a time or an offset.

use jiff::Timestamp;
use serde_json::json;

use crate::{
    model::StartFrom,
    nearest::suggestion,
    schema::{
        FieldType, Path, Report, check,
        declare::field_type,
        document_struct, openapi,
        special::{special, typeless},
    },
    tree::{Node, Value},
};

document_struct! {
    /// The map that a start may be.
    struct Start {
        /// From this time on.
        time: Option<Timestamp>,
        /// From this place in the channel on.
        offset: Option<u64>,
    }
}

field_type!(StartFrom, special(start_from, schema), None, |node| {
    if let Some(word) = node.text() {
        return match word {
            "latest" => Ok(Self::Latest),
            "earliest" => Ok(Self::Earliest),
            other => Err(format!("`{other}` is no start")),
        };
    }
    match Start::read(node)? {
        Start {
            time: Some(time),
            offset: None,
        } => Ok(Self::Time(time)),
        Start {
            time: None,
            offset: Some(offset),
        } => Ok(Self::Offset(offset)),
        _ => Err("expected a time or an offset".to_owned()),
    }
});

fn schema() -> serde_json::Value {
    let more = json!({
        "pattern": "^(latest|earliest)$",
        "maxItems": 0,
        "maxProperties": 1,
        "properties": openapi(&Start::shape(), "")["properties"],
        // `required` applies to maps alone.
        "anyOf": [{ "required": ["time"] }, { "required": ["offset"] }],
    });
    typeless("latest, earliest, {time: RFC 3339} or {offset: n}.", more)
}

/// `latest`, `earliest`, `{time}` or `{offset}`.
fn start_from(node: &Node, path: &Path<'_>, report: &mut Report) {
    const EXPECTED: &str = "expected latest, earliest, {time: 2026-01-31T12:00:00Z} or {offset: 0}";
    match &node.value {
        Value::Text(text) if matches!(text.as_str(), "latest" | "earliest") => {}
        Value::Text(text) => {
            let meant = suggestion(text, ["latest", "earliest"]);
            report.add(node.at, path, format!("{EXPECTED}, found `{text}`{meant}"));
        }
        Value::Map(entries) => {
            check(&Start::shape(), node, node.at, path, report);
            if entries.len() != 1 {
                report.add(node.at, path, format!("{EXPECTED}: one of them"));
            }
        }
        _ => report.add(node.at, path, format!("{EXPECTED}, found {}", node.kind())),
    }
}
