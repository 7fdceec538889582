//! A subscription has at most `maxInFlight` requests in flight, beside those of a replay and of redrives; what a cursor handed out
//! and did not get back is bounded in bytes, whatever the backlog (CONTRACT CH-2).

use std::collections::{BTreeMap, HashMap};

use super::{View, short};
use crate::{
    history::{Fact, Purpose},
    scenario::Action,
};

/// What a replay, or each redrive, has in flight at most.
const EXTRA: usize = 8;

/// 16 MiB, and the page that was pulled below that.
const HELD_MAX_BYTES: usize = (16 << 20) + (4 << 20);

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    let mut open: HashMap<u64, &str> = HashMap::new();
    let mut held: BTreeMap<(&str, u64), usize> = BTreeMap::new();
    for record in view.records {
        match &record.fact {
            Fact::Crashed => {
                open.clear();
                held.clear();
            }
            Fact::Arrived {
                request,
                subscription,
                purpose: Purpose::Delivery | Purpose::Replay,
                ..
            } => {
                open.insert(*request, subscription);
                let count = open.values().filter(|name| **name == subscription).count();
                let allowed = allowed(view, subscription);
                if count > allowed {
                    return Err(format!(
                        "{count} requests of {subscription} were in flight, at most {allowed} are allowed"
                    ));
                }
            }
            Fact::Answered { request, .. } | Fact::Unanswered { request, .. } => {
                open.remove(request);
            }
            Fact::HandedOut {
                cursor, offset, size, ..
            } => {
                held.insert((cursor, *offset), *size);
                let bytes: usize = held
                    .range((cursor.as_str(), 0)..=(cursor.as_str(), u64::MAX))
                    .map(|(_, size)| size)
                    .sum();
                if bytes > HELD_MAX_BYTES {
                    return Err(format!("{bytes} bytes were held for {cursor}"));
                }
            }
            Fact::Acknowledged { cursor, offset, .. } | Fact::Released { cursor, offset, .. } => {
                held.remove(&(cursor.as_str(), *offset));
            }
            Fact::Began => held.clear(),
            Fact::CursorDeleted { cursor, .. } => held.retain(|(known, _), _| known != cursor),
            _ => {}
        }
    }
    Ok(())
}

fn allowed(view: &View<'_>, subscription: &str) -> usize {
    let slots = view
        .versions
        .get(subscription)
        .and_then(|versions| versions.iter().map(|version| version.in_flight).max());
    let asked = view.scenario.steps.iter().filter(|step| {
        matches!(&step.action, Action::Replay { subscription: of, .. } | Action::Redrive { subscription: of, .. } if of == short(subscription))
    });
    slots.unwrap_or(0) + EXTRA * asked.count()
}
