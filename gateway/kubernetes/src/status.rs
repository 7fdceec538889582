//! The status of an object, and when it is written. Pure.
//!
//! Fields that a person waits for (conditions, addresses, the observed generation) are written as soon as they differ.
//! Fields that change with the traffic (counts, times, the text of a message) are written at most once a minute: a
//! status is no metric. A status that equals the desired one is not written.

use std::time::Duration;

use serde_json::{Value, json};
use spec::{Condition, Status, status::STEADY};

/// Minimum time between two writes of an object that differs only in fields that change with the traffic.
pub(crate) const UNHURRIED: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    Unhurried,
    Now,
}

/// Returns the desired status. The transition times of unchanged conditions are kept: they outlive the gateway.
pub(crate) fn desired(observed: &Status, generation: Option<i64>, actual: &Value) -> Value {
    let conditions: Vec<Value> = observed
        .conditions
        .iter()
        .map(|condition| shown(condition, actual))
        .collect();
    let mut status = json!(observed);
    if let Some(generation) = generation {
        status["observedGeneration"] = json!(generation);
    }
    status["conditions"] = json!(conditions);
    without_nulls(status)
}

/// The API server drops nulls, which would be a permanent difference.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

fn shown(condition: &Condition, actual: &Value) -> Value {
    let mut shown = json!(condition);
    let former = find(actual, condition.kind).filter(|former| former["status"] == shown["status"]);
    let since = former.and_then(|former| former["lastTransitionTime"].as_str());
    // Whole seconds, as everywhere in Kubernetes.
    let now = condition
        .last_transition_time
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    shown["lastTransitionTime"] = json!(since.unwrap_or(&now));
    shown
}

pub(crate) fn find<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

pub(crate) fn need(actual: &Value, desired: &Value) -> Need {
    let actual = &sorted(actual);
    if actual == desired {
        return Need::Nothing;
    }
    let telling = |status: &Value| -> Vec<[Value; 3]> {
        let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let facts = |condition: &Value| ["type", "status", "reason"].map(|name| condition[name].clone());
        conditions.iter().map(facts).collect()
    };
    let is_steady = STEADY.iter().all(|name| actual.get(name) == desired.get(name));
    if is_steady && telling(actual) == telling(desired) {
        Need::Unhurried
    } else {
        Need::Now
    }
}

/// The API server keeps conditions in the order in which they were added; ours are sorted by type.
fn sorted(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.sort_by(|a, b| a["type"].as_str().cmp(&b["type"].as_str()));
    }
    status
}

/// A change of Ready, posted as an Event of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) is_warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// Returns the transition if the object became ready, or stopped being ready.
pub(crate) fn transition(actual: &Value, desired: &Value) -> Option<Transition> {
    let (before, now) = (find(actual, "Ready"), find(desired, "Ready")?);
    let facts = |ready: &Value| (ready["status"].clone(), ready["reason"].clone());
    if before.is_some_and(|before| facts(before) == facts(now)) {
        return None;
    }
    let text = |name: &str| now[name].as_str().unwrap_or_default().to_owned();
    match now["status"].as_str() {
        Some("True") => Some(Transition {
            is_warning: false,
            reason: "Ready".to_owned(),
            note: "it is ready".to_owned(),
        }),
        // Only the result of the deployment is an Event.
        _ if now["reason"] == "Deploying" => None,
        _ => Some(Transition {
            is_warning: true,
            reason: text("reason"),
            note: text("message"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use spec::{
        Cause, Reason,
        status::{Fields, SourceStatus},
    };

    use super::*;

    fn resolved() -> Status {
        let mut status = Status::default();
        status.conditions.require("Resolved", Ok(()));
        status
    }

    fn unresolved(reason: Reason, message: &str) -> Status {
        let mut status = Status::default();
        let cause = Cause::new(reason, message);
        status.conditions.require("Resolved", Err(cause));
        status
    }

    #[test]
    fn a_status_that_is_as_it_should_be_is_not_written_although_the_gateway_started_anew() {
        let mut actual = desired(&resolved(), Some(2), &Value::Null);
        for condition in actual["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = json!("1970-01-01T00:00:01Z");
        }
        assert_eq!(need(&actual, &desired(&resolved(), Some(2), &actual)), Need::Nothing);
        let mut turned = actual;
        if let Some(conditions) = turned["conditions"].as_array_mut() {
            conditions.reverse();
        }
        let mut silent = resolved();
        silent.fields = Fields::Source(SourceStatus {
            reported: [("deployment", Value::Null)].into(),
            ..SourceStatus::default()
        });
        assert_eq!(need(&turned, &desired(&silent, Some(2), &turned)), Need::Nothing);
    }

    #[test]
    fn what_a_person_waits_for_is_written_at_once_and_what_moves_by_itself_is_not() {
        let actual = desired(&unresolved(Reason::NotFound, "a"), Some(2), &Value::Null);
        let cases = [
            (desired(&resolved(), Some(2), &actual), Need::Now),
            (desired(&unresolved(Reason::NotFound, "a"), Some(3), &actual), Need::Now),
            (
                desired(&unresolved(Reason::NotFound, "b"), Some(2), &actual),
                Need::Unhurried,
            ),
        ];
        for (desired, expected) in cases {
            assert_eq!(need(&actual, &desired), expected, "{desired}");
        }
        let mut counting = unresolved(Reason::NotFound, "a");
        let mut fields = SourceStatus {
            unsettled_events: Some(7),
            ..SourceStatus::default()
        };
        counting.fields = Fields::Source(fields.clone());
        assert_eq!(need(&actual, &desired(&counting, Some(2), &actual)), Need::Unhurried);
        fields.sink_uri = Some("http://a/".to_owned());
        counting.fields = Fields::Source(fields);
        assert_eq!(need(&actual, &desired(&counting, Some(2), &actual)), Need::Now);
    }

    #[test]
    fn an_event_tells_that_an_object_became_ready_or_why_it_is_not_once() {
        let status = |observed: &Status| desired(observed, None, &Value::Null);
        let (good, bad) = (status(&resolved()), status(&unresolved(Reason::NotFound, "create it")));
        let posted =
            |actual: &Value, now: &Value| transition(actual, now).map(|posted| (posted.is_warning, posted.reason));
        assert_eq!(posted(&Value::Null, &good), Some((false, "Ready".to_owned())));
        assert_eq!(posted(&good, &bad), Some((true, "NotFound".to_owned())));
        assert_eq!(posted(&good, &good), None);
        assert_eq!(
            posted(&bad, &status(&unresolved(Reason::NotFound, "other words"))),
            None
        );
        assert_eq!(posted(&good, &status(&unresolved(Reason::Deploying, "wait"))), None);
    }
}
