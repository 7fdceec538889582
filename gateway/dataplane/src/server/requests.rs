//! What a request to the ingress means: a channel's events, a source's hook or its events, or a refusal with its reason.

use std::{sync::Arc, time::Duration};

use adapter::{Accepted, HookRequest, Refused};
use bytes::Bytes;
use event::http_form::{self, DecodeError, Decoded};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{
    body::{self, BodyError},
    forward::{Forwarder, Unanswered},
    host,
};
use crate::ingress::{Door, HookDoor, Ingress, SOON};

type Answer = Response<Full<Bytes>>;

static DURABILITY: HeaderName = HeaderName::from_static("headgate-durability");

/// Structured JSON says more than the event it holds: base64 takes a third more, escapes and names some.
const fn structured_limit(max_event_bytes: usize) -> usize {
    max_event_bytes.saturating_mul(2).saturating_add(64 * 1024)
}

/// The largest body that any hook takes (`adapter::Unready`); whoever has the hook knows its own limit.
const HOOK_MAX_BYTES: usize = 25 * 1024 * 1024;

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    /// `/sources/NAMESPACE/NAME` alone.
    Sources,
}

pub(super) async fn answer(request: Request<Incoming>, ingress: &Ingress, scope: Scope) -> Answer {
    let path = request.uri().path();
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_served = scope == Scope::Everything || path.starts_with("sources/");
    if let Some(owner) = found_elsewhere(ingress, path).filter(|_| is_served) {
        let path = path.to_owned();
        return pass_on(request, ingress, owner, &path).await;
    }
    // With one part behind it, `sources` is a namespace of channels.
    if let Some(name) = path.strip_prefix("sources/").filter(|name| name.contains('/')) {
        let source = ingress.doors().sources.get(name).cloned();
        return match (request.method(), source) {
            (&Method::POST, Some(source)) => call(request, ingress, &source).await,
            (&Method::OPTIONS, Some(_)) => handshake(request.headers()),
            (&Method::POST | &Method::OPTIONS, None) => {
                let message = format!("no source receives at /sources/{name}");
                refused(ingress, StatusCode::NOT_FOUND, "NoChannel", &message)
            }
            _ => method_not_allowed(ingress, "POST, OPTIONS"),
        };
    }
    if scope == Scope::Sources {
        let message = "sources alone are served here, at /sources/NAMESPACE/NAME";
        return refused(ingress, StatusCode::NOT_FOUND, "NoChannel", message);
    }
    if let Some(name) = path.strip_prefix("hooks/") {
        if request.method() != Method::POST {
            return method_not_allowed(ingress, "POST");
        }
        let hook = ingress.doors().hooks.get(name).cloned();
        return match hook {
            Some(hook) => call(request, ingress, &hook).await,
            None => refused(
                ingress,
                StatusCode::NOT_FOUND,
                "NoChannel",
                &format!("no source receives at /hooks/{name}"),
            ),
        };
    }
    let by_host = if path.is_empty() { host::channel(&request) } else { None };
    let path = by_host.as_deref().unwrap_or(path);
    let door = ingress.doors().channels.get(path).cloned();
    match (request.method(), door) {
        (&Method::POST, Some(door)) => take(request, ingress, &door).await,
        (&Method::OPTIONS, Some(_)) => handshake(request.headers()),
        (&Method::POST | &Method::OPTIONS, None) => {
            let message = format!(
                "no channel at /{path}: a channel's address is /NAMESPACE/NAME, or / of the host NAME-channel.NAMESPACE.svc"
            );
            refused(ingress, StatusCode::NOT_FOUND, "NoChannel", &message)
        }
        _ => method_not_allowed(ingress, "POST, OPTIONS"),
    }
}

/// Who answers instead of this process; what is here is answered here.
fn found_elsewhere(ingress: &Ingress, path: &str) -> Option<Option<Arc<str>>> {
    let owner = ingress.elsewhere(path)?;
    let doors = ingress.doors();
    let is_here = match (path.strip_prefix("sources/"), path.strip_prefix("hooks/")) {
        (Some(name), _) => doors.sources.contains_key(name),
        // One that is called in a pod of its own has no receiver here.
        (None, Some(name)) => doors.hooks.contains_key(name),
        (None, None) => doors.channels.contains_key(path),
    };
    (!is_here).then_some(owner)
}

async fn pass_on(request: Request<Incoming>, ingress: &Ingress, owner: Option<Arc<str>>, path: &str) -> Answer {
    let (head, body) = request.into_parts();
    let unanswered = |why: &Unanswered| {
        ingress.metrics.request_refused(why.reason());
        retry(why.status(), &format!("/{path} is at another replica: {why}"), SOON)
    };
    let owner = match (Forwarder::may_forward(&head.headers, owner.as_ref()), owner) {
        (Ok(()), Some(owner)) => owner,
        (Err(why), _) => return unanswered(&why),
        (Ok(()), None) => return unanswered(&Unanswered::Nobody),
    };
    let limit = match path.starts_with("hooks/") {
        true => HOOK_MAX_BYTES,
        false => ingress.max_body_bytes,
    };
    let mut share = ingress.bodies.share();
    let body = match body::read(&head.headers, body, limit, &mut share).await {
        Ok(body) => body,
        Err(error) => return body_refused(&error, |reason| ingress.metrics.request_refused(reason)),
    };
    match ingress.forwarder.forward(head, body, &owner, path).await {
        Ok(answer) => answer,
        Err(why) => unanswered(&why),
    }
}

/// Events for a channel.
async fn take(request: Request<Incoming>, ingress: &Ingress, door: &Door) -> Answer {
    let (head, body) = request.into_parts();
    if ingress.is_draining() {
        door.metrics.refused("Draining");
        return retry(StatusCode::SERVICE_UNAVAILABLE, "gateway is draining", SOON);
    }
    if let Some(encoding) = head
        .headers
        .get(CONTENT_ENCODING)
        .filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        door.metrics.refused("UnsupportedFormat");
        let message = format!("content-encoding {encoding:?} is not supported: send the event as it is");
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message);
    }
    let limit = match is_structured(&head.headers) {
        true => structured_limit(door.max_event_bytes).min(ingress.max_body_bytes),
        false => door.max_event_bytes.min(ingress.max_body_bytes),
    };
    let mut share = ingress.bodies.share();
    let body = match body::read(&head.headers, body, limit, &mut share).await {
        Ok(body) => body,
        Err(error) => return body_refused(&error, |reason| door.metrics.refused(reason)),
    };
    let stored = match http_form::decode(&head.headers, body) {
        Ok(Decoded::One(event)) => door.store_one(http_form::traced(event, &head.headers)).await,
        Ok(Decoded::Batch(events)) if events.is_empty() => return accepted(door.channel.promises().durability),
        Ok(Decoded::Batch(events)) => door.store(events).await,
        Err(error @ DecodeError::UnsupportedFormat(..)) => {
            door.metrics.refused("UnsupportedFormat");
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error.to_string());
        }
        Err(error) => {
            door.metrics.refused("Invalid");
            return text(StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    match stored {
        Ok(proof) => accepted(Accepted::stored_proof(&proof).durability()),
        Err(error) => store_refused(&error),
    }
}

/// A delivery for a source that is called.
async fn call(request: Request<Incoming>, ingress: &Ingress, door: &HookDoor) -> Answer {
    let (head, body) = request.into_parts();
    if ingress.is_draining() {
        ingress.metrics.request_refused("Draining");
        return retry(StatusCode::SERVICE_UNAVAILABLE, "gateway is draining", SOON);
    }
    let mut share = ingress.bodies.share();
    let body = match body::read(&head.headers, body, door.hook.max_body_bytes(), &mut share).await {
        Ok(body) => body,
        Err(error) => return body_refused(&error, |reason| ingress.metrics.request_refused(reason)),
    };
    let answer = door
        .hook
        .call(HookRequest {
            headers: head.headers,
            body,
        })
        .await;
    if !door.is_ready {
        ingress.metrics.request_refused("SourceNotReady");
    }
    match (answer.accepted, answer.retry_after) {
        (Some(proof), _) => accepted(proof.stored_proof().durability()),
        (None, Some(after)) => retry(answer.status, &answer.message, after),
        (None, None) => text(answer.status, &answer.message),
    }
}

fn is_structured(headers: &HeaderMap) -> bool {
    const PREFIX: &[u8] = b"application/cloudevents";
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    })
}

fn accepted(durability: channel::Durability) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::ACCEPTED;
    answer
        .headers_mut()
        .insert(&DURABILITY, HeaderValue::from_static(durability.as_str()));
    answer
}

/// The CloudEvents webhook handshake: any origin may send, at any rate (spec: HTTP 1.1 Web Hooks for Event Delivery, 4.2).
fn handshake(headers: &HeaderMap) -> Answer {
    let mut answer = Response::new(Full::default());
    let origin = headers
        .get("webhook-request-origin")
        .cloned()
        .unwrap_or(HeaderValue::from_static("*"));
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    answer.headers_mut().insert("webhook-allowed-origin", origin);
    answer
        .headers_mut()
        .insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    answer
}

fn body_refused(error: &BodyError, count: impl FnOnce(&'static str)) -> Answer {
    let message = error.to_string();
    match error {
        BodyError::TooLarge { .. } => {
            count("TooLarge");
            text(StatusCode::PAYLOAD_TOO_LARGE, &message)
        }
        BodyError::Overloaded => {
            count("Overloaded");
            retry(StatusCode::SERVICE_UNAVAILABLE, &message, SOON)
        }
        BodyError::Stalled => {
            count("Stalled");
            let mut answer = text(StatusCode::REQUEST_TIMEOUT, &message);
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
            answer
        }
        BodyError::Broken(_) => {
            count("Invalid");
            text(StatusCode::BAD_REQUEST, &message)
        }
    }
}

/// What a refusal by the channel is in HTTP (CONTRACT IN-3).
fn store_refused(refused: &Refused) -> Answer {
    let message = refused.to_string();
    match *refused {
        Refused::Full { retry_after } => retry(StatusCode::TOO_MANY_REQUESTS, &message, retry_after),
        Refused::DiskFull { retry_after } => retry(StatusCode::INSUFFICIENT_STORAGE, &message, retry_after),
        Refused::Unavailable { retry_after, .. } | Refused::Draining { retry_after } => {
            retry(StatusCode::SERVICE_UNAVAILABLE, &message, retry_after)
        }
        Refused::TooLarge { .. } => text(StatusCode::PAYLOAD_TOO_LARGE, &message),
        Refused::NoChannel => text(StatusCode::NOT_FOUND, &message),
    }
}

fn method_not_allowed(ingress: &Ingress, allow: &'static str) -> Answer {
    ingress.metrics.request_refused("MethodNotAllowed");
    let mut answer = text(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("send events with POST; allowed: {allow}"),
    );
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

fn refused(ingress: &Ingress, status: StatusCode, reason: &'static str, message: &str) -> Answer {
    ingress.metrics.request_refused(reason);
    text(status, message)
}

fn retry(status: StatusCode, message: &str, after: Duration) -> Answer {
    let mut answer = text(status, message);
    // Whole seconds, rounded up: zero would mean "at once".
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}

fn text(status: StatusCode, message: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{message}\n"))));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
