//! Tests of the bounds and of the shares of peers.
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

/// Proves: IN-9
#[tokio::test]
async fn a_peer_waits_for_its_own_handshake_and_for_no_queue_of_another() {
    let bounds = bounds();
    let (flooding, other) = (peer(&bounds, 1), peer(&bounds, 2));
    let turn = flooding.handshake_turn().await;
    let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(flooding.handshake_turn())).collect();
    for waiting in &mut waiting {
        assert!(futures_util::poll!(waiting).is_pending());
    }
    let mut next = Box::pin(other.handshake_turn());
    // With one or two threads there is one turn at a time, and the other peer's is the next.
    let polled = futures_util::poll!(&mut next);
    drop(turn);
    if polled.is_pending() {
        drop(next.await);
    }
    let second = futures_util::poll!(&mut waiting[0]);
    assert!(second.is_ready() && futures_util::poll!(&mut waiting[1]).is_pending());
    drop(second);
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
