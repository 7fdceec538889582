//! Objects that occur several times in a schema are written once, below `definitions`: a target, a reference to a secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Shorter objects are clearer where they are used.
const BYTES_MIN: usize = 400;

/// The same schema, with references in place of repeated objects.
pub(super) fn shared(schema: &Value) -> Value {
    let mut uses = BTreeMap::new();
    count(schema, "", &mut uses);
    let known: Vec<String> = schema["definitions"]
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .cloned()
        .collect();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (object, (count, field)) in uses {
        if count > 1 {
            let taken = |name: &String| names.values().chain(&known).any(|other| other == name);
            let numbered = (2..).map(|number| format!("{field}{number}"));
            let name = std::iter::once(field.clone()).chain(numbered).find(|name| !taken(name));
            names.extend(name.map(|name| (object, name)));
        }
    }
    let mut definitions = Map::new();
    let mut schema = replaced(schema, &names, &mut definitions);
    if !definitions.is_empty() {
        let known = schema["definitions"].as_object().cloned().into_iter().flatten();
        schema["definitions"] = known.chain(definitions).collect();
    }
    schema
}

/// The text of an object without its description, which belongs to the field that has the object.
fn text(schema: &Value) -> Option<String> {
    if schema["type"] != "object" || schema.get("properties").is_none() {
        return None;
    }
    Some(bare(schema).to_string()).filter(|text| text.len() >= BYTES_MIN)
}

fn bare(schema: &Value) -> Value {
    let mut bare = schema.clone();
    if let Value::Object(words) = &mut bare {
        words.remove("description");
    }
    bare
}

/// Counts uses of each object; the first field that has it names it.
fn count(schema: &Value, field: &str, uses: &mut BTreeMap<String, (usize, String)>) {
    if let Some(text) = text(schema) {
        uses.entry(text).or_insert_with(|| (0, field.to_owned())).0 += 1;
    }
    match schema {
        Value::Object(words) => {
            for (word, part) in words {
                match part {
                    Value::Object(fields) if word == "properties" => {
                        fields.iter().for_each(|(name, part)| count(part, name, uses));
                    }
                    _ => count(part, field, uses),
                }
            }
        }
        Value::Array(parts) => parts.iter().for_each(|part| count(part, field, uses)),
        _ => {}
    }
}

fn replaced(schema: &Value, names: &BTreeMap<String, String>, definitions: &mut Map<String, Value>) -> Value {
    let inner = match schema {
        Value::Object(words) => {
            let words = words
                .iter()
                .map(|(word, part)| (word.clone(), replaced(part, names, definitions)));
            Value::Object(words.collect())
        }
        Value::Array(parts) => parts.iter().map(|part| replaced(part, names, definitions)).collect(),
        other => other.clone(),
    };
    let Some(name) = text(schema).and_then(|text| names.get(&text)) else {
        return inner;
    };
    definitions.insert(name.clone(), bare(&inner));
    let mut reference = json!({ "$ref": format!("#/definitions/{name}") });
    if let Some(description) = schema.get("description") {
        reference["description"] = description.clone();
    }
    reference
}
