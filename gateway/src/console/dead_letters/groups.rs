//! Dead letters counted by subscription, reason, status and destination.

use std::{collections::BTreeMap, pin::pin};

use dataplane::{DeadLetter, DeadLetterError, FailureGroup, Plane};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use serde_json::json;
use spec::ObjectName;

use super::{Chosen, group_address};
use crate::console::parts;

/// Dead letters that are counted, the newest: a second of a slow disk, and a few MiB of counts at the very worst.
pub(super) const READ_MAX: usize = 10_000;

/// Dead letters of one subscription that failed alike.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) subscription: ObjectName,
    pub(super) failure: FailureGroup,
    pub(super) count: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

impl Group {
    pub(super) fn chosen(&self) -> Chosen {
        Chosen {
            subscription: self.subscription.to_string(),
            reason: self.failure.reason.clone(),
            code: self.failure.code.map(|code| code.to_string()).unwrap_or_default(),
            destination: self.failure.destination.clone().unwrap_or_default(),
            ..Chosen::default()
        }
    }
}

/// The groups, and whether there are more dead letters than were read.
pub(super) struct Groups {
    /// Those with the newest dead letter first.
    pub(super) groups: Vec<Group>,
    pub(super) is_cut: bool,
}

/// The facts of one dead letter that are counted, as a listing keeps them.
#[derive(Deserialize, Serialize)]
struct Line {
    subscription: (String, String),
    reason: String,
    code: Option<u16>,
    destination: Option<String>,
    stored_at: Timestamp,
}

fn line(dead_letter: &DeadLetter) -> String {
    let name = &dead_letter.subscription;
    let line = Line {
        subscription: (name.namespace.clone(), name.name.clone()),
        reason: dead_letter.reason.clone(),
        code: dead_letter.code,
        destination: dead_letter.destination.clone(),
        stored_at: dead_letter.stored_at,
    };
    json!(line).to_string()
}

pub(super) async fn read(plane: &Plane, subscription: Option<&ObjectName>) -> Result<Groups, DeadLetterError> {
    let show = |dead_letter: &DeadLetter| Some(line(dead_letter));
    let listed = plane.list_dead_letters(subscription, show).take(READ_MAX + 1);
    let mut listed = pin!(listed);
    let mut counted = BTreeMap::new();
    let mut read = 0;
    while let Some(listed) = listed.try_next().await? {
        read += 1;
        // A line is what was written above.
        let line = serde_json::from_str::<Line>(&listed.shown)
            .ok()
            .filter(|_| read <= READ_MAX);
        line.into_iter().for_each(|line| count(&mut counted, line));
    }
    let mut groups: Vec<Group> = counted.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.last));
    Ok(Groups {
        groups,
        is_cut: read > READ_MAX,
    })
}

fn count(counted: &mut BTreeMap<(ObjectName, FailureGroup), Group>, line: Line) {
    let subscription = ObjectName::new(line.subscription.0, line.subscription.1);
    let failure = FailureGroup {
        reason: line.reason,
        code: line.code,
        destination: line.destination,
    };
    let group = counted
        .entry((subscription.clone(), failure.clone()))
        .or_insert_with(|| Group {
            subscription,
            failure,
            count: 0,
            first: line.stored_at,
            last: line.stored_at,
        });
    group.count += 1;
    group.first = group.first.min(line.stored_at);
    group.last = group.last.max(line.stored_at);
}

pub(super) fn table(groups: &[Group]) -> Markup {
    html! {
        section { div.wide { table.cards {
            thead { tr {
                th { "Reason" } th { "Subscription" } th { "Destination" } th.number { "Count" } th.number { "First" } th.number { "Last" }
            } }
            tbody { @for group in groups {
                tr {
                    th scope="row" data-label="Reason" {
                        a href=(group_address(group)) { (parts::mark(parts::Health::Bad)) " " (group.failure.reason) @if let Some(code) = group.failure.code { " " (code) } }
                    }
                    td data-label="Subscription" { (parts::subscription(&group.subscription)) }
                    td data-label="Destination" { (group.failure.destination.as_deref().unwrap_or("none")) }
                    td.number data-label="Count" { (parts::number(group.count)) }
                    td.number data-label="First" { (parts::when(group.first)) }
                    td.number data-label="Last" { (parts::when(group.last)) }
                }
            } }
        } } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_failed_alike_are_one_group_with_its_first_and_last() {
        let line = |name: &str, code, second| Line {
            subscription: ("a".to_owned(), name.to_owned()),
            reason: "SinkError".to_owned(),
            code,
            destination: None,
            stored_at: Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(second),
        };
        let mut counted = BTreeMap::new();
        for (name, code, second) in [
            ("s", Some(500), 7),
            ("s", Some(500), 3),
            ("s", None, 1),
            ("t", Some(500), 2),
        ] {
            count(&mut counted, line(name, code, second));
        }
        let counts: Vec<_> = counted
            .values()
            .map(|group| (group.count, group.first.as_second(), group.last.as_second()))
            .collect();
        assert_eq!(counts, [(1, 1, 1), (2, 3, 7), (1, 2, 2)]);
    }
}
