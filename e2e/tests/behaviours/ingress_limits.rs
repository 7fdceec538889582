//! What bounds a sender: size, time, headers.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use e2e::{
    Gateway, Request, Sink,
    client::Connection,
    documents::{channel, channel_reference, channel_with, github_source, secret, subscription},
    eventually,
    github::unsigned,
};
use rstest::rstest;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const MIB: usize = 1 << 20;

/// Proves: IN-3
#[rstest]
#[tokio::test]
async fn an_event_of_the_default_limit_passes_and_a_larger_one_is_413(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway
        .send(&Request::event("orders", "fits").body(vec![b'1'; MIB]))
        .await
        .is(202);
    gateway
        .send(&Request::event("orders", "too-large").body(vec![b'1'; MIB + 1]))
        .await
        .is(413);
    let received = sink.wait_for_one().await;
    assert_eq!((received.id(), received.body.len()), ("fits".to_owned(), MIB));
}

/// Proves: IN-3
#[tokio::test]
async fn a_declared_length_over_the_limit_is_413_before_any_body_is_sent() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let request = Request::event("orders", "1").header("content-length", "1073741824");
    let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
    connection.write(&request.head()).await.expect("a head is written");
    let start = Instant::now();
    assert_eq!(connection.read().await.expect("an answer").status, 413);
    // The time-out of a body is 30 s.
    assert!(start.elapsed() < Duration::from_secs(20), "it waited for the body");
}

/// Proves: IN-3
#[tokio::test]
async fn a_body_without_a_length_is_413_as_soon_as_it_passes_the_limit() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let request = Request::event("orders", "1").header("transfer-encoding", "chunked");
    let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
    connection.write(&request.head()).await.expect("a head is written");
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
    for _ in 0..20 {
        // The gateway may answer and close before all of it is written.
        if connection.write(&chunk).await.is_err() {
            break;
        }
    }
    assert_eq!(
        connection
            .read()
            .await
            .expect("an answer, though the body never ended")
            .status,
        413
    );
}

/// Proves: IN-3
#[tokio::test]
async fn the_flag_and_the_channel_each_set_a_lower_limit() {
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            channel_with("small", "embedded", json!({ "arguments": { "maxEventBytes": 2000 } })),
        ])
        .arguments(&["--max-body-bytes", "5000"])
        .start()
        .await;
    gateway
        .send(&Request::event("orders", "1").body(vec![b'1'; 4000]))
        .await
        .is(202);
    gateway
        .send(&Request::event("orders", "2").body(vec![b'1'; 5001]))
        .await
        .is(413);
    gateway
        .send(&Request::event("small", "3").body(vec![b'1'; 1000]))
        .await
        .is(202);
    gateway
        .send(&Request::event("small", "4").body(vec![b'1'; 3000]))
        .await
        .is(413);
}

/// Proves: IN-9
#[tokio::test]
async fn a_sender_that_stalls_in_its_headers_is_cut_off() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
    connection
        .write(b"POST /default/orders HTTP/1.1\r\nhost: x\r\nce-id: 1\r\n")
        .await
        .expect("written");
    let start = Instant::now();
    let end = connection.read().await;
    assert!(
        end.is_err() || end.is_ok_and(|answer| answer.status == 408),
        "it was answered"
    );
    let seconds = start.elapsed().as_secs();
    assert!(
        (8..=16).contains(&seconds),
        "cut off after {seconds} s; 10 s are promised"
    );
}

/// Proves: IN-9
#[tokio::test]
async fn a_sender_that_stalls_in_its_body_is_cut_off_and_a_slow_one_is_not() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let stalled = async {
        let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
        let head = Request::event("orders", "stalled")
            .header("content-length", "100")
            .head();
        connection.write(&head).await.expect("written");
        connection.write(b"x").await.expect("written");
        let start = Instant::now();
        let end = connection.read().await;
        assert!(
            end.is_err() || end.is_ok_and(|answer| answer.status == 408),
            "it was answered"
        );
        let seconds = start.elapsed().as_secs();
        assert!(
            (27..=38).contains(&seconds),
            "cut off after {seconds} s; 30 s without progress are promised"
        );
    };
    let slow = async {
        let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
        let head = Request::event("orders", "slow").header("content-length", "8400").head();
        connection.write(&head).await.expect("written");
        for _ in 0..42 {
            sleep(Duration::from_secs(1)).await;
            connection
                .write(&[b'1'; 200])
                .await
                .expect("a sender of 200 bytes a second is not cut off");
        }
        assert_eq!(connection.read().await.expect("an answer").status, 202);
    };
    let trickling = async {
        let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
        let head = Request::event("orders", "trickling")
            .header("content-length", "100")
            .head();
        connection.write(&head).await.expect("written");
        let start = Instant::now();
        // The gateway may answer and close between two bytes.
        while start.elapsed() < Duration::from_secs(60) && connection.write(b"1").await.is_ok() {
            if let Ok(answer) = timeout(Duration::from_secs(1), connection.read()).await {
                assert!(
                    answer.is_err() || answer.is_ok_and(|answer| answer.status == 408),
                    "it was answered"
                );
                break;
            }
        }
        let seconds = start.elapsed().as_secs();
        assert!(
            (8..=25).contains(&seconds),
            "cut off after {seconds} s; 1 KiB in every 10 s is asked for"
        );
    };
    tokio::join!(stalled, slow, trickling);
}

/// Proves: IN-9
#[tokio::test]
async fn too_many_or_too_large_headers_are_refused() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let mut many = Request::event("orders", "many");
    for n in 0..2000 {
        many = many.also(&format!("x-{n}"), "v");
    }
    let large = Request::event("orders", "large").header("x-large", vec![b'v'; 2 * MIB]);
    for request in [many, large] {
        // Or it is closed while the headers are still being written.
        if let Ok(answer) = request.try_send(gateway.listen()).await {
            assert!((400..500).contains(&answer.status), "{answer}");
        }
    }
    gateway.accept("orders", ["fine"]).await;
}

/// Another address of this machine: another peer.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

async fn send_from(from: IpAddr, gateway: &Gateway, request: &Request) -> u16 {
    let mut connection = Connection::open_from(from, gateway.listen())
        .await
        .expect("the gateway listens");
    connection.exchange(request).await.expect("an answer").status
}

/// Begins a request whose body of `announced` bytes brings `now` of them and then waits.
async fn begun(gateway: &Gateway, request: &Request, announced: usize, now: usize) -> Connection {
    let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
    let head = request.clone().header("content-length", announced.to_string()).head();
    connection.write(&head).await.expect("a head is written");
    // It may be refused meanwhile.
    let _ = connection.write(&vec![b'1'; now]).await;
    connection
}

/// Two hooks announce 25 MiB and six events 1 MiB: what is announced takes no room.
///
/// Proves: IN-9
#[tokio::test]
async fn announced_bodies_that_do_not_come_refuse_nobody() {
    let gateway = Gateway::with([
        channel("orders", "memory"),
        secret("github", json!({ "secretToken": "s" })),
        github_source("hello", &["push"], &channel_reference("orders")),
    ])
    .await;
    let mut slow = vec![];
    for n in 0..8 {
        let (request, announced) = match n {
            0 | 1 => (unsigned("hello", "push", "1", b""), 25 * MIB),
            _ => (Request::event("orders", "slow"), MIB),
        };
        slow.push(begun(&gateway, &request, announced, 1).await);
    }
    let large = |id: &str| Request::event("orders", id).body(vec![b'1'; MIB]);
    for n in 0..20 {
        let id = format!("{n}");
        gateway.send(&Request::event("orders", &id)).await.is(202);
        gateway.send(&large(&format!("{n}-large"))).await.is(202);
        assert_eq!(send_from(OTHER, &gateway, &large(&format!("{n}-other"))).await, 202);
    }
    drop(slow);
}

/// A peer holds a quarter of the memory for large bodies at most, and that leaves room for small ones.
///
/// Proves: IN-9
#[tokio::test]
async fn a_peer_that_fills_its_share_refuses_neither_small_events_nor_others() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    // A few more than fit, without delay: a body that does not go on is cut off after half a minute.
    let mut held = vec![];
    for n in 0..36 {
        let request = Request::event("orders", &format!("held-{n}"));
        held.push(begun(&gateway, &request, MIB, MIB - 1).await);
    }
    let large = Request::event("orders", "large").body(vec![b'1'; MIB]);
    // Bodies that come at the same time may refuse each other and leave room for one: it is filled as well.
    let refused = loop {
        let answer = gateway.send(&large).await;
        if answer.status == 503 {
            break answer;
        }
        assert!(held.len() < 80, "a peer holds more than its share");
        let request = Request::event("orders", &format!("more-{}", held.len()));
        held.push(begun(&gateway, &request, MIB, MIB - 1).await);
    };
    assert!(refused.header("retry-after").is_some(), "{refused}");
    gateway.accept("orders", (0..20).map(|n| format!("small-{n}"))).await;
    assert_eq!(send_from(OTHER, &gateway, &large).await, 202);
    drop(held);
    eventually("its share is given back", || async {
        (gateway.send(&large).await.status == 202).then_some(())
    })
    .await;
}

/// Proves: IN-9
#[tokio::test]
async fn connections_stay_below_the_file_limit_and_a_peer_below_a_quarter() {
    let sink = Sink::start().await;
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "embedded"),
            subscription("audit", "orders", &sink.url(), json!({})),
        ])
        .wrapped_by(&["sh", "-c", r#"ulimit -n 512; exec "$@""#, "sh"])
        .start()
        .await;
    let mut idle = vec![];
    for _ in 0..600 {
        idle.push(Connection::open(gateway.listen()).await.expect("the gateway listens"));
    }
    gateway.admin_get("/healthz").await.is(200);
    assert_eq!(
        send_from(OTHER, &gateway, &Request::event("orders", "other")).await,
        202
    );
    assert_eq!(sink.wait_for_one().await.id(), "other");
    // A connection that was taken ends without an answer, because its head never comes.
    let mut reading = JoinSet::new();
    for mut connection in idle {
        reading.spawn(async move { connection.read().await });
    }
    let answers = reading.join_all().await;
    let refused = answers.into_iter().flatten().map(|answer| answer.is(503));
    let refused: Vec<_> = refused
        .filter(|answer| answer.header("retry-after").is_some())
        .collect();
    assert!(refused.len() > 400, "only {} of 600 were refused", refused.len());
}

/// Proves: IN-9
#[tokio::test]
async fn half_requests_to_the_admin_listener_hurt_neither_it_nor_the_ingress() {
    let gateway = Gateway::set_up()
        .documents([channel("orders", "memory")])
        .wrapped_by(&["sh", "-c", r#"ulimit -n 256; exec "$@""#, "sh"])
        .start()
        .await;
    let mut half = vec![];
    for _ in 0..300 {
        let mut connection = Connection::open(gateway.admin()).await.expect("the gateway listens");
        connection
            .write(b"GET /api/v1/info HTTP/1.1\r\nhost: ")
            .await
            .expect("written");
        half.push(connection);
    }
    gateway.admin_get("/healthz").await.is(200);
    gateway.admin_get("/readyz").await.is(200);
    gateway.accept("orders", ["1", "2", "3"]).await;
    let mut last = half.pop().expect("300 of them");
    let start = Instant::now();
    assert!(last.read().await.is_err(), "half a request was answered");
    assert!(start.elapsed() < Duration::from_secs(20), "half a request is kept");
}

/// Proves: IN-9
#[rstest]
#[case::no_host("POST /default/orders HTTP/1.1\r\ncontent-length: 0\r\n\r\n")]
#[case::two_hosts("POST /default/orders HTTP/1.1\r\nhost: a\r\nhost: a\r\ncontent-length: 0\r\n\r\n")]
#[case::a_host_with_a_user("POST /default/orders HTTP/1.1\r\nhost: a@b\r\ncontent-length: 0\r\n\r\n")]
#[case::a_coding_before_chunked(
    "POST /default/orders HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
)]
#[case::chunked_twice(
    "POST /default/orders HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"
)]
#[case::two_codings(
    "POST /default/orders HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
)]
#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_400(#[case] request: &str) {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
    let event = "ce-id: 1\r\nce-source: /e2e\r\nce-type: t\r\nce-specversion: 1.0\r\n";
    let (line, rest) = request.split_once("\r\n").expect("a request line");
    let bytes = format!("{line}\r\n{event}{rest}");
    connection.write(bytes.as_bytes()).await.expect("written");
    connection.read().await.expect("an answer").is(400);
    gateway.accept("orders", ["fine"]).await;
}
