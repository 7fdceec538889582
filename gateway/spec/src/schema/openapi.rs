//! A shape as a structural OpenAPI v3 schema, as `apiextensions.k8s.io/v1` wants it.

use serde_json::{Map, Value, json};

use super::{Object, Shape};

pub(crate) fn openapi(shape: &Shape, describe: &str) -> Value {
    let mut schema = match shape {
        Shape::Any => json!({ "x-kubernetes-preserve-unknown-fields": true }),
        Shape::Special { describe, .. } => {
            json!({ "x-kubernetes-preserve-unknown-fields": true, "description": describe })
        }
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
        Shape::Text(form) => {
            let mut text = json!({ "type": "string" });
            match form {
                super::Form::OneOf(words) => text["enum"] = json!(words),
                super::Form::Timestamp => text["format"] = json!("date-time"),
                _ => {
                    if let Some(pattern) = form.pattern() {
                        text["pattern"] = json!(pattern);
                    }
                }
            }
            text
        }
        Shape::List { of, min } => {
            let mut list = json!({ "type": "array", "items": openapi(of, "") });
            if *min > 0 {
                list["minItems"] = json!(min);
            }
            list
        }
        Shape::Map(of) => json!({ "type": "object", "additionalProperties": openapi(of, "") }),
        Shape::Object(object) => object_schema(object),
    };
    if !describe.is_empty() && schema.get("description").is_none() {
        schema["description"] = json!(describe);
    }
    schema
}

fn object_schema(object: &Object) -> Value {
    let mut schema = json!({ "type": "object" });
    let properties: Map<String, Value> = object
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
    let rules: Vec<_> = object
        .rules
        .iter()
        .map(|(rule, message)| json!({ "rule": rule, "message": message }))
        .collect();
    if !rules.is_empty() {
        schema["x-kubernetes-validations"] = rules.into();
    }
    schema
}
