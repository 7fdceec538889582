//! `headgate replay`: past events to one subscription, and how far it is, one JSON document a line.
//!
//! The answer is the replay: it goes on as long as somebody reads, and ends when the connection does.

use std::{collections::BTreeMap, convert::Infallible, time::SystemTime};

use axum::{
    Json,
    body::Body,
    extract::{Path, State as Extract},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use cesql::Filter;
use channel::{Offset, Start};
use dataplane::{Progress, Replay, ReplayError, Replayed, Until};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::ObjectName;

use super::{Refusal, State};

/// A place, or a time in RFC 3339.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Place {
    Offset(u64),
    Time(Timestamp),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Request {
    from: Place,
    to: Option<Place>,
    /// Attributes and the values they must have.
    #[serde(default)]
    filter: BTreeMap<String, String>,
    rate: Option<f64>,
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/subscriptions/NAMESPACE/NAME/replay`: 200 and lines, the last of which says `done` or `stopped`.
pub(super) async fn replay(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Json(request): Json<Request>,
) -> Response {
    if request.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        let message = "rate is events a second: a number above 0";
        return Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message).into_response();
    }
    let wanted = request.filter.iter().map(|(name, value)| (&**name, &**value));
    let what = Replay {
        from: match request.from {
            Place::Offset(place) => Start::Offset(Offset(place)),
            Place::Time(time) => Start::Time(SystemTime::from(time)),
        },
        to: request.to.map(|to| match to {
            Place::Offset(place) => Until::Place(Offset(place)),
            Place::Time(time) => Until::Time(SystemTime::from(time)),
        }),
        filter: (!request.filter.is_empty()).then(|| Filter::exact(wanted)),
        rate: request.rate,
        dry_run: request.dry_run,
    };
    match state.plane().replay(&ObjectName::new(namespace, name), what).await {
        Err(error) => Refusal::from(error).into_response(),
        Ok(progress) => {
            let lines = progress.map(|progress| Ok::<_, Infallible>(line(&progress)));
            let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
            (kind, Body::from_stream(lines)).into_response()
        }
    }
}

fn line(progress: &Progress) -> Bytes {
    let mut shown = match progress {
        Progress::Going(counted) | Progress::Done(counted) | Progress::Stopped(counted, _) => shown(counted),
    };
    match progress {
        Progress::Going(_) => {}
        Progress::Done(_) => shown["done"] = true.into(),
        Progress::Stopped(_, why) => shown["stopped"] = (&**why).into(),
    }
    format!("{shown}\n").into()
}

fn shown(counted: &Replayed) -> Value {
    json!({
        "read": counted.read,
        "matched": counted.matched,
        "delivered": counted.delivered,
        "deadLettered": counted.dead_lettered,
        "unfit": counted.unfit,
        "left": counted.left,
    })
}

impl From<ReplayError> for Refusal {
    fn from(error: ReplayError) -> Self {
        let (status, reason) = match &error {
            ReplayError::NoSubscription(_) => (StatusCode::NOT_FOUND, "NotFound"),
            ReplayError::NotRunning(_) => (StatusCode::CONFLICT, "NotRunning"),
            ReplayError::Paused(_) => (StatusCode::CONFLICT, "Paused"),
            ReplayError::NothingKept(_) => (StatusCode::CONFLICT, "NothingKept"),
            ReplayError::Busy(_) => (StatusCode::CONFLICT, "ReplayRunning"),
            ReplayError::Read(_) => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
        };
        Self::new(status, reason, dataplane::chain(&error))
    }
}
