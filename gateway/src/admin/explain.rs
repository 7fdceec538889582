//! `headgate explain`: where an event is, and what each subscription did with it.

use axum::{
    Json,
    extract::{Query, State as Extract},
    response::{IntoResponse, Response},
};
use dataplane::{Explain, Explanation, FoundEvent, Try, TryEnd};
use jiff::Timestamp;
use serde::Deserialize;
use spec::Reason;

use super::{Refusal, State, cloudevent, dead_letters, object};
use crate::api;

/// How many events of a channel are searched by default: a second of a busy channel's disk.
pub(crate) const LAST: u64 = 10_000;
/// A channel of small events keeps about so many for replay.
pub(crate) const LAST_MAX: u64 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    id: String,
    source: Option<String>,
    /// `NAMESPACE/NAME`.
    channel: Option<String>,
    last: Option<u64>,
}

/// `GET /api/v1/explain?id=...&source=...&channel=...&last=10000`.
pub(super) async fn explain(Extract(state): Extract<State>, Query(query): Query<ExplainQuery>) -> Response {
    let channel = match query.channel.as_deref().map(|text| object("channel", text)).transpose() {
        Ok(channel) => channel,
        Err(refusal) => return refusal.into_response(),
    };
    if let Some(name) = channel.as_ref().filter(|name| state.plane().channel(name).is_none()) {
        return Refusal::not_found(format!("channel {name} not found")).into_response();
    }
    let what = Explain {
        id: query.id,
        source: query.source,
        channel,
        last: query.last.unwrap_or(LAST).min(LAST_MAX),
    };
    Json(shown(&state.plane().explain(&what).await)).into_response()
}

fn shown(explained: &Explanation) -> api::Explained {
    let looked = explained.searched.iter().map(|looked| api::Looked {
        channel: looked.channel.to_string(),
        error: looked.error.clone(),
        events: looked.events,
    });
    let of = |(name, tries): (&spec::ObjectName, &Vec<Try>)| (name.to_string(), tries.iter().map(tried).collect());
    api::Explained {
        looked: looked.collect(),
        found: explained.found.iter().map(found).collect(),
        dead_letters: explained.dead_letters.iter().map(dead_letters::shown).collect(),
        tries: explained.tries.iter().map(of).collect(),
    }
}

fn found(found: &FoundEvent) -> api::FoundAt {
    let rows = found.rows.iter().map(|row| api::Row {
        message: row.message.clone(),
        stage: row.stage.as_str().to_owned(),
        subscription: row.subscription.to_string(),
        tries: row.tries.iter().map(tried).collect(),
    });
    api::FoundAt {
        channel: found.channel.to_string(),
        offset: found.offset,
        stored_at: found.stored_at,
        durability: found.durability.as_str().to_owned(),
        passed: found.passed.clone(),
        cloudevent: cloudevent(&found.event),
        subscriptions: rows.collect(),
    }
}

fn tried(tried: &Try) -> api::Tried {
    let (end, code, reason, detail, next) = match &tried.end {
        TryEnd::Succeeded { status, fault: None } => ("taken", *status, None, None, None),
        TryEnd::Succeeded {
            status,
            fault: Some(fault),
        } => {
            let detail = format!("its reply was dropped: {fault}");
            ("taken", *status, Some(Reason::Malformed), Some(detail), None)
        }
        TryEnd::Replied { to } => ("replied", None, None, Some(format!("{to} took the reply")), None),
        TryEnd::Failed(failed) => {
            let detail = Some(failed.detail.clone());
            ("failed", failed.code, Some(failed.reason), detail, failed.next)
        }
        TryEnd::DeadLettered { reason } => ("dead-lettered", None, Some(*reason), None, None),
    };
    let time = |at| Timestamp::try_from(at).ok().map(|at| format!("{at:.3}"));
    api::Tried {
        at: time(tried.at),
        code,
        detail,
        end: end.to_owned(),
        next: next.and_then(time),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        took_ms: tried.took.map(|took| took.as_secs_f64() * 1e3),
    }
}
