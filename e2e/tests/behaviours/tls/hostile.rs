//! Peers that never finish a handshake, or begin too many.

use std::{net::SocketAddr, time::Duration};

use e2e::Gateway;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::House;

/// The beginning of a ClientHello that announces more than comes.
const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

async fn half_a_handshake(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("the gateway listens");
    // One that is refused is closed at once.
    let _ = stream.write_all(HALF_A_HELLO).await;
    stream
}

/// Proves: IN-9, TL-1
#[tokio::test]
async fn handshakes_that_stall_are_cut_off_and_hurt_no_other_peer() {
    let house = House::new();
    let gateway = house
        .gateway()
        .wrapped_by(&["sh", "-c", r#"ulimit -n 512; exec "$@""#, "sh"])
        .start()
        .await;
    let mut half = vec![];
    for _ in 0..600 {
        half.push(half_a_handshake(gateway.listen()).await);
    }
    let start = Instant::now();
    let (code, answer) = house.curl(&gateway, "1", &["--interface", "127.0.0.2"]).await;
    assert_eq!((code, &*answer), (Some(0), "202 2"), "another peer is served");
    gateway.admin_get("/healthz").await.is(200);
    let mut reading = JoinSet::new();
    for mut stream in half {
        reading.spawn(async move {
            let mut rest = vec![];
            let ended = timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "a handshake that stalls is kept");
            rest
        });
    }
    for rest in reading.join_all().await {
        assert!(
            rest.is_empty() || rest[0] == 0x15,
            "plain text in the place of TLS: {rest:?}"
        );
    }
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "cut off late: {:?}",
        start.elapsed()
    );
    let (code, answer) = house.curl(&gateway, "2", &[]).await;
    assert_eq!((code, &*answer), (Some(0), "202 2"), "the peer's places are free again");
}

/// Proves: TL-1
#[tokio::test]
async fn rubbish_in_the_place_of_a_handshake_ends_the_connection_alone() {
    let house = House::new();
    let gateway: Gateway = house.gateway().start().await;
    for bytes in [
        &[0x16; 64][..],
        &[0x16, 3, 1, 0xff, 0xff, 1],
        &[0x16, 3, 3, 0, 4, 1, 0, 0, 0],
        &[0; 64],
        b"\n",
    ] {
        let mut stream = TcpStream::connect(gateway.listen()).await.expect("the gateway listens");
        stream.write_all(bytes).await.expect("written");
        stream.shutdown().await.expect("the end is sent");
        let mut answer = vec![];
        let ended = timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{bytes:?} keeps a connection open");
        assert!(
            answer.is_empty() || answer[0] == 0x15 || answer.starts_with(b"HTTP/1.1 400 "),
            "{bytes:?}: {answer:?}"
        );
    }
    let (code, answer) = house.curl(&gateway, "1", &[]).await;
    assert_eq!((code, &*answer), (Some(0), "202 2"));
}
