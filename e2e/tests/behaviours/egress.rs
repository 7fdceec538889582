//! Targets that documents name: which addresses the gateway connects to.

use std::net::Ipv4Addr;

use e2e::{
    Gateway, Sink,
    documents::{channel, github_source, merge, secret, subscription},
    eventually,
    gateway::{condition, is_ready},
    hosts::Hosts,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The address of the metadata service of most clouds.
const METADATA: &str = "169.254.169.254";

/// Waits until a subscription is not resolved for a refused address, and returns the condition's message.
async fn refusal(gateway: &Gateway, subscription: &str) -> String {
    let is_refused =
        |object: &Value| condition(object, "Resolved").is_some_and(|found| found["reason"] == "EgressRefused");
    let object = gateway.wait_object("subscription", subscription, is_refused).await;
    condition(&object, "Resolved").map_or_else(String::new, |found| found["message"].to_string())
}

/// Proves: EG-1
#[tokio::test]
async fn a_metadata_address_is_a_condition_and_others_get_their_events() {
    let sink = Sink::start().await;
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("good", "orders", &sink.url(), json!({})),
            subscription("plain", "orders", &format!("http://{METADATA}/latest"), json!({})),
            subscription("mapped", "orders", &format!("http://[::ffff:{METADATA}]/"), json!({})),
            subscription("number", "orders", "http://2852039166/", json!({})),
        ])
        // Nothing lifts this rule.
        .arguments(&["--egress-allow", "0.0.0.0/0,::/0"])
        .prepare();
    gateway.start_again().await;
    for name in ["plain", "mapped", "number"] {
        let message = refusal(&gateway, name).await;
        assert!(message.contains("link-local"), "{name}: {message}");
    }
    gateway.wait_object("subscription", "good", is_ready).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for_one().await;
    let metrics = gateway.admin_get("/metrics").await.text();
    assert!(
        !metrics.contains(r#"headgate_attempts_failed_total{namespace="default",name="plain""#),
        "{metrics}"
    );
}

/// Proves: EG-1
#[tokio::test]
async fn loopback_needs_a_flag_where_the_ingress_is_open() {
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "memory"),
        subscription("here", "orders", &sink.url(), json!({})),
        subscription("unspecified", "orders", "http://0.0.0.0:9/", json!({})),
    ];
    let mut gateway = Gateway::set_up()
        .documents(documents.clone())
        .ingress_everywhere()
        .prepare();
    gateway.start_again().await;
    for name in ["here", "unspecified"] {
        let message = refusal(&gateway, name).await;
        assert!(message.contains("--egress-allow"), "{name}: {message}");
    }
    drop(gateway);
    let gateway = Gateway::set_up()
        .documents(documents)
        .arguments(&["--egress-allow", "127.0.0.1,0.0.0.0/32"])
        .ingress_everywhere()
        .start()
        .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for_one().await;
}

/// Proves: EG-1, DL-5
#[tokio::test]
async fn a_name_is_checked_whenever_it_is_resolved() {
    let (folder, sink) = (
        TempDir::with_prefix("headgate-hosts-").expect("a folder"),
        Sink::start().await,
    );
    let hosts = Hosts::new(folder.path());
    let denied = Ipv4Addr::new(127, 0, 0, 2);
    hosts.add("rebound.test", denied);
    let uri = format!("http://rebound.test:{}/", sink.address().port());
    let delivery = json!({ "delivery": { "retry": 1, "backoffDelay": "PT0.01S" } });
    let wrapper = hosts.wrapper();
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("rebound", "orders", &uri, delivery),
        ])
        .arguments(&["--egress-deny", "127.0.0.2"])
        .wrapped_by(&wrapper.iter().map(String::as_str).collect::<Vec<_>>())
        .start()
        .await;
    gateway.accept("orders", ["1"]).await;
    let dead_letter = eventually("a dead letter", || async {
        let list = gateway.cli(&["dead", "list", "-o", "json"]).await.json();
        list.get(0).cloned()
    })
    .await;
    assert_eq!(dead_letter["reason"], "EgressRefused", "{dead_letter}");
    assert_eq!(dead_letter["attempts"], 2, "{dead_letter}");
    assert_eq!(sink.count(), 0);
    hosts.replace("rebound.test", Ipv4Addr::LOCALHOST);
    gateway.cli(&["dead", "redrive", "rebound"]).await.exits(0);
    assert_eq!(sink.wait_for_one().await.id(), "1");
}

/// Proves: EG-1
#[tokio::test]
async fn githubs_api_at_a_refused_address_is_a_condition() {
    let mut source = github_source("hello", &["push"], &json!({ "uri": "http://127.0.0.1:9/" }));
    let more = json!({
        // Without a public address a webhook source asks GitHub nothing.
        "mode": "poll",
        "githubAPIURL": format!("https://{METADATA}/"),
        "accessToken": { "secretKeyRef": { "name": "github", "key": "token" } },
    });
    merge(&mut source["spec"], more);
    let secret = secret("github", json!({ "token": "t", "secretToken": "s3cret" }));
    let mut gateway = Gateway::set_up().documents([secret, source]).prepare();
    gateway.start_again().await;
    let found = |object: &Value| {
        let text = object["status"]["conditions"].to_string();
        text.contains("EgressRefused") && text.contains("link-local")
    };
    gateway.wait_object("githubsource", "hello", found).await;
}
