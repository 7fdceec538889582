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
                        known.insert(condition.kind.clone(), (condition.status, condition.last_transition_time));
                    }
                }
            }
        }
        observed
    }
}
