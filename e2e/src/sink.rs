//! A subscriber that records every request and answers by script.
//!
//! A [`Sink`] lives as long as its value: dropping it closes the port and every connection, which is how a test
//! takes a subscriber down; [`Sink::at`] brings it back at the same place.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Version, request::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    ports,
    wait::{PATIENCE, eventually, within},
};

/// One request that a sink received.
#[derive(Clone, Debug)]
pub struct Received {
    /// When its head was read.
    pub at: Instant,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    pub version: Version,
    pub method: Method,
    /// Path and query, or the whole URI where the protocol carries one.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A context attribute in binary mode, percent-decoded.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let value = self.header(&format!("ce-{name}"))?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    /// The event's id, in binary mode; empty when there is none.
    pub fn id(&self) -> String {
        self.attribute("id").unwrap_or_default()
    }

    /// # Panics
    /// When the body is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// One scripted answer.
#[derive(Clone, Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    delay: Duration,
    hangs_up: bool,
}

impl Response {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
            hangs_up: false,
        }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Answers only after a while.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Never answers; the connection stays open.
    pub fn never() -> Self {
        // Longer than any test, shorter than what a clock can add.
        Self::status(204).after(Duration::from_secs(86_400))
    }

    /// Closes the connection instead of answering.
    pub fn hang_up() -> Self {
        Self {
            hangs_up: true,
            ..Self::status(204)
        }
    }

    /// A 200 that carries an event in binary mode: a reply.
    pub fn reply(id: &str, kind: &str, data: &str) -> Self {
        Self::status(200)
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/e2e/replier")
            .header("ce-type", kind)
            .header("content-type", "application/json")
            .body(data.to_owned())
    }
}

type Rule = Box<dyn Fn(&Received) -> Option<Response> + Send>;

struct State {
    received: Vec<Received>,
    next: VecDeque<Response>,
    rule: Option<Rule>,
    otherwise: Response,
}

/// A running sink.
pub struct Sink {
    address: SocketAddr,
    /// PEM of its own certificate, for those who should trust it.
    certificate: Option<String>,
    state: Arc<Mutex<State>>,
    _server: AbortOnDropHandle<()>,
}

impl Sink {
    /// A sink that answers 204 to everything.
    pub async fn start() -> Self {
        Self::with(ports::listener(), None)
    }

    /// A sink at an address that was reserved before.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = within(PATIENCE, "an address that was reserved", || async move {
            std::net::TcpListener::bind(address).ok()
        });
        Self::with(listener.await, None)
    }

    /// A sink that speaks TLS, HTTP/1.1 or HTTP/2 as the client prefers, with a certificate for 127.0.0.1 of its own.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub async fn start_tls() -> Self {
        Self::start_tls_as("127.0.0.1").await
    }

    /// [`Self::start_tls`] with a certificate for another name: one that a proxy knows.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub async fn start_tls_as(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("its own key");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::start_tls_with(config, &made.cert.pem()).await
    }

    /// A sink that speaks TLS as it is told; `certificate` is the PEM of its authority.
    pub async fn start_tls_with(config: rustls::ServerConfig, certificate: &str) -> Self {
        let mut sink = Self::with(ports::listener(), Some(TlsAcceptor::from(Arc::new(config))));
        sink.certificate = Some(certificate.to_owned());
        sink
    }

    fn with(listener: std::net::TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let state = State {
            received: Vec::new(),
            next: VecDeque::new(),
            rule: None,
            otherwise: Response::status(204),
        };
        let state = Arc::new(Mutex::new(state));
        let server = tokio::spawn(serve(listener, tls, Arc::clone(&state)));
        Self {
            address,
            certificate: None,
            state,
            _server: AbortOnDropHandle::new(server),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.address)
    }

    /// PEM of the certificate of a sink that speaks TLS.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// The answers to the next requests, in order; afterwards, what [`Self::always`] said.
    pub fn next(&self, responses: impl IntoIterator<Item = Response>) -> &Self {
        self.state.lock().next.extend(responses);
        self
    }

    /// The answer to every request from now on that has no other.
    pub fn always(&self, response: Response) -> &Self {
        self.state.lock().otherwise = response;
        self
    }

    /// Answers by what was asked; `None` leaves it to [`Self::next`] and [`Self::always`].
    pub fn answer_by(&self, rule: impl Fn(&Received) -> Option<Response> + Send + 'static) -> &Self {
        self.state.lock().rule = Some(Box::new(rule));
        self
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().received.clone()
    }

    pub fn count(&self) -> usize {
        self.state.lock().received.len()
    }

    /// The ids received so far, in order, repeats included.
    pub fn ids(&self) -> Vec<String> {
        self.state.lock().received.iter().map(Received::id).collect()
    }

    /// Waits until at least `count` requests came and gives all.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} requests at the sink {}", self.address);
        eventually(&what, || async { (self.count() >= count).then(|| self.received()) }).await
    }

    /// Waits for the one request a test expects.
    ///
    /// # Panics
    /// When it does not come, or more came.
    pub async fn wait_for_one(&self) -> Received {
        let mut all = self.wait_for(1).await;
        assert_eq!(all.len(), 1, "one request was expected: {all:#?}");
        all.remove(0)
    }

    /// Watches for a while that no more than `count` requests come.
    ///
    /// # Panics
    /// When more come.
    pub async fn listens_at(&self, count: usize, duration: Duration) {
        let what = format!("the sink {} has {count} requests", self.address);
        crate::wait::holds(duration, &what, || self.count() == count).await;
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    // Aborted with this task, so that a dropped sink is really gone.
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (state, tls) = (Arc::clone(&state), tls.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| answer(connection, request, Arc::clone(&state)));
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that goes away, or does not trust us, ends its connection: tests see it by what is missing.
            match tls {
                None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(server.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// An error closes the connection without an answer.
async fn answer(
    connection: usize,
    request: http::Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<http::Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let at = Instant::now();
    let (
        Parts {
            version,
            method,
            uri,
            headers,
            ..
        },
        body,
    ) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let received = Received {
        at,
        connection,
        version,
        method,
        path: uri.to_string(),
        headers,
        body,
    };
    let response = {
        let mut state = state.lock();
        let ruled = state.rule.as_ref().and_then(|rule| rule(&received));
        state.received.push(received);
        ruled
            .or_else(|| state.next.pop_front())
            .unwrap_or_else(|| state.otherwise.clone())
    };
    if !response.delay.is_zero() {
        sleep(response.delay).await;
    }
    if response.hangs_up {
        return Err("this sink hangs up by script".into());
    }
    let mut answer = http::Response::builder().status(response.status);
    for (name, value) in response.headers {
        answer = answer.header(name, value);
    }
    Ok(answer.body(Full::new(response.body))?)
}
