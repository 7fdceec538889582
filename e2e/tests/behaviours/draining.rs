//! SIGTERM: an orderly end under load.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    Gateway, Response, Sink,
    documents::{channel, subscription},
    eventually,
};
use rstest::rstest;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::crash::send_until;

/// Proves: OP-1, CH-5
#[tokio::test]
async fn a_stop_under_load_exits_0_and_nothing_is_lost_or_repeated() {
    let (first, second) = (Sink::start().await, Sink::start().await);
    second.always(Response::status(204).after(Duration::from_millis(3)));
    let mut gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("first", "orders", &first.url(), json!({})),
        subscription("second", "orders", &second.url(), json!({})),
    ])
    .await;
    let stop = CancellationToken::new();
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        senders.spawn(send_until(stop.clone(), gateway.listen(), format!("s{sender}")));
    }
    for _ in 0..3 {
        sleep(Duration::from_millis(400)).await;
        let status = gateway.terminate().await;
        assert_eq!(status.code(), Some(0), "{status}");
        gateway.start_again().await;
    }
    stop.cancel();
    let accepted: BTreeSet<String> = senders.join_all().await.into_iter().flatten().collect();
    assert!(accepted.len() > 100, "only {} events were accepted", accepted.len());
    for (name, sink) in [("first", &first), ("second", &second)] {
        eventually(&format!("all accepted events at {name}"), || async {
            let seen: BTreeSet<String> = sink.ids().into_iter().collect();
            accepted.is_subset(&seen).then_some(())
        })
        .await;
        let all = sink.ids();
        let unique: BTreeSet<&String> = all.iter().collect();
        assert_eq!(
            all.len(),
            unique.len(),
            "{name} saw {} repeats",
            all.len() - unique.len()
        );
    }
}

/// Proves: OP-1
#[rstest]
#[tokio::test]
async fn what_is_in_flight_is_finished_within_the_grace_period(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.always(Response::status(204).after(Duration::from_secs(1)));
    let mut gateway = Gateway::with([
        channel("orders", kind),
        subscription("slow", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    let start = Instant::now();
    assert!(gateway.terminate().await.success());
    assert!(
        start.elapsed() > Duration::from_millis(500),
        "it did not wait for the answer"
    );
    if kind == "embedded" {
        gateway.start_again().await;
        sink.listens_at(1, Duration::from_millis(500)).await;
    }
}

/// Proves: OP-1, CH-3
#[tokio::test]
async fn the_grace_period_bounds_the_end_and_what_did_not_finish_comes_back() {
    let sink = Sink::start().await;
    sink.always(Response::never());
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "embedded"),
            subscription("stuck", "orders", &sink.url(), json!({})),
        ])
        .arguments(&["--grace", "1s"])
        .start()
        .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    let start = Instant::now();
    assert!(gateway.terminate().await.success());
    // Without the flag it would be 30 s.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    sink.always(Response::status(204));
    gateway.start_again().await;
    sink.wait_for(2).await;
    assert_eq!(sink.ids(), ["1", "1"]);
}

/// Proves: OP-1, IN-3
#[tokio::test]
async fn a_draining_gateway_refuses_new_events_with_503_and_is_not_ready() {
    let sink = Sink::start().await;
    sink.always(Response::status(204).after(Duration::from_secs(2)));
    let mut gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("slow", "orders", &sink.url(), json!({})),
    ])
    .await;
    let mut connection = e2e::client::Connection::open(gateway.listen())
        .await
        .expect("the gateway listens");
    let first = connection
        .exchange(&e2e::Request::event("orders", "1"))
        .await
        .expect("an answer");
    assert_eq!(first.status, 202);
    sink.wait_for(1).await;
    gateway.signal(rustix::process::Signal::TERM);
    eventually("/readyz is 503", || async {
        let answer = e2e::Request::new("GET", "/readyz").try_send(gateway.admin()).await;
        answer.is_ok_and(|answer| answer.status == 503).then_some(())
    })
    .await;
    // On a connection that stood open, or on a new one, there is either no answer or a 503 that says when.
    let on_old = connection.exchange(&e2e::Request::event("orders", "2")).await;
    let on_new = e2e::Request::event("orders", "3").try_send(gateway.listen()).await;
    for answer in [on_old, on_new].into_iter().flatten() {
        assert_eq!(answer.status, 503, "{answer}");
        assert!(answer.header("retry-after").is_some(), "{answer}");
    }
    assert!(gateway.ended().await.success());
}
