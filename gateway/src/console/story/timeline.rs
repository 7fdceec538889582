//! The time line of an event: everything that is known to have happened to it, in the order in which it happened. Pure.

use std::{collections::BTreeMap, time::Duration};

use dataplane::{DeadLetter, Explanation, Try, TryEnd};
use jiff::{SignedDuration, Timestamp};
use spec::ObjectName;

use crate::console::parts::Health;

/// Entries that are shown at most: some two thousand subscriptions may have tried it.
pub(super) const ENTRIES_MAX: usize = 300;

/// An attempt is noted within this time of the dead letter that it led to.
const NOTED_WITHIN: SignedDuration = SignedDuration::from_millis(500);

/// One thing that happened, or will.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) health: Health,
    pub(super) what: What,
    pub(super) took: Option<Duration>,
    pub(super) detail: String,
}

/// The thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Stored {
        channel: ObjectName,
        durability: &'static str,
    },
    /// The number of the attempt is that of those which this process remembers.
    Attempt {
        subscription: ObjectName,
        number: usize,
        outcome: &'static str,
        code: Option<u16>,
        reason: Option<&'static str>,
    },
    Next {
        subscription: ObjectName,
    },
    DeadLetter {
        subscription: ObjectName,
        reason: String,
    },
}

pub(super) fn entries(explained: &Explanation) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for found in &explained.found {
        entries.push(Entry {
            at: found.stored_at,
            health: Health::Good,
            what: What::Stored {
                channel: found.channel.clone(),
                durability: found.durability.as_str(),
            },
            took: None,
            detail: match &found.passed[..] {
                [] => String::new(),
                passed => format!("it passed {} before", passed.join(", ")),
            },
        });
    }
    let has_dead_letter = |name: &ObjectName| explained.dead_letters.iter().any(|of| of.subscription == *name);
    for (subscription, tries) in tries(explained) {
        let mut number = 0;
        for tried in tries {
            number += usize::from(tried.took.is_some());
            // The stored letter says more than the note that it was stored.
            if matches!(tried.end, TryEnd::DeadLettered { .. }) && has_dead_letter(subscription) {
                continue;
            }
            entries.extend(attempt(subscription, number, tried));
        }
        entries.extend(next(subscription, tries.last()));
    }
    let tries = tries(explained);
    entries.extend(
        explained
            .dead_letters
            .iter()
            .map(|of| dead_letter(of, tries.get(&of.subscription))),
    );
    entries.sort_by_key(|entry| entry.at);
    entries
}

/// The attempts by subscription. Those of the events that were found are the same, and these are about all sources.
fn tries(explained: &Explanation) -> BTreeMap<&ObjectName, &Vec<Try>> {
    explained.tries.iter().collect()
}

fn attempt(subscription: &ObjectName, number: usize, tried: &Try) -> Option<Entry> {
    let (health, outcome, code, reason, detail) = match &tried.end {
        TryEnd::Succeeded { status, fault } => {
            let detail = fault.as_ref().map(|fault| format!("its reply was dropped: {fault}"));
            let health = if fault.is_some() { Health::Warning } else { Health::Good };
            (health, "delivered", *status, None, detail.unwrap_or_default())
        }
        TryEnd::Replied { to } => (Health::Good, "reply taken", None, None, format!("by {to}")),
        TryEnd::Failed(failed) => (
            Health::Warning,
            "failed",
            failed.code,
            Some(failed.reason.as_str()),
            failed.detail.clone(),
        ),
        TryEnd::DeadLettered { reason } => {
            let detail = "the dead letter went to the dead-letter sink, or a person removed it".to_owned();
            (Health::Bad, "given up", None, Some(reason.as_str()), detail)
        }
    };
    Some(Entry {
        at: Timestamp::try_from(tried.at).ok()?,
        health,
        what: What::Attempt {
            subscription: subscription.clone(),
            number,
            outcome,
            code,
            reason,
        },
        took: tried.took,
        detail,
    })
}

/// The attempt that is to come.
fn next(subscription: &ObjectName, last: Option<&Try>) -> Option<Entry> {
    let TryEnd::Failed(failed) = &last?.end else {
        return None;
    };
    Some(Entry {
        at: Timestamp::try_from(failed.next?).ok()?,
        health: Health::Waiting,
        what: What::Next {
            subscription: subscription.clone(),
        },
        took: None,
        detail: String::new(),
    })
}

/// It is stored after the last attempt, whose time is noted a moment later.
fn dead_letter(dead_letter: &DeadLetter, tries: Option<&&Vec<Try>>) -> Entry {
    let stored_at = dead_letter.stored_at;
    let times = tries
        .into_iter()
        .flat_map(|tries| tries.iter())
        .filter_map(|tried| Timestamp::try_from(tried.at).ok());
    let last = times
        .filter(|at| at.duration_since(stored_at).abs() < NOTED_WITHIN)
        .max();
    let code = dead_letter.code.map(|code| format!(", last answer {code}"));
    let to = dead_letter.destination.as_ref().map(|to| format!(" by {to}"));
    Entry {
        at: last.map_or(stored_at, |last| last.max(stored_at)),
        health: Health::Bad,
        what: What::DeadLetter {
            subscription: dead_letter.subscription.clone(),
            reason: dead_letter.reason.clone(),
        },
        took: None,
        detail: dead_letter.detail.clone().unwrap_or_else(|| {
            let (code, to) = (code.unwrap_or_default(), to.unwrap_or_default());
            format!("failed attempts: {}{code}{to}", dead_letter.attempts)
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn tried(at: u64, took: Option<u64>, end: TryEnd) -> Try {
        Try {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(at),
            took: took.map(Duration::from_millis),
            end,
        }
    }

    #[test]
    fn attempts_are_numbered_and_the_next_one_stands_last() {
        let name = ObjectName::new("a", "s");
        let failed = |next: u64| {
            TryEnd::Failed(Box::new(dataplane::FailedTry {
                reason: spec::Reason::SinkError,
                code: Some(503),
                detail: "down".to_owned(),
                next: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(next)),
            }))
        };
        let explained = Explanation {
            tries: [(
                name.clone(),
                vec![tried(1, Some(5), failed(3)), tried(3, Some(7), failed(9))],
            )]
            .into(),
            ..Explanation::default()
        };
        let entries = entries(&explained);
        let numbers = entries.iter().map(|entry| match &entry.what {
            What::Attempt { number, .. } => *number,
            _ => 0,
        });
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(
            entries.last().map(|last| &last.what),
            Some(&What::Next { subscription: name })
        );
    }
}
