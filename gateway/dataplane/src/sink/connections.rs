//! The open connections to one target, over hyper's connection-level client.
//!
//! HTTP/1.1: the most recently used free connection is taken, so that the others can go idle and be dropped. HTTP/2 (prior
//! knowledge for `h2c://`, or negotiated by TLS): one connection shared by all requests. hyper-util's pooling client was
//! the alternative: it spawns a task per request to learn when a connection is free and takes a lock and several URI
//! rewrites on the way, which a gateway that knows its one target does not need.

use std::{sync::Arc, sync::OnceLock, time::Duration};

use adapter::chain;
use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    rt::{Read, Write},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::connect::{Connection as _, HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::NoAnswer;

type RequestBody = Full<Bytes>;

/// A free connection older than this is not tried again: servers close theirs after 5 s (Node) to 75 s (nginx), and a
/// request written into a closing connection is a failed attempt.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A target that needs longer than this to accept a connection will not do better on the same packet; the attempt's own
/// timeout may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds an answer's head, and what one connection may hold of a body that is read slowly.
const READ_BUFFER_MAX_BYTES: usize = 64 * 1024;

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// A connection that carried a request, to be given back when its answer was read.
pub(super) struct Used(Option<http1::SendRequest<RequestBody>>);

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

pub(super) struct Connections {
    uri: Uri,
    kind: Kind,
    idle_max: usize,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Option<http2::SendRequest<RequestBody>>>,
    /// Held while a connection with prior knowledge is made: a burst waits for it instead of making one each. What TLS
    /// negotiates is not known before, so there a burst may make a few that are dropped after their first request.
    connecting: tokio::sync::Mutex<()>,
}

enum Kind {
    Plain(HttpConnector),
    /// HTTP/2 with prior knowledge (`h2c://`).
    PriorKnowledge(HttpConnector),
    Tls(Box<HttpsConnector<HttpConnector>>),
}

impl Connections {
    pub(super) fn new(url: &Url, idle_max: usize) -> Result<Self, String> {
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it has no host".into());
        }
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let (scheme, kind) = match url.scheme() {
            "http" => (Scheme::HTTP, Kind::Plain(http)),
            "h2c" => (Scheme::HTTP, Kind::PriorKnowledge(http)),
            "https" => (Scheme::HTTPS, Kind::Tls(Box::new(tls(http)?))),
            other => return Err(format!("scheme {other} is not http, https or h2c")),
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query("/")
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self {
            uri,
            kind,
            idle_max,
            idle: Mutex::default(),
            shared: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Sends on a free connection, else on a new one. A request that a dying connection handed back unsent goes on to the
    /// next: that is not an attempt, nothing left this process.
    pub(super) async fn send(&self, mut request: Request<RequestBody>) -> Result<(Response<Incoming>, Used), NoAnswer> {
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Used(Some(sender)))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(error.error())),
                },
            }
        }
        // Boxed: TLS and HTTP/2 would make every delivery's future ten times as large.
        Box::pin(self.send_elsewhere(request)).await
    }

    /// On the shared HTTP/2 connection, else on a new one.
    async fn send_elsewhere(&self, mut request: Request<RequestBody>) -> Result<(Response<Incoming>, Used), NoAnswer> {
        let mut turn = match self.kind {
            Kind::PriorKnowledge(_) if self.open().is_none() => Some(self.connecting.lock().await),
            _ => None,
        };
        if let Some(mut sender) = self.open() {
            turn = None;
            absolute(&mut request, &self.uri);
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Used(None))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(error.error())),
                },
            }
        }
        match self.connect().await? {
            Sender::Http1(mut sender) => {
                let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
                Ok((response, Used(Some(sender))))
            }
            Sender::Http2(mut sender) => {
                *self.shared.lock() = Some(sender.clone());
                drop(turn);
                absolute(&mut request, &self.uri);
                let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
                Ok((response, Used(None)))
            }
        }
    }

    fn open(&self) -> Option<http2::SendRequest<RequestBody>> {
        self.shared.lock().clone().filter(|sender| !sender.is_closed())
    }

    /// Keeps the connection for the next request. One whose answer was not read to its end is closing and is dropped when
    /// it is next taken.
    pub(super) fn give_back(&self, used: Used) {
        let Some(sender) = used.0 else { return };
        if sender.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.idle.lock();
        // The front has waited longest: let one expired connection go each time.
        if idle.first().is_some_and(|oldest| now - oldest.since > IDLE_MAX) || idle.len() >= self.idle_max {
            idle.remove(0);
        }
        idle.push(Idle { sender, since: now });
    }

    fn take_idle(&self) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = self.idle.lock();
        let newest = idle.pop()?;
        if newest.since.elapsed() > IDLE_MAX {
            idle.clear();
            return None;
        }
        Some(newest.sender)
    }

    async fn connect(&self) -> Result<Sender, NoAnswer> {
        use tower_service::Service;
        let refused = |e: &dyn std::error::Error| NoAnswer::Connect(chain(e));
        match &self.kind {
            Kind::Plain(http) => {
                let stream = http.clone().call(self.uri.clone()).await.map_err(|e| refused(&e))?;
                handshake1(stream).await
            }
            Kind::PriorKnowledge(http) => {
                let stream = http.clone().call(self.uri.clone()).await.map_err(|e| refused(&e))?;
                handshake2(stream).await
            }
            Kind::Tls(https) => {
                let stream = (**https)
                    .clone()
                    .call(self.uri.clone())
                    .await
                    .map_err(|e| refused(&*e))?;
                if stream.connected().is_negotiated_h2() {
                    handshake2(stream).await
                } else {
                    handshake1(stream).await
                }
            }
        }
    }
}

/// The connection's own task: it reads and writes until the sender is dropped or the peer closes.
async fn handshake1<I: Read + Write + Unpin + Send + 'static>(stream: I) -> Result<Sender, NoAnswer> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_BUFFER_MAX_BYTES)
        .handshake(stream)
        .await
        .map_err(|e| broken(&e))?;
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}

async fn handshake2<I: Read + Write + Unpin + Send + 'static>(stream: I) -> Result<Sender, NoAnswer> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(stream)
        .await
        .map_err(|e| broken(&e))?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}

/// The system's trust roots, read once and only when there is an `https` target: they take 2 MB and 20 ms.
fn tls(http: HttpConnector) -> Result<HttpsConnector<HttpConnector>, String> {
    static CONFIG: OnceLock<Result<Arc<rustls::ClientConfig>, String>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        use hyper_rustls::ConfigBuilderExt;
        let builder = rustls::ClientConfig::builder();
        let builder = builder
            .with_native_roots()
            .map_err(|e| format!("the system's TLS roots cannot be read: {e}"))?;
        Ok(Arc::new(builder.with_no_client_auth()))
    });
    let config = config.as_ref().map_err(Clone::clone)?;
    let builder = HttpsConnectorBuilder::new().with_tls_config((**config).clone());
    Ok(builder.https_only().enable_http1().enable_http2().wrap_connector(http))
}

/// HTTP/2 requests carry scheme and authority; which protocol TLS negotiates is known only once it did.
fn absolute(request: &mut Request<RequestBody>, base: &Uri) {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn broken(error: &hyper::Error) -> NoAnswer {
    NoAnswer::Broken(chain(error))
}
