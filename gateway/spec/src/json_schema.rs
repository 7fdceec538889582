//! JSON Schema of documents, for editors (`headgate schema`): made from the schemas that the CRDs carry.
//!
//! Draft 07, which every editor's YAML support reads. The schema refuses what the API server refuses when an object is
//! created; it knows more about `arguments` and `config`, whose fields depend on the backend. It cannot compare a document
//! with its predecessor (immutable fields) or with other documents, and it does not parse filter expressions.

mod cel;
mod definitions;

use serde_json::{Map, Value, json};

use crate::{
    Kind,
    crds::{self, Settings},
    model::BackendKind,
    provisioners,
};

/// The definition that refers to itself.
const FILTER: &str = "filter";

const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema of documents of one kind, or of all kinds that Headgate reads. Documents of other groups pass the latter,
/// because a file may hold them.
pub fn json_schema(kind: Option<Kind>) -> Value {
    let mut schema = definitions::shared(&kind.map_or_else(all, document));
    schema["$schema"] = json!(DRAFT);
    schema
}

fn all() -> Value {
    let mut definitions = Map::new();
    for kind in Kind::ALL {
        let mut schema = document(kind);
        if let Some(Value::Object(own)) = schema.as_object_mut().and_then(|schema| schema.remove("definitions")) {
            definitions.extend(own);
        }
        definitions.insert(kind.as_str().to_owned(), schema);
    }
    let each = Kind::ALL.into_iter().map(|kind| {
        let is_kind = json!({ "apiVersion": { "const": kind.api_version() }, "kind": { "const": kind.as_str() } });
        json!({
            "if": { "required": ["apiVersion", "kind"], "properties": is_kind },
            "then": { "$ref": format!("#/definitions/{kind}") },
        })
    });
    let list = json!({
        "if": { "required": ["kind"], "properties": { "kind": { "const": "List" } } },
        "then": { "properties": { "items": { "type": "array", "items": { "$ref": "#" } } } },
    });
    json!({
        "title": "A document of Headgate",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": { "type": "string", "minLength": 1, "examples": versions() },
            "kind": { "type": "string", "minLength": 1, "examples": Kind::ALL.map(Kind::as_str) },
        },
        "allOf": each.chain([our_groups(), list]).collect::<Vec<_>>(),
        "definitions": definitions,
    })
}

fn versions() -> Vec<&'static str> {
    let mut versions = Kind::ALL.map(Kind::api_version).to_vec();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// A document of one of our groups has a kind of that group: a misspelled kind is not a document of another program.
fn our_groups() -> Value {
    let group = |version: &&str| version.contains(".knative.dev/");
    let kinds_of = |version: &str| {
        let kinds: Vec<_> = Kind::ALL
            .into_iter()
            .filter(|kind| kind.api_version() == version)
            .map(Kind::as_str)
            .collect();
        json!({ "properties": { "apiVersion": { "const": version }, "kind": { "enum": kinds } } })
    };
    let ours: Vec<&str> = versions().into_iter().filter(group).collect();
    json!({
        "if": {
            "required": ["apiVersion"],
            "properties": { "apiVersion": { "pattern": r"^(sources\.)?eventing\.knative\.dev/" } },
        },
        "then": { "anyOf": ours.into_iter().map(kinds_of).collect::<Vec<_>>() },
    })
}

fn document(kind: Kind) -> Value {
    let mut schema = converted(&crds::schema(kind));
    schema["title"] = json!(kind.as_str());
    let mut required = vec!["apiVersion", "kind", "metadata"];
    if schema["required"] == json!(["spec"]) {
        required.push("spec");
    }
    schema["required"] = json!(required);
    let properties = &mut schema["properties"];
    properties["apiVersion"] =
        json!({ "const": kind.api_version(), "description": "The group and version of the kind." });
    properties["kind"] = json!({ "const": kind.as_str(), "description": "The kind of the document." });
    properties["metadata"] = metadata(kind);
    properties["status"] =
        json!({ "description": "The observed state. The gateway writes it and does not read it from files." });
    match kind {
        Kind::Channel => add_arguments(&mut schema),
        Kind::ClusterChannelProvisioner => add_config(&mut schema),
        Kind::Subscription => nest_filters(&mut schema),
        Kind::Secret => add_values(&mut schema),
        _ => {}
    }
    if !kind.is_ours() {
        schema["additionalProperties"] = json!(true);
    }
    schema
}

/// Kubernetes checks metadata by itself; in files the gateway does.
fn metadata(kind: Kind) -> Value {
    const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    let text = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let mut metadata = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": { "type": "string", "maxLength": 253, "pattern": NAME, "description": "The name, unique among documents of the kind in a namespace." },
            "labels": text,
            "annotations": text,
        },
    });
    if !kind.is_cluster_scoped() {
        metadata["properties"]["namespace"] = json!({
            "type": "string", "maxLength": 63, "pattern": LABEL, "description": "The namespace. Default `default`.",
        });
    }
    metadata
}

/// `arguments` of a channel: those of the backend that the provisioner's name means, or of any.
fn add_arguments(schema: &mut Value) {
    let each = BackendKind::ALL.map(|backend| {
        let arguments = titled(backend, converted(&crds::settings(backend, Settings::Arguments)));
        (backend, arguments)
    });
    let named = |names: Vec<&str>| {
        let name = json!({ "name": { "enum": names } });
        let provisioner = json!({ "provisioner": { "required": ["name"], "properties": name } });
        json!({ "required": ["provisioner"], "properties": provisioner })
    };
    let by_name = each.iter().map(|(backend, arguments)| {
        json!({
            "if": named(provisioners::names(*backend).to_vec()),
            "then": { "properties": { "arguments": arguments } },
        })
    });
    let known = BackendKind::ALL.into_iter().flat_map(provisioners::names).copied();
    let any: Vec<&Value> = each.iter().map(|(_, arguments)| arguments).collect();
    let by_default = json!({
        "if": { "not": named(known.collect()) },
        "then": { "properties": { "arguments": { "anyOf": any } } },
    });
    schema["properties"]["spec"]["allOf"] = by_name.chain([by_default]).collect();
}

/// `config` of a provisioner: that of its `backend`, or of the backend that its name means.
fn add_config(schema: &mut Value) {
    let by_backend = BackendKind::ALL.map(|backend| {
        let named = json!({ "name": { "enum": provisioners::names(backend) } });
        let says = json!({ "spec": { "required": ["backend"], "properties": { "backend": { "const": backend } } } });
        let config = titled(backend, converted(&crds::settings(backend, Settings::Config)));
        json!({
            "if": { "anyOf": [
                { "required": ["spec"], "properties": says },
                { "properties": { "metadata": { "required": ["name"], "properties": named } } },
            ] },
            "then": { "properties": { "spec": { "properties": { "config": config } } } },
        })
    });
    let rules = schema["allOf"].as_array().cloned().into_iter().flatten();
    schema["allOf"] = rules.chain(by_backend).collect();
}

/// Filters inside of filters, which the schema of a CRD cannot describe.
fn nest_filters(schema: &mut Value) {
    let filter = json!({ "$ref": format!("#/definitions/{FILTER}") });
    let items = &mut schema["properties"]["spec"]["properties"]["filters"]["items"];
    let mut definition = std::mem::replace(items, filter.clone());
    let properties = &mut definition["properties"];
    for (dialect, description) in [
        ("all", "Every one of these filters passes."),
        ("any", "At least one of these filters passes."),
    ] {
        properties[dialect]["items"] = filter.clone();
        properties[dialect]["description"] = json!(description);
    }
    properties["not"] = filter;
    properties["not"]["description"] = json!("This filter does not pass.");
    for dialect in ["cesql", "sql"] {
        properties[dialect]["minLength"] = json!(1);
    }
    schema["definitions"] = json!({ FILTER: definition });
}

fn titled(backend: BackendKind, mut schema: Value) -> Value {
    schema["title"] = json!(backend);
    schema
}

fn add_values(schema: &mut Value) {
    let values = |described: &str| {
        json!({
            "type": "object",
            "description": described,
            "propertyNames": { "pattern": "^(?!\\.{1,2}$)(?!\\.\\.)[-._a-zA-Z0-9]+$" },
            "additionalProperties": { "type": "string" },
        })
    };
    let properties = &mut schema["properties"];
    if let Value::Object(properties) = properties {
        properties.remove("spec");
    }
    properties["stringData"] = values("Keys and their values as text. They win over `data`.");
    properties["data"] = values("Keys and their values in base64.");
    properties["type"] = json!({ "type": "string", "description": "Kubernetes' type of the secret. Not read." });
}

/// An OpenAPI schema of a CRD as JSON Schema: Kubernetes' own words are translated, and a map with described fields has no
/// others.
fn converted(schema: &Value) -> Value {
    let Value::Object(words) = schema else {
        return schema.clone();
    };
    let mut made = Map::new();
    for (word, value) in words {
        match (word.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                let properties = properties.iter().map(|(name, part)| (name.clone(), converted(part)));
                made.insert(word.clone(), Value::Object(properties.collect()));
            }
            ("items" | "additionalProperties" | "not", part) => {
                made.insert(word.clone(), converted(part));
            }
            ("anyOf", Value::Array(parts)) => {
                made.insert(word.clone(), parts.iter().map(converted).collect());
            }
            ("pattern", Value::String(pattern)) => {
                made.insert(word.clone(), json!(cel::ecma(pattern)));
            }
            ("x-kubernetes-validations", Value::Array(rules)) => add_rules(&mut made, rules),
            ("x-kubernetes-int-or-string", _) => {
                made.insert("type".to_owned(), json!(["integer", "string"]));
                made.insert("minimum".to_owned(), json!(0));
            }
            // An integer of 64 bits is an integer; what else is Kubernetes' own has no counterpart.
            ("format", Value::String(format)) if format == "int64" => {}
            (own, _) if own.starts_with("x-kubernetes-") => {}
            _ => {
                made.insert(word.clone(), value.clone());
            }
        }
    }
    let is_open = words.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if made.contains_key("properties") && !is_open {
        made.insert("additionalProperties".to_owned(), json!(false));
    }
    Value::Object(made)
}

/// Rules that JSON Schema can say. A rule over one text becomes its pattern, with the rule's message for editors that show it.
fn add_rules(made: &mut Map<String, Value>, rules: &[Value]) {
    let mut all = Vec::new();
    for rule in rules {
        let Some(mut translated) = rule["rule"].as_str().and_then(cel::schema) else {
            continue;
        };
        let message = if translated.get("pattern").is_some() {
            "patternErrorMessage"
        } else {
            "errorMessage"
        };
        translated[message] = rule["message"].clone();
        all.push(translated);
    }
    match <[Value; 1]>::try_from(all) {
        Ok([Value::Object(one)]) if one.contains_key("pattern") => made.extend(one),
        Ok(one) => drop(made.insert("allOf".to_owned(), json!(one))),
        Err(several) if several.is_empty() => {}
        Err(several) => drop(made.insert("allOf".to_owned(), json!(several))),
    }
}

#[cfg(test)]
mod tests;
