//! Whom the admin listener lets pass, and the log of what was changed.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    extract::{self, Request},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use spec::Reason;

use super::{
    BODY_MAX_BYTES, Changed, Remote, State,
    access::{Intent, Token},
    refusal::Refusal,
};

/// A request's body must be whole within this time: it is a few ids, sent by a command.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Lets pass who may, and logs what was changed. Health and metrics hold no events, and are open to any host.
pub(super) async fn guard(
    extract::State(state): extract::State<State>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    if matches!(&*path, "/healthz" | "/readyz" | "/metrics") {
        return next.run(request).await;
    }
    let access = &state.0.access;
    if let Err(refusal) = access.check_host(&request) {
        return refusal.into_response();
    }
    let remote = request
        .extensions()
        .get::<Remote>()
        .map_or(state.0.addresses.admin, |remote| remote.0);
    let intent = match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS => Intent::Read,
        _ => Intent::Change,
    };
    let token = match access.check(intent, request.headers(), remote) {
        Ok(token) => token,
        Err(refusal) => return refusal.into_response(),
    };
    if intent == Intent::Change {
        request = match whole(request).await {
            Ok(request) => request,
            Err(refusal) => return refusal.into_response(),
        };
    }
    let answer = next.run(request).await;
    if let Some(changed) = answer.extensions().get::<Changed>() {
        let (object, what) = match path
            .trim_start_matches("/api/v1/subscriptions/")
            .split('/')
            .collect::<Vec<_>>()[..]
        {
            [namespace, name, .., what] => (format!("{namespace}/{name}"), what),
            _ => (path.clone(), "change"),
        };
        log_change(what, &object, changed.count, token, remote);
    }
    answer
}

/// One line for each change.
pub(crate) fn log_change(what: &str, object: &str, count: usize, token: Token, remote: SocketAddr) {
    tracing::info!(
        what, subscription = object, count, token = token.as_str(), %remote,
        "changed over the admin API"
    );
}

/// The request with its body read. A page can make a browser post forms and plain text to other sites without asking, but not
/// JSON.
async fn whole(request: Request<Body>) -> Result<Request<Body>, Refusal> {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let is_json = kind.is_some_and(|value| value.to_ascii_lowercase().starts_with("application/json"));
    if request.method() == Method::POST && !is_json {
        let message = "this changes state: send `Content-Type: application/json`";
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Reason::UnsupportedMediaType,
            message,
        ));
    }
    let (head, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_MAX_BYTES)).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body))),
        Ok(Err(error)) => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Reason::TooLarge,
            format!("the body cannot be read, or is larger than {BODY_MAX_BYTES} bytes: {error}"),
        )),
        Err(_elapsed) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            Reason::Stalled,
            format!("the body did not come within {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}
