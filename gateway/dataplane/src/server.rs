//! The ingress listener. Connections are `connections`', their bounds `bounds`', what a request means is `requests`'.

mod address;
mod admission;
mod body;
pub(crate) mod bounds;
mod connections;
mod forward;
mod handshake;
mod host;
mod listeners;
mod protocol;
mod requests;
mod socket;
mod tls;
mod watched;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use spec::Reason;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Plane, ingress::Ingress};
pub use connections::{Client, Connections, REFUSALS_MAX, Service, WhenFull};
pub(crate) use forward::Forwarder;
pub use handshake::NEEDS_HTTPS;
pub use host::{HeadFault, requested as requested_host};
pub use listeners::{Further, Listeners};
use requests::Scope;
pub use tls::{ListenerName, NamedFile, PeerCertificate, Tls, TlsFileError, TlsFiles, TlsMetrics, TlsState};

/// Open connections at most (CONTRACT IN-9): each costs about 20 KiB; publishers keep theirs open.
pub const CONNECTIONS_MAX: usize = 4096;

/// Says which listener answered, where a client of the admin API asked the ingress.
pub const LISTENER_HEADER: &str = "headgate-listener";
/// The value of [`LISTENER_HEADER`] for the ingress.
pub const INGRESS_LISTENER: &str = "ingress";

/// The URL of the admin listener; told to clients on this machine alone.
pub const ADMIN_HEADER: &str = "headgate-admin";

/// Where the admin listener is.
#[derive(Clone, Copy, Debug)]
pub struct AdminAddress {
    /// The address that it listens at.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub has_tls: bool,
}

/// How the ingress is served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// At most [`CONNECTIONS_MAX`], and lower where the process may open few files.
    pub connections_max: usize,
    /// Where the admin listener is: people mistake one for the other.
    pub admin: AdminAddress,
    /// TLS of the main listener.
    pub tls: Option<Tls>,
    /// How long requests that have begun may take after `stop`.
    pub grace: Duration,
}

/// Serves CloudEvents and hooks until `stop`, then lets requests that have begun finish for a while. Whatever listener a
/// connection came by, its bounds and its end are the same.
pub async fn serve(
    listener: TcpListener,
    mut further: Further,
    plane: Plane,
    serving: Serving,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let ingress = plane.ingress();
    ingress.bounds.bound_connections(serving.connections_max);
    let service = |scope| IngressService {
        ingress: ingress.clone(),
        scope,
        admin: serving.admin,
    };
    let connections = Connections::within(
        service(Scope::Everything),
        ingress.bounds.clone(),
        WhenFull::Refuse,
        stop,
    );
    let mut accepting = FuturesUnordered::new();
    accepting.push(connections.accept(listener, service(Scope::Everything), serving.tls.clone()));
    loop {
        tokio::select! {
            // Containers of this machine reach it by a name that no certificate has, on a network of this machine.
            Some(listener) = further.next() => accepting.push(connections.accept(listener, service(Scope::Sources), None)),
            // Each ends when the server is to stop, and not before.
            ended = accepting.next() => if ended.is_none() { break },
        }
    }
    drop(accepting);
    // Connections that have not ended by then are cut off.
    let _ = tokio::time::timeout(serving.grace, connections.ended()).await;
    Ok(())
}

/// The ingress, as one of its listeners serves it.
#[derive(Clone)]
struct IngressService {
    ingress: Arc<Ingress>,
    scope: Scope,
    admin: AdminAddress,
}

impl Service for IngressService {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>, client: Client) -> Response<Full<Bytes>> {
        if let Some(answer) = requests::mistaken_for_admin(&request, &self.ingress, self.admin, &client.peer) {
            return answer;
        }
        requests::answer(request, &self.ingress, self.scope, &client.peer).await
    }

    fn refused(&self, reason: Reason) {
        self.ingress.metrics.request_refused(reason);
    }

    fn connected(&self, open: bool) {
        let connections = self.ingress.metrics.connections();
        if open {
            connections.inc();
        } else {
            connections.dec();
        }
    }
}
