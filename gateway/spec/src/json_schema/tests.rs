#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

#[test]
fn rules_become_conditions_and_patterns() {
    for (rule, expected) in [
        ("has(self.a)", json!({ "required": ["a"] })),
        (
            "(has(self.a) || has(self.b.__namespace__))",
            json!({ "anyOf": [
                { "required": ["a"] },
                { "required": ["b"], "properties": { "b": { "required": ["namespace"] } } },
            ] }),
        ),
        (
            "(!has(self.a) || !((has(self.b) && self.b == 'it\\'s')))",
            json!({
                "if": { "required": ["a"] },
                "then": { "not": { "allOf": [
                    { "required": ["b"] },
                    { "required": ["b"], "properties": { "b": { "const": "it's" } } },
                ] } },
            }),
        ),
        (
            "(has(self.c) && self.c in ['x', 'y'])",
            json!({ "allOf": [
                { "required": ["c"] },
                { "required": ["c"], "properties": { "c": { "enum": ["x", "y"] } } },
            ] }),
        ),
        ("self.matches('^\\\\d$')", json!({ "pattern": "^\\d$" })),
        (
            "self.k.startsWith('a.b/')",
            json!({ "required": ["k"], "properties": { "k": { "pattern": "^a\\.b\\/" } } }),
        ),
        (
            "self.on",
            json!({ "required": ["on"], "properties": { "on": { "const": true } } }),
        ),
        (
            "self.all(key, key.matches('^a$'))",
            json!({ "propertyNames": { "pattern": "^a$" } }),
        ),
        (
            "self.all(key, !(key in ['id']))",
            json!({ "propertyNames": { "not": { "enum": ["id"] } } }),
        ),
    ] {
        assert_eq!(cel::schema(rule), Some(expected), "{rule}");
    }
    for rule in [
        "self.a == oldSelf.a",
        "size(self.a) > 1",
        "has(self.a) &&",
        "self.a == 'x",
        "",
    ] {
        assert_eq!(cel::schema(rule), None, "{rule}");
    }
}

#[test]
fn inline_flags_of_a_pattern_are_written_out() {
    for (pattern, expected) in [
        (
            r"^(?i:https?|h2c)://[^\s/?#:]\S*$",
            r"^(?:[hH][tT][tT][pP][sS]?|[hH]2[cC])://[^\s/?#:]\S*$",
        ),
        ("^(?s:...)", r"^(?:[\s\S][\s\S][\s\S])"),
        (r"^((?i:a(b)[c]):|\(x.)$", r"^((?:[aA]([bB])[c]):|\(x.)$"),
    ] {
        assert_eq!(cel::ecma(pattern), expected);
    }
}

/// Only rules that compare with the former object are left out. A new rule that JSON Schema cannot express fails here.
#[test]
fn every_rule_over_one_document_is_translated() {
    fn walk(kind: Kind, schema: &Value) {
        match schema {
            Value::Object(words) => {
                for rule in words
                    .get("x-kubernetes-validations")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    let rule = rule["rule"].as_str().unwrap();
                    assert!(
                        rule.contains("oldSelf") || cel::schema(rule).is_some(),
                        "{kind}: {rule}"
                    );
                }
                words.values().for_each(|part| walk(kind, part));
            }
            Value::Array(parts) => parts.iter().for_each(|part| walk(kind, part)),
            _ => {}
        }
    }
    Kind::ALL.into_iter().for_each(|kind| walk(kind, &crds::schema(kind)));
}

/// The schema with each reference replaced by its definition, except for the one that refers to itself.
fn inlined(schema: &Value, definitions: &Value) -> Value {
    match schema {
        Value::Object(words) => {
            let name = words
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|name| name.strip_prefix("#/definitions/"))
                .filter(|name| *name != FILTER);
            let mut made = name.map_or_else(Map::new, |name| {
                inlined(&definitions[name], definitions).as_object().cloned().unwrap()
            });
            for (word, part) in words.iter().filter(|(word, _)| name.is_none() || *word != "$ref") {
                made.insert(word.clone(), inlined(part, definitions));
            }
            Value::Object(made)
        }
        Value::Array(parts) => parts.iter().map(|part| inlined(part, definitions)).collect(),
        other => other.clone(),
    }
}

#[test]
fn a_repeated_object_is_defined_once_and_means_the_same() {
    let all = json_schema(None);
    assert!(all.to_string().len() < 150_000, "{} bytes", all.to_string().len());
    for kind in Kind::ALL {
        let mut one = json_schema(Some(kind));
        let own = one.as_object_mut().unwrap();
        assert_eq!(own.remove("$schema"), Some(json!(DRAFT)));
        let definitions = own.remove("definitions").unwrap_or_default();
        let mut expected = document(kind);
        let filter = expected.as_object_mut().unwrap().remove("definitions");
        for (schema, definitions) in [
            (&all["definitions"][kind.as_str()], &all["definitions"]),
            (&one, &definitions),
        ] {
            assert_eq!(inlined(schema, definitions), expected);
            if let Some(filter) = &filter {
                assert_eq!(inlined(&definitions[FILTER], definitions), filter[FILTER]);
            }
        }
    }
}
