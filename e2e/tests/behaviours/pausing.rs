//! Holding a subscription back without losing anything.

use std::time::Duration;

use e2e::{
    Gateway, Sink,
    documents::{channel, subscription},
};
use rstest::rstest;
use serde_json::json;

/// Proves: CH-3
#[rstest]
#[tokio::test]
async fn a_paused_subscription_keeps_its_place(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    gateway.cli(&["pause", "audit"]).await.exits(0);
    gateway.accept("orders", ["2", "3"]).await;
    sink.listens_at(1, Duration::from_millis(500)).await;
    let shown = gateway.cli(&["get", "subscriptions"]).await.stdout;
    assert!(shown.contains("True    Paused"), "{shown}");
    gateway.cli(&["resume", "audit"]).await.exits(0);
    sink.wait_for(3).await;
    let mut ids = sink.ids();
    ids.sort();
    assert_eq!(ids, ["1", "2", "3"]);
    gateway.cli(&["pause", "no-such-subscription"]).await.exits(1);
}

/// Proves: CH-3, OP-2
#[tokio::test]
async fn a_pause_outlives_the_process_and_either_switch_stops_it() {
    let sink = Sink::start().await;
    let document = |paused: bool| subscription("audit", "orders", &sink.url(), json!({ "paused": paused }));
    let mut gateway = Gateway::with([channel("orders", "embedded"), document(false)]).await;
    gateway.cli(&["pause", "audit"]).await.exits(0);
    gateway.kill().await;
    gateway.start_again().await;
    gateway.accept("orders", ["1"]).await;
    sink.listens_at(0, Duration::from_millis(500)).await;
    // The document's own switch as well: both must be off.
    gateway.apply(&document(true));
    gateway
        .wait_object("subscription", "audit", |object| object["spec"]["paused"] == true)
        .await;
    gateway.cli(&["resume", "audit"]).await.exits(0);
    sink.listens_at(0, Duration::from_millis(500)).await;
    gateway.apply(&document(false));
    sink.wait_for(1).await;
}
