//! Attempts and waits follow the policy (CONTRACT DL-2, DL-3): no event is sent more often than `retry` allows, none is given up
//! before, nothing is repeated that was refused for good, and no wait is shorter than the policy or the subscriber asks for.

use std::collections::HashMap;

use super::{View, short};
use crate::{
    history::{Fact, Millis, Purpose},
    scenario::{Action, Subscription},
};

/// What is known of one event of one subscription, in one process.
#[derive(Clone, Copy, Default)]
struct Tries {
    sent: u32,
    /// When the last one failed, and what was asked for.
    failed: Option<(Millis, Option<Millis>)>,
    is_refused: bool,
    /// The last answer asks for another attempt.
    is_retryable: bool,
}

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    let mut all: HashMap<(&str, &str), Tries> = HashMap::new();
    for record in view.records {
        match &record.fact {
            Fact::Began => all.clear(),
            Fact::CursorDeleted { cursor, .. } => all.retain(|(subscription, _), _| subscription != cursor),
            Fact::Arrived {
                subscription,
                id,
                purpose: Purpose::Delivery,
                ..
            } => {
                let tries = all.entry((subscription, id)).or_default();
                tries.sent += 1;
                if let Some(versions) = watched(view, subscription, id) {
                    sent(*tries, record.at, versions).map_err(|why| format!("{id} to {subscription}: {why}"))?;
                }
            }
            Fact::Answered {
                subscription,
                id,
                purpose: Purpose::Delivery,
                status,
                retry_after,
                ..
            } => {
                let tries = all.entry((subscription, id)).or_default();
                match status {
                    200..=299 => *tries = Tries::default(),
                    404 | 408 | 409 | 425 | 429 | 500..=599 => {
                        let asked = retry_after.filter(|_| matches!(status, 429 | 503));
                        tries.failed = Some((record.at, asked));
                        tries.is_retryable = true;
                    }
                    _ => (tries.is_refused, tries.is_retryable) = (true, false),
                }
            }
            Fact::Unanswered {
                subscription,
                id,
                purpose: Purpose::Delivery,
                ..
            } => {
                all.entry((subscription, id)).or_default().failed = Some((record.at, None));
            }
            // A dead letter that could not be stored before a pause: the event begins again with its count. The rest of a wait is
            // measured by the wall clock, which the simulation does not pause.
            Fact::Released {
                channel,
                cursor,
                offset,
                ..
            } => {
                let id = view.stored[*channel][usize::try_from(*offset).unwrap_or(usize::MAX)].id;
                if let Some(tries) = all.get_mut(&(cursor.as_str(), id)) {
                    (tries.is_refused, tries.failed) = (false, None);
                }
            }
            Fact::DeadLetterStored {
                subscription,
                id,
                reason,
                attempts,
                ..
            } => {
                let tries = all.remove(&(subscription.as_str(), id.as_str())).unwrap_or_default();
                if reason == "SinkRejected" && tries.is_retryable {
                    return Err(format!(
                        "{id} of {subscription} was given up as refused, and it was not"
                    ));
                }
                let Some(versions) = watched(view, subscription, id) else {
                    continue;
                };
                let is_spent = matches!(reason.as_str(), "SinkError" | "SinkUnreachable" | "SinkTimeout");
                if is_spent
                    && !versions.iter().any(|version| version.retry + 1 == *attempts)
                    && versions.iter().all(|version| version.retry == versions[0].retry)
                {
                    return Err(format!(
                        "{id} of {subscription} was given up after {attempts} attempts, not {}",
                        versions[0].retry + 1
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The versions of a subscription whose attempts can be told apart: nothing of it is redriven, and the event is stored once.
fn watched<'v>(view: &'v View<'_>, subscription: &str, id: &str) -> Option<&'v [&'v Subscription]> {
    let is_redriven = view
        .scenario
        .steps
        .iter()
        .any(|step| matches!(&step.action, Action::Redrive { subscription: of, .. } if of == short(subscription)));
    let versions = view.versions.get(subscription)?;
    // A channel that remembers no attempts forgets them when it is closed.
    let channel = versions[0].channel;
    let forgets = !view.scenario.channels[channel].remembers
        && view
            .scenario
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::Reopen(number) if number == channel));
    (!is_redriven && !forgets && view.is_single(channel, id)).then_some(versions)
}

fn sent(tries: Tries, now: Millis, versions: &[&Subscription]) -> Result<(), String> {
    let most = versions.iter().map(|version| version.retry + 1).max().unwrap_or(0);
    if tries.sent > most {
        return Err(format!("sent {} times, {most} are allowed", tries.sent));
    }
    if tries.is_refused {
        return Err("sent again after it was refused for good".to_owned());
    }
    let Some((failed, asked)) = tries.failed else {
        return Ok(());
    };
    let of = versions[0];
    let doublings = if of.exponential {
        tries.sent.saturating_sub(2).min(10)
    } else {
        0
    };
    let least = (of.delay << doublings).min(60_000) / 2;
    let least = least.max(asked.unwrap_or(0));
    // Both ends of the wait are cut to a millisecond.
    if now + 2 < failed + least {
        return Err(format!("sent again after {} ms, not {least}", now - failed));
    }
    Ok(())
}
