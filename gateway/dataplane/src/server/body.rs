//! Reads a request's body within its limits: size, the memory all bodies share, and progress (CONTRACT IN-3, IN-9).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::bounds::{Memory, SMALL_BODY_MAX_BYTES};

/// A body that brings nothing for so long has stalled (CONTRACT IN-9).
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// A body must bring [`PACE_MIN_BYTES`] in every such time (CONTRACT IN-9). So it ends: one of 1 MiB within three hours, which is
/// the pace of the slowest modems, and senders that only want to hold memory are cut off after 10 s.
const PACE_WINDOW: Duration = Duration::from_secs(10);

/// See [`PACE_WINDOW`].
const PACE_MIN_BYTES: usize = 1024;

/// A body up to here is copied out of the connection's read buffer, which the event would otherwise keep alive for as long
/// as it waits: 10 000 events of 1 KiB held 116 MiB instead of 32, and hyper had to allocate a new buffer per request.
const COPY_MAX_BYTES: usize = 16 * 1024;

/// A refused body is read and thrown away up to here, so that a client that is still writing gets to read the answer instead
/// of a reset connection.
const DRAIN_MAX_BYTES: usize = 64 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("body exceeds the limit of {limit} bytes")]
    TooLarge { limit: usize },
    #[error("too many bodies are being received")]
    Overloaded,
    #[error("no byte of the body came for {} s", PROGRESS_TIMEOUT.as_secs())]
    Stalled,
    #[error("the body comes too slowly: it must bring at least {PACE_MIN_BYTES} bytes in every {} s", PACE_WINDOW.as_secs())]
    Slow,
    #[error("body broke off: {0}")]
    Broken(hyper::Error),
}

/// Reads the whole body, at most `limit` bytes. Refuses a body that announces more before a byte of it is read.
///
/// Memory is reserved for what came, and not for what was announced: an announcement costs its sender nothing.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
    memory: &mut Memory,
) -> Result<Bytes, BodyError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        drain(body);
        return Err(BodyError::TooLarge { limit });
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut pace = Pace::starting(Instant::now());
    loop {
        let Some(frame) = next(&mut body).await? else { break };
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + all.len() + data.len();
        if length > limit {
            drain(body);
            return Err(BodyError::TooLarge { limit });
        }
        if !memory.grow_to(length) {
            drain(body);
            return Err(BodyError::Overloaded);
        }
        let is_whole = body.is_end_stream() || announced == Some(length);
        if first.is_empty() && all.is_empty() && is_whole {
            // The usual body is one frame, a slice of the connection's read buffer.
            first = if data.len() <= COPY_MAX_BYTES {
                Bytes::copy_from_slice(&data)
            } else {
                data
            };
            continue;
        }
        if !is_whole && !pace.keeps(data.len(), Instant::now()) {
            return Err(BodyError::Slow);
        }
        if all.is_empty() {
            all.reserve(announced.unwrap_or(length).min(SMALL_BODY_MAX_BYTES));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// How fast a body comes.
struct Pace {
    since: Instant,
    bytes: usize,
}

impl Pace {
    fn starting(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// Counts what came; false when it is too little for the time that it took.
    fn keeps(&mut self, bytes: usize, now: Instant) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let windows = (now - self.since).as_secs() / PACE_WINDOW.as_secs();
        if windows == 0 {
            return true;
        }
        let least = usize::try_from(windows)
            .unwrap_or(usize::MAX)
            .saturating_mul(PACE_MIN_BYTES);
        let keeps = self.bytes >= least;
        *self = Self::starting(now);
        keeps
    }
}

/// The next frame; a timer runs only while there is none.
async fn next(body: &mut Incoming) -> Result<Option<hyper::body::Frame<Bytes>>, BodyError> {
    let frame = body.frame();
    tokio::pin!(frame);
    let ready = match futures_util::poll!(frame.as_mut()) {
        std::task::Poll::Ready(ready) => ready,
        std::task::Poll::Pending => tokio::time::timeout(PROGRESS_TIMEOUT, frame)
            .await
            .map_err(|_elapsed| BodyError::Stalled)?,
    };
    ready.transpose().map_err(BodyError::Broken)
}

/// Reads on without keeping anything while the refusal is being written.
pub(super) fn drain(mut body: Incoming) {
    tokio::spawn(tokio::time::timeout(DRAIN_TIMEOUT, async move {
        let mut left = DRAIN_MAX_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: IN-9
    #[test]
    fn a_body_that_brings_less_than_a_kibibyte_in_ten_seconds_is_slow() {
        let start = Instant::now();
        let mut trickle = Pace::starting(start);
        for second in 1..10 {
            assert!(trickle.keeps(1, start + Duration::from_secs(second)));
        }
        assert!(!trickle.keeps(1, start + Duration::from_secs(10)));

        let mut modem = Pace::starting(start);
        for second in 1..10_000 {
            assert!(
                modem.keeps(120, start + Duration::from_secs(second)),
                "after {second} s"
            );
        }

        let mut burst = Pace::starting(start);
        assert!(burst.keeps(1 << 20, start + Duration::from_secs(1)));
        assert!(burst.keeps(1, start + Duration::from_secs(11)));
        assert!(!burst.keeps(1, start + Duration::from_secs(21)), "a burst buys no time");

        let mut pausing = Pace::starting(start);
        assert!(!pausing.keeps(1500, start + Duration::from_secs(25)));
    }
}
