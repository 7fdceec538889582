//! Reads a request's body within its limits: size, the memory all bodies share, and progress (CONTRACT IN-3, IN-9).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::ingress::BodyShare;

/// A body must move at least this often (CONTRACT IN-9).
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

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
    #[error("body broke off: {0}")]
    Broken(hyper::Error),
}

/// The whole body, at most `limit` bytes. A body that announces more is refused before a byte of it is read.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
    share: &mut BodyShare<'_>,
) -> Result<Bytes, BodyError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let refusal = match announced {
        Some(length) if length > limit => Some(BodyError::TooLarge { limit }),
        Some(length) if !share.grow_to(length) => Some(BodyError::Overloaded),
        _ => None,
    };
    if let Some(refusal) = refusal {
        drain(body);
        return Err(refusal);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let Some(frame) = next(&mut body).await? else { break };
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + all.len() + data.len();
        if length > limit {
            drain(body);
            return Err(BodyError::TooLarge { limit });
        }
        if !share.grow_to(length) {
            drain(body);
            return Err(BodyError::Overloaded);
        }
        if first.is_empty() && all.is_empty() && (body.is_end_stream() || announced == Some(length)) {
            // The usual body is one frame, a slice of the connection's read buffer.
            first = if data.len() <= COPY_MAX_BYTES {
                Bytes::copy_from_slice(&data)
            } else {
                data
            };
        } else {
            if all.is_empty() {
                all.reserve(announced.unwrap_or(length));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
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
fn drain(mut body: Incoming) {
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
