//! Merges and compares JSON documents as Kubernetes does. Pure.
//!
//! Lists whose items all have a `name` (containers, variables, ports, volumes) are merged by it; other lists are
//! replaced. A `null` removes a member.

use serde_json::Value;

/// Merges `over` into `base`; `over` wins.
pub(super) fn overlay(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                match (base.get_mut(name), value) {
                    (_, Value::Null) => drop(base.remove(name)),
                    (Some(known), value) => overlay(known, value),
                    (None, value) => drop(base.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::Array(base), Value::Array(over)) if are_named(base) && are_named(over) => {
            for value in over {
                match base.iter_mut().find(|known| by_name(known, value)) {
                    Some(known) => overlay(known, value),
                    None => base.push(value.clone()),
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// Returns whether both have the same name.
pub(super) fn by_name(one: &Value, other: &Value) -> bool {
    one.get("name").is_some_and(|name| other.get("name") == Some(name))
}

fn are_named(list: &[Value]) -> bool {
    list.iter().all(|value| value.get("name").is_some_and(Value::is_string))
}

/// Returns whether `actual` has every field of `desired`. It may have more, such as defaults of the API server and
/// fields of other managers. Lists must have the same length; named items may be in another order.
pub(super) fn holds(actual: &Value, desired: &Value) -> bool {
    match (actual, desired) {
        (Value::Object(actual), Value::Object(desired)) => desired.iter().all(|(name, desired)| {
            let actual = actual.get(name).unwrap_or(&Value::Null);
            is_nothing(actual) && is_nothing(desired) || holds(actual, desired)
        }),
        (Value::Array(actual), Value::Array(desired)) if are_named(actual) && are_named(desired) => {
            let held = |desired: &Value| {
                actual
                    .iter()
                    .any(|actual| by_name(actual, desired) && holds(actual, desired))
            };
            actual.len() == desired.len() && desired.iter().all(held)
        }
        (Value::Array(actual), Value::Array(desired)) => {
            actual.len() == desired.len()
                && actual
                    .iter()
                    .zip(desired)
                    .all(|(actual, desired)| holds(actual, desired))
        }
        (actual, desired) => actual == desired,
    }
}

/// Returns the fields of `actual` that `desired` also sets. Lists are kept whole, because their other entries matter.
pub(super) fn part(actual: &Value, desired: &Value) -> Value {
    match (actual, desired) {
        (Value::Object(actual), Value::Object(desired)) => {
            let parts = desired.iter().map(|(name, desired)| {
                let actual = actual.get(name).unwrap_or(&Value::Null);
                (name.clone(), part(actual, desired))
            });
            Value::Object(parts.collect())
        }
        (Value::Array(actual), Value::Array(desired)) if are_named(actual) && are_named(desired) => {
            let of = |actual: &Value| match desired.iter().find(|desired| by_name(actual, desired)) {
                Some(desired) => part(actual, desired),
                None => actual.clone(),
            };
            actual.iter().map(of).collect()
        }
        (Value::Array(actual), Value::Array(desired)) if actual.len() == desired.len() => actual
            .iter()
            .zip(desired)
            .map(|(actual, desired)| part(actual, desired))
            .collect(),
        (actual, _) => actual.clone(),
    }
}

/// The API server leaves out empty values.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(is) => !is,
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn named_things_are_merged_and_other_lists_replaced() {
        let cases = [
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": null}}),
                json!({"a": {"c": 2}}),
            ),
            (
                json!({"drop": ["ALL"]}),
                json!({"drop": ["RAW"]}),
                json!({"drop": ["RAW"]}),
            ),
            (
                json!([{"name": "a", "x": 1}]),
                json!([{"name": "b"}, {"name": "a", "y": 2}]),
                json!([{"name": "a", "x": 1, "y": 2}, {"name": "b"}]),
            ),
        ];
        for (mut base, over, expected) in cases {
            overlay(&mut base, &over);
            assert_eq!(base, expected, "{over}");
        }
    }

    #[test]
    fn a_part_is_what_is_spoken_of_and_whole_lists() {
        let desired = json!({"a": {"b": 1}, "list": [{"name": "x", "cpu": "0.5"}], "plain": [{"c": 1}], "gone": 1});
        let actual = json!({
            "a": {"b": 2, "more": 3}, "list": [{"name": "x", "cpu": "500m", "more": 1}, {"name": "y", "z": 1}],
            "plain": [{"c": 4, "d": 5}], "status": {},
        });
        let expected = json!({
            "a": {"b": 2}, "list": [{"name": "x", "cpu": "500m"}, {"name": "y", "z": 1}], "plain": [{"c": 4}], "gone": null,
        });
        assert_eq!(part(&actual, &desired), expected);
    }

    #[test]
    fn what_the_server_filled_in_is_no_drift() {
        let desired = json!({"spec": {"replicas": 1, "x": "", "list": [{"name": "a", "v": 1}], "no": false}});
        for actual in [
            json!({"spec": {"replicas": 1, "list": [{"name": "a", "v": 1, "filled": "in"}], "more": 2}}),
            json!({"spec": {"replicas": 1, "x": "", "list": [{"name": "a", "v": 1}], "no": false}, "status": {}}),
        ] {
            assert!(holds(&actual, &desired), "{actual}");
        }
        for actual in [
            json!({"spec": {"replicas": 2, "list": [{"name": "a", "v": 1}]}}),
            json!({"spec": {"replicas": 1, "list": [{"name": "a", "v": 2}]}}),
            json!({"spec": {"replicas": 1, "list": [{"name": "a", "v": 1}, {"name": "b"}]}}),
            json!({"spec": {"replicas": 1, "list": []}}),
            json!({}),
        ] {
            assert!(!holds(&actual, &desired), "{actual}");
        }
    }
}
