//! The conditions of one object, and `Ready`, which sums them up.

use jiff::Timestamp;
use serde::Serialize;

use crate::Cause;

/// The `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Truth {
    True,
    False,
    Unknown,
}

/// How much a condition that is not True weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Severity {
    /// The object is not `Ready`. Left out in JSON, as in Knative.
    #[default]
    Error,
    /// An operator should look; the object works.
    Warning,
    /// Worth knowing.
    Info,
}

/// One condition of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The `type`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The `status`.
    #[serde(rename = "status")]
    pub truth: Truth,
    /// How bad it is when the condition is not True.
    #[serde(skip_serializing_if = "Severity::is_error")]
    pub severity: Severity,
    /// Why the condition is not True.
    #[serde(flatten)]
    pub cause: Option<Cause>,
    /// When `status` changed last.
    pub last_transition_time: Timestamp,
}

/// The conditions of one object, sorted by type. `Ready` is always among them and follows those whose severity is Error: it has
/// the cause of the first of them that was added as False, else of the first that was added as Unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Conditions(Vec<Condition>);

/// The condition that sums up the others.
const READY: &str = "Ready";

impl Severity {
    fn is_error(&self) -> bool {
        *self == Self::Error
    }
}

impl Condition {
    /// Creates a condition whose status changes now.
    pub fn new(kind: &'static str, truth: Truth, severity: Severity, cause: Option<Cause>) -> Self {
        Self {
            kind,
            truth,
            severity,
            cause,
            last_transition_time: Timestamp::now(),
        }
    }

    /// Returns the word of the reason; empty without a cause.
    pub fn reason(&self) -> &'static str {
        self.cause.as_ref().map_or("", |cause| cause.reason.as_str())
    }

    /// Returns the message for people; empty without a cause.
    pub fn message(&self) -> &str {
        self.cause.as_ref().map_or("", |cause| &cause.message)
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self(vec![Condition::new(READY, Truth::True, Severity::Error, None)])
    }
}

impl Conditions {
    /// Adds a condition that `Ready` depends on: True, or False because of this.
    pub fn require(&mut self, kind: &'static str, state: Result<(), Cause>) {
        self.check(kind, Severity::Error, state.err());
    }

    /// Adds a condition that is False where there is a cause, else True; `Ready` does not depend on it.
    pub fn warn(&mut self, kind: &'static str, cause: Option<Cause>) {
        self.check(kind, Severity::Warning, cause);
    }

    fn check(&mut self, kind: &'static str, severity: Severity, cause: Option<Cause>) {
        let truth = if cause.is_none() { Truth::True } else { Truth::False };
        self.add(Condition::new(kind, truth, severity, cause));
    }

    /// Adds a condition. Each type is added once.
    pub fn add(&mut self, condition: Condition) {
        let ready = self.0.iter_mut().find(|condition| condition.kind == READY);
        if let Some(ready) = ready.filter(|_| condition.severity == Severity::Error) {
            let is_worse = match condition.truth {
                Truth::True => false,
                Truth::Unknown => ready.truth == Truth::True,
                Truth::False => ready.truth != Truth::False,
            };
            if is_worse {
                *ready = Condition {
                    kind: READY,
                    ..condition.clone()
                };
            }
        }
        let index = self.0.partition_point(|other| other.kind < condition.kind);
        self.0.insert(index, condition);
    }

    /// Returns the condition of this type.
    pub fn get(&self, kind: &str) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.kind == kind)
    }

    /// The conditions, sorted by type.
    pub fn iter(&self) -> std::slice::Iter<'_, Condition> {
        self.0.iter()
    }

    /// The conditions, to be changed in place.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Condition> {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Reason;

    #[test]
    fn ready_has_the_cause_of_the_first_condition_that_fails_it() {
        use Reason::{Deploying, Invalid, NotFound, Paused, SinkFailing, Starting};
        use Severity::{Error, Info, Warning};
        use Truth::{False, True, Unknown};
        type Added = (&'static str, Truth, Severity, Option<Reason>);
        let cases: [(&[Added], (Truth, &str)); 7] = [
            (&[], (True, "")),
            (&[("A", True, Error, None)], (True, "")),
            (
                &[
                    ("A", False, Warning, Some(SinkFailing)),
                    ("B", Unknown, Info, Some(Paused)),
                ],
                (True, ""),
            ),
            (&[("A", Unknown, Error, Some(Deploying))], (Unknown, "Deploying")),
            (
                &[
                    ("A", Unknown, Error, Some(Deploying)),
                    ("B", Unknown, Error, Some(Starting)),
                ],
                (Unknown, "Deploying"),
            ),
            (
                &[
                    ("A", Unknown, Error, Some(Deploying)),
                    ("B", False, Error, Some(NotFound)),
                ],
                (False, "NotFound"),
            ),
            (
                &[
                    ("Z", False, Error, Some(NotFound)),
                    ("A", False, Error, Some(Invalid)),
                    ("B", True, Error, None),
                ],
                (False, "NotFound"),
            ),
        ];
        for (added, expected) in cases {
            let mut conditions = Conditions::default();
            for (kind, truth, severity, reason) in added {
                let cause = reason.map(|reason| Cause::new(reason, "because"));
                conditions.add(Condition::new(kind, *truth, *severity, cause));
            }
            let ready = conditions.get(READY).map(|ready| (ready.truth, ready.reason()));
            assert_eq!(ready, Some(expected), "{added:?}");
            assert!(
                conditions.0.is_sorted_by_key(|condition| condition.kind),
                "{conditions:?}"
            );
            assert_eq!(conditions.0.len(), added.len() + 1);
        }
    }

    #[test]
    fn a_condition_is_written_as_knative_writes_it() {
        let mut conditions = Conditions::default();
        conditions.require("Resolved", Err(Cause::new(Reason::NotFound, "create it")));
        conditions.add(Condition::new("Delivering", Truth::True, Severity::Info, None));
        for condition in conditions.iter_mut() {
            condition.last_transition_time = Timestamp::UNIX_EPOCH;
        }
        let since = "1970-01-01T00:00:00Z";
        let expected = json!([
            { "type": "Delivering", "status": "True", "severity": "Info", "lastTransitionTime": since },
            { "type": "Ready", "status": "False", "reason": "NotFound", "message": "create it", "lastTransitionTime": since },
            { "type": "Resolved", "status": "False", "reason": "NotFound", "message": "create it", "lastTransitionTime": since },
        ]);
        assert_eq!(json!(conditions), expected);
    }
}
