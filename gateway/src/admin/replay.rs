//! `headgate replay`: past events to one subscription, and how far it is, one JSON document a line.
//!
//! The answer is the replay: it goes on while the client reads, and ends when the connection does.

use std::{convert::Infallible, time::SystemTime};

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
use dataplane::{Progress, Replay, ReplayError, Until};
use futures_util::StreamExt;
use spec::{ObjectName, Reason};

use super::{Changed, Refusal, State};
use crate::api::{Counts, Position, ReplayRequest, Word};

/// `POST /api/v1/subscriptions/NAMESPACE/NAME/replay`: 200 and lines, the last of which says `done` or `stopped`.
pub(super) async fn replay(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Json(request): Json<ReplayRequest>,
) -> Response {
    if let Err(refusal) = super::check_rate(request.rate) {
        return refusal.into_response();
    }
    let expected = request.filter.iter().map(|(name, value)| (&**name, &**value));
    let to = match request.to {
        None => None,
        Some(Position::Offset(offset)) => Some(Until::Offset(Offset(offset))),
        Some(Position::Time(time)) => Some(Until::Time(SystemTime::from(time))),
        Some(Position::Word(Word::Earliest)) => {
            let message = "`to` is an offset or a time: a replay to the earliest event would hold nothing";
            return Refusal::bad_request(message).into_response();
        }
    };
    let what = Replay {
        from: match request.from {
            Position::Offset(offset) => Start::Offset(Offset(offset)),
            Position::Time(time) => Start::Time(SystemTime::from(time)),
            Position::Word(Word::Earliest) => Start::Earliest,
        },
        to,
        filter: (!request.filter.is_empty()).then(|| Filter::exact(expected)),
        rate: request.rate,
        dry_run: request.dry_run,
    };
    let subscription = ObjectName::new(namespace, name);
    match state.plane().replay(&subscription, what).await {
        Err(error) => Refusal::from(error).into_response(),
        Ok(progress) => {
            let mut log = (!request.dry_run).then(|| ReplayLog {
                subscription,
                delivered: 0,
                dead_lettered: 0,
            });
            let lines = progress.map(move |progress| {
                if let Some(log) = &mut log {
                    log.reached(&progress);
                }
                Ok::<_, Infallible>(line(progress))
            });
            let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
            let mut answer = (kind, Body::from_stream(lines)).into_response();
            if !request.dry_run {
                // How many there are is known when it ends.
                answer.extensions_mut().insert(Changed { count: 0 });
            }
            answer
        }
    }
}

/// Logs what a replay did when it ends, however it does.
struct ReplayLog {
    subscription: ObjectName,
    delivered: u64,
    dead_lettered: u64,
}

impl ReplayLog {
    fn reached(&mut self, progress: &Progress) {
        let (Progress::Going(counted) | Progress::Done(counted) | Progress::Stopped(counted, _)) = progress;
        (self.delivered, self.dead_lettered) = (counted.delivered, counted.dead_lettered);
    }
}

impl Drop for ReplayLog {
    fn drop(&mut self) {
        tracing::info!(
            subscription = %self.subscription, delivered = self.delivered, dead_lettered = self.dead_lettered,
            "a replay has ended"
        );
    }
}

fn line(progress: Progress) -> Bytes {
    let (counted, is_last, stopped) = match progress {
        Progress::Going(counted) => (counted, false, None),
        Progress::Done(counted) => (counted, true, None),
        Progress::Stopped(counted, why) => (counted, true, Some(why)),
    };
    let counts = Counts {
        read: Some(counted.read),
        matched: counted.matched,
        delivered: counted.delivered,
        dead_lettered: counted.dead_lettered,
        left_out: Some(counted.left_out),
        unfit: Some(counted.unfit),
        left: counted.left,
        ..Counts::default()
    };
    super::line(counts, is_last, stopped)
}

impl From<ReplayError> for Refusal {
    fn from(error: ReplayError) -> Self {
        let (status, reason) = match &error {
            ReplayError::NoSubscription(_) => (StatusCode::NOT_FOUND, Reason::NotFound),
            ReplayError::NotRunning(_) => (StatusCode::CONFLICT, Reason::NotRunning),
            ReplayError::Paused(_) => (StatusCode::CONFLICT, Reason::Paused),
            ReplayError::NothingKept(_) => (StatusCode::CONFLICT, Reason::NothingKept),
            ReplayError::Busy(_) => (StatusCode::CONFLICT, Reason::ReplayRunning),
            ReplayError::Read(_) => (StatusCode::SERVICE_UNAVAILABLE, Reason::Unavailable),
        };
        Self::new(status, reason, dataplane::chain(&error))
    }
}
