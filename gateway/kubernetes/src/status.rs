//! What is written into an object's status, and when it is worth a write. Pure.
//!
//! What a person waits for (conditions, addresses, the observed generation) is written as soon as it differs; what moves with
//! the traffic (counts, times, the words of a message) at most once a minute, for a status is no metric. A status that is as
//! it should be is not written at all.

use std::time::Duration;

use serde_json::{Map, Value, json};
use spec::{Condition, Status, observed::Truth};

/// How often what moves with the traffic is written, per object.
pub(crate) const UNHURRIED: Duration = Duration::from_secs(60);

/// Fields that change because somebody changed something.
const STEADY: [&str; 8] = [
    "observedGeneration",
    "address",
    "provisioner",
    "subscribers",
    "physicalSubscription",
    "sinkUri",
    "durability",
    "paused",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    Unhurried,
    Now,
}

/// The status as it should be. Times of transitions go on from what is there: they outlive the gateway.
pub(crate) fn wanted(observed: &Status, generation: Option<i64>, there: &Value) -> Value {
    let conditions: Vec<Value> = observed
        .conditions
        .iter()
        .map(|condition| shown(condition, there))
        .collect();
    let mut status = Map::new();
    if let Some(generation) = generation {
        status.insert("observedGeneration".into(), json!(generation));
    }
    status.insert("conditions".into(), json!(conditions));
    status.extend(observed.fields.clone());
    without_nulls(Value::Object(status))
}

/// The API server drops what says nothing, which would look like a difference for ever.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let said = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(said.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

fn shown(condition: &Condition, there: &Value) -> Value {
    let mut shown = json!({ "type": condition.kind, "status": truth(condition.status) });
    for (name, value) in [
        ("severity", &condition.severity),
        ("reason", &condition.reason),
        ("message", &condition.message),
    ] {
        if !value.is_empty() {
            shown[name] = json!(value);
        }
    }
    let former = find(there, &condition.kind).filter(|former| former["status"] == shown["status"]);
    let since = former.and_then(|former| former["lastTransitionTime"].as_str());
    // Whole seconds, as everywhere in Kubernetes.
    let now = condition
        .last_transition_time
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    shown["lastTransitionTime"] = json!(since.unwrap_or(&now));
    shown
}

fn truth(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "True",
        Truth::False => "False",
        Truth::Unknown => "Unknown",
    }
}

pub(crate) fn find<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

pub(crate) fn need(there: &Value, wanted: &Value) -> Need {
    let there = &sorted(there);
    if there == wanted {
        return Need::Nothing;
    }
    let telling = |status: &Value| -> Vec<[Value; 3]> {
        let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let facts = |condition: &Value| ["type", "status", "reason"].map(|name| condition[name].clone());
        conditions.iter().map(facts).collect()
    };
    let is_steady = STEADY.iter().all(|name| there.get(name) == wanted.get(name));
    match is_steady && telling(there) == telling(wanted) {
        true => Need::Unhurried,
        false => Need::Now,
    }
}

/// The API server keeps conditions in the order in which they first came; ours are by type.
fn sorted(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.sort_by(|a, b| a["type"].as_str().cmp(&b["type"].as_str()));
    }
    status
}

/// What is told as an Event of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) is_warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// Whether an object became ready, or stopped being so.
pub(crate) fn happening(there: &Value, wanted: &Value) -> Option<Happening> {
    let (before, now) = (find(there, "Ready"), find(wanted, "Ready")?);
    let facts = |ready: &Value| (ready["status"].clone(), ready["reason"].clone());
    if before.is_some_and(|before| facts(before) == facts(now)) {
        return None;
    }
    let text = |name: &str| now[name].as_str().unwrap_or_default().to_owned();
    match now["status"].as_str() {
        Some("True") => Some(Happening {
            is_warning: false,
            reason: "Ready".to_owned(),
            note: "it is ready".to_owned(),
        }),
        // On its way: what comes of it is told.
        _ if now["reason"] == "Deploying" => None,
        _ => Some(Happening {
            is_warning: true,
            reason: text("reason"),
            note: text("message"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use spec::Severity;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn resolved(second: i64) -> Status {
        let mut status = Status::default();
        status.met("Resolved", Severity::Error, at(second));
        status
    }

    fn unresolved(second: i64, message: &str) -> Status {
        let mut status = Status::default();
        status.unmet("Resolved", Severity::Error, ("NotFound", message), at(second));
        status
    }

    #[test]
    fn a_status_that_is_as_it_should_be_is_not_written_although_the_gateway_started_anew() {
        let there = wanted(&resolved(1), Some(2), &Value::Null);
        assert_eq!(there["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:01Z");
        assert_eq!(need(&there, &wanted(&resolved(9), Some(2), &there)), Need::Nothing);
        let mut turned = there;
        if let Some(conditions) = turned["conditions"].as_array_mut() {
            conditions.reverse();
        }
        let mut silent = resolved(9);
        silent.fields.insert("replyURI".into(), Value::Null);
        assert_eq!(need(&turned, &wanted(&silent, Some(2), &turned)), Need::Nothing);
    }

    #[test]
    fn what_a_person_waits_for_is_written_at_once_and_what_moves_by_itself_is_not() {
        let there = wanted(&unresolved(1, "a"), Some(2), &Value::Null);
        let cases = [
            (wanted(&resolved(2), Some(2), &there), Need::Now),
            (wanted(&unresolved(2, "a"), Some(3), &there), Need::Now),
            (wanted(&unresolved(2, "b"), Some(2), &there), Need::Unhurried),
        ];
        for (wanted, expected) in cases {
            assert_eq!(need(&there, &wanted), expected, "{wanted}");
        }
        let mut counting = unresolved(1, "a");
        counting.fields.insert("unsettledEvents".into(), json!(7));
        assert_eq!(need(&there, &wanted(&counting, Some(2), &there)), Need::Unhurried);
        counting.fields.insert("sinkUri".into(), json!("http://a/"));
        assert_eq!(need(&there, &wanted(&counting, Some(2), &there)), Need::Now);
    }

    #[test]
    fn an_event_tells_that_an_object_became_ready_or_why_it_is_not_once() {
        let status = |observed: &Status| wanted(observed, None, &Value::Null);
        let (good, bad) = (status(&resolved(1)), status(&unresolved(1, "create it")));
        let told = |there: &Value, now: &Value| happening(there, now).map(|told| (told.is_warning, told.reason));
        assert_eq!(told(&Value::Null, &good), Some((false, "Ready".to_owned())));
        assert_eq!(told(&good, &bad), Some((true, "NotFound".to_owned())));
        assert_eq!(told(&good, &good), None);
        assert_eq!(told(&bad, &status(&unresolved(5, "other words"))), None);
        let mut waiting = Status::default();
        waiting.unmet("Resolved", Severity::Error, ("Deploying", "wait"), at(1));
        assert_eq!(told(&good, &status(&waiting)), None);
    }
}
