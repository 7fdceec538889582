//! Retention: events that every cursor has settled are deleted in streams that this gateway created.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::stream::PurgeRequest;

use crate::{api::ApiError, connection::Server, consumer, reader};

/// How often settled events are looked for.
pub(crate) const TRIM_EVERY: Duration = Duration::from_secs(600);

/// Settled events stay this long, to be read and replayed: a day, as in the other channels.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// The sequence below which every cursor has settled everything, as the server reports; `None` when a consumer of another program
/// may still need it.
pub(crate) async fn settled_below(server: &Server, stream: &str, last: u64) -> Result<Option<u64>, ApiError> {
    let mut lowest = last + 1;
    for info in server.consumers(stream).await? {
        // One that looks at a page is no reader that waits for anything.
        let is_reader = info.config.durable_name.is_none();
        let settled_below = consumer::progress(&info).settled_below;
        match consumer::cursor_of(&info) {
            Some(_) => lowest = lowest.min(settled_below),
            None if is_reader => {}
            None => return Ok(None),
        }
    }
    Ok(Some(lowest))
}

/// Deletes what is below a sequence.
pub(crate) async fn purge(server: &Server, stream: &str, below: u64) -> Result<(), ApiError> {
    let request = PurgeRequest {
        sequence: Some(below),
        ..PurgeRequest::default()
    };
    server.purge(stream, &request).await
}

/// Deletes what everybody settled and is old enough.
pub(crate) async fn trim(server: &Server, stream: &str, first: u64, last: u64) {
    let Some(before) = SystemTime::now().checked_sub(KEEP) else {
        return;
    };
    let young = reader::sequence_at(server, stream, before).await;
    let young = match young {
        Ok(found) => found.unwrap_or(last + 1),
        Err(error) => {
            tracing::debug!(stream, %error, "old events were not looked for");
            return;
        }
    };
    let trimmed = match settled_below(server, stream, last).await {
        Ok(Some(settled)) if settled.min(young) > first => purge(server, stream, settled.min(young)).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = trimmed {
        tracing::warn!(stream, %error, "old events were not deleted, trying again later");
    }
}
