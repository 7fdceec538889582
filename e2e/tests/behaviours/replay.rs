//! `headgate replay`: past events once more, to one subscription alone.

use std::time::Duration;

use e2e::{
    Gateway, Response, Sink,
    documents::{channel, subscription},
    eventually,
};
use serde_json::json;

async fn delivered(to: &Sink, other: &Sink) -> Gateway {
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &to.url(), json!({})),
        subscription("other", "orders", &other.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", (0..10).map(|n| n.to_string())).await;
    gateway.settled().await;
    gateway
}

/// Proves: CH-7
#[tokio::test]
async fn past_events_are_counted_and_delivered_again_to_that_subscription_alone() {
    let (sink, other) = (Sink::start().await, Sink::start().await);
    let gateway = delivered(&sink, &other).await;
    let dry = gateway
        .cli(&["replay", "audit", "--from", "3", "--dry-run"])
        .await
        .exits(0);
    assert_eq!(dry.stdout, "to replay     7 of 7 events\n");
    assert_eq!(sink.count(), 10);
    let done = gateway
        .cli(&["replay", "audit", "--from", "3", "--to", "6", "--filter", "id=5"])
        .await
        .exits(0);
    assert_eq!(done.stdout, "replayed      1 of 4 events\ndelivered     1\n");
    let again = sink.wait_for(11).await.remove(10);
    assert_eq!(again.id(), "5");
    assert!(again.attribute("headgatereplay").is_some());
    let all = gateway
        .cli(&["replay", "audit", "--from", "2020-01-01T00:00:00Z", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!((&all["delivered"], &all["done"]), (&json!(10), &json!(true)));
    assert_eq!((sink.count(), other.count()), (21, 10));
}

/// Proves: CH-7
#[tokio::test]
async fn what_is_replayed_after_a_restart_is_what_was_stored_before() {
    let (sink, other) = (Sink::start().await, Sink::start().await);
    let mut gateway = delivered(&sink, &other).await;
    gateway.kill().await;
    gateway.start_again().await;
    gateway.settled().await;
    let before = sink.count();
    gateway.cli(&["replay", "audit", "--from", "0"]).await.exits(0);
    let mut ids: Vec<String> = sink.received()[before..].iter().map(|event| event.id()).collect();
    ids.sort();
    assert_eq!(ids, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Proves: CH-7
#[tokio::test]
async fn a_replay_ends_with_the_command_and_says_no_where_there_is_nothing() {
    let (sink, other) = (Sink::start().await, Sink::start().await);
    let gateway = delivered(&sink, &other).await;
    let slow = gateway.cli(&["replay", "audit", "--from", "0", "--rate", "1"]);
    assert!(tokio::time::timeout(Duration::from_secs(2), slow).await.is_err());
    // Dropped like a command that was ended: the next one may begin.
    eventually("the first has ended", || async {
        let next = gateway.cli(&["replay", "audit", "--from", "0", "--dry-run"]).await;
        (next.code == 0).then_some(())
    })
    .await;
    assert!(sink.count() < 20);
    gateway.cli(&["replay", "absent", "--from", "0"]).await.exits(1);
    gateway.cli(&["replay", "audit", "--from", "yesterday"]).await.exits(2);
    gateway.cli(&["pause", "audit"]).await.exits(0);
    let refused = gateway.cli(&["replay", "audit", "--from", "0"]).await.exits(1);
    assert!(refused.stderr.contains("paused"), "{}", refused.stderr);
}

/// Proves: CH-7
#[tokio::test]
async fn a_replay_says_what_was_left_out_and_fails_when_letters_came_of_it() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription(
            "audit",
            "orders",
            &sink.url(),
            json!({ "filters": [ { "cesql": "id = '5'" } ] }),
        ),
    ])
    .await;
    gateway.accept("orders", (0..7).map(|n| n.to_string())).await;
    gateway.settled().await;
    let done = gateway.cli(&["replay", "audit", "--from", "1h"]).await.exits(0);
    let left_out = "left out      6 (by the subscription's own filters)\n";
    assert_eq!(
        done.stdout,
        format!("replayed      1 of 7 events\ndelivered     1\n{left_out}")
    );
    sink.always(Response::status(400));
    let failed = gateway.cli(&["replay", "audit", "--from", "earliest"]).await.exits(1);
    assert!(failed.stdout.contains("dead letters  1\n"), "{failed:?}");
    assert!(failed.stderr.contains("headgate dead list default/audit"), "{failed:?}");
    let json = gateway
        .cli(&["replay", "audit", "--from", "earliest", "--dry-run", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!((&json["leftOut"], &json["matched"]), (&json!(6), &json!(1)));
}
