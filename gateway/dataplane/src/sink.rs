//! One HTTP target: sends an event, says what the network said. What it means is `classify`'s.
//!
//! POST, binary mode or structured, `Prefer: reply`, keep-alive, redirects not followed (CONTRACT DL-1). The connections are
//! kept in `connections`; the time an attempt may take covers connecting, head and body alike.

mod connections;

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use event::{Event, http_form};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, HOST, RETRY_AFTER},
};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use spec::model::Format;
use url::Url;

use connections::Connections;

/// Of a failed answer's body this much is kept for the dead letter (CONTRACT DL-6: 64 KiB).
pub(crate) const FAILURE_BODY_MAX: usize = 64 * 1024;

/// An answer nobody needs is read up to here so that its connection can be used again; a longer one costs the connection.
const IGNORED_BODY_MAX: usize = 64 * 1024;

static PREFER: HeaderName = HeaderName::from_static("prefer");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// Not a CloudEvent; perhaps cut short at `FAILURE_BODY_MAX`.
    Bytes(Bytes),
    Event(Event),
    /// Says it is a CloudEvent and is not a valid one.
    Malformed,
    /// A CloudEvent of more than `maxReplyBytes`.
    TooLarge,
}

/// There was no whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no answer within the timeout")]
    Timeout,
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("connection broke before an answer: {0}")]
    Broken(String),
}

/// How to send, from the subscription's `delivery`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) format: Format,
    pub(crate) timeout: Duration,
    pub(crate) max_reply_bytes: usize,
}

pub(crate) struct HttpSink {
    /// For people: no credentials in it.
    display: String,
    /// What goes on the request line.
    target: Uri,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    connections: Connections,
}

/// The URL cannot be sent to; found when the route is built, not per event.
#[derive(Debug, thiserror::Error)]
#[error("cannot send to {url}: {why}")]
pub(crate) struct Unsendable {
    pub(crate) url: String,
    pub(crate) why: String,
}

impl HttpSink {
    /// `idle_max` connections are kept open between deliveries.
    pub(crate) fn new(url: &Url, idle_max: usize) -> Result<Self, Unsendable> {
        let display = without_credentials(url);
        let unsendable = |why: String| Unsendable {
            url: display.clone(),
            why,
        };
        let connections = Connections::new(url, idle_max).map_err(&unsendable)?;
        // A URL of a scheme the URL standard does not know may have no path at all.
        let mut path = if url.path().is_empty() {
            "/".to_owned()
        } else {
            url.path().to_owned()
        };
        if let Some(query) = url.query() {
            path = format!("{path}?{query}");
        }
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let target = path.parse::<Uri>().map_err(|e| unsendable(e.to_string()))?;
        let host = HeaderValue::from_str(authority).map_err(|e| unsendable(e.to_string()))?;
        let authorization = basic_authorization(url).map_err(unsendable)?;
        Ok(Self {
            display,
            target,
            host,
            authorization,
            connections,
        })
    }

    pub(crate) fn display(&self) -> &str {
        &self.display
    }

    /// One attempt. Not cancel safe: dropped in the middle, the subscriber may or may not have the event.
    pub(crate) async fn send(&self, event: &Event, manner: Manner) -> Result<Answer, NoAnswer> {
        match tokio::time::timeout(manner.timeout, self.exchange(event, manner)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(NoAnswer::Timeout),
        }
    }

    async fn exchange(&self, event: &Event, manner: Manner) -> Result<Answer, NoAnswer> {
        let (response, connection) = self.connections.send(self.request(event, manner.format)).await?;
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| backoff::parse_retry_after(text, SystemTime::now()));
        let body = read(head.status, &head.headers, body, manner.max_reply_bytes).await?;
        // With a body that was read to its end the connection is free again; otherwise this drops it.
        self.connections.give_back(connection);
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after,
            body,
        })
    }

    fn request(&self, event: &Event, format: Format) -> Request<Full<Bytes>> {
        let mut headers = HeaderMap::with_capacity(14);
        headers.insert(HOST, self.host.clone());
        headers.insert(&PREFER, HeaderValue::from_static("reply"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        for (attribute, header) in [("traceparent", &TRACEPARENT), ("tracestate", &TRACESTATE)] {
            if let Some(value) = event.text(attribute).and_then(|text| HeaderValue::from_str(text).ok()) {
                headers.insert(header, value);
            }
        }
        let body = match format {
            Format::Binary => http_form::encode_binary(event, &mut headers),
            Format::Json => http_form::encode_structured(event, &mut headers),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        request
    }
}

/// Reads what is worth reading of an answer's body.
async fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: Incoming,
    max_reply_bytes: usize,
) -> Result<Body, NoAnswer> {
    if body.is_end_stream() {
        // A 200 or 201 in binary mode may carry an event without data.
        if matches!(status.as_u16(), 200 | 201) && http_form::is_event(headers) {
            return Ok(decode_reply(headers, Bytes::new()));
        }
        return Ok(Body::Bytes(Bytes::new()));
    }
    if matches!(status.as_u16(), 200 | 201) && http_form::is_event(headers) {
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > max_reply_bytes) {
            return Ok(Body::TooLarge);
        }
        return Ok(match read_up_to(body, max_reply_bytes).await? {
            (_, false) => Body::TooLarge,
            (bytes, true) => decode_reply(headers, bytes),
        });
    }
    let limit = if status.is_success() {
        IGNORED_BODY_MAX
    } else {
        FAILURE_BODY_MAX
    };
    let (bytes, _whole) = read_up_to(body, limit).await?;
    Ok(Body::Bytes(bytes))
}

fn decode_reply(headers: &HeaderMap, bytes: Bytes) -> Body {
    match http_form::decode(headers, bytes) {
        Ok(http_form::Decoded::One(event)) => Body::Event(event),
        Ok(http_form::Decoded::Batch(_)) | Err(_) => Body::Malformed,
    }
}

/// The body's first `limit` bytes, and whether that was all of it.
async fn read_up_to(mut body: Incoming, limit: usize) -> Result<(Bytes, bool), NoAnswer> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| NoAnswer::Broken(e.to_string()))?.into_data() else {
            continue;
        };
        let space = limit - first.len() - rest.len();
        let fits = data.len() <= space;
        let data = if fits { data } else { data.slice(..space) };
        // One frame is the usual answer, and costs no copy.
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
        if !fits {
            return Ok((joined(first, &rest), false));
        }
    }
    Ok((joined(first, &rest), true))
}

fn joined(first: Bytes, rest: &BytesMut) -> Bytes {
    if rest.is_empty() {
        first
    } else {
        [&first[..], &rest[..]].concat().into()
    }
}

/// The URL as it may be shown: in logs, status and dead letters (CONTRACT SR-6).
pub(crate) fn without_credentials(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}

/// `user:password@` in a URL means Basic authentication (RFC 7617).
fn basic_authorization(url: &Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let pair = [url.username(), ":", url.password().unwrap_or_default()].concat();
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(&pair).collect();
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(decoded))).map_err(|e| e.to_string())?;
    value.set_sensitive(true);
    Ok(Some(value))
}
