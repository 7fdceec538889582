//! Answers requests to the ingress: events for a channel, calls of a source, or a refusal with its reason.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use adapter::{Accepted, HookRequest, Refused};
use bytes::Bytes;
use event::http_form::{self, DecodeError, Decoded};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use hyper::body::Incoming;
use spec::Reason;

use super::{
    ADMIN_HEADER, AdminAddress, INGRESS_LISTENER, LISTENER_HEADER,
    address::{Address, Endpoint},
    admission,
    body::{self, BodyError},
    bounds::Peer,
    forward::{Forwarder, Unanswered},
    host,
};
use crate::ingress::{ChannelEndpoint, Ingress, SOON, SourceEndpoint};

type Answer = Response<Full<Bytes>>;

static DURABILITY: HeaderName = HeaderName::from_static("headgate-durability");

/// Structured JSON says more than the event it holds: base64 takes a third more, escapes and names some.
const fn structured_limit(max_event_bytes: usize) -> usize {
    max_event_bytes.saturating_mul(2).saturating_add(64 * 1024)
}

/// The largest body that any hook takes (`adapter::Unready`); the process that serves the hook knows its own limit.
const HOOK_MAX_BYTES: usize = 25 * 1024 * 1024;

/// The paths that a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    /// `/sources/NAMESPACE/NAME` alone.
    Sources,
}

/// The answer to a request that is for the admin listener: no channel has such a path.
pub(super) fn mistaken_for_admin<T>(
    request: &Request<T>,
    ingress: &Ingress,
    admin: AdminAddress,
    peer: &Peer,
) -> Option<Answer> {
    let path = request.uri().path();
    if !path.starts_with("/api/v1/") && !matches!(path, "/healthz" | "/readyz" | "/metrics") {
        return None;
    }
    let mut answer = match *request.method() {
        Method::POST | Method::OPTIONS => {
            let message = format!(
                "no channel at {path}: this is the ingress, which takes events; the admin API has a listener of its own"
            );
            refused(ingress, StatusCode::NOT_FOUND, Reason::NoChannel, &message)
        }
        _ => method_not_allowed(ingress, "POST, OPTIONS"),
    };
    let headers = answer.headers_mut();
    headers.insert(LISTENER_HEADER, HeaderValue::from_static(INGRESS_LISTENER));
    if peer.is_loopback() {
        let ip = match admin.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let scheme = if admin.has_tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", SocketAddr::new(ip, admin.address.port()));
        // An address is ASCII.
        headers.extend(
            HeaderValue::from_str(&url)
                .ok()
                .map(|url| (HeaderName::from_static(ADMIN_HEADER), url)),
        );
    }
    Some(answer)
}

pub(super) async fn answer(request: Request<Incoming>, ingress: &Ingress, scope: Scope, peer: &Arc<Peer>) -> Answer {
    let address = match host::requested(&request) {
        Ok(host) => Address::of(&request, host.as_deref()),
        Err(fault) => {
            body::drain(request.into_body());
            return closing(refused(
                ingress,
                StatusCode::BAD_REQUEST,
                Reason::Invalid,
                &fault.to_string(),
            ));
        }
    };
    if scope == Scope::Sources && !matches!(address, Address::Source(_)) {
        let message = "sources alone are served here, at /sources/NAMESPACE/NAME";
        return refused(ingress, StatusCode::NOT_FOUND, Reason::NoChannel, message);
    }
    match (address.find(ingress), request.method()) {
        (Some(Endpoint::Channel(endpoint)), &Method::POST) => take(request, ingress, &endpoint, peer).await,
        (Some(Endpoint::Source(endpoint)), &Method::POST) => call(request, ingress, &endpoint, peer).await,
        (Some(_), &Method::OPTIONS) if !matches!(address, Address::Hook(_)) => handshake(request.headers()),
        (Some(_), _) => method_not_allowed(ingress, address.allow()),
        (None, _) => not_here(request, ingress, &address, peer).await,
    }
}

/// Answers a request for a path that this process does not serve: another one may.
async fn not_here(request: Request<Incoming>, ingress: &Ingress, address: &Address, peer: &Arc<Peer>) -> Answer {
    let path = address.path();
    if let Some(owner) = ingress.elsewhere(&path) {
        return pass_on(request, ingress, owner, &path, peer).await;
    }
    if !matches!(*request.method(), Method::POST | Method::OPTIONS) {
        return method_not_allowed(ingress, address.allow());
    }
    if !ingress.is_open() {
        ingress.metrics.request_refused(Reason::Starting);
        let message = "the documents are not read yet: come again";
        return retry(StatusCode::SERVICE_UNAVAILABLE, message, SOON);
    }
    if let Some(message) = address.pending(ingress) {
        ingress.metrics.request_refused(Reason::ChannelNotReady);
        return retry(StatusCode::SERVICE_UNAVAILABLE, &message, SOON);
    }
    let others = ingress.others();
    match ingress.forwarder.ask(request.headers(), &others.asked, &path).await {
        Ok(Some(owner)) => pass_on(request, ingress, Some(owner), &path, peer).await,
        Ok(None) => refused(ingress, StatusCode::NOT_FOUND, Reason::NoChannel, &address.not_found()),
        Err(why) => {
            ingress.metrics.request_refused(why.reason());
            retry(why.status(), &format!("nothing is known of /{path} yet: {why}"), SOON)
        }
    }
}

async fn pass_on(
    request: Request<Incoming>,
    ingress: &Ingress,
    owner: Option<Arc<str>>,
    path: &str,
    peer: &Arc<Peer>,
) -> Answer {
    let (head, body) = request.into_parts();
    let unanswered = |why: &Unanswered| {
        ingress.metrics.request_refused(why.reason());
        retry(why.status(), &format!("/{path} is at another replica: {why}"), SOON)
    };
    let owner = match (Forwarder::may_forward(&head.headers, owner.as_ref()), owner) {
        (Ok(()), Some(owner)) => owner,
        (Err(why), _) => return unanswered(&why),
        (Ok(()), None) => return unanswered(&Unanswered::NoOwner),
    };
    let limit = if path.starts_with("hooks/") {
        HOOK_MAX_BYTES
    } else {
        ingress.max_body_bytes
    };
    let mut memory = peer.memory();
    let body = match body::read(&head.headers, body, limit, &mut memory).await {
        Ok(body) => body,
        Err(error) => return body_refused(&error, |reason| ingress.metrics.request_refused(reason)),
    };
    match ingress.forwarder.forward(head, body, &owner, path).await {
        Ok(answer) => answer,
        Err(why) => unanswered(&why),
    }
}

/// Events for a channel.
async fn take(request: Request<Incoming>, ingress: &Ingress, endpoint: &ChannelEndpoint, peer: &Arc<Peer>) -> Answer {
    let (head, body) = request.into_parts();
    if ingress.is_draining() {
        endpoint.metrics.refused(Reason::Draining);
        return retry(StatusCode::SERVICE_UNAVAILABLE, "gateway is draining", SOON);
    }
    if let Some(encoding) = head
        .headers
        .get(CONTENT_ENCODING)
        .filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        endpoint.metrics.refused(Reason::UnsupportedFormat);
        let message = format!("content-encoding {encoding:?} is not supported: send the event as it is");
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message);
    }
    let is_structured = is_structured(&head.headers);
    let admitted = match admission::admit(&head.headers, is_structured, ingress, endpoint).await {
        Ok(admitted) => admitted,
        Err(answer) => {
            admission::leave(&head.headers, body);
            return *answer;
        }
    };
    let limit = if is_structured {
        structured_limit(endpoint.max_event_bytes)
    } else {
        endpoint.max_event_bytes
    };
    let limit = limit.min(ingress.max_body_bytes);
    let mut memory = peer.memory();
    let body = match body::read(&head.headers, body, limit, &mut memory).await {
        Ok(body) => body,
        Err(error) => return body_refused(&error, |reason| endpoint.metrics.refused(reason)),
    };
    let admitted = match admitted.verify(&head.headers, &body, endpoint) {
        Ok(admitted) => admitted,
        Err(answer) => return *answer,
    };
    match http_form::decode(&head.headers, body) {
        Ok(Decoded::One(event)) => {
            let event = http_form::traced(event, &head.headers);
            store(Decoded::One(event), endpoint, &admitted).await
        }
        Ok(Decoded::Batch(events)) if events.is_empty() => accepted(endpoint.channel.promises().durability),
        Ok(batch) => store(batch, endpoint, &admitted).await,
        Err(error @ DecodeError::UnsupportedFormat(..)) => {
            endpoint.metrics.refused(Reason::UnsupportedFormat);
            text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error.to_string())
        }
        Err(error) => {
            endpoint.metrics.refused(Reason::Invalid);
            text(StatusCode::BAD_REQUEST, &error.to_string())
        }
    }
}

/// Stores the events of one request, all or none.
async fn store(events: Decoded, endpoint: &ChannelEndpoint, admitted: &admission::Admitted) -> Answer {
    let counted = match &events {
        Decoded::One(event) => std::slice::from_ref(event),
        Decoded::Batch(events) => events,
    };
    if let Err(answer) = admitted.spend(counted, endpoint) {
        return *answer;
    }
    let origin = admitted.origin();
    let stored = match events {
        Decoded::One(event) => endpoint.store_one(event, &origin).await,
        Decoded::Batch(events) => endpoint.store(events, &origin).await,
    };
    match stored {
        Ok(proof) => accepted(Accepted::stored_proof(&proof).durability()),
        Err(error) => store_refused(&error),
    }
}

/// A delivery for a source that is called.
async fn call(request: Request<Incoming>, ingress: &Ingress, endpoint: &SourceEndpoint, peer: &Arc<Peer>) -> Answer {
    let (head, body) = request.into_parts();
    if ingress.is_draining() {
        ingress.metrics.request_refused(Reason::Draining);
        return retry(StatusCode::SERVICE_UNAVAILABLE, "gateway is draining", SOON);
    }
    let mut memory = peer.memory();
    let body = match body::read(&head.headers, body, endpoint.hook.max_body_bytes(), &mut memory).await {
        Ok(body) => body,
        Err(error) => return body_refused(&error, |reason| ingress.metrics.request_refused(reason)),
    };
    let answer = endpoint
        .hook
        .call(HookRequest {
            headers: head.headers,
            body,
        })
        .await;
    if !endpoint.is_ready {
        ingress.metrics.request_refused(Reason::SourceNotReady);
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

fn body_refused(error: &BodyError, count: impl FnOnce(Reason)) -> Answer {
    let message = error.to_string();
    match error {
        BodyError::TooLarge { .. } => {
            count(Reason::TooLarge);
            text(StatusCode::PAYLOAD_TOO_LARGE, &message)
        }
        BodyError::Overloaded => {
            count(Reason::Overloaded);
            retry(StatusCode::SERVICE_UNAVAILABLE, &message, SOON)
        }
        BodyError::Stalled | BodyError::Slow => {
            count(Reason::Stalled);
            closing(text(StatusCode::REQUEST_TIMEOUT, &message))
        }
        BodyError::Broken(_) => {
            count(Reason::Invalid);
            text(StatusCode::BAD_REQUEST, &message)
        }
    }
}

/// Returns the HTTP answer for a refusal by the channel (CONTRACT IN-3).
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
    ingress.metrics.request_refused(Reason::MethodNotAllowed);
    let mut answer = text(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("send events with POST; allowed: {allow}"),
    );
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

fn refused(ingress: &Ingress, status: StatusCode, reason: Reason, message: &str) -> Answer {
    ingress.metrics.request_refused(reason);
    text(status, message)
}

/// After this answer nothing more is read of the connection.
fn closing(mut answer: Answer) -> Answer {
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

pub(super) fn retry(status: StatusCode, message: &str, after: Duration) -> Answer {
    let mut answer = text(status, message);
    // Whole seconds, rounded up: zero would mean "at once".
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}

pub(super) fn text(status: StatusCode, message: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{message}\n"))));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
