//! Decides how far an event is with a subscription, from its cursor, its dead letters and the recorded attempts. Pure.

use cesql::explain;
use channel::{Attempts, Record};
use event::Event;
use jiff::Timestamp;

use crate::{
    DeadLetter, Try, TryEnd,
    journey::{breaker::Health, context::Context, failure::Reason, route::Route},
};

/// How far an event is with a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The subscriber took it.
    Delivered,
    /// By a filter.
    LeftOut,
    /// A dead letter about it was stored, or sent to the dead-letter sink.
    DeadLettered,
    /// Tried, and to be tried again.
    Retrying,
    /// Not tried yet.
    Waiting,
    /// Settled, and how is no longer recorded.
    Settled,
    /// The subscription does not run.
    NotRunning,
    /// Unknown to this process.
    Elsewhere,
}

impl Stage {
    /// Returns the word that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::LeftOut => "left out",
            Self::DeadLettered => "dead-lettered",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Settled => "settled",
            Self::NotRunning => "not running",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// Describes an event that is not settled.
pub(super) fn open(context: &Context, is_paused: bool, record: &Record, attempts: Attempts) -> (Stage, String) {
    let route = context.route();
    let held = match (&route.blocked, is_paused) {
        (Some(why), _) => Some(why.message.clone()),
        (None, true) => Some("the subscription is paused".into()),
        (None, false) => context.gate.outage().map(|(health, why)| match health {
            Health::Rejecting => format!("the sink refuses every event: {why}"),
            Health::Failing | Health::Healthy => format!("the sink is failing: {why}"),
        }),
    };
    if attempts.failed > 0 {
        let last = match attempts.last_status {
            Some(status) => format!("last answer {status}"),
            None => "no answer".into(),
        };
        let next = attempts.next_at.and_then(|at| Timestamp::try_from(at).ok());
        let next = held.or_else(|| next.map(|at| format!("next try at {at:.3}")));
        let next = next.unwrap_or_else(|| "to be tried again".into());
        return (
            Stage::Retrying,
            format!("failed tries: {}, {last}; {next}", attempts.failed),
        );
    }
    let why = held.or_else(|| match left_out(&route, &record.event) {
        Ok(None) => None,
        Ok(Some(clause)) => Some(format!("its filters will leave it out: {clause}")),
        Err(error) => Some(format!("a filter cannot be evaluated: {error}")),
    });
    (
        Stage::Waiting,
        why.unwrap_or_else(|| "in flight, or behind earlier events".into()),
    )
}

/// The subscriber took it, and the reply's target has not taken the reply yet.
pub(super) fn reply_waits(tries: &[Try]) -> Option<(Stage, String)> {
    let TryEnd::Failed(failed) = &tries.last()?.end else {
        return None;
    };
    let is_taken = tries.iter().any(|tried| matches!(tried.end, TryEnd::Succeeded { .. }));
    if failed.reason != Reason::ReplyFailed.as_str() || !is_taken {
        return None;
    }
    let next = Timestamp::try_from(failed.next?).ok()?;
    let message = format!(
        "the subscriber took it, its reply alone is tried again: {}; next try at {next:.3}",
        failed.detail
    );
    Some((Stage::Retrying, message))
}

/// The subscriber took it.
pub(super) fn delivered(context: &Context, tries: &[Try]) -> Option<(Stage, String)> {
    let taken = tries.iter().rev().find_map(|tried| match tried.end {
        TryEnd::Succeeded { status, .. } => Some((status, tried)),
        TryEnd::Failed(_) | TryEnd::Replied { .. } | TryEnd::DeadLettered { .. } => None,
    });
    let (status, taken) = taken?;
    // The subscriber took it, and its reply had nowhere to go.
    if matches!(
        tries.last(),
        Some(Try {
            end: TryEnd::DeadLettered { .. },
            ..
        })
    ) {
        return None;
    }
    let at = Timestamp::try_from(taken.at).unwrap_or_default();
    let to = context.route().destination();
    let mut message = match status {
        Some(status) => format!("{to} answered {status} at {at:.3}"),
        None => format!("passed to {to} at {at:.3}"),
    };
    if let TryEnd::Succeeded { fault: Some(fault), .. } = &taken.end {
        message.push_str(&format!("; its reply was dropped as malformed: {fault}"));
    }
    if let Some(TryEnd::Replied { to }) = tries.last().map(|last| &last.end) {
        message.push_str(&format!("; {to} took its reply"));
    }
    Some((Stage::Delivered, message))
}

pub(super) fn dead(dead_letter: Option<&DeadLetter>, tries: &[Try]) -> Option<(Stage, String)> {
    if let Some(dead_letter) = dead_letter {
        let code = dead_letter.code.map(|code| format!(" {code}")).unwrap_or_default();
        let message = format!(
            "{}{code}, attempts: {}; `headgate dead show {} {}` has all of it",
            dead_letter.reason,
            dead_letter.attempts,
            dead_letter.subscription,
            dead_letter.event.id()
        );
        return Some((Stage::DeadLettered, message));
    }
    match tries.last()?.end {
        TryEnd::DeadLettered { reason } => {
            let message = format!("{reason}; the letter went to the dead-letter sink, or a person removed it");
            Some((Stage::DeadLettered, message))
        }
        TryEnd::Succeeded { .. } | TryEnd::Failed(_) | TryEnd::Replied { .. } => None,
    }
}

/// Describes a settled event that has neither a letter nor a recorded attempt.
pub(super) fn settled(route: &Route, event: &Event) -> (Stage, String) {
    match left_out(route, event) {
        Ok(Some(clause)) => (Stage::LeftOut, format!("by its filters of now: {clause}")),
        Ok(None) | Err(_) => {
            let why = "longer ago than this process remembers, or stored before the subscription began";
            (Stage::Settled, why.into())
        }
    }
}

/// Returns the clause by which a filter leaves the event out.
pub(super) fn left_out(route: &Route, event: &Event) -> Result<Option<String>, cesql::FilterError> {
    for filter in &route.subscription.filters {
        if !filter.evaluate(event)? {
            return Ok(Some(explain(filter.expression(), event).clause.to_string()));
        }
    }
    Ok(None)
}
