//! Very many events in backoff: those that can be delivered are, and memory stays as it is.

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, subscription},
    eventually,
};
use serde_json::{Value, json};

const FAILING: usize = 6000;
const BATCH: usize = 500;

/// More of them than a subscription holds in memory.
///
/// Proves: CH-6, CH-2
#[tokio::test]
async fn thousands_of_events_in_backoff_block_no_other() {
    let sink = Sink::start().await;
    // 409 is tried again and says nothing about the sink as a whole.
    sink.answer_by(|received| received.id().starts_with("bad").then(|| Response::status(409)));
    let patient = json!({ "delivery": { "retry": 3, "backoffPolicy": "linear", "backoffDelay": "PT10M", "backoffMax": "PT10M" } });
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), patient),
    ])
    .await;
    for first in (0..FAILING).step_by(BATCH) {
        let event = |n| json!({ "specversion": "1.0", "id": format!("bad-{n}"), "source": "/e2e", "type": "e2e.test" });
        let batch: Value = (first..first + BATCH).map(event).collect();
        let request = Request::structured("orders", batch.to_string())
            .header("content-type", "application/cloudevents-batch+json");
        gateway.send(&request).await.is(202);
    }
    let good: Vec<String> = (0..10).map(|n| format!("good-{n}")).collect();
    gateway.accept("orders", &good).await;
    eventually("the good ones arrive", || async {
        let ids = sink.ids();
        good.iter().all(|id| ids.contains(id)).then_some(())
    })
    .await;
    let object = gateway
        .wait_object("subscriptions", "audit", |object| {
            object["status"]["unsettledEvents"] == json!(FAILING)
        })
        .await;
    assert_eq!(
        object["status"]["unsettledEvents"],
        json!(FAILING),
        "none of them was given up"
    );
}
