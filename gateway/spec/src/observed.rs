//! What is observed of each object, in the shape of Kubernetes status (API.md 2.6).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ObjectKey;

/// Everything observed, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub objects: BTreeMap<ObjectKey, Status>,
}

/// One object's `.status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub conditions: Vec<Condition>,
    /// `address`, `subscribers`, `physicalSubscription`, `sinkUri` ...
    #[serde(flatten)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    True,
    False,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: Truth,
    /// Empty means Error, as in Knative; `Warning` and `Info` do not make the object un-Ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub severity: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    pub last_transition_time: Timestamp,
}

/// How much a condition that is not True weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    /// `Ready` follows it.
    #[default]
    Error,
    Warning,
    Info,
}

impl Severity {
    /// As in a condition's `severity`; Error is the empty text, as in Knative.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "",
            Self::Warning => "Warning",
            Self::Info => "Info",
        }
    }
}

impl Status {
    /// The condition of this type is True.
    pub fn met(&mut self, kind: &str, severity: Severity, now: Timestamp) -> &mut Self {
        self.put(kind, Truth::True, severity, ("", ""), now)
    }

    /// The condition of this type is False: why, CamelCase and stable, and what to do about it.
    pub fn unmet(&mut self, kind: &str, severity: Severity, why: (&str, &str), now: Timestamp) -> &mut Self {
        self.put(kind, Truth::False, severity, why, now)
    }

    /// Nobody knows yet: why, and what is waited for.
    pub fn unknown(&mut self, kind: &str, severity: Severity, why: (&str, &str), now: Timestamp) -> &mut Self {
        self.put(kind, Truth::Unknown, severity, why, now)
    }

    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    pub fn is_ready(&self) -> bool {
        self.condition(READY).is_some_and(|ready| ready.status == Truth::True)
    }

    /// One condition per type, sorted by type; `Ready` follows at once, with the reason of the first that is in its way.
    fn put(&mut self, kind: &str, status: Truth, severity: Severity, why: (&str, &str), now: Timestamp) -> &mut Self {
        self.insert(Condition {
            kind: kind.to_owned(),
            status,
            severity: severity.as_str().to_owned(),
            reason: why.0.to_owned(),
            message: why.1.to_owned(),
            last_transition_time: now,
        });
        let weighs = |condition: &&Condition| condition.kind != READY && condition.severity.is_empty();
        let first = |truth| {
            self.conditions
                .iter()
                .filter(weighs)
                .find(|condition| condition.status == truth)
        };
        let in_the_way = first(Truth::False).or_else(|| first(Truth::Unknown));
        let (status, reason, message) = match in_the_way {
            Some(condition) => (condition.status, condition.reason.clone(), condition.message.clone()),
            None => (Truth::True, String::new(), String::new()),
        };
        self.insert(Condition {
            kind: READY.to_owned(),
            status,
            severity: String::new(),
            reason,
            message,
            last_transition_time: now,
        });
        self
    }

    fn insert(&mut self, condition: Condition) {
        match self
            .conditions
            .binary_search_by(|known| known.kind.cmp(&condition.kind))
        {
            // Observed again: since when it is so does not move.
            Ok(index) if self.conditions[index].status == condition.status => {
                let since = self.conditions[index].last_transition_time;
                self.conditions[index] = Condition {
                    last_transition_time: since,
                    ..condition
                };
            }
            Ok(index) => self.conditions[index] = condition,
            Err(index) => self.conditions.insert(index, condition),
        }
    }
}

/// The condition that sums up the others.
pub const READY: &str = "Ready";

/// Remembers since when each condition has its status, so that an observation made anew tells it.
#[derive(Debug, Default)]
pub struct Transitions {
    since: BTreeMap<ObjectKey, BTreeMap<String, (Truth, Timestamp)>>,
}

impl Transitions {
    /// Carries `lastTransitionTime` over where the status is unchanged; forgets objects that are gone.
    pub fn carry(&mut self, mut observed: Observed) -> Observed {
        self.since.retain(|key, _| observed.objects.contains_key(key));
        for (key, status) in &mut observed.objects {
            let known = self.since.entry(key.clone()).or_default();
            for condition in &mut status.conditions {
                match known.get(&condition.kind) {
                    Some((truth, since)) if *truth == condition.status => condition.last_transition_time = *since,
                    _ => {
                        known.insert(
                            condition.kind.clone(),
                            (condition.status, condition.last_transition_time),
                        );
                    }
                }
            }
            known.retain(|kind, _| status.condition(kind).is_some());
        }
        observed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, ObjectName};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn ready(status: &Status) -> (Truth, &str) {
        status.condition(READY).map_or((Truth::Unknown, "absent"), |ready| {
            (ready.status, ready.reason.as_str())
        })
    }

    #[test]
    fn ready_follows_its_dependents_and_conditions_stay_sorted() {
        let mut status = Status::default();
        status.met("Resolved", Severity::Error, at(1));
        assert_eq!(ready(&status), (Truth::True, ""));
        status.unknown("ChannelReady", Severity::Error, ("Deploying", "wait"), at(1));
        assert_eq!(ready(&status), (Truth::Unknown, "Deploying"));
        status.unmet("Resolved", Severity::Error, ("NotFound", "create it"), at(1));
        assert_eq!(ready(&status), (Truth::False, "NotFound"), "False outweighs Unknown");
        status.unmet("SinkHealthy", Severity::Warning, ("SinkFailing", "look"), at(1));
        status
            .met("Resolved", Severity::Error, at(1))
            .met("ChannelReady", Severity::Error, at(1));
        assert_eq!(ready(&status), (Truth::True, ""), "a warning is in nobody's way");
        let kinds: Vec<_> = status
            .conditions
            .iter()
            .map(|condition| condition.kind.as_str())
            .collect();
        assert_eq!(kinds, ["ChannelReady", "Ready", "Resolved", "SinkHealthy"]);
    }

    #[test]
    fn what_is_not_true_says_why() {
        let mut status = Status::default();
        status
            .unmet("A", Severity::Error, ("NotFound", "create it"), at(1))
            .unknown("B", Severity::Info, ("Deploying", "wait"), at(1));
        let not_true = status
            .conditions
            .iter()
            .filter(|condition| condition.status != Truth::True);
        assert!(
            not_true.clone().count() == 3
                && not_true
                    .clone()
                    .all(|condition| !condition.reason.is_empty() && !condition.message.is_empty())
        );
    }

    #[test]
    fn a_transition_keeps_its_time_until_the_next_one() {
        let key = ObjectKey::new(Kind::Channel, ObjectName::new("default", "a"));
        let mut transitions = Transitions::default();
        let mut observe = |truth: bool, second| {
            let mut status = Status::default();
            match truth {
                true => status.met("Provisioned", Severity::Error, at(second)),
                false => status.unmet("Provisioned", Severity::Error, ("Down", "look"), at(second)),
            };
            let observed = transitions.carry(Observed {
                objects: [(key.clone(), status)].into(),
            });
            observed.objects[&key]
                .condition(READY)
                .map(|ready| ready.last_transition_time)
        };
        assert_eq!(observe(true, 1), Some(at(1)));
        assert_eq!(observe(true, 2), Some(at(1)));
        assert_eq!(observe(false, 3), Some(at(3)));
        assert_eq!(observe(true, 4), Some(at(4)));
        drop(transitions.carry(Observed::default()));
    }
}
