//! `headgate explain`: where an event is, and what each subscription did with it.

use axum::{
    Json,
    extract::{Query, State as Extract},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use dataplane::{Explain, Explained, Found, Row, Try, TryEnd};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refusal, State, letters, object};

/// What is looked through when nobody says how much: a second of a busy channel's disk.
const LAST: u64 = 10_000;
/// A channel of small events keeps about so many for replay.
const LAST_MAX: u64 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    id: String,
    source: Option<String>,
    /// `NAMESPACE/NAME`.
    channel: Option<String>,
    last: Option<u64>,
}

/// `GET /api/v1/explain?id=...&source=...&channel=...&last=10000`.
pub(super) async fn explain(Extract(state): Extract<State>, Query(wanted): Query<Wanted>) -> Response {
    let channel = match wanted
        .channel
        .as_deref()
        .map(|text| object("channel", text))
        .transpose()
    {
        Ok(channel) => channel,
        Err(refusal) => return refusal.into_response(),
    };
    if let Some(name) = channel.as_ref().filter(|name| state.plane().channel(name).is_none()) {
        return Refusal::new(StatusCode::NOT_FOUND, "NotFound", format!("channel {name} not found")).into_response();
    }
    let what = Explain {
        id: wanted.id,
        source: wanted.source,
        channel,
        last: wanted.last.unwrap_or(LAST).min(LAST_MAX),
    };
    Json(shown(&state.plane().explain(&what).await)).into_response()
}

fn shown(explained: &Explained) -> Value {
    let looked = explained
        .looked
        .iter()
        .map(|looked| json!({ "channel": looked.channel.to_string(), "events": looked.events, "error": looked.error }));
    let letters = explained.letters.iter().map(|letter| letters::shown(letter, false));
    let of = |(name, tries): (&spec::ObjectName, &Vec<Try>)| (name.to_string(), tries.iter().map(tried).collect());
    json!({
        "looked": looked.collect::<Vec<_>>(),
        "found": explained.found.iter().map(found).collect::<Vec<_>>(),
        "deadLetters": letters.collect::<Vec<_>>(),
        "tries": explained.tries.iter().map(of).collect::<serde_json::Map<String, Value>>(),
    })
}

fn found(found: &Found) -> Value {
    json!({
        "channel": found.channel.to_string(),
        "place": found.place,
        "storedAt": found.stored_at,
        "durability": found.durability.as_str(),
        "passed": found.passed,
        "cloudevent": serde_json::from_slice::<Value>(&found.event.to_json()).unwrap_or_default(),
        "subscriptions": found.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    json!({
        "subscription": row.subscription.to_string(),
        "stage": row.stage.as_str(),
        "message": row.message,
        "tries": row.tries.iter().map(tried).collect::<Vec<_>>(),
    })
}

fn tried(tried: &Try) -> Value {
    let (end, code, reason, detail, next) = match &tried.end {
        TryEnd::Taken(code) => ("taken", *code, None, None, None),
        TryEnd::Failed(failed) => {
            let detail = Some(&failed.detail);
            ("failed", failed.code, Some(failed.reason), detail, failed.next)
        }
        TryEnd::Buried { reason } => ("dead-lettered", None, Some(*reason), None, None),
    };
    let time = |at| Timestamp::try_from(at).ok().map(|at| format!("{at:.3}"));
    json!({
        "at": time(tried.at),
        "tookMs": tried.took.map(|took| took.as_secs_f64() * 1e3),
        "end": end,
        "code": code,
        "reason": reason,
        "detail": detail,
        "next": next.and_then(time),
    })
}
