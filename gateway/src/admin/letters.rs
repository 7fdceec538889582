//! Dead letters over the admin API.

use axum::{
    Json,
    extract::{Path, Query, State as Extract},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use cesql::Filter;
use dataplane::{DeadLetter, Redrive};
use serde::Deserialize;
use serde_json::{Value, json};
use spec::ObjectName;
use std::collections::BTreeMap;

use super::{Refusal, State, object};

/// Letters of one answer at most: each may carry its event and 64 KiB of an answer.
const LIMIT_MAX: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct Which {
    /// `NAMESPACE/NAME`.
    subscription: Option<String>,
    /// Only letters of this event, with the event and the answer's body.
    id: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/deadletters`: an array, newest first.
pub(super) async fn list(Extract(state): Extract<State>, Query(which): Query<Which>) -> Response {
    let named = which.subscription.as_deref().map(|text| object("subscription", text));
    let subscription = match named.transpose() {
        Ok(subscription) => subscription,
        Err(refusal) => return refusal.into_response(),
    };
    let max = which.limit.unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
    // Looking for one event means looking through all letters.
    let read = if which.id.is_some() { usize::MAX } else { max };
    match state.plane().dead_letters(subscription.as_ref(), read).await {
        Err(error) => Refusal::from(error).into_response(),
        Ok(letters) => {
            let found = letters
                .iter()
                .filter(|letter| which.id.as_deref().is_none_or(|id| id == letter.event.id()));
            let whole = which.id.is_some();
            Json(found.take(max).map(|letter| shown(letter, whole)).collect::<Vec<_>>()).into_response()
        }
    }
}

pub(super) fn shown(letter: &DeadLetter, whole: bool) -> Value {
    let mut shown = json!({
        "subscription": letter.subscription.to_string(),
        "event": letter.event.id(),
        "type": letter.event.kind(),
        "source": letter.event.source(),
        "reason": letter.reason,
        "detail": letter.detail,
        "code": letter.code,
        "attempts": letter.attempts,
        "destination": letter.destination,
        "firstAttempt": letter.first_attempt,
        "lastAttempt": letter.last_attempt,
        "storedAt": letter.stored_at,
    });
    if whole {
        shown["cloudevent"] = serde_json::from_slice(&letter.event.to_json()).unwrap_or_default();
        if let Some(answer) = &letter.answer {
            shown["answer"] = match std::str::from_utf8(answer) {
                Ok(text) => json!({ "text": text }),
                Err(_) => json!({ "base64": BASE64_STANDARD.encode(answer) }),
            };
        }
    }
    shown
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RedriveRequest {
    /// Event ids; empty means all of the subscription.
    #[serde(default)]
    ids: Vec<String>,
    /// Attributes and the values they must have.
    #[serde(default)]
    filter: BTreeMap<String, String>,
    rate: Option<f64>,
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/subscriptions/NAMESPACE/NAME/deadletters/redrive`: 202 with how many.
pub(super) async fn redrive(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Json(request): Json<RedriveRequest>,
) -> Response {
    let wanted = request.filter.iter().map(|(name, value)| (&**name, &**value));
    let filter = (!request.filter.is_empty()).then(|| Filter::exact(wanted));
    let what = Redrive {
        ids: request.ids,
        filter,
        rate: request.rate,
        dry_run: request.dry_run,
    };
    match state.plane().redrive(&ObjectName::new(namespace, name), what).await {
        Ok(redriven) => (StatusCode::ACCEPTED, Json(json!({ "matched": redriven.matched }))).into_response(),
        Err(error) => Refusal::from(error).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropRequest {
    #[serde(default)]
    ids: Vec<String>,
    /// Must be said when there are no ids.
    #[serde(default)]
    all: bool,
}

/// `POST /api/v1/subscriptions/NAMESPACE/NAME/deadletters/drop`.
pub(super) async fn remove(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Json(request): Json<DropRequest>,
) -> Response {
    if request.ids.is_empty() != request.all {
        let message = "name the ids to drop, or say \"all\": true";
        return Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message).into_response();
    }
    match state
        .plane()
        .drop_letters(&ObjectName::new(namespace, name), &request.ids)
        .await
    {
        Ok(dropped) => Json(json!({ "dropped": dropped })).into_response(),
        Err(error) => Refusal::from(error).into_response(),
    }
}
