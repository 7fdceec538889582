//! The bounds that a listener's clients share, and the part of them that one client may hold (CONTRACT IN-9).
//!
//! A peer is an IP address, or a /64 network of IPv6 addresses, because one machine has a whole one. No peer holds more than a
//! quarter of any bound: connections, HTTP/2 streams, bytes in memory. A proxy in front of the gateway is one peer, and so are all
//! programs of this machine that use the loopback address.
//!
//! Bytes have two pools. Bodies of at most [`SMALL_BODY_MAX_BYTES`] use the small one first, which larger bodies never touch. So a
//! peer that fills its quarter with large bodies stops neither other peers nor small events of its own.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// No peer holds more than one part in so many of any bound.
const PEER_SHARE: usize = 4;

/// Larger than nearly all events, and a bound of the memory that one of thousands of connections may need.
pub(super) const SMALL_BODY_MAX_BYTES: usize = 64 * 1024;

/// Small bodies in memory at once. A peer's quarter holds 64 bodies of the largest size, or its 1024 connections with 4 KiB each.
const SMALL_BODIES_BYTES: usize = 16 * 1024 * 1024;

/// Large bodies in memory at once. A peer's quarter, 32 MiB, holds the largest body that any source takes (25 MiB).
const LARGE_BODIES_BYTES: usize = 128 * 1024 * 1024;

/// An amount that all peers share.
struct Bound {
    total: AtomicUsize,
    held: AtomicUsize,
}

impl Bound {
    const fn new(total: usize) -> Self {
        Self {
            total: AtomicUsize::new(total),
            held: AtomicUsize::new(0),
        }
    }

    fn take(&self, by_peer: &AtomicUsize, amount: usize) -> Result<(), Full> {
        let total = self.total.load(Ordering::Relaxed);
        add(by_peer, amount, (total / PEER_SHARE).max(1)).map_err(|()| Full::Peer)?;
        add(&self.held, amount, total).map_err(|()| {
            by_peer.fetch_sub(amount, Ordering::Relaxed);
            Full::Everyone
        })
    }

    fn release(&self, by_peer: &AtomicUsize, amount: usize) {
        by_peer.fetch_sub(amount, Ordering::Relaxed);
        self.held.fetch_sub(amount, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicUsize, amount: usize, max: usize) -> Result<(), ()> {
    let add = |held: usize| held.checked_add(amount).filter(|sum| *sum <= max);
    let added = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    added.map(|_before| ()).map_err(|_held| ())
}

/// The share that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The peer holds its quarter.
    Peer,
    /// All peers together hold everything.
    Everyone,
}

/// The bounds of a listener.
pub(crate) struct Bounds {
    connections: Bound,
    streams: Bound,
    small: Bound,
    large: Bound,
    /// Signatures of TLS handshakes at once, of all peers.
    handshakes: Semaphore,
    /// Peers that have a connection.
    peers: Mutex<HashMap<IpAddr, Weak<Peer>, foldhash::fast::RandomState>>,
}

impl Bounds {
    /// `body_max_bytes` is the largest body that a request may have: it fits into a peer's quarter.
    pub(crate) fn new(connections: usize, body_max_bytes: usize) -> Self {
        Self {
            connections: Bound::new(connections),
            streams: Bound::new(connections),
            small: Bound::new(SMALL_BODIES_BYTES),
            large: Bound::new(LARGE_BODIES_BYTES.max(body_max_bytes.saturating_mul(PEER_SHARE))),
            handshakes: Semaphore::new(handshakes_max()),
            peers: Mutex::default(),
        }
    }

    /// Sets how many connections, and how many HTTP/2 streams, may be open at once.
    pub(crate) fn bound_connections(&self, connections: usize) {
        self.connections.total.store(connections, Ordering::Relaxed);
        self.streams.total.store(connections, Ordering::Relaxed);
    }

    /// The peer of that address.
    pub(crate) fn peer(self: &Arc<Self>, address: IpAddr) -> Arc<Peer> {
        let address = network(address);
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(&address).and_then(Weak::upgrade) {
            return peer;
        }
        let peer = Arc::new(Peer {
            bounds: self.clone(),
            address,
            connections: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            small: AtomicUsize::new(0),
            large: AtomicUsize::new(0),
            handshakes: Semaphore::new(1),
        });
        peers.insert(address, Arc::downgrade(&peer));
        peer
    }
}

/// Half of the threads that the runtime has by default, so that signatures leave the other half to events.
fn handshakes_max() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| (threads.get() / 2).max(1))
}

/// Returns the address or network that counts as one peer: machines are given IPv6 networks as /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// One peer, with its shares of the bounds.
pub(crate) struct Peer {
    bounds: Arc<Bounds>,
    address: IpAddr,
    connections: AtomicUsize,
    streams: AtomicUsize,
    small: AtomicUsize,
    large: AtomicUsize,
    handshakes: Semaphore,
}

/// The right to sign for one handshake.
pub(super) struct HandshakeTurn<'a> {
    _of_all: Option<SemaphorePermit<'a>>,
    _of_peer: Option<SemaphorePermit<'a>>,
}

impl Peer {
    pub(crate) fn is_loopback(&self) -> bool {
        self.address.is_loopback()
    }

    pub(super) fn connect(self: &Arc<Self>) -> Result<ConnectionPermit, Full> {
        self.permit(|bounds| &bounds.connections, |peer| &peer.connections)
    }

    /// A request beside others on its connection.
    pub(super) fn stream(self: &Arc<Self>) -> Result<ConnectionPermit, Full> {
        self.permit(|bounds| &bounds.streams, |peer| &peer.streams)
    }

    fn permit(
        self: &Arc<Self>,
        bound: fn(&Bounds) -> &Bound,
        by_peer: fn(&Self) -> &AtomicUsize,
    ) -> Result<ConnectionPermit, Full> {
        bound(&self.bounds).take(by_peer(self), 1)?;
        Ok(ConnectionPermit {
            peer: self.clone(),
            bound,
            by_peer,
        })
    }

    /// Waits for the peer's turn to sign for a handshake, first among the peer's own connections, then among peers. So a peer with
    /// many connections holds one place in the common line. Cancel safe: it loses its place.
    pub(super) async fn handshake_turn(&self) -> HandshakeTurn<'_> {
        // They are never closed.
        let of_peer = self.handshakes.acquire().await.ok();
        let of_all = self.bounds.handshakes.acquire().await.ok();
        HandshakeTurn {
            _of_all: of_all,
            _of_peer: of_peer,
        }
    }

    /// Memory for bytes that come; none yet.
    pub(crate) fn memory(self: &Arc<Self>) -> Memory {
        Memory {
            peer: self.clone(),
            held: Held::Nothing,
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut peers = self.bounds.peers.lock();
        // A new connection may have put another one into its place.
        if peers.get(&self.address).is_some_and(|peer| peer.strong_count() == 0) {
            peers.remove(&self.address);
        }
    }
}

/// One of the bounded connections or streams, given back when dropped.
pub(super) struct ConnectionPermit {
    peer: Arc<Peer>,
    bound: fn(&Bounds) -> &Bound,
    by_peer: fn(&Peer) -> &AtomicUsize,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        (self.bound)(&self.peer.bounds).release((self.by_peer)(&self.peer), 1);
    }
}

/// Bytes in memory, given back when dropped.
pub(crate) struct Memory {
    peer: Arc<Peer>,
    held: Held,
}

#[derive(Clone, Copy)]
enum Held {
    Nothing,
    Small(usize),
    Large(usize),
}

impl Memory {
    /// Makes room for so many bytes in all; false when there is none.
    #[must_use = "without room the bytes must not be kept"]
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let (bounds, peer) = (&self.peer.bounds, &self.peer);
        let grown = match self.held {
            Held::Small(held) | Held::Large(held) if held >= bytes => return true,
            Held::Large(held) => {
                let more = bounds.large.take(&peer.large, bytes - held);
                more.map(|()| Held::Large(bytes))
            }
            Held::Small(held)
                if bytes <= SMALL_BODY_MAX_BYTES && bounds.small.take(&peer.small, bytes - held).is_ok() =>
            {
                Ok(Held::Small(bytes))
            }
            Held::Nothing if bytes <= SMALL_BODY_MAX_BYTES && bounds.small.take(&peer.small, bytes).is_ok() => {
                Ok(Held::Small(bytes))
            }
            Held::Small(_) | Held::Nothing => bounds.large.take(&peer.large, bytes).map(|()| {
                if let Held::Small(held) = self.held {
                    bounds.small.release(&peer.small, held);
                }
                Held::Large(bytes)
            }),
        };
        match grown {
            Ok(held) => self.held = held,
            Err(_full) => return false,
        }
        true
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (bounds, peer) = (&self.peer.bounds, &self.peer);
        match self.held {
            Held::Nothing => {}
            Held::Small(held) => bounds.small.release(&peer.small, held),
            Held::Large(held) => bounds.large.release(&peer.large, held),
        }
    }
}

#[cfg(test)]
mod tests;
