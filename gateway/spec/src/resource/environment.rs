//! Environment variables of a container: a list as Kubernetes has it, or a map.

use serde_json::{Value as Json, json};

use super::{SecretSelector, Unread, sources::keyed};
use crate::{
    schema::{
        FieldType, Form, Path, Report, Shape, check, declare::field_type, document_struct, map, openapi, settings,
        short_list, special::typeless,
    },
    tree::{Node, Value},
};

/// As many as a process can be expected to read; the API server has to know how many there can be.
const VARIABLES_MAX: usize = 512;

/// A list's variables in the order written, a map's by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment(pub Vec<Variable>);

document_struct! {
    /// An environment variable.
    pub struct Variable {
        /// The variable's name.
        name: String [Shape::Text(Form::Filled)],
        /// Its value.
        value: Option<String>,
        /// Where its value comes from.
        value_from: Option<ValueFrom>,
    }
}

/// Where a variable's value comes from, as it is written, and the secret if it is one.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueFrom {
    pub written: Json,
    pub secret: Option<SecretSelector>,
}

document_struct! {
    /// The places that a value may come from.
    pub struct ValueSource {
        /// A secret's key.
        secret_key_ref: Option<SecretSelector> [keyed()],
        /// On Kubernetes alone.
        config_map_key_ref: Unread [settings()],
        /// On Kubernetes alone.
        field_ref: Unread [settings()],
        /// On Kubernetes alone.
        resource_field_ref: Unread [settings()],
    }
}

field_type!(ValueFrom, ValueSource::shape(), None, |node| {
    Ok(Self {
        written: node.to_json_without_nulls(),
        secret: ValueSource::read(node)?.secret_key_ref,
    })
});

field_type!(
    Environment,
    Shape::Special {
        check: environment,
        openapi: schema,
        parts: vec![Variable::shape()]
    },
    Some(Self::default()),
    |node| {
        let Value::Map(entries) = &node.value else {
            return FieldType::read(node).map(Self);
        };
        let variables = entries.iter().map(|(key, value)| {
            Ok(Variable {
                name: key.name.clone(),
                value: Some(String::read(value)?),
                value_from: None,
            })
        });
        let mut variables = variables.collect::<Result<Vec<_>, String>>()?;
        variables.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self(variables))
    }
);

fn schema() -> Json {
    let mut variable = openapi(&Variable::shape(), "");
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
fn environment(node: &Node, path: &Path<'_>, report: &mut Report) {
    match &node.value {
        Value::List(_) => check(
            &short_list(Variable::shape(), VARIABLES_MAX),
            node,
            node.at,
            path,
            report,
        ),
        Value::Map(_) => check(&map(Shape::Text(Form::Free)), node, node.at, path, report),
        _ => report.add(
            node.at,
            path,
            format!("expected a list of {{name, value}} or a map, found {}", node.kind()),
        ),
    }
}
