//! Connections of a listener: accepted, bounded, watched and drained here. What a request means is its [`Service`]'s.
//!
//! An own accept loop over hyper-util's `conn::auto` (HTTP/1.1 and HTTP/2, by ALPN or with prior knowledge), because every connection
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
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
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
    handshake,
    protocol::{NoRoom, begin, builder, overloaded},
    socket::Socket,
    tls::Tls,
    watched::{Activity, Answering, Watched},
};

/// A request's head must be whole this long after its first byte (CONTRACT IN-9).
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

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
pub(super) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

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

    /// Takes connections until the server is to stop. Each is served by this service, and begins with a handshake of this TLS:
    /// a listener may have its own of both.
    pub async fn accept(self: &Arc<Self>, listener: TcpListener, service: S, tls: Option<Tls>) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.take(stream, address, service.clone(), tls.clone()),
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

    fn take(self: &Arc<Self>, stream: TcpStream, address: SocketAddr, service: S, tls: Option<Tls>) {
        let peer = self.bounds.peer(address.ip());
        let permit = peer.connect().or_else(|full| match self.when_full {
            WhenFull::CloseWaiting if self.close_waiting(&peer, full) => peer.connect(),
            _ => Err(full),
        });
        let Ok(permit) = permit else {
            return self.refuse(stream, tls.is_some());
        };
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
            this.begin(stream, tls, service, client, activity, close).await;
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
    fn refuse(&self, mut stream: TcpStream, has_tls: bool) {
        self.service.refused(Reason::Overloaded);
        if has_tls {
            // The answer would cost a handshake, which is more than what there is no room for.
            return;
        }
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

    /// Makes the handshake of a connection, if there is one, and serves it.
    async fn begin(
        &self,
        stream: TcpStream,
        tls: Option<Tls>,
        service: S,
        client: Client,
        activity: Arc<Activity>,
        close: CancellationToken,
    ) {
        // Without it answers only take longer.
        let _ = stream.set_nodelay(true);
        service.connected(true);
        let begun = match &tls {
            None => Ok(Socket::Plain(stream)),
            Some(tls) => {
                let stops = async {
                    tokio::select! {
                        () = close.cancelled() => {}
                        () = self.stop.cancelled() => {}
                    }
                };
                // A part of the first head: one bound of time is for both.
                let is_late = activity.first_head_is_late(HEAD_TIMEOUT);
                handshake::bounded(handshake::begin(stream, tls, &client.peer), is_late, stops).await
            }
        };
        match begun {
            Ok(socket) => self.serve(socket, &service, client, activity, close).await,
            Err(why) => {
                tracing::debug!(client = %client.address, %why, "a connection with TLS did not begin");
                why.reason().into_iter().for_each(|reason| service.refused(reason));
            }
        }
        service.connected(false);
    }

    async fn serve(
        &self,
        socket: Socket,
        service: &S,
        client: Client,
        activity: Arc<Activity>,
        close: CancellationToken,
    ) {
        let builder = builder(service.answers_half_closed());
        let certificate = socket.peer_certificate();
        let answering = {
            let (service, activity) = (service.clone(), activity.clone());
            service_fn(move |mut request: Request<Incoming>| {
                if let Some(certificate) = &certificate {
                    request.extensions_mut().insert(certificate.clone());
                }
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
        let connection = builder.serve_connection(TokioIo::new(Watched::new(socket, activity.clone())), answering);
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
    }
}
