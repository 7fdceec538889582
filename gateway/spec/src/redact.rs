//! Hides parts of a document: values of Secrets, and text that was typed where a secret should be named.
//!
//! Which fields name secrets is written once, in the schema. A valid document loses nothing here but a Secret's values: where
//! a secret is named, names and keys are left, and everything else goes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use serde_json::Value as Json;

use crate::{
    Kind,
    schema::{Path, Report, Shape, check, kinds::described},
    tree::Node,
};

const REDACTED: &str = "<redacted>";

/// kubectl keeps the whole document in this annotation.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that name a secret, each with the fields below it and what they may be.
type Table = HashMap<&'static str, BTreeMap<&'static str, Vec<&'static Shape>>>;

/// Leaves a Secret's keys and drops its values; annotations go too, for kubectl keeps the whole document in one.
pub(crate) fn secret(json: &mut Json) {
    for part in ["data", "stringData"] {
        match json.get_mut(part) {
            Some(Json::Object(values)) => {
                values.values_mut().for_each(|value| *value = REDACTED.into());
            }
            Some(other) => *other = REDACTED.into(),
            None => {}
        }
    }
    if let Some(metadata) = json.get_mut("metadata").and_then(Json::as_object_mut) {
        metadata.remove("annotations");
    }
    if let Some(map) = json.as_object_mut() {
        map.retain(|name, _| ["apiVersion", "kind", "metadata", "type", "data", "stringData"].contains(&name.as_str()));
    }
}

/// A token written down where a secret should be named makes the document invalid; it is not shown for that. Of a document
/// with faults, neither is what an unknown field holds that sounds like one.
pub(crate) fn misplaced(json: &mut Json, has_faults: bool) {
    match json {
        Json::Object(map) => {
            for (name, value) in map {
                match (table().get(name.as_str()), &mut *value) {
                    (Some(_), Json::Null) => {}
                    (Some(known), Json::Object(below)) => below
                        .iter_mut()
                        .filter(|(name, value)| !fits(known.get(name.as_str()), value))
                        .for_each(|(_, value)| *value = REDACTED.into()),
                    (Some(_), _) => *value = REDACTED.into(),
                    (None, Json::Object(_) | Json::Array(_)) => {}
                    (None, _) if has_faults && (sounds_secret(name) || name == LAST_APPLIED) => {
                        *value = REDACTED.into();
                    }
                    (None, _) => {}
                }
                misplaced(value, has_faults);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| misplaced(item, has_faults)),
        _ => {}
    }
}

/// Whether a field with this name may hold a secret, as people name them.
pub(crate) fn sounds_secret(name: &str) -> bool {
    const WORDS: [&str; 12] = [
        "secret",
        "token",
        "passw",
        "pwd",
        "credential",
        "creds",
        "private",
        "secur",
        "apikey",
        "accesskey",
        "sasl",
        "nkey",
    ];
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Whether a value is what the schema has there. What is below in turn has an entry of its own.
fn fits(shapes: Option<&Vec<&'static Shape>>, value: &Json) -> bool {
    let fits = |shape: &&Shape| {
        let node = Node::from_json(value);
        let mut report = Report::default();
        check(shape, &node, node.at, &Path::Root, &mut report);
        report.found.is_empty()
    };
    match value {
        Json::Null => true,
        Json::Object(_) => shapes.is_some(),
        _ => shapes.is_some_and(|shapes| shapes.iter().any(fits)),
    }
}

fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let mut table = Table::new();
        for kind in Kind::ALL {
            collect(&described(kind).spec, &mut table);
        }
        table
    });
    &TABLE
}

fn collect(shape: &'static Shape, table: &mut Table) {
    match shape {
        Shape::Object(object) => {
            for field in &object.fields {
                if let Shape::Object(below) = &field.shape
                    && below.secret
                {
                    let known = table.entry(field.name).or_default();
                    for field in &below.fields {
                        known.entry(field.name).or_default().push(&field.shape);
                    }
                }
                collect(&field.shape, table);
            }
            object.may_be.iter().for_each(|shape| collect(shape, table));
        }
        Shape::Special { parts, .. } => parts.iter().for_each(|shape| collect(shape, table)),
        Shape::List { of, .. } => collect(of, table),
        Shape::Map(map) => collect(&map.of, table),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn shown(mut document: Json) -> String {
        misplaced(&mut document, true);
        document.to_string()
    }

    /// Proves: SR-6
    #[test]
    fn what_is_typed_where_a_secret_is_named_is_not_shown() {
        for document in [
            json!({ "spec": { "config": { "security": { "secretRef": "hunter2" } } } }),
            json!({ "spec": { "config": { "security": { "secretRef": ["hunter2"] } } } }),
            json!({ "spec": { "config": { "security": { "secretRef": { "name": "n", "password": "hunter2" } } } } }),
            json!({ "spec": { "config": { "security": { "secretRef": { "name": "Hunter2-hunter2!" } } } } }),
            json!({ "spec": { "config": { "security": { "password": "hunter2" } } } }),
            json!({ "spec": { "config": { "security": { "mechanism": "hunter2" } } } }),
            json!({ "spec": { "config": { "security": "hunter2" } } }),
            json!({ "spec": { "config": { "sasl.password": "hunter2" } } }),
            json!({ "spec": { "secretToken": "hunter2" } }),
            json!({ "spec": { "secretToken": { "secretKeyRef": "hunter2" } } }),
            json!({ "spec": { "secretToken": { "value": "hunter2" } } }),
            json!({ "spec": { "acessToken": "hunter2" } }),
            json!({ "spec": { "app": { "privateKey": "hunter2" } } }),
            json!({ "spec": { "gcpCredsSecret": "hunter2" } }),
            json!({ "spec": { "env": [{ "name": "A", "valueFrom": { "secretKeyRef": "hunter2" } }] } }),
            json!({ "metadata": { "annotations": { LAST_APPLIED: "{hunter2}" } } }),
        ] {
            let written = document.to_string();
            assert!(!shown(document).to_lowercase().contains("hunter2"), "{written}");
        }
    }

    #[test]
    fn a_valid_document_is_shown_as_it_is() {
        let security =
            json!({ "protocol": "SASL_SSL", "mechanism": "PLAIN", "secretRef": { "name": "kafka", "namespace": "a" } });
        let document = json!({ "spec": {
            "config": { "bootstrapServers": "h:1", "security": security },
            "secretToken": { "secretKeyRef": { "name": "github", "key": "token" } },
            "gcpCredsSecret": { "name": "g" }, "env": { "TOKEN": "plain" },
        } });
        let mut redacted = document.clone();
        misplaced(&mut redacted, false);
        assert_eq!(redacted, document);
    }
}
