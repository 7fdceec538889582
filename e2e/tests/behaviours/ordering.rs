//! In which order a subscriber sees events.

use std::{collections::BTreeMap, time::Duration};

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, subscription},
};
use rstest::rstest;
use serde_json::json;

async fn send(gateway: &Gateway, id: &str, key: Option<&str>) {
    let mut request = Request::event("orders", id);
    if let Some(key) = key {
        request = request.header("ce-partitionkey", key);
    }
    gateway.send(&request).await.is(202);
}

/// Proves: CH-6
#[rstest]
#[tokio::test]
async fn total_order_is_one_at_a_time_in_stored_order_through_retries(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.next([Response::status(204), Response::status(503), Response::status(503)]);
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), json!({ "ordering": "total" })),
    ])
    .await;
    for n in 0..20 {
        send(&gateway, &n.to_string(), None).await;
    }
    sink.wait_for(22).await;
    let mut expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    expected.splice(1..1, ["1".to_owned(), "1".to_owned()]);
    assert_eq!(sink.ids(), expected);
}

/// Proves: CH-6
#[rstest]
#[tokio::test]
async fn a_failing_event_holds_back_its_own_key_only(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.answer_by(|request| (request.id() == "a0").then(|| Response::status(503)));
    let more =
        json!({ "ordering": "key", "delivery": { "retry": 4, "backoffPolicy": "linear", "backoffDelay": "PT0.5S" } });
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), more),
    ])
    .await;
    for n in 0..5 {
        send(&gateway, &format!("a{n}"), Some("a")).await;
        send(&gateway, &format!("b{n}"), Some("b")).await;
        send(&gateway, &format!("free{n}"), None).await;
    }
    // 5 attempts of a0, then the rest.
    sink.wait_for(19).await;
    sink.listens_at(19, Duration::from_millis(300)).await;
    let ids = sink.ids();
    let place: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    for key in ["a", "b"] {
        for n in 0..4 {
            let (earlier, later) = (format!("{key}{n}"), format!("{key}{}", n + 1));
            assert!(
                place[earlier.as_str()] < place[later.as_str()],
                "{earlier} after {later}: {ids:?}"
            );
        }
    }
    let last_attempt = place["a0"];
    for other in ["b4", "free4"] {
        assert!(place[other] < last_attempt, "{other} waited for another key: {ids:?}");
    }
}

/// Proves: CH-6
#[rstest]
#[tokio::test]
async fn order_per_key_holds_when_answers_are_slow_and_uneven(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.answer_by(|request| {
        let n: u64 = request
            .id()
            .rsplit('-')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        Some(Response::status(204).after(Duration::from_millis(n * 7 % 20)))
    });
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), json!({ "ordering": "key" })),
    ])
    .await;
    for n in 0..120 {
        let key = format!("k{}", n % 6);
        send(&gateway, &format!("{key}-{n}"), Some(&key)).await;
    }
    sink.wait_for(120).await;
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for id in sink.ids() {
        let (key, n) = id.split_once('-').expect("KEY-N");
        let n: u64 = n.parse().expect("a number");
        let before = last.insert(key.to_owned(), n);
        assert!(before.is_none_or(|before| before < n), "{key}: {n} after {before:?}");
    }
}

/// Proves: CH-6, DL-4
#[tokio::test]
async fn an_event_in_backoff_holds_its_key_back_over_a_kill() {
    let sink = Sink::start().await;
    sink.next([Response::status(503)]);
    let more =
        json!({ "ordering": "key", "delivery": { "retry": 4, "backoffPolicy": "linear", "backoffDelay": "PT1S" } });
    let mut gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), more),
    ])
    .await;
    for id in ["first", "second"] {
        send(&gateway, id, Some("key")).await;
    }
    sink.wait_for(1).await;
    // Long enough for the failed attempt to be kept, short enough for the backoff not to end.
    sink.listens_at(1, Duration::from_millis(200)).await;
    gateway.kill().await;
    gateway.start_again().await;
    sink.wait_for(3).await;
    assert_eq!(sink.ids(), ["first", "first", "second"]);
}
