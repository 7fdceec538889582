//! `headgate tail`: events of a channel as they are stored, one JSON document a line, with no effect on subscriptions.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Query, State as Extract},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use cesql::Filter;
use channel::{Channel, Offset, Record};
use futures_util::stream;
use spec::ObjectName;

use super::{Refusal, State};

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 256;

/// `GET /api/v1/channels/NAMESPACE/NAME/events?ATTRIBUTE=VALUE...`: from now on, until the client or the gateway ends.
pub(super) async fn tail(
    Extract(state): Extract<State>,
    Path((namespace, name)): Path<(String, String)>,
    Query(wanted): Query<BTreeMap<String, String>>,
) -> Response {
    let name = ObjectName::new(namespace, name);
    let Some(channel) = state.plane().channel(&name) else {
        return Refusal::new(StatusCode::NOT_FOUND, "NotFound", format!("channel {name} not found")).into_response();
    };
    let filter = Filter::exact(wanted.iter().map(|(name, value)| (&**name, &**value)));
    let next = channel.depth().next;
    let lines = stream::unfold((channel, next, filter), |(channel, from, filter)| async move {
        let (lines, next) = page(&channel, from, &filter).await?;
        Some((Ok::<_, std::convert::Infallible>(lines), (channel, next, filter)))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// The next events that pass, or `None` when the channel is closed.
async fn page(channel: &Arc<dyn Channel>, mut from: Offset, filter: &Filter) -> Option<(Bytes, Offset)> {
    loop {
        let records = channel.read(from, PAGE).await.ok()?;
        let Some(last) = records.last() else {
            channel.grown(from).await;
            // Woken by its end rather than by an event.
            if channel.depth().next <= from && channel.read(from, 1).await.is_err() {
                return None;
            }
            continue;
        };
        from = last.offset.next();
        let passes = |record: &&Record| filter.evaluate(&record.event).unwrap_or(false);
        let mut lines = Vec::new();
        for record in records.iter().filter(passes) {
            lines.extend_from_slice(&record.event.to_json());
            lines.push(b'\n');
        }
        if !lines.is_empty() {
            return Some((lines.into(), from));
        }
    }
}
