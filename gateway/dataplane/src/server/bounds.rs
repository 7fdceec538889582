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
        });
        peers.insert(address, Arc::downgrade(&peer));
        peer
    }
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
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const MIB: usize = 1 << 20;

    fn bounds() -> Arc<Bounds> {
        Arc::new(Bounds::new(8, MIB))
    }

    fn peer(bounds: &Arc<Bounds>, n: u8) -> Arc<Peer> {
        bounds.peer(IpAddr::from([127, 0, 0, n]))
    }

    /// Proves: IN-9
    #[test]
    fn no_peer_holds_more_than_a_quarter_of_the_connections() {
        let bounds = bounds();
        let first = peer(&bounds, 1);
        let held = [first.connect().unwrap(), first.connect().unwrap()];
        assert_eq!(first.connect().err(), Some(Full::Peer));
        let others: Vec<_> = (2..5)
            .flat_map(|n| [peer(&bounds, n).connect().unwrap(), peer(&bounds, n).connect().unwrap()])
            .collect();
        assert_eq!(peer(&bounds, 5).connect().err(), Some(Full::Everyone));
        drop(held);
        assert!(first.connect().is_ok(), "streams and connections are given back");
        assert!(peer(&bounds, 5).connect().is_ok());
        drop((others, first));
        assert!(
            bounds.peers.lock().is_empty(),
            "a peer without connections is not remembered"
        );
    }

    /// Proves: IN-9
    #[test]
    fn streams_of_one_connection_are_counted_alike() {
        let bounds = bounds();
        let peer = peer(&bounds, 1);
        let _streams = [peer.stream().unwrap(), peer.stream().unwrap()];
        assert_eq!(peer.stream().err(), Some(Full::Peer));
        assert!(peer.connect().is_ok(), "connections are counted apart from streams");
    }

    /// Proves: IN-9
    #[test]
    fn large_bodies_of_a_peer_leave_room_for_small_ones_and_for_other_peers() {
        let bounds = bounds();
        let hostile = peer(&bounds, 1);
        let mut large = hostile.memory();
        assert!(large.grow_to(LARGE_BODIES_BYTES / PEER_SHARE));
        assert!(!large.grow_to(LARGE_BODIES_BYTES / PEER_SHARE + 1));
        assert!(!hostile.memory().grow_to(SMALL_BODY_MAX_BYTES + 1));
        assert!(hostile.memory().grow_to(SMALL_BODY_MAX_BYTES));
        let hooks: Vec<_> = (2..5)
            .map(|n| {
                let mut memory = peer(&bounds, n).memory();
                assert!(memory.grow_to(25 * MIB));
                memory
            })
            .collect();
        drop((large, hooks));
        for pool in [&bounds.small, &bounds.large] {
            assert_eq!(pool.held.load(Ordering::Relaxed), 0, "everything is given back");
        }
    }

    /// Proves: IN-9
    #[test]
    fn a_body_that_grows_moves_to_the_pool_of_large_ones() {
        let bounds = bounds();
        let peer = peer(&bounds, 1);
        let mut memory = peer.memory();
        assert!(memory.grow_to(1000) && memory.grow_to(500));
        assert_eq!(peer.small.load(Ordering::Relaxed), 1000);
        assert!(memory.grow_to(SMALL_BODY_MAX_BYTES + 1));
        assert_eq!(peer.small.load(Ordering::Relaxed), 0);
        assert_eq!(peer.large.load(Ordering::Relaxed), SMALL_BODY_MAX_BYTES + 1);
    }

    #[test]
    fn a_larger_limit_of_bodies_makes_the_pool_larger() {
        let bounds = Arc::new(Bounds::new(8, 64 * MIB));
        assert!(peer(&bounds, 1).memory().grow_to(64 * MIB));
    }

    #[test]
    fn one_machine_is_one_peer_by_whichever_of_its_addresses() {
        for (one, other) in [("::ffff:10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::ffff:2")] {
            assert_eq!(network(one.parse().unwrap()), network(other.parse().unwrap()));
        }
        for (one, other) in [
            ("10.0.0.2", "10.0.0.1"),
            ("2001:db8:0:1::1", "2001:db8::1"),
            ("::1", "::2"),
        ] {
            assert_ne!(network(one.parse().unwrap()), network(other.parse().unwrap()));
        }
    }
}
