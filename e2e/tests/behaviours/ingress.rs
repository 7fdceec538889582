//! What the ingress takes, what it refuses, and how it says so.

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, channel_with, subscription},
};
use rstest::rstest;
use serde_json::json;

async fn orders(kind: &str) -> (Gateway, Sink) {
    let sink = Sink::start().await;
    let documents = [
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), json!({})),
    ];
    (Gateway::with(documents).await, sink)
}

/// Proves: IN-2, CH-1
#[rstest]
#[tokio::test]
async fn an_event_is_answered_202_with_the_channels_durability_and_delivered(
    #[values("memory", "embedded")] kind: &str,
) {
    let (gateway, sink) = orders(kind).await;
    let answer = gateway.send(&Request::event("orders", "1")).await.is(202);
    let promise = if kind == "memory" { "process" } else { "disk" };
    assert_eq!(answer.header("headgate-durability"), Some(promise));
    assert_eq!(sink.wait_for_one().await.id(), "1");
}

/// Proves: IN-3
#[tokio::test]
async fn an_unknown_channel_is_404_and_says_its_name() {
    let (gateway, _sink) = orders("memory").await;
    let answer = gateway.send(&Request::event("missing", "1")).await.is(404);
    assert!(answer.text().contains("missing"), "{answer}");
    gateway.send(&Request::event("elsewhere/orders", "1")).await.is(404);
    gateway.send(&Request::event("orders", "1").to("/")).await.is(404);
    gateway
        .send(&Request::event("orders", "1").to("/default/orders/more"))
        .await
        .is(404);
}

/// Proves: IN-3
#[tokio::test]
async fn another_method_is_405_and_names_those_allowed() {
    let (gateway, _sink) = orders("memory").await;
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let answer = gateway.send(&Request::new(method, "/default/orders")).await.is(405);
        let allow = answer.header("allow").unwrap_or_default();
        assert!(
            allow.contains("POST") && allow.contains("OPTIONS"),
            "{method}: {answer}"
        );
    }
}

/// Proves: IN-4
#[tokio::test]
async fn options_answers_the_webhook_handshake() {
    let (gateway, _sink) = orders("memory").await;
    let plain = gateway.send(&Request::new("OPTIONS", "/default/orders")).await;
    assert!(plain.status < 300, "{plain}");
    assert_eq!(plain.header("allow"), Some("POST, OPTIONS"));

    let request = Request::new("OPTIONS", "/default/orders")
        .header("webhook-request-origin", "eventemitter.example.com")
        .header("webhook-request-rate", "120");
    let answer = gateway.send(&request).await;
    assert!(answer.status < 300, "{answer}");
    let origin = answer.header("webhook-allowed-origin").unwrap_or_default();
    assert!(["eventemitter.example.com", "*"].contains(&origin), "{answer}");
    assert!(answer.header("webhook-allowed-rate").is_some(), "{answer}");
}

/// Proves: IN-3, IN-6, IN-8
#[rstest]
#[case::without_an_id(Request::event("orders", "1").without("ce-id"), "id")]
#[case::without_a_source(Request::event("orders", "1").without("ce-source"), "source")]
#[case::without_a_type(Request::event("orders", "1").without("ce-type"), "type")]
#[case::without_a_version(Request::event("orders", "1").without("ce-specversion"), "specversion")]
#[case::with_an_unknown_version(Request::event("orders", "1").header("ce-specversion", "9.9"), "9.9")]
#[case::with_an_empty_id(Request::event("orders", ""), "id")]
#[case::with_an_empty_source(Request::event("orders", "1").header("ce-source", ""), "source")]
#[case::with_an_empty_type(Request::event("orders", "1").header("ce-type", ""), "type")]
#[case::with_a_time_that_is_none(Request::event("orders", "1").header("ce-time", "yesterday"), "time")]
#[case::with_a_bad_attribute_name(Request::event("orders", "1").header("ce-not_a_name", "x"), "not_a_name")]
#[case::with_an_attribute_twice(Request::event("orders", "1").also("ce-id", "2"), "id")]
#[case::with_an_extension_twice(Request::event("orders", "1").also("ce-x", "1").also("ce-x", "2"), "x")]
#[case::that_is_no_json(Request::structured("orders", "{"), "")]
#[case::that_is_no_object(Request::structured("orders", "[1]"), "")]
#[case::structured_without_an_id(
    Request::structured("orders", r#"{"specversion":"1.0","source":"/s","type":"t"}"#),
    "id"
)]
#[case::structured_with_a_number_as_id(
    Request::structured("orders", r#"{"specversion":"1.0","id":1,"source":"/s","type":"t"}"#),
    "id"
)]
#[case::structured_with_an_attribute_twice(
    Request::structured("orders", r#"{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}"#),
    "id"
)]
#[case::structured_with_data_and_data_base64(
    Request::structured(
        "orders",
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1,"data_base64":"AA=="}"#
    ),
    "data"
)]
#[case::structured_with_data_base64_that_is_none(
    Request::structured(
        "orders",
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"%%"}"#
    ),
    "data_base64"
)]
#[case::structured_with_a_bad_attribute_name(
    Request::structured(
        "orders",
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","Bad-Name":"x"}"#
    ),
    "Bad-Name"
)]
#[tokio::test]
async fn an_event_that_is_none_is_400_and_the_body_names_the_fault(#[case] request: Request, #[case] fault: &str) {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let answer = gateway.send(&request).await.is(400);
    let named = answer.text().to_lowercase().contains(&fault.to_lowercase());
    assert!(
        named && !answer.body.is_empty(),
        "the answer does not name {fault:?}: {answer}"
    );
}

/// Proves: IN-3, IN-5
#[tokio::test]
async fn a_cloudevents_format_we_do_not_have_is_415() {
    let (gateway, sink) = orders("memory").await;
    for format in [
        "application/cloudevents+avro",
        "application/cloudevents+xml",
        "application/cloudevents-batch+avro",
    ] {
        gateway
            .send(&Request::structured("orders", "x").header("content-type", format))
            .await
            .is(415);
    }
    // Any other media type is binary mode.
    gateway
        .send(&Request::event("orders", "1").header("content-type", "application/avro"))
        .await
        .is(202);
    assert_eq!(
        sink.wait_for_one().await.header("content-type"),
        Some("application/avro")
    );
}

/// Proves: IN-3, CH-9, CH-2
#[tokio::test]
async fn a_full_memory_channel_is_429_and_says_when_to_come_back() {
    let sink = Sink::start().await;
    sink.always(Response::never());
    let gateway = Gateway::with([
        channel_with("orders", "memory", json!({ "arguments": { "capacity": 5 } })),
        subscription("stuck", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1", "2", "3", "4", "5"]).await;
    let answer = gateway.send(&Request::event("orders", "6")).await.is(429);
    let wait: u64 = answer
        .header("retry-after")
        .and_then(|wait| wait.parse().ok())
        .expect("Retry-After in seconds");
    assert!((1..=60).contains(&wait), "{answer}");
}

/// Proves: CH-9
#[rstest]
#[tokio::test]
async fn a_channel_without_subscriptions_never_fills(#[values("memory", "embedded")] kind: &str) {
    let more = if kind == "memory" {
        json!({ "arguments": { "capacity": 5 } })
    } else {
        json!({})
    };
    let gateway = Gateway::with([channel_with("orders", kind, more)]).await;
    gateway.accept("orders", (0..20).map(|n| n.to_string())).await;
}
