//! `headgate filter --against`: what an expression would have done with the last events of a channel.
//!
//! Evaluated here and not by the command: the events stay where they are, and the answer is a few counts.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Query, State as Extract},
    response::{IntoResponse, Response},
};
use cesql::{Explanation, Filter, STEPS_MAX, Value, explain};
use channel::{Channel, Offset, ReadError};
use event::Event;
use serde::Deserialize;
use spec::{ObjectName, expression};
use tokio::sync::Semaphore;

use super::{Refusal, State};
use crate::api::{LeftOut, Trial, TrialFailure};

/// As many as a person would ask about; more would keep the channel's disk busy.
const LAST_MAX: u64 = 10_000;
const LAST: u64 = 100;

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 256;

/// Different failures that are told; the others are counted.
const FAILURES_SHOWN: usize = 10;

/// Steps of all events together: about a second of one core. Usual filters take a ten-thousandth of it for 10 000 events.
pub(crate) const STEPS_TOTAL_MAX: usize = 512 * STEPS_MAX;

/// From so many steps on, a tenth of a millisecond, other tasks get their turn first.
pub(crate) const STEPS_PER_TURN: usize = STEPS_MAX / 16;

/// Trials evaluate one after another: no number of callers takes more than one of the runtime's threads.
static TURN: Semaphore = Semaphore::const_new(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrialQuery {
    expression: String,
    last: Option<u64>,
}

/// How one event did.
pub(crate) struct Counted {
    pub(crate) is_match: bool,
    /// Steps that it took.
    pub(crate) steps: usize,
}

/// How many events an expression matched, and which clauses left the others out.
#[derive(Default)]
pub(crate) struct Tally {
    events: u64,
    matched: u64,
    failed: u64,
    /// How many each clause left out.
    left_out: BTreeMap<String, u64>,
    /// The first few failures.
    failures: Vec<TrialFailure>,
    /// Steps taken so far.
    steps: usize,
    /// Whether the steps were spent before the last event.
    is_cut: bool,
}

/// `GET /api/v1/channels/NAMESPACE/NAME/filter?expression=...&last=100`.
pub(super) async fn trial(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<TrialQuery>,
) -> Response {
    let filter = match expression::read(&query.expression) {
        Ok(checked) => Filter::cesql(checked.expression).map_err(|error| error.to_string()),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err(message) => return Refusal::bad_request(message).into_response(),
    };
    let name = ObjectName::new(namespace, name);
    let Some(channel) = state.plane().channel(&name) else {
        return Refusal::not_found(format!("channel {name} not found")).into_response();
    };
    let last = query.last.unwrap_or(LAST).min(LAST_MAX);
    match tally(&*channel, &filter, last).await {
        Ok(tally) => Json(tally.shown()).into_response(),
        Err(error) => Refusal::unavailable(&error).into_response(),
    }
}

async fn tally(channel: &dyn Channel, filter: &Filter, last: u64) -> Result<Tally, ReadError> {
    let depth = channel.depth();
    let mut from = Offset(depth.next.0.saturating_sub(last).max(depth.earliest.0));
    let mut tally = Tally::default();
    let mut turn = 0;
    // Held until the answer is there. Never closed.
    let _turn = TURN.acquire().await;
    while from < depth.next {
        let records = channel.read(from, PAGE).await?;
        let Some(newest) = records.last() else { break };
        from = newest.offset.next();
        for record in records.iter().filter(|record| record.offset < depth.next) {
            if tally.steps >= STEPS_TOTAL_MAX {
                tally.is_cut = true;
                return Ok(tally);
            }
            turn += tally.count(filter, &record.event).steps;
            if turn >= STEPS_PER_TURN {
                tokio::task::yield_now().await;
                turn = 0;
            }
        }
    }
    Ok(tally)
}

impl Tally {
    /// Steps taken so far.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// No further event is evaluated: the expression is too costly.
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
    }

    pub(crate) fn count(&mut self, filter: &Filter, event: &Event) -> Counted {
        self.events += 1;
        let Explanation {
            evaluation,
            clause,
            steps,
        } = explain(filter.expression(), event);
        self.steps += steps;
        let is_match = evaluation.error.is_none() && matches!(evaluation.value, Value::Boolean(true));
        match (evaluation.error, evaluation.value) {
            (Some(error), _) => {
                self.failed += 1;
                if self.failures.len() < FAILURES_SHOWN {
                    self.failures.push(TrialFailure {
                        event: event.id().to_owned(),
                        message: format!("{clause}: {error}"),
                    });
                }
            }
            (None, Value::Boolean(true)) => self.matched += 1,
            (None, _) => *self.left_out.entry(clause.to_string()).or_default() += 1,
        }
        Counted { is_match, steps }
    }

    pub(crate) fn shown(self) -> Trial {
        let mut left_out: Vec<LeftOut> = self
            .left_out
            .into_iter()
            .map(|(clause, events)| LeftOut { clause, events })
            .collect();
        left_out.sort_by_key(|left_out| std::cmp::Reverse(left_out.events));
        Trial {
            complete: !self.is_cut,
            events: self.events,
            failed: self.failed,
            failures: self.failures,
            left_out,
            matched: self.matched,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Proves: CH-2
    #[test]
    fn a_costly_expression_counts_its_steps_and_an_answer_says_that_it_was_cut() {
        let event = Event::builder("1", "/s", "t")
            .set("big", &"a".repeat(250_000))
            .finish()
            .unwrap();
        let costly = format!("big LIKE '%{}b%'", "_".repeat(250));
        let filter = Filter::cesql(vec![costly; 10].join(" OR ").parse().unwrap()).unwrap();
        let mut tally = Tally::default();
        let Counted { is_match, steps } = tally.count(&filter, &event);
        assert!(!is_match);
        assert!((STEPS_PER_TURN..=2 * STEPS_MAX).contains(&steps), "{steps}");
        assert_eq!((tally.failed, tally.steps), (1, steps));
        assert!(tally.shown().complete);
        let cut = Tally {
            is_cut: true,
            ..Tally::default()
        };
        assert!(!cut.shown().complete);
    }
}
