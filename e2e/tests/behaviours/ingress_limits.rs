//! What bounds a sender: size, time, headers.

use std::time::Duration;

use e2e::{
    Gateway, Request, Sink,
    client::Connection,
    documents::{channel, channel_with, subscription},
};
use rstest::rstest;
use serde_json::json;
use tokio::time::{Instant, sleep};

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
    assert!(start.elapsed() < Duration::from_secs(5), "it waited for the body");
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
        let head = Request::event("orders", "slow").header("content-length", "36").head();
        connection.write(&head).await.expect("written");
        for _ in 0..36 {
            sleep(Duration::from_secs(1)).await;
            connection
                .write(b"1")
                .await
                .expect("a sender with progress is not cut off");
        }
        assert_eq!(connection.read().await.expect("an answer").status, 202);
    };
    tokio::join!(stalled, slow);
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
