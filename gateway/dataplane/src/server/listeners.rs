//! Further places where the ingress takes connections, on request: containers cannot reach the loopback address it listens at.
//!
//! A further listener serves sources' own addresses and nothing else: who may reach it was not asked whether channels should
//! be open there. It stays until the gateway ends, because a container may post while its source is being edited.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::mpsc};

/// A machine has few networks that containers are put into; who asks for one waits for none of the others.
const LISTENERS_MAX: usize = 16;

/// Where the server is asked for more. A handle: clones are the same.
#[derive(Clone, Debug)]
pub struct Listeners {
    main: SocketAddr,
    /// The main listener speaks TLS, which containers have no reason to trust.
    main_has_tls: bool,
    open: Arc<Mutex<HashSet<IpAddr>>>,
    sender: mpsc::Sender<TcpListener>,
}

/// The listeners that the server was asked for.
#[derive(Debug)]
pub struct Further(mpsc::Receiver<TcpListener>);

impl Listeners {
    /// Beside the main listener, at that one's port, and without TLS whether or not the main one has it.
    pub fn beside(main: SocketAddr, main_has_tls: bool) -> (Self, Further) {
        let (sender, receiver) = mpsc::channel(LISTENERS_MAX);
        let listeners = Self {
            main,
            main_has_tls,
            open: Arc::default(),
            sender,
        };
        (listeners, Further(receiver))
    }

    /// Returns the port of the main listener.
    pub fn port(&self) -> u16 {
        self.main.port()
    }

    /// Listens at another address of this machine, too, if it does not yet.
    pub fn listen_at(&self, address: IpAddr) -> io::Result<()> {
        // An unspecified address is all of them.
        if self.main.ip().is_unspecified() || self.main.ip() == address {
            return if self.main_has_tls {
                Err(io::Error::other(format!(
                    "the ingress speaks TLS at {}, where containers reach it without: give --listen one other address of this machine",
                    self.main.ip()
                )))
            } else {
                Ok(())
            };
        }
        let mut open = self.open.lock();
        if open.contains(&address) {
            return Ok(());
        }
        let at = SocketAddr::new(address, self.main.port());
        let listener = std::net::TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        self.sender
            .try_send(listener)
            .map_err(|_| io::Error::other("the ingress takes no further listener"))?;
        open.insert(address);
        tracing::info!(address = %at, "ingress listens there, too, for sources alone");
        Ok(())
    }
}

impl Further {
    pub(super) async fn next(&mut self) -> Option<TcpListener> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::Ipv4Addr;

    use super::*;

    /// The second address of the loopback network: there without any set-up on Linux.
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    #[tokio::test]
    async fn an_address_is_listened_at_once_and_not_where_the_main_listener_is() {
        let main = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (listeners, mut further) = Listeners::beside(main.local_addr().unwrap(), false);
        listeners.listen_at(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        listeners.listen_at(OTHER).unwrap();
        listeners.clone().listen_at(OTHER).unwrap();
        let opened = further.next().await.unwrap().local_addr().unwrap();
        assert_eq!(opened, SocketAddr::new(OTHER, listeners.port()));
        assert!(further.0.try_recv().is_err());
        let (everywhere, mut further) = Listeners::beside((Ipv4Addr::UNSPECIFIED, listeners.port()).into(), false);
        everywhere.listen_at(OTHER).unwrap();
        assert!(further.0.try_recv().is_err());
        let (encrypted, _further) = Listeners::beside((Ipv4Addr::UNSPECIFIED, listeners.port()).into(), true);
        let refused = encrypted.listen_at(OTHER).unwrap_err().to_string();
        assert!(refused.contains("--listen"), "{refused}");
    }

    #[tokio::test]
    async fn an_address_that_is_taken_or_of_another_machine_is_an_error() {
        let taken = TcpListener::bind((OTHER, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let (listeners, _further) = Listeners::beside((Ipv4Addr::LOCALHOST, port).into(), true);
        let error = |address| listeners.listen_at(address).unwrap_err().kind();
        assert_eq!(error(OTHER), io::ErrorKind::AddrInUse);
        // Reserved for documentation (RFC 5737): no machine has it.
        assert_eq!(
            error(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
            io::ErrorKind::AddrNotAvailable
        );
    }
}
