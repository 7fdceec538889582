//! `headgate tail`: events of a channel as they are stored, one JSON document a line, with no effect on subscriptions.
//!
//! Tails are bounded: so many at once, and each holds one small page until its reader took it.

use std::{collections::BTreeMap, convert::Infallible};

use axum::{
    body::Body,
    extract::{Path, Query, State as Extract},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use cesql::Filter;
use channel::{PageLimit, Tail, TailPage};
use futures_util::stream;
use serde_json::json;
use spec::{ObjectName, Reason};

use super::{Refusal, State};
use crate::api::Missed;

/// Tails of one gateway at once. Each is a person, or a script that watches: more are a leak, and each may hold a page and what
/// the connection buffers, about 1 MiB.
pub(super) const TAILS_MAX: usize = 16;

/// The page that one tail holds for its reader: small, because a reader may never read. A larger event is a page alone.
const PAGE: PageLimit = PageLimit {
    events: 256,
    bytes: 256 << 10,
};

/// Seconds after which a refused tail may retry: another tail has to end first.
const RETRY_AFTER: u64 = 10;

/// `GET /api/v1/channels/NAMESPACE/NAME/events?ATTRIBUTE=VALUE...`: from now on, until the client or the gateway ends.
pub(super) async fn tail(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Query(expected): Query<BTreeMap<String, String>>,
) -> Response {
    let name = ObjectName::new(namespace, name);
    let Some(channel) = state.plane().channel(&name) else {
        return Refusal::not_found(format!("channel {name} not found")).into_response();
    };
    let Ok(permit) = state.0.tails.clone().try_acquire_owned() else {
        let message = format!("{TAILS_MAX} tails are open, as many as this gateway serves at once: end one of them");
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Reason::TooManyTails, message)
            .retry_after(RETRY_AFTER)
            .into_response();
    };
    let filter = Filter::exact(expected.iter().map(|(name, value)| (&**name, &**value)));
    let tail = match Tail::open(channel).await {
        Ok(tail) => tail,
        Err(error) => {
            return Refusal::unavailable(&error).into_response();
        }
    };
    let lines = stream::unfold((tail, filter, permit), |(mut tail, filter, permit)| async move {
        // Ends with its channel.
        let lines = next(&mut tail, &filter).await?;
        Some((Ok::<_, Infallible>(lines), (tail, filter, permit)))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// The next events that pass, or `None` when the channel is closed.
async fn next(tail: &mut Tail, filter: &Filter) -> Option<Bytes> {
    loop {
        let lines = lines(&tail.next(PAGE).await.ok()?, filter);
        if !lines.is_empty() {
            return Some(lines.into());
        }
    }
}

fn lines(page: &TailPage, filter: &Filter) -> Vec<u8> {
    let mut lines = Vec::new();
    if page.missed > 0 {
        let missed = Missed { missed: page.missed };
        lines.extend_from_slice(format!("{}\n", json!(missed)).as_bytes());
    }
    for record in &page.records {
        if filter.evaluate(&record.event).unwrap_or(false) {
            lines.extend_from_slice(&record.event.to_json_line());
            lines.push(b'\n');
        }
    }
    lines
}
