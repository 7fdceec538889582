//! A shape as a structural OpenAPI v3 schema, as `apiextensions.k8s.io/v1` wants it.

use serde_json::{Value, json};

use super::{
    Form, Map, Object, Shape,
    rules::{Fixed, Rule, form_rules, key_rules, without},
};

pub(crate) fn openapi(shape: &Shape, describe: &str) -> Value {
    let mut schema = match shape {
        Shape::Any => json!({ "x-kubernetes-preserve-unknown-fields": true }),
        Shape::Special { openapi, .. } => openapi(),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer { min, max } => {
            let mut number = json!({ "type": "integer", "format": "int64", "minimum": min });
            // The largest there is is no bound, and no float64 holds it, which JSON schema's bounds are.
            if *max < i64::MAX {
                number["maximum"] = json!(max);
            }
            number
        }
        Shape::Quantity => json!({ "x-kubernetes-int-or-string": true, "pattern": r"^\d+(Ki|Mi|Gi|Ti|k|M|G|T)?$" }),
        Shape::Text(form) => text_schema(*form),
        Shape::List { of, min, max, key } => {
            let mut list = json!({ "type": "array", "items": openapi(of, "") });
            if *min > 0 {
                list["minItems"] = json!(min);
            }
            if let Some(max) = max {
                list["maxItems"] = json!(max);
            }
            if let Some(key) = key {
                list["x-kubernetes-list-type"] = json!("map");
                list["x-kubernetes-list-map-keys"] = json!([key]);
            }
            list
        }
        Shape::Map(map) => map_schema(map),
        Shape::Object(object) => object_schema(object),
    };
    if !describe.is_empty() && schema.get("description").is_none() {
        schema["description"] = json!(describe);
    }
    schema
}

fn text_schema(form: Form) -> Value {
    let mut text = json!({ "type": "string" });
    match form {
        Form::OneOf(words) => text["enum"] = json!(words),
        Form::Timestamp => text["format"] = json!("date-time"),
        _ => {}
    }
    if let Some(max) = form.max() {
        text["maxLength"] = json!(max);
    }
    validations(&mut text, form_rules(form));
    text
}

fn map_schema(map: &Map) -> Value {
    let mut schema = json!({ "type": "object", "additionalProperties": openapi(&map.of, "") });
    if let Some(max) = map.max {
        schema["maxProperties"] = json!(max);
    }
    let mut rules = key_rules(map.keys);
    let (not, words) = map.not;
    if !not.is_empty() {
        rules.push(without(not, words));
    }
    validations(&mut schema, rules);
    schema
}

pub(crate) fn validations(schema: &mut Value, rules: Vec<Value>) {
    if !rules.is_empty() {
        schema["x-kubernetes-validations"] = rules.into();
    }
}

fn object_schema(object: &Object) -> Value {
    let mut schema = json!({ "type": "object" });
    let properties: serde_json::Map<String, Value> = object
        .fields
        .iter()
        .map(|field| (field.name.to_owned(), openapi(&field.shape, field.describe)))
        .collect();
    if !properties.is_empty() {
        schema["properties"] = properties.into();
    }
    let required: Vec<_> = object
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if object.open {
        schema["x-kubernetes-preserve-unknown-fields"] = json!(true);
    }
    let rules = object.rules.iter().map(Rule::cel);
    let rules = rules.chain(object.fixed.iter().map(Fixed::cel)).collect();
    validations(&mut schema, rules);
    schema
}
