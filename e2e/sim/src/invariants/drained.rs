//! A drain ends within its grace and a second more, no request is open then, nothing happens afterwards, and what was answered well
//! before it is settled when it ends (CONTRACT OP-1).

use std::collections::BTreeMap;

use super::View;
use crate::history::{Fact, Millis, Purpose};

/// For what is abandoned, and for closing the channels.
const MORE: Millis = 1500;

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    let mut draining: Option<(Millis, Millis)> = None;
    let mut is_down = false;
    let mut open: BTreeMap<u64, (&str, &str)> = BTreeMap::new();
    for (at, record) in view.records.iter().enumerate() {
        match &record.fact {
            Fact::DrainBegan { grace } => draining = Some((record.at, *grace)),
            Fact::DrainEnded => {
                let Some((since, grace)) = draining.take() else {
                    continue;
                };
                if record.at > since + grace + MORE {
                    return Err(format!(
                        "a drain with {grace} ms of grace took {} ms",
                        record.at - since
                    ));
                }
                if let Some((id, subscription)) = open.values().next() {
                    return Err(format!("{id} was still being sent to {subscription} after the drain"));
                }
                is_down = true;
                settled(view, at, since)?;
            }
            Fact::Began => is_down = false,
            Fact::Crashed => open.clear(),
            fact if is_down && is_work(fact) => return Err(format!("after the drain: {fact:?}")),
            Fact::Arrived {
                request,
                id,
                subscription,
                ..
            } => {
                open.insert(*request, (id, subscription));
            }
            Fact::Answered { request, .. } | Fact::Unanswered { request, .. } => {
                open.remove(request);
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a subscriber took before the drain is acknowledged when it ends.
fn settled(view: &View<'_>, ended: usize, began: Millis) -> Result<(), String> {
    for (at, record) in view.records[..ended].iter().enumerate() {
        let Fact::Answered {
            subscription,
            id,
            purpose: Purpose::Delivery,
            status: 200..=299,
            ..
        } = &record.fact
        else {
            continue;
        };
        let Some(life) = view
            .life(subscription, at)
            .filter(|life| life.end > ended && life.subscription.reply.is_none())
        else {
            continue;
        };
        let Some(offset) = view.offset(life.subscription.channel, id) else {
            continue;
        };
        let acknowledged = view.acknowledged.get(&(subscription.as_str(), offset));
        let is_settled = acknowledged.is_some_and(|all| all.iter().any(|at| *at < ended));
        if record.at < began
            && !is_settled
            && view.is_single(life.subscription.channel, id)
            && !crashed(view, at..ended)
        {
            return Err(format!(
                "{subscription} took {id} before the drain, and it is not settled"
            ));
        }
    }
    Ok(())
}

/// What a process does for its subscriptions.
fn is_work(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::Arrived { .. }
            | Fact::Stored { .. }
            | Fact::CursorCreated { .. }
            | Fact::CursorDeleted { .. }
            | Fact::HandedOut { .. }
            | Fact::Released { .. }
            | Fact::Acknowledged { .. }
            | Fact::DeadLetterStored { .. }
            | Fact::DeadLetterRemoved { .. }
    )
}

fn crashed(view: &View<'_>, within: std::ops::Range<usize>) -> bool {
    view.records[within]
        .iter()
        .any(|record| matches!(record.fact, Fact::Crashed))
}
