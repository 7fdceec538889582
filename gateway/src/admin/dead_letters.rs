//! Dead letters over the admin API.

use std::{convert::Infallible, pin::Pin};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, State as Extract},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use cesql::Filter;
use dataplane::{DeadLetter, DeadLetterError, ListedDeadLetter, Redrive, RedriveCounts, RunningRedrive};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use spec::{ObjectName, Reason};

use super::{Changed, Refusal, State, cloudevent, object};
use crate::api::{self, AnswerBody, Counts, DropRequest, Dropped, Matched, RedriveRequest};

/// Letters of one answer at most: each may carry its event and 64 KiB of an answer.
const LIMIT_MAX: usize = 10_000;

/// How many are listed by default: more than a person reads.
const LIMIT: usize = 1000;

/// How many letters there are in the channels that were looked through, of all subscriptions: more than are listed, perhaps.
const TOTAL: &str = "headgate-dead-letters";

#[derive(Deserialize)]
pub(super) struct Which {
    /// `NAMESPACE/NAME`.
    subscription: Option<String>,
    /// Only letters of this event, with the event and the answer's body.
    id: Option<String>,
    limit: Option<usize>,
}

/// Answers of letters that are being sent at once: each holds what is shown of a window of letters until its reader took it.
pub(super) const LISTINGS_MAX: usize = 16;

/// Seconds after which a refused listing may find a place.
const RETRY_AFTER: u64 = 5;

/// As many listings are read as there may be.
pub(super) fn too_many() -> Refusal {
    let message =
        format!("{LISTINGS_MAX} listings of dead letters are being read, as many as this gateway serves at once");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Reason::TooManyListings, message).retry_after(RETRY_AFTER)
}

type DeadLetterLog = Pin<Box<dyn Stream<Item = Result<ListedDeadLetter, DeadLetterError>> + Send>>;

/// `GET /api/v1/deadletters`: an array, newest first, written as it is read.
pub(super) async fn list(Extract(state): Extract<State>, Query(which): Query<Which>) -> Response {
    let named = which.subscription.as_deref().map(|text| object("subscription", text));
    let subscription = match named.transpose() {
        Ok(subscription) => subscription,
        Err(refusal) => return refusal.into_response(),
    };
    let permit = match state.listing() {
        Ok(permit) => permit,
        Err(refusal) => return refusal.into_response(),
    };
    let max = which.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let total = state.plane().count_dead_letters(subscription.as_ref());
    let is_whole = which.id.is_some();
    // A whole letter is read again when it is its turn: none is held meanwhile.
    let show = move |dead_letter: &DeadLetter| match which.id.as_deref() {
        Some(id) => (id == dead_letter.event.id()).then(String::new),
        None => Some(json!(shown(dead_letter)).to_string()),
    };
    let dead_letters = state.plane().list_dead_letters(subscription.as_ref(), show).take(max);
    let mut dead_letters: DeadLetterLog = Box::pin(dead_letters);
    // A log that cannot be read at all is a refusal; a later fault breaks the answer off.
    let first = match dead_letters.next().await.transpose() {
        Ok(first) => first,
        Err(error) => return Refusal::from(error).into_response(),
    };
    let pieces = stream::try_unfold(Some((first, dead_letters, "[", permit)), move |going| async move {
        let Some((listed, mut dead_letters, before, permit)) = going else {
            return Ok(None);
        };
        let Some(listed) = listed else {
            let end = if before == "[" { "[]" } else { "]" };
            return Ok::<_, DeadLetterError>(Some((Bytes::from(end), None)));
        };
        let text = if is_whole {
            whole(&listed).await?
        } else {
            Some(listed.shown)
        };
        // Removed since it was listed: then nothing is said of it.
        let (piece, after) = match text {
            Some(text) => (Bytes::from(format!("{before}{text}")), ","),
            None => (Bytes::new(), before),
        };
        Ok(Some((
            piece,
            Some((dead_letters.next().await.transpose()?, dead_letters, after, permit)),
        )))
    });
    let head = [
        (header::CONTENT_TYPE.as_str(), "application/json".to_owned()),
        (TOTAL, total.to_string()),
    ];
    (head, Body::from_stream(pieces)).into_response()
}

async fn whole(listed: &ListedDeadLetter) -> Result<Option<String>, DeadLetterError> {
    let dead_letter = listed.read().await?;
    Ok(dead_letter
        .map(|dead_letter| serde_json::to_string(&Whole::of(&dead_letter)).expect("a letter can be written as JSON")))
}

/// A letter without what may be large.
pub(crate) fn shown(dead_letter: &DeadLetter) -> api::DeadLetter {
    api::DeadLetter {
        attempts: dead_letter.attempts,
        code: dead_letter.code,
        destination: dead_letter.destination.clone(),
        detail: dead_letter.detail.clone(),
        event: dead_letter.event.id().to_owned(),
        first_attempt: dead_letter.first_attempt,
        last_attempt: dead_letter.last_attempt,
        reason: dead_letter.reason.clone(),
        source: dead_letter.event.source().to_owned(),
        stored_at: Some(dead_letter.stored_at),
        subscription: dead_letter.subscription.to_string(),
        kind: dead_letter.event.kind().to_owned(),
    }
}

/// With the event as it was sent, and the answer's body.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    facts: api::DeadLetter,
    cloudevent: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerBody>,
}

impl Whole {
    fn of(dead_letter: &DeadLetter) -> Self {
        let answer = dead_letter
            .answer
            .as_deref()
            .map(|answer| match std::str::from_utf8(answer) {
                Ok(text) => AnswerBody::Text(text.to_owned()),
                Err(_) => AnswerBody::Base64(BASE64_STANDARD.encode(answer)),
            });
        Self {
            facts: shown(dead_letter),
            cloudevent: cloudevent(&dead_letter.event),
            answer,
        }
    }
}

/// Ids of one request at most: a body of 1 MiB holds more only where ids are a few characters.
const IDS_MAX: usize = 100_000;

fn check_ids(ids: &[String]) -> Result<(), Refusal> {
    if ids.len() <= IDS_MAX {
        return Ok(());
    }
    let message = format!(
        "{} ids are more than the {IDS_MAX} of one request: send several, or a filter",
        ids.len()
    );
    Err(Refusal::bad_request(message))
}

/// `POST /api/v1/subscriptions/NAMESPACE/NAME/deadletters/redrive`: 202 with how many, or lines that say how far it is.
pub(super) async fn redrive(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Json(request): Json<RedriveRequest>,
) -> Response {
    if let Err(refusal) = super::check_rate(request.rate).and_then(|()| check_ids(&request.ids)) {
        return refusal.into_response();
    }
    let expected = request.filter.iter().map(|(name, value)| (&**name, &**value));
    let filter = (!request.filter.is_empty()).then(|| Filter::exact(expected));
    let dry_run = request.dry_run;
    let what = Redrive {
        ids: request.ids,
        filter,
        group: None,
        rate: request.rate,
        dry_run: request.dry_run,
    };
    let redriving = state.plane().redrive(&ObjectName::new(namespace, name), what).await;
    let matched = redriving.as_ref().ok().map(RunningRedrive::matched);
    let mut answer = match redriving {
        Err(error) => Refusal::from(error).into_response(),
        Ok(redriving) if request.follow => {
            let lines = redriving
                .follow()
                .map(|(counted, is_last)| Ok::<_, Infallible>(line(counted, is_last)));
            let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
            (kind, Body::from_stream(lines)).into_response()
        }
        Ok(redriving) => (
            StatusCode::ACCEPTED,
            Json(Matched {
                matched: redriving.matched(),
            }),
        )
            .into_response(),
    };
    if let (Some(matched), false) = (matched, dry_run) {
        let count = usize::try_from(matched).unwrap_or(usize::MAX);
        answer.extensions_mut().insert(Changed { count });
    }
    answer
}

fn line(counted: RedriveCounts, is_last: bool) -> Bytes {
    let counts = Counts {
        matched: counted.matched,
        delivered: counted.delivered,
        dead_lettered: counted.dead_lettered,
        gone: Some(counted.gone),
        left: counted.left,
        ..Counts::default()
    };
    super::line(counts, is_last, counted.stopped)
}

/// `POST /api/v1/subscriptions/NAMESPACE/NAME/deadletters/drop`.
pub(super) async fn remove(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Json(request): Json<DropRequest>,
) -> Response {
    if let Err(refusal) = check_ids(&request.ids) {
        return refusal.into_response();
    }
    if request.ids.is_empty() != request.all {
        let message = "name the ids to drop, or say \"all\": true";
        return Refusal::bad_request(message).into_response();
    }
    match state
        .plane()
        .drop_dead_letters(&ObjectName::new(namespace, name), &request.ids, None)
        .await
    {
        Ok(dropped) => (Extension(Changed { count: dropped }), Json(Dropped { dropped })).into_response(),
        Err(error) => Refusal::from(error).into_response(),
    }
}
