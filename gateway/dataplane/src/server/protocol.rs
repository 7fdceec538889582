//! HTTP/1.1 and HTTP/2 on one connection: what both may send, and how a request of either counts.

use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};

use super::{
    bounds::Peer,
    connections::HEAD_TIMEOUT,
    watched::{Active, Activity, Answering},
};

/// Read buffer of a connection, and with it the size of all headers of a request; the next read of a body waits in the kernel.
pub(super) const BUFFER_MAX_BYTES: u32 = 64 * 1024;

/// Headers of a request at most; hyper answers 431 beyond.
const HEADERS_MAX: usize = 128;

/// Serves both versions of HTTP, within the bounds of this file.
pub(super) fn builder(half_close: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(BUFFER_MAX_BYTES as usize)
        .max_headers(HEADERS_MAX)
        .header_read_timeout(None)
        .half_close(half_close);
    builder
        .http2()
        .max_header_list_size(BUFFER_MAX_BYTES)
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT);
    builder
}

/// Neither a stream nor memory for another request of a connection.
pub(super) struct NoRoom;

/// Notes that a request has begun. One of HTTP/2 is one of many on its connection, and counts as a connection does.
pub(super) fn begin(activity: &Arc<Activity>, peer: &Arc<Peer>, request: &Request<Incoming>) -> Result<Active, NoRoom> {
    let active = activity.begin(request.version());
    if request.version() != Version::HTTP_2 {
        return Ok(active);
    }
    let stream = peer.stream().map_err(|_full| NoRoom)?;
    let mut memory = peer.memory();
    if !memory.grow_to(head_bytes(request.headers())) {
        return Err(NoRoom);
    }
    Ok(active.holds(stream, memory))
}

fn head_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// 503 for one request of a connection.
pub(super) fn overloaded<B>() -> Response<Answering<B>> {
    let mut answer = Response::new(Answering::text("too many requests at once\n"));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = answer.headers_mut();
    headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
