//! The admin listener: health, readiness, metrics.

use std::collections::BTreeSet;

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, subscription},
    eventually,
};
use serde_json::json;

/// Proves: OP-3
#[tokio::test]
async fn health_and_readiness_are_told_and_the_ingress_does_not_serve_them() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
    assert_eq!(gateway.admin_get("/no-such-page").await.status, 404);
    let outside = gateway.send(&Request::new("GET", "/metrics")).await;
    assert!((400..500).contains(&outside.status), "{outside}");
}

/// Proves: OP-3
#[tokio::test]
async fn metrics_count_and_their_labels_are_bounded_by_the_objects() {
    let sink = Sink::start().await;
    sink.answer_by(|request| request.id().ends_with('3').then(|| Response::status(400)));
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", (0..30).map(|n| format!("unique-{n}"))).await;
    for n in 0..20 {
        gateway
            .send(&Request::event(&format!("no-such-{n}"), "1"))
            .await
            .is(404);
    }
    sink.wait_for(30).await;
    let metrics = eventually("the counters are there", || async {
        let text = gateway.admin_get("/metrics").await.text();
        text.lines()
            .any(|line| !line.starts_with('#') && line.contains("name=\"audit\""))
            .then_some(text)
    })
    .await;
    assert!(
        !metrics.contains("unique-") && !metrics.contains("no-such-"),
        "a label is unbounded: {metrics}"
    );
    assert!(metrics.trim_end().ends_with("# EOF"), "OpenMetrics end in # EOF");
    let latency = "headgate_event_latency_seconds_count{namespace=\"default\",name=\"audit\"}";
    assert!(
        metrics.contains(latency)
            && metrics.contains("\nprocess_start_time_seconds ")
            && metrics.contains("\nprocess_cpu_seconds_total "),
        "{metrics}"
    );
    let plain = Request::new("GET", "/metrics").header("accept", "text/plain;version=0.0.4");
    let plain = plain.send(gateway.admin()).await;
    assert_eq!(
        plain.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let plain = plain.text();
    assert!(
        plain.contains("# TYPE headgate_events_accepted_total counter\n")
            && !plain.contains("# EOF")
            && !plain.contains("# UNIT"),
        "{plain}"
    );
    let families: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert!(
        families
            .iter()
            .all(|family| family.starts_with("headgate_") || family.starts_with("process_")),
        "{families:?}"
    );
}

/// Proves: OP-3
#[tokio::test]
async fn a_metrics_series_goes_with_its_object() {
    let sink = Sink::start().await;
    let document = subscription("short-lived", "orders", &sink.url(), json!({}));
    let gateway = Gateway::with([channel("orders", "memory"), document.clone()]).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    eventually("its series are there", || async {
        gateway
            .admin_get("/metrics")
            .await
            .text()
            .contains("short-lived")
            .then_some(())
    })
    .await;
    gateway.remove(&document);
    eventually("its series are gone", || async {
        (!gateway.admin_get("/metrics").await.text().contains("short-lived")).then_some(())
    })
    .await;
}

/// Whoever refuses: an answer of the admin API is JSON with a reason.
///
/// Proves: OP-3
#[tokio::test]
async fn every_refusal_of_the_admin_api_has_a_reason() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let pause = "/api/v1/subscriptions/default/audit/pause";
    let json = |path: &str, body: &str| {
        Request::post(path)
            .header("content-type", "application/json")
            .body(body)
    };
    let drop = "/api/v1/subscriptions/default/audit/deadletters/drop";
    let cases = [
        (Request::new("GET", "/api/v1/nothing"), 404, "NotFound"),
        (Request::new("GET", "/api/v1/deadletters?limit=x"), 400, "BadRequest"),
        (Request::new("GET", "/api/v1/objects?kind=x"), 400, "UnknownKind"),
        (Request::new("GET", pause), 405, "MethodNotAllowed"),
        (Request::post(pause), 415, "UnsupportedMediaType"),
        (json(pause, "{}"), 404, "NotFound"),
        (json(drop, "{}"), 400, "BadRequest"),
        (json(drop, "{"), 400, "BadRequest"),
        (
            json(pause, "{}").header("host", "elsewhere.example"),
            421,
            "ForeignHost",
        ),
    ];
    for (request, status, reason) in cases {
        let what = format!("{} {}", request.method, request.path);
        let answer = request.send(gateway.admin()).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.json()["reason"], reason, "{what}: {}", answer.text());
    }
}
