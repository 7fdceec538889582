//! Events on disk that no channel delivers: the channel has another provisioner now, or its document is gone.

use std::fs;

use e2e::{
    Gateway, Sink,
    documents::{channel, subscription},
    eventually,
    gateway::condition,
};
use serde_json::{Value, json};

/// A stopped gateway with five events on disk that nobody settled, and its sink.
async fn stopped() -> (Gateway, Sink) {
    let sink = Sink::start().await;
    let mut gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), json!({ "paused": true })),
    ])
    .await;
    gateway.accept("orders", (0..5).map(|n| n.to_string())).await;
    gateway.terminate().await;
    gateway.apply(&subscription("audit", "orders", &sink.url(), json!({})));
    (gateway, sink)
}

fn unused(object: &Value) -> bool {
    condition(object, "LogUsed").is_some_and(|used| used["status"] == "False" && used["reason"] == "EmbeddedLogUnused")
}

/// Proves: CH-9, OP-3
#[tokio::test]
async fn a_channel_of_another_provisioner_says_what_lies_on_disk_and_delivers_it_when_set_back() {
    let (mut gateway, sink) = stopped().await;
    gateway.apply(&channel("orders", "in-memory"));
    gateway.start_again().await;
    let object = gateway.wait_object("channel", "orders", unused).await;
    let message = condition(&object, "LogUsed").expect("just seen")["message"].to_string();
    for part in [
        "5 unsettled events",
        "in-memory",
        "orders",
        "set it back",
        "delete the folder",
    ] {
        assert!(message.contains(part), "{message} without {part}");
    }
    assert_eq!(
        gateway.log().matches("5 unsettled events").count(),
        1,
        "{}",
        gateway.log()
    );
    gateway.accept("orders", ["new"]).await;
    sink.wait_for(1).await;
    gateway.terminate().await;

    gateway.apply(&channel("orders", "embedded"));
    gateway.start_again().await;
    sink.wait_for(6).await;
    let object = gateway.wait_object("channel", "orders", |object| !unused(object)).await;
    assert_eq!(condition(&object, "LogUsed"), None, "{object}");
    gateway.terminate().await;

    // All is settled now: there is nothing to say.
    gateway.apply(&channel("orders", "in-memory"));
    gateway.start_again().await;
    gateway.settled().await;
    let object = gateway.wait_object("channel", "orders", |_| true).await;
    assert_eq!(condition(&object, "LogUsed"), None, "{object}");
}

/// Proves: CH-9, OP-3
#[tokio::test]
async fn another_default_provisioner_is_noticed_and_the_folder_may_be_deleted() {
    // It does not run; its folder is kept.
    let (first, _sink) = stopped().await;
    let mut unnamed = channel("orders", "embedded");
    unnamed["spec"].as_object_mut().expect("a spec").remove("provisioner");
    let gateway = Gateway::set_up()
        .documents([unnamed])
        .data(first.data())
        .arguments(&["--default-provisioner", "in-memory"])
        .start()
        .await;
    gateway.wait_object("channel", "orders", unused).await;
    fs::remove_dir_all(gateway.data().join("channels/default%2forders")).expect("our own");
    gateway.wait_object("channel", "orders", |object| !unused(object)).await;
}

/// Proves: CH-9, OP-3
#[tokio::test]
async fn a_log_whose_document_is_gone_is_said_at_the_start() {
    let (mut gateway, sink) = stopped().await;
    gateway.remove(&channel("orders", "embedded"));
    gateway.remove(&subscription("audit", "orders", &sink.url(), json!({})));
    gateway.start_again().await;
    eventually("the log line", || async {
        let log = gateway.log();
        (log.contains("EmbeddedLogUnused") && log.contains("5 unsettled events")).then_some(())
    })
    .await;
    let readiness = gateway.admin_get("/readyz").await.is(200).text();
    assert!(readiness.contains("EmbeddedLogUnused"), "{readiness}");
    // It comes back as it was.
    gateway.apply(&channel("orders", "embedded"));
    gateway.apply(&subscription("audit", "orders", &sink.url(), json!({})));
    sink.wait_for(5).await;
}
