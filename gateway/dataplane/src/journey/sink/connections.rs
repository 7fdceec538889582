//! The open connections to one target, over hyper's connection-level client.
//!
//! Requests that the server reports as unprocessed (HTTP/2: RFC 9113, 6.8 and 8.7) are sent again on a new connection, within
//! the same attempt: the server does not have the event yet.
//!
//! HTTP/1.1: the most recently used free connection is taken, so that the others can go idle and be dropped. HTTP/2 (prior
//! knowledge for `h2c://`, or negotiated by TLS): one connection shared by all requests. hyper-util's pooling client was
//! the alternative: it spawns a task per request to learn when a connection is free and takes a lock and several URI
//! rewrites on the way, which a gateway that knows its one target does not need.

use std::{
    error::Error,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use adapter::chain;
use connect::{Connector, Dialer, OwnTls};
use http::{HeaderValue, Request, Response, Uri, header::PROXY_AUTHORIZATION, uri::Scheme};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    rt::{Read, Write},
};
use hyper_util::{
    client::legacy::connect::Connection as _,
    rt::{TokioExecutor, TokioIo},
};
use parking_lot::Mutex;
use spec::{Reason, model::Tls};
use tokio::time::Instant;
use url::Url;

use super::{
    NoAnswer,
    exchange::{RequestBody, broken, exchange, handshake1, is_unprocessed},
    interim::Counted,
};

/// A free connection older than this is not tried again: servers close theirs after 5 s (Node) to 75 s (nginx), and a
/// request written into a closing connection is a failed attempt.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A target that needs longer than this to accept a connection will not do better on the same packet; the attempt's own
/// timeout may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds an answer's head over HTTP/2, where it is counted after it was decompressed.
const HEAD_MAX_BYTES: u32 = 64 * 1024;

/// How often one attempt sends a request again that the server says it did not process. A server that ends its connection
/// every few requests makes progress with each; one that refuses all of them is as good as down.
const RESENDS_MAX: u32 = 12;

/// So many are sent again at once; later ones wait, so that requests that are refused together do not stay together.
const RESENDS_AT_ONCE: u32 = 3;

/// Doubled with each resend after [`RESENDS_AT_ONCE`], and cut at random: a second or so before the last.
const RESEND_WAIT: Duration = Duration::from_millis(10);

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(Http2Connection),
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
    /// The server is verified against authorities of its own.
    has_own_authorities: bool,
    idle_max: usize,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Option<Http2Connection>>,
    /// HTTP/2 connections made so far.
    made: AtomicU64,
    /// Whether the newest connection speaks HTTP/2. With TLS that is unknown before the first connection.
    is_http2: AtomicBool,
    /// Held while an HTTP/2 connection is made: a burst waits for it instead of making one each. The first burst over TLS may
    /// make a few that are dropped after their first request.
    connecting: tokio::sync::Mutex<()>,
}

/// The HTTP/2 connection that all requests share.
#[derive(Clone)]
struct Http2Connection {
    number: u64,
    sender: http2::SendRequest<RequestBody>,
}

/// Why a request on an HTTP/2 connection has no answer.
enum Unanswered {
    /// The server says that it did not process the request, or it never left this process.
    Unprocessed(String),
    Failed(NoAnswer),
}

enum Kind {
    Plain(Dialer),
    /// A proxy is sent whole URLs, and its credentials.
    Forwarded(Dialer, Option<HeaderValue>),
    /// HTTP/2 with prior knowledge (`h2c://`).
    PriorKnowledge(Dialer),
    Tls(Box<Connector>),
}

/// The target of the connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// Named by a document: reached through a proxy where the environment says so, and only at addresses that the gateway may
    /// connect to.
    Subscriber,
    /// Named on the command line: reached through a proxy where the environment says so.
    Operator,
    /// Another replica of the gateway: never through a proxy.
    Replica,
}

impl Connections {
    /// `tls` are settings of this target alone.
    pub(super) fn new(url: &Url, peer: Peer, idle_max: usize, tls: Option<&Tls>) -> Result<Self, (Reason, String)> {
        let uri = base(url).map_err(invalid)?;
        let dialer = match peer {
            Peer::Subscriber => Dialer::new(CONNECT_TIMEOUT),
            Peer::Operator => Dialer::of_operator(CONNECT_TIMEOUT),
            Peer::Replica => Dialer::direct(CONNECT_TIMEOUT),
        };
        let dialer = if url.scheme() == "h2c" {
            dialer.tunnels()
        } else {
            dialer
        };
        let forwards = dialer.forwards(&uri).map_err(|e| invalid(e.to_string()))?;
        let kind = match (url.scheme(), forwards) {
            ("https", _) if matches!(peer, Peer::Replica) => Kind::Tls(Box::new(connect::replica_connector(dialer))),
            ("https", _) => Kind::Tls(Box::new(connector(dialer, tls)?)),
            ("h2c", _) => Kind::PriorKnowledge(dialer),
            (_, Some(authorization)) => Kind::Forwarded(dialer, authorization),
            (_, None) => Kind::Plain(dialer),
        };
        Ok(Self {
            uri,
            has_own_authorities: tls.is_some_and(|tls| tls.authorities.is_some()),
            idle_max,
            idle: Mutex::default(),
            shared: Mutex::default(),
            made: AtomicU64::new(0),
            is_http2: AtomicBool::new(matches!(kind, Kind::PriorKnowledge(_))),
            kind,
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Sends on a free connection, else on a new one. A request that a dying connection handed back unsent goes on to the
    /// next: that is not an attempt, nothing left this process.
    pub(super) async fn send(&self, mut request: Request<RequestBody>) -> Result<(Response<Incoming>, Used), NoAnswer> {
        if let Kind::Forwarded(_, authorization) = &self.kind {
            absolute(&mut request, &self.uri);
            if let Some(authorization) = authorization {
                request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
            }
        }
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match exchange(&mut sender, request).await {
                Ok(response) => return Ok((response, Used(Some(sender)))),
                Err((Some(unsent), _)) => request = *unsent,
                Err((None, failure)) => return Err(failure),
            }
        }
        // Boxed: TLS and HTTP/2 would make every delivery's future ten times as large.
        Box::pin(self.send_elsewhere(request)).await
    }

    /// On the shared HTTP/2 connection, else on a new one. What the server did not process is sent again.
    async fn send_elsewhere(&self, request: Request<RequestBody>) -> Result<(Response<Incoming>, Used), NoAnswer> {
        let mut resends = 0;
        loop {
            let (number, answered) = match self.shared_or_new().await? {
                Sender::Http1(mut sender) => {
                    let answered = exchange(&mut sender, request).await;
                    let response = answered.map_err(|(_, failure)| failure)?;
                    return Ok((response, Used(Some(sender))));
                }
                Sender::Http2(shared) => {
                    let answered = self.exchange_shared(shared.sender.clone(), &request).await;
                    (shared.number, answered)
                }
            };
            match answered {
                Ok(response) => return Ok((response, Used(None))),
                Err(Unanswered::Failed(failure)) => return Err(failure),
                Err(Unanswered::Unprocessed(why)) => {
                    self.retire(number);
                    resends += 1;
                    if resends > RESENDS_MAX {
                        let times = RESENDS_MAX + 1;
                        return Err(NoAnswer::Broken(format!("refused unprocessed {times} times: {why}")));
                    }
                    tracing::debug!(%why, resends, "a request that was not processed is sent again");
                    if let Some(doublings) = resends.checked_sub(RESENDS_AT_ONCE + 1) {
                        let wait = RESEND_WAIT.mul_f64(f64::from(1_u32 << doublings) * rand::random_range(0.5..1.0));
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        }
    }

    /// The shared HTTP/2 connection; where there is none, a new connection, which is shared when it speaks HTTP/2.
    async fn shared_or_new(&self) -> Result<Sender, NoAnswer> {
        if let Some(shared) = self.open() {
            return Ok(Sender::Http2(shared));
        }
        let _turn = if self.is_http2.load(Ordering::Relaxed) {
            let turn = self.connecting.lock().await;
            if let Some(shared) = self.open() {
                return Ok(Sender::Http2(shared));
            }
            Some(turn)
        } else {
            None
        };
        let sender = self.connect().await?;
        let is_http2 = matches!(sender, Sender::Http2(_));
        self.is_http2.store(is_http2, Ordering::Relaxed);
        if let Sender::Http2(shared) = &sender {
            *self.shared.lock() = Some(shared.clone());
        }
        Ok(sender)
    }

    async fn exchange_shared(
        &self,
        mut sender: http2::SendRequest<RequestBody>,
        request: &Request<RequestBody>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut copy = request.clone();
        absolute(&mut copy, &self.uri);
        sender.try_send_request(copy).await.map_err(|mut error| {
            let is_unsent = error.take_message().is_some();
            if is_unsent || is_unprocessed(error.error()) {
                Unanswered::Unprocessed(chain(error.error()))
            } else {
                Unanswered::Failed(broken(error.error()))
            }
        })
    }

    fn open(&self) -> Option<Http2Connection> {
        self.shared.lock().clone().filter(|shared| !shared.sender.is_closed())
    }

    /// No further request goes to this connection; those that it has go on.
    fn retire(&self, number: u64) {
        let mut shared = self.shared.lock();
        if shared.as_ref().is_some_and(|shared| shared.number == number) {
            *shared = None;
        }
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
        match &self.kind {
            Kind::Plain(dialer) | Kind::Forwarded(dialer, _) => {
                let stream = dialer.clone().call(self.uri.clone()).await.map_err(|e| refused(&*e))?;
                handshake1(stream).await.map(Sender::Http1)
            }
            Kind::PriorKnowledge(dialer) => {
                let stream = dialer.clone().call(self.uri.clone()).await.map_err(|e| refused(&*e))?;
                self.handshake2(stream).await
            }
            Kind::Tls(connector) => {
                let stream = (**connector).clone().call(self.uri.clone()).await;
                let stream = stream.map_err(|e| self.refused_tls(&*e))?;
                if stream.connected().is_negotiated_h2() {
                    self.handshake2(stream).await
                } else {
                    handshake1(stream).await.map(Sender::Http1)
                }
            }
        }
    }

    fn refused_tls(&self, error: &(dyn Error + 'static)) -> NoAnswer {
        if self.has_own_authorities && connect::is_issuer_unknown(error) {
            let why = "the server's certificate is refused: none of the authorities in the secret of tls.caSecretRef signed it";
            return NoAnswer::Connect(why.to_owned());
        }
        refused(error)
    }

    async fn handshake2<I: Read + Write + Unpin + Send + 'static>(&self, stream: I) -> Result<Sender, NoAnswer> {
        let counted = TokioIo::new(Counted::new(TokioIo::new(stream)));
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(HEAD_MAX_BYTES)
            .handshake(counted)
            .await
            .map_err(|e| broken(&e))?;
        tokio::spawn(connection);
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Sender::Http2(Http2Connection { number, sender }))
    }
}

/// Scheme and authority of the target.
fn base(url: &Url) -> Result<Uri, String> {
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it has no host".into());
    }
    let scheme = match url.scheme() {
        "http" | "h2c" => Scheme::HTTP,
        "https" => Scheme::HTTPS,
        other => return Err(format!("scheme {other} is not http, https or h2c")),
    };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query("/");
    uri.build().map_err(|error| error.to_string())
}

fn invalid(why: String) -> (Reason, String) {
    (Reason::InvalidTarget, why)
}

/// TLS with the target: as with every other one, or with settings of its own.
fn connector(dialer: Dialer, tls: Option<&Tls>) -> Result<Connector, (Reason, String)> {
    let Some(tls) = tls else {
        return connect::connector(dialer).map_err(invalid);
    };
    let certificate = tls.certificate.as_ref();
    let own = OwnTls {
        authorities: tls.authorities.as_ref().map(|pem| pem.expose()),
        certificate: certificate.map(|certificate| (certificate.chain.expose(), certificate.key.expose())),
        server_name: tls.server_name.as_deref(),
    };
    connect::own_connector(dialer, own).map_err(|why| (Reason::CredentialsInvalid, why))
}

/// HTTP/2 requests carry scheme and authority; which protocol TLS negotiates is known only once it did.
fn absolute(request: &mut Request<RequestBody>, base: &Uri) {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn refused(error: &(dyn Error + 'static)) -> NoAnswer {
    if let Some(refused) = connect::egress_refused(error) {
        return NoAnswer::Egress(refused.clone());
    }
    let words = connect::tls_words(error).unwrap_or_else(|| chain(error));
    if connect::is_local(error) {
        NoAnswer::NotSent(words)
    } else {
        NoAnswer::Connect(words)
    }
}
