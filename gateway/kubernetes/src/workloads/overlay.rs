//! One JSON document laid over another, and whether one holds what another says. Pure.
//!
//! Lists of things that have a `name` (containers, variables, ports, volumes) are merged by it, as Kubernetes merges them;
//! other lists are replaced. A `null` takes away what stood there.

use serde_json::Value;

/// What `over` says wins.
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

/// Both have one, and it is the same.
pub(super) fn by_name(one: &Value, other: &Value) -> bool {
    one.get("name").is_some_and(|name| other.get("name") == Some(name))
}

fn are_named(list: &[Value]) -> bool {
    list.iter().all(|value| value.get("name").is_some_and(Value::is_string))
}

/// Whether `found` says everything that `wanted` says; more may stand there: what the API server filled in, what others own.
/// Lists have to be as long, and named things may stand in another order.
pub(super) fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            let found = found.get(name).unwrap_or(&Value::Null);
            is_nothing(found) && is_nothing(wanted) || holds(found, wanted)
        }),
        (Value::Array(found), Value::Array(wanted)) if are_named(found) && are_named(wanted) => {
            let held = |wanted: &Value| found.iter().any(|found| by_name(found, wanted) && holds(found, wanted));
            found.len() == wanted.len() && wanted.iter().all(held)
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| holds(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

/// Of what `found` says, that which `wanted` speaks of; whole lists, for what else is in them matters.
pub(super) fn part(found: &Value, wanted: &Value) -> Value {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            let parts = wanted.iter().map(|(name, wanted)| {
                let found = found.get(name).unwrap_or(&Value::Null);
                (name.clone(), part(found, wanted))
            });
            Value::Object(parts.collect())
        }
        (Value::Array(found), Value::Array(wanted)) if are_named(found) && are_named(wanted) => {
            let of = |found: &Value| match wanted.iter().find(|wanted| by_name(found, wanted)) {
                Some(wanted) => part(found, wanted),
                None => found.clone(),
            };
            found.iter().map(of).collect()
        }
        (Value::Array(found), Value::Array(wanted)) if found.len() == wanted.len() => found
            .iter()
            .zip(wanted)
            .map(|(found, wanted)| part(found, wanted))
            .collect(),
        (found, _) => found.clone(),
    }
}

/// The API server leaves out what is empty.
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
        let wanted = json!({"a": {"b": 1}, "list": [{"name": "x", "cpu": "0.5"}], "plain": [{"c": 1}], "gone": 1});
        let found = json!({
            "a": {"b": 2, "more": 3}, "list": [{"name": "x", "cpu": "500m", "more": 1}, {"name": "y", "z": 1}],
            "plain": [{"c": 4, "d": 5}], "status": {},
        });
        let expected = json!({
            "a": {"b": 2}, "list": [{"name": "x", "cpu": "500m"}, {"name": "y", "z": 1}], "plain": [{"c": 4}], "gone": null,
        });
        assert_eq!(part(&found, &wanted), expected);
    }

    #[test]
    fn what_the_server_filled_in_is_no_drift() {
        let wanted = json!({"spec": {"replicas": 1, "x": "", "list": [{"name": "a", "v": 1}], "no": false}});
        for found in [
            json!({"spec": {"replicas": 1, "list": [{"name": "a", "v": 1, "filled": "in"}], "more": 2}}),
            json!({"spec": {"replicas": 1, "x": "", "list": [{"name": "a", "v": 1}], "no": false}, "status": {}}),
        ] {
            assert!(holds(&found, &wanted), "{found}");
        }
        for found in [
            json!({"spec": {"replicas": 2, "list": [{"name": "a", "v": 1}]}}),
            json!({"spec": {"replicas": 1, "list": [{"name": "a", "v": 2}]}}),
            json!({"spec": {"replicas": 1, "list": [{"name": "a", "v": 1}, {"name": "b"}]}}),
            json!({"spec": {"replicas": 1, "list": []}}),
            json!({}),
        ] {
            assert!(!holds(&found, &wanted), "{found}");
        }
    }
}
