//! Ports that no other process uses, known before the process that will listen on them starts.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below Linux's ephemeral range (32768 and up), so that no outgoing connection takes one meanwhile.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback address that is free now and that no other test of this process gets, for a process that will listen there.
///
/// Callers that listen within this process take [`listener`] instead: for a moment the address may look taken, because a process
/// that another test starts just then has this one's sockets until its own program runs.
///
/// # Panics
/// When every port of the range is taken.
pub fn free() -> SocketAddr {
    listener().local_addr().expect("a bound socket has an address")
}

/// Listens on such an address.
///
/// # Panics
/// When every port of the range is taken.
pub fn listener() -> TcpListener {
    // Test binaries that run at once start at different places.
    let offset = u16::try_from(process::id().wrapping_mul(97) % u32::from(COUNT)).expect("below COUNT");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + (offset + step) % COUNT));
        if let Ok(listener) = TcpListener::bind(address) {
            return listener;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}
