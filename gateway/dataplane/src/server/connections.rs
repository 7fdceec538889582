//! Connections of a listener: accepted, bounded, watched and drained here. What a request means is its [`Service`]'s.
//!
//! An own accept loop over hyper-util's `conn::auto` (HTTP/1.1 and HTTP/2 with prior knowledge), because every connection
//! needs a bound, a watch on slow senders and a graceful end (CONTRACT IN-9, OP-1). The ingress and the admin listener have the same
//! protections, each with bounds of its own: who fills one does not touch the other.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use log_limit::LogLimit;
use parking_lot::Mutex;
use spec::Reason;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    bounds::{Bounds, ConnectionPermit, Full, Peer},
    watched::{Active, Activity, Answering, Watched},
};

/// Read buffer of a connection, and with it the size of all headers of a request; the next read of a body waits in the kernel.
pub(super) const BUFFER_MAX_BYTES: u32 = 64 * 1024;

/// Headers of a request at most; hyper answers 431 beyond.
const HEADERS_MAX: usize = 128;

/// A request's head must be whole this long after its first byte (CONTRACT IN-9).
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection without a request is closed after this: longer than the idle times of common clients (Go 90 s), so that the
/// client closes first and no request is written into a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a connection is checked. Timeouts are late by this at most; per connection, a wake-up every 2 s.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// When `accept` fails (no file descriptors left), the next try waits.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections that are being refused at once. Each may take a file for [`REFUSAL_TIMEOUT`]; further ones are closed at once.
pub const REFUSALS_MAX: usize = 32;

/// How long a refused client may go on sending: closed earlier, its system would throw the answer away.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// No place for another connection: said in HTTP, without reading the request.
pub(super) const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 21\r\n\r\ntoo many connections\n";

/// Answers the requests of a listener.
pub trait Service: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Answers a request.
    fn answer(&self, request: Request<Incoming>, client: Client) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Whether a client that sends nothing more still gets its answer, as one does that shuts its side down after a request. False
    /// where answers have no end of their own: a client that is gone is only noticed there when something is written to it.
    fn answers_half_closed(&self) -> bool {
        true
    }

    /// Counts what is refused without asking [`Self::answer`], by its reason.
    fn refused(&self, reason: Reason);

    /// A connection was opened (`true`) or closed.
    fn connected(&self, open: bool) {
        let _ = open;
    }
}

/// Where a request comes from.
#[derive(Clone)]
pub struct Client {
    /// The address of the client.
    pub address: SocketAddr,
    pub(crate) peer: Arc<Peer>,
}

/// How a connection is handled for which there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The new connection is answered 503.
    Refuse,
    /// The oldest connection that waits for a request makes place; without such a one the new connection is answered 503. For
    /// listeners that must answer probes while others hold connections open.
    CloseWaiting,
}

/// The connections of one or several listeners with the same bounds.
pub struct Connections<S> {
    service: S,
    bounds: Arc<Bounds>,
    when_full: WhenFull,
    stop: CancellationToken,
    tasks: TaskTracker,
    next_id: AtomicU64,
    /// By age.
    open: Mutex<BTreeMap<u64, Open>>,
    refusals: Arc<Semaphore>,
    /// A listener that cannot accept tries ten times a second.
    accept_failures: LogLimit,
}

/// A connection that is open.
struct Open {
    /// Taken when it has to make place.
    permit: Option<ConnectionPermit>,
    peer: Arc<Peer>,
    activity: Arc<Activity>,
    close: CancellationToken,
}

impl<S: Service> Connections<S> {
    /// Connections for a listener of its own, at most so many, with bodies of at most so many bytes.
    pub fn new(
        service: S,
        max: usize,
        body_max_bytes: usize,
        when_full: WhenFull,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Self::within(service, Arc::new(Bounds::new(max, body_max_bytes)), when_full, stop)
    }

    pub(super) fn within(service: S, bounds: Arc<Bounds>, when_full: WhenFull, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            service,
            bounds,
            when_full,
            stop,
            tasks: TaskTracker::new(),
            next_id: AtomicU64::new(0),
            open: Mutex::default(),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            accept_failures: LogLimit::default(),
        })
    }

    /// Takes connections until the server is to stop. Each is served by this service: a listener may have one of its own.
    pub async fn accept(self: &Arc<Self>, listener: TcpListener, service: S) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.take(stream, address, service.clone()),
                Err(error) => {
                    self.warn(&error);
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Waits until all connections have ended, after `stop`.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn warn(&self, error: &std::io::Error) {
        let summary = |unlogged| tracing::warn!(unlogged, "more attempts to accept a connection failed");
        if self.accept_failures.admits(summary) {
            tracing::warn!(
                %error,
                "cannot accept a connection, trying again; where no files are left, raise the limit of open files (ulimit -n)"
            );
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, address: SocketAddr, service: S) {
        let peer = self.bounds.peer(address.ip());
        let permit = peer.connect().or_else(|full| match self.when_full {
            WhenFull::CloseWaiting if self.close_waiting(&peer, full) => peer.connect(),
            _ => Err(full),
        });
        let Ok(permit) = permit else { return self.refuse(stream) };
        let (activity, close) = (Arc::new(Activity::new(peer.clone())), CancellationToken::new());
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let open = Open {
            permit: Some(permit),
            peer: peer.clone(),
            activity: activity.clone(),
            close: close.clone(),
        };
        self.open.lock().insert(id, open);
        let (this, client) = (self.clone(), Client { address, peer });
        self.tasks.spawn(async move {
            this.serve(stream, service, client, activity, close).await;
            // With it the place of the connection is given back.
            let _ended = this.open.lock().remove(&id);
        });
    }

    /// Frees the place of a connection that waits for a request: of the peer when that holds its share, else of any peer. One whose
    /// head never came goes before one that is idle between requests.
    fn close_waiting(&self, peer: &Arc<Peer>, full: Full) -> bool {
        let mut open = self.open.lock();
        let may_close =
            |open: &Open| open.permit.is_some() && (full == Full::Everyone || Arc::ptr_eq(&open.peer, peer));
        let id = [Activity::awaits_head, Activity::is_idle]
            .into_iter()
            .find_map(|waits| {
                let found = open.iter().find(|(_, open)| may_close(open) && waits(&open.activity));
                found.map(|(id, _)| *id)
            });
        let Some(waiting) = id.and_then(|id| open.get_mut(&id)) else {
            return false;
        };
        waiting.close.cancel();
        waiting.permit = None;
        self.service.refused(Reason::Overloaded);
        true
    }

    /// Says in HTTP that there is no place, and reads what the client still sends for a moment, or it might not see the answer.
    fn refuse(&self, mut stream: TcpStream) {
        self.service.refused(Reason::Overloaded);
        let Ok(refusal) = self.refusals.clone().try_acquire_owned() else {
            // Too many at once: the client may see the answer, or a closed connection.
            let _ = stream.try_write(TOO_MANY_CONNECTIONS);
            return;
        };
        self.tasks.spawn(async move {
            let linger = async {
                stream.write_all(TOO_MANY_CONNECTIONS).await?;
                stream.shutdown().await?;
                let mut rest = [0; 1024];
                while stream.read(&mut rest).await? > 0 {}
                std::io::Result::Ok(())
            };
            // The client is gone or slow: it was refused in any case.
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, linger).await;
            drop(refusal);
        });
    }

    async fn serve(
        &self,
        stream: TcpStream,
        service: S,
        client: Client,
        activity: Arc<Activity>,
        close: CancellationToken,
    ) {
        // Without it answers only take longer.
        let _ = stream.set_nodelay(true);
        let builder = builder(service.answers_half_closed());
        let answering = {
            let (service, activity) = (service.clone(), activity.clone());
            service_fn(move |request: Request<Incoming>| {
                let active = begin(&activity, &client.peer, &request);
                let (service, client) = (service.clone(), client.clone());
                async move {
                    Ok::<_, Infallible>(match active {
                        Ok(active) => service
                            .answer(request, client)
                            .await
                            .map(|body| Answering::of(body, active)),
                        Err(NoRoom) => {
                            service.refused(Reason::Overloaded);
                            overloaded()
                        }
                    })
                }
            })
        };
        service.connected(true);
        let connection = builder.serve_connection(TokioIo::new(Watched::new(stream, activity.clone())), answering);
        tokio::pin!(connection);
        let mut watch = tokio::time::interval_at(Instant::now() + WATCH_INTERVAL, WATCH_INTERVAL);
        let mut stopping = false;
        loop {
            tokio::select! {
                // A broken connection is its client's affair: what was stored is stored.
                _ended = connection.as_mut() => break,
                () = close.cancelled() => break,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = watch.tick() => {
                    if activity.head_is_late(HEAD_TIMEOUT) {
                        service.refused(Reason::Stalled);
                        break;
                    }
                    if activity.is_idle_for(IDLE_TIMEOUT) {
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
        if activity.is_overloaded() {
            service.refused(Reason::Overloaded);
        }
        service.connected(false);
    }
}

/// Serves both versions of HTTP, within the bounds of this file.
fn builder(half_close: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(BUFFER_MAX_BYTES as usize)
        .max_headers(HEADERS_MAX)
        .header_read_timeout(None)
        .half_close(half_close);
    builder
        .http2()
        .max_header_list_size(BUFFER_MAX_BYTES)
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT);
    builder
}

/// Neither a stream nor memory for another request of a connection.
struct NoRoom;

/// Notes that a request has begun. One of HTTP/2 is one of many on its connection, and counts as a connection does.
fn begin(activity: &Arc<Activity>, peer: &Arc<Peer>, request: &Request<Incoming>) -> Result<Active, NoRoom> {
    let active = activity.begin(request.version());
    if request.version() != Version::HTTP_2 {
        return Ok(active);
    }
    let stream = peer.stream().map_err(|_full| NoRoom)?;
    let mut memory = peer.memory();
    if !memory.grow_to(head_bytes(request.headers())) {
        return Err(NoRoom);
    }
    Ok(active.holds(stream, memory))
}

fn head_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// 503 for one request of a connection.
fn overloaded<B>() -> Response<Answering<B>> {
    let mut answer = Response::new(Answering::text("too many requests at once\n"));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = answer.headers_mut();
    headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
