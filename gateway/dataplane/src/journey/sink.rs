//! One HTTP target: sends an event and returns the answer. `classify` decides what the answer means.
//!
//! POST, binary mode or structured, `Prefer: reply`, keep-alive, redirects not followed (CONTRACT DL-1). The connections are
//! kept in `connections`; the time an attempt may take covers connecting, head and body alike.

mod connections;
mod credentials;
mod exchange;
mod interim;
mod signature;
mod tokens;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use connect::{Egress, EgressRefused};
use event::{Event, http_form};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER},
};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use spec::{
    Reason,
    model::{Access, Format},
};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use connections::Connections;
pub(crate) use connections::Peer;
use credentials::Credentials;
pub(crate) use tokens::TokenFailure;
use tokens::Tokens;

/// Bytes kept of the body of a failed answer, for the dead letter (CONTRACT DL-6: 64 KiB).
pub(crate) const FAILURE_BODY_MAX: usize = channel::ANSWER_MAX_BYTES;

/// An ignored answer is read up to here so that its connection can be used again; a longer one costs the connection.
const IGNORED_BODY_MAX: usize = 64 * 1024;

static PREFER: HeaderName = HeaderName::from_static("prefer");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The answer of an HTTP target.
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
    /// The body of a 200 or 201 that is no valid CloudEvent, with its fault.
    Malformed(Box<str>),
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
    /// The sink's name resolves to addresses that the gateway does not connect to (CONTRACT EG-1).
    #[error("not connected: its address {0}")]
    Egress(EgressRefused),
    /// The destination asks for a token, and there is none.
    #[error("nothing was sent: {0}")]
    Token(Arc<TokenFailure>),
    #[error("connection broke before an answer: {0}")]
    Broken(String),
    /// This process lacks something, such as file descriptors: nothing was sent, and it says nothing of the sink.
    #[error("the gateway cannot open a connection: {0}")]
    NotSent(String),
}

/// The options of an attempt, from the subscription's `delivery`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendOptions {
    pub(crate) format: Format,
    pub(crate) timeout: Duration,
    pub(crate) max_reply_bytes: usize,
}

pub(crate) struct HttpSink {
    /// For people: no credentials in it.
    display: String,
    /// The target of the request line.
    target: Uri,
    host: HeaderValue,
    credentials: Credentials,
    connections: Connections,
}

/// The URL cannot be sent to; found when the route is built, not per event.
#[derive(Debug, thiserror::Error)]
#[error("cannot send to {url}: {why}")]
pub(crate) struct Unsendable {
    pub(crate) reason: Reason,
    pub(crate) url: String,
    pub(crate) why: String,
}

/// The settings that a document has for one destination.
pub(crate) struct Secured<'a> {
    pub(crate) access: &'a Access,
    /// The subscription and which of its targets this is: an event has one id for each.
    pub(crate) scope: String,
}

impl HttpSink {
    /// `idle_max` connections are kept open between deliveries.
    pub(crate) fn new(url: &Url, peer: Peer, idle_max: usize) -> Result<Self, Unsendable> {
        Self::open(url, peer, idle_max, None)
    }

    /// A destination with settings of its own. Its connections carry nothing else.
    pub(crate) fn secured(url: &Url, idle_max: usize, secured: Secured<'_>) -> Result<Self, Unsendable> {
        Self::open(url, Peer::Subscriber, idle_max, Some(secured))
    }

    fn open(url: &Url, peer: Peer, idle_max: usize, secured: Option<Secured<'_>>) -> Result<Self, Unsendable> {
        let display = without_credentials(url);
        let because = |(reason, why)| Unsendable {
            reason,
            url: display.clone(),
            why,
        };
        let unsendable = |why| because((Reason::InvalidTarget, why));
        if matches!(peer, Peer::Subscriber) {
            refused_host(url).map_err(|refused| because((Reason::EgressRefused, refused.to_string())))?;
        }
        let tls = secured.as_ref().and_then(|secured| secured.access.tls.as_ref());
        let connections = Connections::new(url, peer, idle_max, tls).map_err(because)?;
        let mut credentials = match secured {
            Some(Secured { access, scope }) => Credentials::new(access, scope).map_err(because)?,
            None => Credentials::default(),
        };
        // `user:password@` in a URL means Basic authentication (RFC 7617).
        if !url.username().is_empty() || url.password().is_some() {
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
            credentials.set_basic(&decoded(url.username()), &decoded(url.password().unwrap_or_default()));
        }
        Ok(Self {
            target: path_and_query(url).map_err(unsendable)?,
            host: authority(url).map_err(unsendable)?,
            credentials,
            connections,
            display,
        })
    }

    pub(crate) fn display(&self) -> &str {
        &self.display
    }

    /// Makes one attempt.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped during the exchange, the target may have the event.
    pub(crate) async fn send(&self, event: &Event, options: SendOptions) -> Result<Answer, NoAnswer> {
        if let Some(tokens) = &self.credentials.tokens {
            // Boxed: the future of every delivery has room for it, and few destinations ask for a token.
            return Box::pin(self.send_with_token(tokens, event, options)).await;
        }
        answered(timeout(options.timeout, self.exchange(event, options, None)).await)
    }

    /// Fetches a token where there is none, and once more when the destination refuses the token; all within one timeout.
    async fn send_with_token(&self, tokens: &Tokens, event: &Event, options: SendOptions) -> Result<Answer, NoAnswer> {
        let deadline = Instant::now() + options.timeout;
        let token = tokens.token(deadline).await?;
        let answer = answered(timeout_at(deadline, self.exchange(event, options, Some(&token))).await)?;
        if answer.status != StatusCode::UNAUTHORIZED.as_u16() {
            return Ok(answer);
        }
        let token = tokens.instead_of(&token, deadline).await?;
        answered(timeout_at(deadline, self.exchange(event, options, Some(&token))).await)
    }

    async fn exchange(
        &self,
        event: &Event,
        options: SendOptions,
        token: Option<&HeaderValue>,
    ) -> Result<Answer, NoAnswer> {
        let request = self.request(event, options.format, token);
        let (response, connection) = self.connections.send(request).await?;
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| backoff::parse_retry_after(text, SystemTime::now()));
        let body = read(head.status, &head.headers, body, options.max_reply_bytes).await?;
        // With a body that was read to its end the connection is free again; otherwise this drops it.
        self.connections.give_back(connection);
        let body = match body {
            Body::Bytes(bytes) if !head.status.is_success() => Body::Bytes(self.credentials.hidden(bytes, token)),
            other => other,
        };
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after,
            body,
        })
    }

    fn request(&self, event: &Event, format: Format, token: Option<&HeaderValue>) -> Request<Full<Bytes>> {
        let mut headers = HeaderMap::with_capacity(14 + self.credentials.count());
        headers.insert(HOST, self.host.clone());
        headers.insert(&PREFER, HeaderValue::from_static("reply"));
        self.credentials.add(token, &mut headers);
        for (attribute, header) in [("traceparent", &TRACEPARENT), ("tracestate", &TRACESTATE)] {
            if let Some(value) = event.text(attribute).and_then(|text| HeaderValue::from_str(text).ok()) {
                headers.insert(header, value);
            }
        }
        let body = match format {
            Format::Binary if !self.credentials.is_signed() => http_form::encode_binary(event, &mut headers),
            Format::Binary | Format::Json => http_form::encode_structured(event, &mut headers),
        };
        self.credentials.sign(event, &body, &mut headers);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        request
    }
}

/// The result of an exchange that had a bounded time.
fn answered(result: Result<Result<Answer, NoAnswer>, tokio::time::error::Elapsed>) -> Result<Answer, NoAnswer> {
    match result {
        Err(_elapsed) => Err(NoAnswer::Timeout),
        // A resolver that cannot open its files only says that the name is not known now.
        Ok(Err(NoAnswer::Connect(why))) if connect::lack_of_files().is_some() => Err(NoAnswer::NotSent(why)),
        Ok(result) => result,
    }
}

/// Reads an answer's body as far as it is needed.
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
    if status == StatusCode::OK && !bytes.is_empty() {
        return Ok(Body::Malformed(no_event(headers).into()));
    }
    Ok(Body::Bytes(bytes))
}

fn decode_reply(headers: &HeaderMap, bytes: Bytes) -> Body {
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|value| *value != "identity") {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        return Body::Malformed(format!("content-encoding {encoding} is not supported").into());
    }
    match http_form::decode(headers, bytes) {
        Ok(http_form::Decoded::One(event)) => Body::Event(event),
        Ok(http_form::Decoded::Batch(events)) => {
            let fault = format!("it is a batch of {} events, and a reply is one event", events.len());
            Body::Malformed(fault.into())
        }
        Err(fault) => Body::Malformed(fault.to_string().into()),
    }
}

/// The fault of a 200 whose body does not claim to be a CloudEvent.
fn no_event(headers: &HeaderMap) -> String {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return "it has neither ce- headers nor a content-type".into();
    };
    let content_type = String::from_utf8_lossy(content_type.as_bytes());
    format!("it has no ce- headers, and content-type {content_type} is no CloudEvent")
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

/// The URL as it may be shown: in logs, status and dead letters (CONTRACT SR-6). Its query is left out as well, for many services
/// take their tokens there.
pub(crate) fn without_credentials(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

/// Checks a host that stands in the URL as an address (CONTRACT EG-1).
fn refused_host(url: &Url) -> Result<(), EgressRefused> {
    Egress::current().check_host(url.host_str().unwrap_or_default())
}

/// The value of `Host`.
fn authority(url: &Url) -> Result<HeaderValue, String> {
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    HeaderValue::from_str(authority).map_err(|error| error.to_string())
}

/// The target of the request line.
fn path_and_query(url: &Url) -> Result<Uri, String> {
    // A URL of a scheme the URL standard does not know may have no path at all.
    let path = if url.path().is_empty() { "/" } else { url.path() };
    let target = match url.query() {
        Some(query) => format!("{path}?{query}").parse::<Uri>(),
        None => path.parse::<Uri>(),
    };
    target.map_err(|error| error.to_string())
}
