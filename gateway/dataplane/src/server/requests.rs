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

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Channel(String),
    /// Of a source that is called with whatever its upstream sends.
    Hook(String),
    /// Of a source that is posted CloudEvents.
    Source(String),
}

/// What there is at a place.
enum Found {
    Door(Arc<Door>),
    Receiver(Arc<HookDoor>),
}

impl Place {
    fn of<T>(request: &Request<T>) -> Self {
        let path = request.uri().path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Self::Channel(host::channel(request).unwrap_or_default());
        }
        match (path.strip_prefix("hooks/"), path.strip_prefix("sources/")) {
            (Some(name), _) => Self::Hook(name.to_owned()),
            // With one part behind it, `sources` is a namespace of channels.
            (None, Some(name)) if name.contains('/') => Self::Source(name.to_owned()),
            (None, _) => Self::Channel(path.to_owned()),
        }
    }

    /// Without its first slash.
    fn path(&self) -> String {
        match self {
            Self::Channel(name) => name.clone(),
            Self::Hook(name) => format!("hooks/{name}"),
            Self::Source(name) => format!("sources/{name}"),
        }
    }

    fn find(&self, ingress: &Ingress) -> Option<Found> {
        let doors = ingress.doors();
        match self {
            Self::Channel(name) => doors.channels.get(name).cloned().map(Found::Door),
            Self::Hook(name) => doors.hooks.get(name).cloned().map(Found::Receiver),
            Self::Source(name) => doors.sources.get(name).cloned().map(Found::Receiver),
        }
    }

    fn allow(&self) -> &'static str {
        match self {
            Self::Hook(_) => "POST",
            Self::Channel(_) | Self::Source(_) => "POST, OPTIONS",
        }
    }

    fn not_found(&self) -> String {
        let path = self.path();
        match self {
            Self::Channel(_) => format!(
                "no channel at /{path}: a channel's address is /NAMESPACE/NAME, or / of the host NAME-channel.NAMESPACE.svc"
            ),
            Self::Hook(_) | Self::Source(_) => format!("no source receives at /{path}"),
        }
    }
}

pub(super) async fn answer(request: Request<Incoming>, ingress: &Ingress, scope: Scope) -> Answer {
    let place = Place::of(&request);
    if scope == Scope::Sources && !matches!(place, Place::Source(_)) {
        let message = "sources alone are served here, at /sources/NAMESPACE/NAME";
        return refused(ingress, StatusCode::NOT_FOUND, "NoChannel", message);
    }
    match (place.find(ingress), request.method()) {
        (Some(Found::Door(door)), &Method::POST) => take(request, ingress, &door).await,
        (Some(Found::Receiver(door)), &Method::POST) => call(request, ingress, &door).await,
        (Some(_), &Method::OPTIONS) if !matches!(place, Place::Hook(_)) => handshake(request.headers()),
        (Some(_), _) => method_not_allowed(ingress, place.allow()),
        (None, _) => not_here(request, ingress, &place).await,
    }
}

/// What another process has, or may have.
async fn not_here(request: Request<Incoming>, ingress: &Ingress, place: &Place) -> Answer {
    let path = place.path();
    if let Some(owner) = ingress.elsewhere(&path) {
        return pass_on(request, ingress, owner, &path).await;
    }
    if !matches!(*request.method(), Method::POST | Method::OPTIONS) {
        return method_not_allowed(ingress, place.allow());
    }
    if !ingress.is_open() {
        ingress.metrics.request_refused("Starting");
        let message = "the documents are not read yet: come again";
        return retry(StatusCode::SERVICE_UNAVAILABLE, message, SOON);
    }
    let others = ingress.others();
    match ingress.forwarder.ask(request.headers(), &others.asked, &path).await {
        Ok(Some(owner)) => pass_on(request, ingress, Some(owner), &path).await,
        Ok(None) => refused(ingress, StatusCode::NOT_FOUND, "NoChannel", &place.not_found()),
        Err(why) => {
            ingress.metrics.request_refused(why.reason());
            retry(why.status(), &format!("nothing is known of /{path} yet: {why}"), SOON)
        }
    }
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
