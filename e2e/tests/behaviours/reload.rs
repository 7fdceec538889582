//! Documents change while the gateway runs.

use std::{sync::Arc, time::Duration};

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{bare_subscription, channel, channel_reference, subscription},
    eventually,
    gateway::{condition, is_ready},
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Proves: CH-1, CH-4
#[rstest]
#[tokio::test]
async fn new_documents_are_taken_without_a_restart(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    let gateway = Gateway::with([channel("orders", kind)]).await;
    gateway.accept("orders", ["before"]).await;
    gateway.apply(&channel("invoices", kind));
    gateway.apply(&subscription("late", "orders", &sink.url(), json!({})));
    gateway.apply(&subscription("new", "invoices", &sink.url(), json!({})));
    gateway.wait_object("subscription", "late", is_ready).await;
    gateway.wait_object("subscription", "new", is_ready).await;
    gateway.accept("orders", ["after"]).await;
    gateway.accept("invoices", ["first"]).await;
    sink.wait_for(2).await;
    let mut ids = sink.ids();
    ids.sort();
    assert_eq!(
        ids,
        ["after", "first"],
        "a new subscription starts with what comes after it"
    );
}

/// Proves: CH-1, CH-5
#[rstest]
#[tokio::test]
async fn a_reload_neither_loses_nor_repeats_what_unchanged_subscriptions_get(
    #[values("memory", "embedded")] kind: &str,
) {
    let (kept, changing) = (Sink::start().await, Sink::start().await);
    let gateway = Arc::new(
        Gateway::with([
            channel("orders", kind),
            subscription("kept", "orders", &kept.url(), json!({})),
            subscription("changing", "orders", &changing.url(), json!({})),
        ])
        .await,
    );
    let stop = CancellationToken::new();
    let sender = tokio::spawn({
        let (gateway, stop) = (Arc::clone(&gateway), stop.clone());
        async move {
            let mut count = 0;
            while !stop.is_cancelled() {
                gateway.accept("orders", [count.to_string()]).await;
                count += 1;
            }
            count
        }
    });
    for round in 0..5 {
        let more = json!({ "maxInFlight": 10 + round, "delivery": { "retry": round } });
        gateway.apply(&subscription("changing", "orders", &changing.url(), more));
        gateway.apply(&channel(&format!("extra-{round}"), kind));
        gateway
            .wait_object("channel", &format!("extra-{round}"), is_ready)
            .await;
    }
    stop.cancel();
    let count: usize = sender.await.expect("every event was accepted");
    for (name, sink) in [("kept", &kept), ("changing", &changing)] {
        sink.wait_for(count).await;
        sink.listens_at(count, Duration::from_millis(200)).await;
        let mut ids: Vec<usize> = sink.ids().iter().map(|id| id.parse().expect("a number")).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..count).collect::<Vec<_>>(), "{name}");
    }
}

/// Proves: OP-3
#[rstest]
#[tokio::test]
async fn a_bad_edit_leaves_what_ran_running_and_says_so(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    let good = subscription("audit", "orders", &sink.url(), json!({}));
    let gateway = Gateway::with([channel("orders", kind), good.clone()]).await;
    let name = e2e::documents::file_name(&good);
    let valid = std::fs::read_to_string(gateway.documents().join(&name)).expect("the document");
    gateway.write(&name, &valid.replace("\"uri\"", "\"uriii\""));
    gateway.apply(&channel("beside", kind));
    // The rest of the folder goes on.
    gateway.wait_object("channel", "beside", is_ready).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    assert!(gateway.log().contains("uriii"), "the fault is logged");
    // Not even a document at all.
    gateway.write(&name, "{ this is: [ no yaml");
    gateway.apply(&channel("beside-too", kind));
    gateway.wait_object("channel", "beside-too", is_ready).await;
    gateway.accept("orders", ["2"]).await;
    sink.wait_for(2).await;
    gateway.write(&name, &valid);
    gateway.accept("orders", ["3"]).await;
    sink.wait_for(3).await;
    assert_eq!(sink.ids(), ["1", "2", "3"]);
}

/// Proves: CH-4
#[rstest]
#[tokio::test]
async fn a_subscription_that_is_deleted_and_made_again_starts_anew(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let document = subscription("audit", "orders", &sink.url(), json!({ "delivery": { "retry": 100 } }));
    let gateway = Gateway::with([channel("orders", kind), document.clone()]).await;
    gateway.accept("orders", ["old"]).await;
    sink.wait_for(1).await;
    gateway.remove(&document);
    eventually("the subscription is gone", || async {
        gateway.list("subscription").await.is_empty().then_some(())
    })
    .await;
    gateway.accept("orders", ["between"]).await;
    let before = sink.count();
    sink.always(Response::status(204));
    gateway.apply(&document);
    gateway.wait_object("subscription", "audit", is_ready).await;
    gateway.accept("orders", ["new"]).await;
    sink.wait_for(before + 1).await;
    sink.listens_at(before + 1, Duration::from_millis(300)).await;
    assert_eq!(sink.ids().last().map(String::as_str), Some("new"));
}

/// Proves: CH-4, CH-7
#[rstest]
#[tokio::test]
async fn start_from_earliest_gets_what_is_still_kept(#[values("embedded")] kind: &str) {
    let (sink, late) = (Sink::start().await, Sink::start().await);
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1", "2", "3"]).await;
    sink.wait_for(3).await;
    gateway.apply(&subscription(
        "late",
        "orders",
        &late.url(),
        json!({ "startFrom": "earliest", "ordering": "total" }),
    ));
    late.wait_for(3).await;
    assert_eq!(late.ids(), ["1", "2", "3"]);
    gateway.apply(&subscription(
        "third",
        "orders",
        &late.url(),
        json!({ "startFrom": { "offset": 2 }, "ordering": "total" }),
    ));
    late.wait_for(4).await;
    assert_eq!(late.ids()[3..], ["3"]);
}

/// Proves: OP-3
#[tokio::test]
async fn a_missing_target_is_a_condition_that_heals_when_the_target_comes() {
    let sink = Sink::start().await;
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            bare_subscription(
                "forward",
                "orders",
                json!({ "subscriber": { "ref": channel_reference("later") } }),
            ),
            subscription("orphan", "nowhere", &sink.url(), json!({})),
            channel("odd", "no-such-provisioner"),
        ])
        .prepare();
    let mut gateway = gateway;
    gateway.start_again().await;
    let unresolved = |object: &Value| condition(object, "Resolved").is_some_and(|found| found["status"] == "False");
    let object = gateway.wait_object("subscription", "forward", unresolved).await;
    let found = condition(&object, "Resolved").expect("a condition");
    assert!(
        found["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
        "{found}"
    );
    assert!(
        found["message"]
            .as_str()
            .is_some_and(|message| message.contains("later")),
        "{found}"
    );
    gateway
        .wait_object("channel", "odd", |object| {
            condition(object, "Ready").is_some_and(|found| found["status"] == "False")
        })
        .await;
    gateway.accept("orders", ["1"]).await;

    gateway.apply(&channel("later", "memory"));
    gateway.apply(&channel("nowhere", "memory"));
    gateway.wait_object("subscription", "forward", is_ready).await;
    gateway.wait_object("subscription", "orphan", is_ready).await;
    gateway.accept("nowhere", ["2"]).await;
    sink.wait_for(1).await;
}

/// Proves: CH-3
#[tokio::test]
async fn channel_and_provisioner_cannot_be_changed() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", "memory"),
        channel("other", "memory"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.apply(&subscription("audit", "other", &sink.url(), json!({})));
    eventually("the log names the immutable field", || async {
        gateway.log().contains("immutable").then_some(())
    })
    .await;
    gateway.send(&Request::event("orders", "1")).await.is(202);
    assert_eq!(sink.wait_for_one().await.id(), "1");
}
