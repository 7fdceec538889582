//! The observed state of each object, in the shape of Kubernetes status (API.md 2.6).

use std::collections::BTreeMap;

use jiff::Timestamp;
use status::{Status, Truth};

use crate::ObjectKey;

/// Everything observed, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The status of each object.
    pub objects: BTreeMap<ObjectKey, Status>,
}

/// Remembers since when each condition has its status, because an observation does not know the one before it.
#[derive(Debug, Default)]
pub struct Transitions {
    since: BTreeMap<ObjectKey, BTreeMap<&'static str, (Truth, Timestamp)>>,
}

impl Transitions {
    /// Carries `lastTransitionTime` over where the status is unchanged; forgets objects that are gone.
    pub fn carry(&mut self, mut observed: Observed) -> Observed {
        self.since.retain(|key, _| observed.objects.contains_key(key));
        for (key, status) in &mut observed.objects {
            let known = self.since.entry(key.clone()).or_default();
            for condition in status.conditions.iter_mut() {
                match known.get(condition.kind) {
                    Some((truth, since)) if *truth == condition.truth => condition.last_transition_time = *since,
                    _ => {
                        known.insert(condition.kind, (condition.truth, condition.last_transition_time));
                    }
                }
            }
            known.retain(|kind, _| status.conditions.get(kind).is_some());
        }
        observed
    }
}

#[cfg(test)]
mod tests {
    use status::{Condition, Severity};

    use super::*;
    use crate::{Kind, ObjectName};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn a_transition_keeps_its_time_until_the_next_one() {
        let key = ObjectKey::new(Kind::Channel, ObjectName::new("default", "a"));
        let mut transitions = Transitions::default();
        let mut observe = |truth: Truth, second| {
            let mut status = Status::default();
            status
                .conditions
                .add(Condition::new("Provisioned", truth, Severity::Error, None));
            for condition in status.conditions.iter_mut() {
                condition.last_transition_time = at(second);
            }
            let observed = transitions.carry(Observed {
                objects: [(key.clone(), status)].into(),
            });
            observed.objects[&key]
                .conditions
                .get("Ready")
                .map(|ready| ready.last_transition_time)
        };
        assert_eq!(observe(Truth::True, 1), Some(at(1)));
        assert_eq!(observe(Truth::True, 2), Some(at(1)));
        assert_eq!(observe(Truth::False, 3), Some(at(3)));
        assert_eq!(observe(Truth::True, 4), Some(at(4)));
        drop(transitions.carry(Observed::default()));
    }
}
