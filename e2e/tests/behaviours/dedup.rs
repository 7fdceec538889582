//! A publisher that sends again: with a dedup window the repeat is answered and not stored.

use std::time::Duration;

use e2e::{
    Gateway, Request, Sink,
    documents::{channel_with, subscription},
};
use serde_json::{Value, json};

/// Proves: CH-5, IN-2, IN-5
#[tokio::test]
async fn a_repeat_inside_the_window_is_202_and_reaches_nobody_again_also_after_a_restart() {
    let sink = Sink::start().await;
    let mut gateway = Gateway::with([
        channel_with("orders", "embedded", json!({ "arguments": { "dedup": "PT10M" } })),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    for id in ["1", "2", "1"] {
        let answer = gateway.send(&Request::event("orders", id)).await.is(202);
        assert_eq!(answer.header("headgate-durability"), Some("disk"));
    }
    gateway.settled().await;
    gateway.terminate().await;
    gateway.start_again().await;
    gateway.accept("orders", ["1", "2"]).await;
    // The same id from elsewhere is another event.
    let elsewhere = Request::event("orders", "1").header("ce-source", "/elsewhere");
    gateway.send(&elsewhere).await.is(202);
    let event = |id: &str| json!({ "specversion": "1.0", "id": id, "source": "/e2e", "type": "e2e.test" });
    let batch = Value::from(vec![event("2"), event("3"), event("3")]);
    let batch =
        Request::structured("orders", batch.to_string()).header("content-type", "application/cloudevents-batch+json");
    gateway.send(&batch).await.is(202);
    sink.wait_for(4).await;
    sink.listens_at(4, Duration::from_millis(300)).await;
    let mut ids = sink.ids();
    ids.sort();
    assert_eq!(ids, ["1", "1", "2", "3"], "1 and 2 once, 1 of elsewhere, 3 once");
    let metrics = gateway.admin_get("/metrics").await.text();
    let repeats = r#"headgate_log_repeats_total{namespace="default",name="orders"} 4"#;
    assert!(metrics.lines().any(|line| line == repeats), "{metrics}");
}
