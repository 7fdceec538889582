//! One exchange over HTTP/1.1, and what an error of hyper says about whether the server has the request.

use std::error::Error;

use adapter::chain;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1,
    rt::{Read, Write},
};

use super::{
    NoAnswer,
    interim::{Interim, too_many},
};

pub(super) type RequestBody = Full<Bytes>;

/// Bounds an answer's head, and what one connection may hold of a body that is read slowly.
const READ_BUFFER_MAX_BYTES: usize = 64 * 1024;

/// Servers behind several proxies send some dozens; hyper's default of 100 is met in practice. Each costs 64 bytes while a
/// head is parsed.
const HEADERS_MAX: usize = 1024;

/// The connection's own task: it reads and writes until the sender is dropped or the peer closes.
///
/// A head is read as RFC 9112 tells a user agent to (5.2: a folded line is one line), and what is not a header otherwise is
/// ignored: the status says whether the server has the event.
pub(super) async fn handshake1<I: Read + Write + Unpin + Send + 'static>(
    stream: I,
) -> Result<http1::SendRequest<RequestBody>, NoAnswer> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_BUFFER_MAX_BYTES)
        .max_headers(HEADERS_MAX)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(stream)
        .await
        .map_err(|e| broken(&e))?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One exchange over HTTP/1.1; an error carries the request when it was not sent. Dropped or failed, the connection ends.
pub(super) async fn exchange(
    sender: &mut http1::SendRequest<RequestBody>,
    mut request: Request<RequestBody>,
) -> Result<Response<Incoming>, (Option<Box<Request<RequestBody>>>, NoAnswer)> {
    let interim = Interim::watch(&mut request);
    tokio::select! {
        biased;
        () = interim.exceeded() => Err((None, NoAnswer::Broken(too_many()))),
        answered = sender.try_send_request(request) => answered.map_err(|mut error| {
            (error.take_message().map(Box::new), broken(error.error()))
        }),
    }
}

/// RFC 9113: a stream above the last one of a GOAWAY frame (6.8) and one that was refused (8.7) were not processed. A server
/// that asks for calm gets it from the subscription's backoff.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    // hyper drops a request with this error that waits for the server to allow another stream.
    if error.is_user() {
        return true;
    }
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
        return false;
    };
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let is_above_last = error.is_go_away() && error.reason() != Some(h2::Reason::ENHANCE_YOUR_CALM);
    error.is_remote() && (is_refused || is_above_last)
}

pub(super) fn broken(error: &hyper::Error) -> NoAnswer {
    NoAnswer::Broken(connect::tls_words(error).unwrap_or_else(|| chain(error)))
}
