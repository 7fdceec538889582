//! The ingress listener: connections are accepted, bounded, watched and drained here; what a request means is `requests`'.
//!
//! An own accept loop over hyper-util's `conn::auto` (HTTP/1.1 and HTTP/2 with prior knowledge), because every connection
//! needs a bound, a watch on slow senders and a graceful end (CONTRACT IN-9, OP-1).

mod body;
mod forward;
mod host;
mod listeners;
mod requests;
mod watched;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Plane, ingress::Ingress};
pub(crate) use forward::Forwarder;
pub use listeners::{Further, Listeners};
use requests::Scope;
use watched::{Activity, Watched};

/// Open connections at most (CONTRACT IN-9): each costs about 20 KiB; publishers keep theirs open.
const CONNECTIONS_MAX: usize = 4096;

/// Read buffer of a connection, and with it the size of all headers of a request; the next read of a body waits in the kernel.
const BUFFER_MAX_BYTES: u32 = 64 * 1024;

/// Headers of a request at most; hyper answers 431 beyond.
const HEADERS_MAX: usize = 128;

/// A request's head must be whole this long after its first byte (CONTRACT IN-9).
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection without a request is closed after this: longer than the idle times of common clients (Go 90 s), so that the
/// client closes first and no request is written into a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a connection is looked at. Timeouts are late by this at most; per connection, a wake-up every 2 s.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// When `accept` fails (no file descriptors left), the next try waits.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves CloudEvents and hooks until `stop`, then lets requests that have begun finish for at most `grace`. Whatever
/// listener a connection came by, its bounds and its end are the same.
pub async fn serve(
    listener: TcpListener,
    mut further: Further,
    plane: Plane,
    stop: CancellationToken,
    grace: Duration,
) -> std::io::Result<()> {
    let server = Server {
        ingress: plane.ingress(),
        connections: TaskTracker::new(),
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        stop,
    };
    let mut accepting = FuturesUnordered::new();
    accepting.push(server.accept(listener, Scope::Everything));
    loop {
        tokio::select! {
            Some(listener) = further.next() => accepting.push(server.accept(listener, Scope::Sources)),
            // Each ends when the server is to stop, and not before.
            ended = accepting.next() => if ended.is_none() { break },
        }
    }
    drop(accepting);
    server.connections.close();
    let _ = tokio::time::timeout(grace, server.connections.wait()).await;
    Ok(())
}

/// What all listeners share.
struct Server {
    ingress: Arc<Ingress>,
    connections: TaskTracker,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Server {
    /// Takes connections until the server is to stop.
    async fn accept(&self, listener: TcpListener, scope: Scope) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _peer)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection, trying again");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            match self.places.clone().try_acquire_owned() {
                Ok(place) => {
                    let connection = serve_connection(stream, self.ingress.clone(), scope, self.stop.clone());
                    self.connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(_full) => refuse(&stream, &self.ingress),
            }
        }
    }
}

/// No place for another connection: said in HTTP, without reading the request.
fn refuse(stream: &TcpStream, ingress: &Ingress) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
        content-type: text/plain\r\ncontent-length: 21\r\n\r\ntoo many connections\n";
    ingress.metrics.request_refused("Overloaded");
    let _ = stream.try_write(ANSWER);
}

async fn serve_connection(stream: TcpStream, ingress: Arc<Ingress>, scope: Scope, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::new());
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(BUFFER_MAX_BYTES as usize)
        .max_headers(HEADERS_MAX)
        .header_read_timeout(None)
        .half_close(true);
    builder
        .http2()
        .max_header_list_size(BUFFER_MAX_BYTES)
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT);
    let service = {
        let (ingress, activity) = (ingress.clone(), activity.clone());
        service_fn(move |request| {
            let active = activity.begin(request.version());
            let ingress = ingress.clone();
            async move {
                let answer = requests::answer(request, &ingress, scope).await;
                drop(active);
                Ok::<_, std::convert::Infallible>(answer)
            }
        })
    };
    ingress.metrics.connections().inc();
    let connection = builder.serve_connection(Watched::new(stream, activity.clone()), service);
    tokio::pin!(connection);
    let mut watch = tokio::time::interval_at(Instant::now() + WATCH_INTERVAL, WATCH_INTERVAL);
    let mut stopping = false;
    loop {
        tokio::select! {
            // A broken connection is its client's affair: what was stored is stored.
            _ended = connection.as_mut() => break,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = watch.tick() => {
                if activity.head_is_late(HEAD_TIMEOUT) {
                    ingress.metrics.request_refused("Stalled");
                    break;
                }
                if activity.is_idle_for(IDLE_TIMEOUT) {
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
    ingress.metrics.connections().dec();
}
