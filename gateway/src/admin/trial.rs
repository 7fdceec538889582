//! `headgate filter --against`: what an expression would have done with the last events of a channel.
//!
//! Evaluated here and not by the command: the events stay where they are, and the answer is a few counts.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Query, State as Extract},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cesql::{Explanation, Expression, Filter, Value, explain};
use channel::{Channel, Offset, ReadError};
use event::Event;
use serde::Deserialize;
use serde_json::json;
use spec::ObjectName;

use super::{Refusal, State};

/// As many as a person would ask about; more would keep the channel's disk busy.
const LAST_MAX: u64 = 10_000;
const LAST: u64 = 100;

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 256;

/// Different failures that are told; the others are counted.
const FAILURES_SHOWN: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    expression: String,
    last: Option<u64>,
}

#[derive(Default)]
struct Tally {
    events: u64,
    matched: u64,
    failed: u64,
    /// How many each clause left out.
    left_out: BTreeMap<String, u64>,
    /// Id of the event and what went wrong, of the first few.
    failures: Vec<(String, String)>,
}

/// `GET /api/v1/channels/NAMESPACE/NAME/filter?expression=...&last=100`.
pub(super) async fn trial(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let filter = match wanted.expression.parse::<Expression>() {
        Ok(expression) => Filter::cesql(expression).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err(message) => return Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message).into_response(),
    };
    let name = ObjectName::new(namespace, name);
    let Some(channel) = state.plane().channel(&name) else {
        return Refusal::new(StatusCode::NOT_FOUND, "NotFound", format!("channel {name} not found")).into_response();
    };
    let last = wanted.last.unwrap_or(LAST).min(LAST_MAX);
    match tally(&*channel, &filter, last).await {
        Ok(tally) => Json(tally.shown()).into_response(),
        Err(error) => {
            let message = dataplane::chain(&error);
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message).into_response()
        }
    }
}

async fn tally(channel: &dyn Channel, filter: &Filter, last: u64) -> Result<Tally, ReadError> {
    let depth = channel.depth();
    let mut from = Offset(depth.next.0.saturating_sub(last).max(depth.earliest.0));
    let mut tally = Tally::default();
    while from < depth.next {
        let records = channel.read(from, PAGE).await?;
        let Some(newest) = records.last() else { break };
        from = newest.offset.next();
        let asked = records.iter().filter(|record| record.offset < depth.next);
        asked.for_each(|record| tally.count(filter, &record.event));
    }
    Ok(tally)
}

impl Tally {
    fn count(&mut self, filter: &Filter, event: &Event) {
        self.events += 1;
        let Explanation { evaluation, clause } = explain(filter.expression(), event);
        match (evaluation.error, evaluation.value) {
            (Some(error), _) => {
                self.failed += 1;
                if self.failures.len() < FAILURES_SHOWN {
                    self.failures
                        .push((event.id().to_owned(), format!("{clause}: {error}")));
                }
            }
            (None, Value::Boolean(true)) => self.matched += 1,
            (None, _) => *self.left_out.entry(clause.to_string()).or_default() += 1,
        }
    }

    fn shown(&self) -> serde_json::Value {
        let mut left_out: Vec<_> = self.left_out.iter().collect();
        left_out.sort_by_key(|(_, events)| std::cmp::Reverse(**events));
        let left_out: Vec<_> = left_out
            .iter()
            .map(|(clause, events)| json!({ "clause": clause, "events": events }))
            .collect();
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(|(id, message)| json!({ "event": id, "message": message }))
            .collect();
        json!({
            "events": self.events,
            "matched": self.matched,
            "failed": self.failed,
            "leftOut": left_out,
            "failures": failures,
        })
    }
}
