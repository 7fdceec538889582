//! How an event is delivered: the request, what counts as delivered, how often and when it is tried again.

use std::{collections::BTreeMap, time::Duration};

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, subscription},
    eventually,
    gateway::condition,
    ports,
    sink::Received,
};
use rstest::rstest;
use serde_json::{Value, json};

async fn orders(kind: &str, sink: &Sink, more: Value) -> Gateway {
    Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), more),
    ])
    .await
}

/// Proves: DL-1
#[rstest]
#[tokio::test]
async fn a_delivery_is_a_binary_post_that_prefers_a_reply_on_a_kept_connection(
    #[values("memory", "embedded")] kind: &str,
) {
    let sink = Sink::start().await;
    let gateway = orders(kind, &sink, json!({ "maxInFlight": 1 })).await;
    gateway.accept("orders", (0..10).map(|n| n.to_string())).await;
    let received = sink.wait_for(10).await;
    for Received {
        method,
        path,
        connection,
        ..
    } in &received
    {
        assert_eq!((method.as_str(), path.as_str(), *connection), ("POST", "/", 0));
    }
    assert!(
        received.iter().all(|request| request.header("prefer") == Some("reply")),
        "{received:#?}"
    );
    assert_eq!(received[0].header("content-type"), Some("application/json"));
    assert_eq!(received[0].attribute("source").as_deref(), Some("/e2e"));
    assert_eq!(received[0].header("host"), Some(sink.address().to_string().as_str()));
}

/// Proves: DL-2
#[rstest]
#[tokio::test]
async fn only_answers_that_may_change_are_tried_again(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.answer_by(|request| {
        let status = request.id().parse().unwrap_or(0);
        Some(if status == 0 {
            Response::hang_up()
        } else {
            Response::status(status)
        })
    });
    let gateway = orders(kind, &sink, json!({ "delivery": { "retry": 2 } })).await;
    let final_answers = [
        200, 201, 202, 204, 300, 301, 302, 304, 307, 400, 401, 403, 405, 406, 410, 413, 415, 418, 422, 451,
    ];
    let passing_answers = [404, 408, 409, 425, 429, 500, 502, 503, 504, 0];
    let mut expected = BTreeMap::new();
    // Mixed, so that ten failures in a row do not open the breaker.
    for (n, status) in final_answers.into_iter().enumerate() {
        expected.insert(status.to_string(), 1);
        gateway.accept("orders", [status.to_string()]).await;
        if let Some(status) = passing_answers.get(n) {
            expected.insert(status.to_string(), 3);
            gateway.accept("orders", [status.to_string()]).await;
        }
    }
    sink.wait_for(expected.values().sum()).await;
    sink.listens_at(expected.values().sum(), Duration::from_millis(500))
        .await;
    let mut attempts = BTreeMap::new();
    for id in sink.ids() {
        *attempts.entry(id).or_insert(0) += 1;
    }
    assert_eq!(attempts, expected);
}

/// Proves: DL-1, DL-2
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (sink, elsewhere) = (Sink::start().await, Sink::start().await);
    sink.always(Response::status(307).header("location", &elsewhere.url()));
    let gateway = orders("memory", &sink, json!({})).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    elsewhere.listens_at(0, Duration::from_millis(500)).await;
    assert_eq!(sink.count(), 1);
}

/// Proves: DL-2
#[tokio::test]
async fn a_refused_connection_is_tried_again_until_the_subscriber_is_there() {
    let address = ports::free();
    let url = format!("http://{address}/");
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("late", "orders", &url, json!({})),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    let sink = Sink::at(address).await;
    assert_eq!(sink.wait_for(1).await[0].id(), "1");
}

/// Proves: DL-2
#[rstest]
#[case::before_its_head(Response::never())]
#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_tried_again(#[case] first: Response) {
    let sink = Sink::start().await;
    sink.next([first]);
    let gateway = orders("memory", &sink, json!({ "delivery": { "timeout": "PT0.5S" } })).await;
    gateway.accept("orders", ["1"]).await;
    let received = sink.wait_for(2).await;
    let gap = received[1].at - received[0].at;
    assert!(gap >= Duration::from_millis(490) && gap < BUSY, "{gap:?}");
}

/// The waits between attempts.
fn gaps(received: &[Received]) -> Vec<Duration> {
    received.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// A busy machine adds to a wait, and less than this. How long waits are exactly is proven without a clock, in `backoff`; here only
/// that the policy is the one in force, and that none of the much longer waits is (30 s for an answer, an hour asked for).
const BUSY: Duration = Duration::from_secs(20);

#[track_caller]
fn assert_waits(gaps: &[Duration], nominal: &[u64]) {
    assert_eq!(gaps.len(), nominal.len(), "{gaps:?}");
    for (gap, nominal) in gaps.iter().zip(nominal) {
        let longest = Duration::from_millis(*nominal);
        // Full jitter on the upper half. Timers tick in milliseconds.
        assert!(
            *gap + Duration::from_millis(3) >= longest / 2,
            "{gap:?} is less than half of {longest:?}: {gaps:?}"
        );
        assert!(*gap <= longest + BUSY, "{gap:?} is more than {longest:?}: {gaps:?}");
    }
}

/// Proves: DL-3
#[rstest]
#[case::linear("linear", "PT0.4S", "PT1M", &[400, 400, 400])]
#[case::exponential("exponential", "PT0.2S", "PT1M", &[200, 400, 800])]
#[case::exponential_with_a_cap("exponential", "PT0.2S", "PT0.4S", &[200, 400, 400])]
#[tokio::test]
async fn retries_are_spaced_by_their_policy(
    #[values("memory", "embedded")] kind: &str,
    #[case] policy: &str,
    #[case] delay: &str,
    #[case] max: &str,
    #[case] nominal: &[u64],
) {
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let more = json!({ "delivery": { "retry": 3, "backoffPolicy": policy, "backoffDelay": delay, "backoffMax": max } });
    let gateway = orders(kind, &sink, more).await;
    gateway.accept("orders", ["1"]).await;
    let received = sink.wait_for(4).await;
    sink.listens_at(4, Duration::from_millis(900)).await;
    assert_waits(&gaps(&received), nominal);
}

/// Proves: DL-3
#[tokio::test]
async fn retry_0_means_one_attempt() {
    let sink = Sink::start().await;
    sink.always(Response::status(500));
    let gateway = orders("memory", &sink, json!({ "delivery": { "retry": 0 } })).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    sink.listens_at(1, Duration::from_millis(500)).await;
}

/// Proves: DL-3
#[rstest]
#[case::too_many_requests(429)]
#[case::unavailable(503)]
#[tokio::test]
async fn retry_after_raises_the_wait(#[case] status: u16) {
    let sink = Sink::start().await;
    sink.next([Response::status(status).header("retry-after", "2")]);
    let gateway = orders("memory", &sink, json!({})).await;
    gateway.accept("orders", ["1"]).await;
    let gap = gaps(&sink.wait_for(2).await)[0];
    assert!(gap >= Duration::from_millis(1990) && gap < BUSY, "{gap:?}");
}

/// Proves: DL-3
#[tokio::test]
async fn retry_after_may_be_a_date() {
    let sink = Sink::start().await;
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&date)
        .expect("a date");
    sink.next([Response::status(503).header("retry-after", &date)]);
    let gateway = orders("memory", &sink, json!({})).await;
    gateway.accept("orders", ["1"]).await;
    let gap = gaps(&sink.wait_for(2).await)[0];
    assert!(gap >= Duration::from_millis(1000) && gap < BUSY, "{gap:?}");
}

/// Proves: DL-3
#[tokio::test]
async fn retry_after_is_capped() {
    let sink = Sink::start().await;
    sink.next([Response::status(503).header("retry-after", "3600")]);
    let gateway = orders("memory", &sink, json!({ "delivery": { "retryAfterMax": "PT1S" } })).await;
    gateway.accept("orders", ["1"]).await;
    let gap = gaps(&sink.wait_for(2).await)[0];
    assert!(gap >= Duration::from_millis(990) && gap < BUSY, "{gap:?}");
}

/// Proves: DL-3
#[tokio::test]
async fn retry_after_on_another_status_is_not_heeded() {
    let sink = Sink::start().await;
    sink.next([Response::status(500).header("retry-after", "3600")]);
    let gateway = orders("memory", &sink, json!({})).await;
    gateway.accept("orders", ["1"]).await;
    assert!(gaps(&sink.wait_for(2).await)[0] < BUSY);
}

/// Proves: DL-4, CH-3
#[tokio::test]
async fn attempts_survive_a_kill_on_the_embedded_channel() {
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let more = json!({ "delivery": { "retry": 5, "backoffPolicy": "linear", "backoffDelay": "PT1S" } });
    let mut gateway = orders("embedded", &sink, more).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(3).await;
    // Past the half of a wait in which attempts are written down.
    tokio::time::sleep(Duration::from_millis(300)).await;
    gateway.kill().await;
    gateway.start_again().await;
    let what = "a dead letter after the sixth attempt";
    let dead_letter = eventually(what, || async {
        gateway.cli(&["dead", "list", "-o", "json"]).await.json()[0]
            .as_object()
            .cloned()
    })
    .await;
    let count = sink.count();
    assert!(
        (6..=7).contains(&count),
        "{count} attempts, of which one may be a repeat; the letter: {dead_letter:?}"
    );
}

/// Proves: CH-3, CH-5, OP-1
#[rstest]
#[tokio::test]
async fn an_event_in_backoff_at_a_clean_stop_comes_back(#[values("embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.next([Response::status(503)]);
    let more = json!({ "delivery": { "backoffDelay": "PT5S" } });
    let mut gateway = orders(kind, &sink, more).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    assert!(gateway.terminate().await.success());
    gateway.start_again().await;
    sink.wait_for(2).await;
    assert_eq!(sink.ids(), ["1", "1"]);
}

/// Proves: DL-8
#[rstest]
#[tokio::test]
async fn ten_failing_events_open_the_breaker_and_the_first_success_closes_it(
    #[values("memory", "embedded")] kind: &str,
) {
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let more = json!({ "delivery": { "retry": 50, "backoffPolicy": "linear", "backoffDelay": "PT0.5S" } });
    let gateway = orders(kind, &sink, more).await;
    let first: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    gateway.accept("orders", &first).await;
    sink.wait_for(10).await;
    let sick = gateway.wait_object("subscription", "audit", |object| {
        condition(object, "SinkHealthy").is_some_and(|condition| condition["status"] == "False")
    });
    sick.await;
    gateway.accept("orders", (10..40).map(|n| n.to_string())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut started = sink.ids();
    started.sort();
    started.dedup();
    // The ten, and at most one that probes.
    assert!(started.len() <= 11, "started while the breaker was open: {started:?}");
    sink.always(Response::status(204));
    eventually("all forty arrive", || async {
        let mut ids = sink.ids();
        ids.sort();
        ids.dedup();
        (ids.len() == 40).then_some(())
    })
    .await;
    gateway
        .wait_object("subscription", "audit", |object| {
            condition(object, "SinkHealthy").is_some_and(|condition| condition["status"] == "True")
        })
        .await;
    assert_eq!(gateway.cli(&["dead", "list", "-o", "json"]).await.json(), json!([]));
}

/// Waits until the subscription has settled every event.
async fn all_settled(gateway: &Gateway) {
    gateway
        .wait_object("subscription", "audit", |object| {
            object["status"]["unsettledEvents"] == 0
        })
        .await;
}

fn count(log: &str, parts: &[&str]) -> usize {
    let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
    log.lines().filter(has_all).count()
}

/// Proves: DL-8
#[rstest]
#[case::bad_request(400)]
#[case::unauthorized(401)]
#[case::gone(410)]
#[tokio::test]
async fn a_sink_that_refuses_everything_is_given_ten_events_a_second(
    #[values("memory", "embedded")] kind: &str,
    #[case] status: u16,
) {
    let sink = Sink::start().await;
    sink.always(Response::status(status));
    let gateway = orders(kind, &sink, json!({ "maxInFlight": 1 })).await;
    gateway.accept("orders", (0..500).map(|n| n.to_string())).await;
    let sick = gateway.wait_object("subscription", "audit", |object| {
        condition(object, "SinkHealthy").is_some_and(|condition| condition["reason"] == "SinkRejecting")
    });
    sick.await;
    let (before, began) = (sink.count(), tokio::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let started = sink.count() - before;
    let bound = 2 + usize::try_from(began.elapsed().as_millis() / 100).unwrap_or(usize::MAX);
    assert!(started <= bound, "{started} events were started, {bound} may be");
    let table = gateway.cli(&["get", "subscriptions"]).await.exits(0).stdout;
    assert!(table.contains("SinkRejecting"), "{table}");
    sink.always(Response::status(204));
    all_settled(&gateway).await;
    let healthy = gateway.wait_object("subscription", "audit", |object| {
        condition(object, "SinkHealthy").is_some_and(|condition| condition["status"] == "True")
    });
    healthy.await;
    let log = gateway.log();
    assert_eq!(count(&log, &["WARN", "SinkRejecting"]), 1, "{log}");
    assert_eq!(count(&log, &["INFO", "sink is healthy again"]), 1, "{log}");
    assert_eq!(count(&log, &["WARN", "event is dead-lettered"]), 1, "{log}");
}

/// Proves: DL-8
#[rstest]
#[tokio::test]
async fn a_path_that_is_not_there_is_a_sink_that_fails(#[values(404, 408, 425, 429)] status: u16) {
    let sink = Sink::start().await;
    sink.always(Response::status(status));
    let more = json!({ "delivery": { "retry": 50, "backoffPolicy": "linear", "backoffDelay": "PT0.5S" } });
    let gateway = orders("memory", &sink, more).await;
    gateway.accept("orders", (0..100).map(|n| n.to_string())).await;
    let sick = gateway.wait_object("subscription", "audit", |object| {
        condition(object, "SinkHealthy").is_some_and(|condition| condition["reason"] == "SinkFailing")
    });
    sick.await;
    assert_eq!(count(&gateway.log(), &["WARN", "SinkFailing"]), 1);
}

/// Proves: DL-2, DL-8
#[tokio::test]
async fn a_conflict_is_tried_again_and_says_nothing_of_the_sink() {
    let sink = Sink::start().await;
    sink.always(Response::status(409));
    let more = json!({ "delivery": { "retry": 2, "backoffPolicy": "linear", "backoffDelay": "PT0.1S" } });
    let gateway = orders("memory", &sink, more).await;
    gateway.accept("orders", (0..30).map(|n| n.to_string())).await;
    all_settled(&gateway).await;
    assert_eq!(sink.count(), 90);
    let log = gateway.log();
    assert_eq!(
        count(&log, &["SinkFailing"]) + count(&log, &["SinkRejecting"]),
        0,
        "{log}"
    );
}

/// Proves: DL-2
#[tokio::test]
async fn the_first_failed_attempt_after_a_success_is_logged() {
    let sink = Sink::start().await;
    sink.always(Response::status(500));
    let more = json!({ "delivery": { "retry": 1, "backoffDelay": "PT0.05S" } });
    let gateway = orders("memory", &sink, more).await;
    gateway.accept("orders", ["1", "2"]).await;
    sink.wait_for(4).await;
    let parts = ["WARN", "delivery failed", "answered 500", &sink.url()];
    let logged = |times: usize| {
        let (gateway, parts) = (&gateway, &parts);
        eventually("the line is there", move || async move {
            (count(&gateway.log(), parts) >= times).then_some(())
        })
    };
    logged(1).await;
    assert_eq!(count(&gateway.log(), &parts), 1, "{}", gateway.log());
    sink.always(Response::status(204));
    gateway.accept("orders", ["3"]).await;
    sink.wait_for(5).await;
    all_settled(&gateway).await;
    sink.always(Response::status(500));
    gateway.accept("orders", ["4"]).await;
    logged(2).await;
}

/// Sets how many files the running gateway may have open.
fn limit_files(gateway: &Gateway, files: &str) {
    let pid = gateway.pid().to_string();
    let set = std::process::Command::new("prlimit")
        .args(["--pid", &pid, files])
        .status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit {files}");
}

/// Proves: DL-2
#[tokio::test]
async fn an_event_that_the_gateway_has_no_file_for_uses_no_attempt() {
    let sink = Sink::start().await;
    // The one attempt that may fail; the next needs a connection.
    sink.next([Response::hang_up()]);
    let more = json!({ "delivery": { "retry": 1, "backoffPolicy": "linear", "backoffDelay": "PT2S" } });
    let gateway = orders("memory", &sink, more).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    limit_files(&gateway, "--nofile=5:1024");
    let line = ["WARN", "the gateway cannot open a connection"];
    eventually("the gateway has no file", || async {
        (count(&gateway.log(), &line) > 0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    limit_files(&gateway, "--nofile=1024:1024");
    sink.wait_for(2).await;
    all_settled(&gateway).await;
    assert_eq!(sink.count(), 2);
    assert_eq!(gateway.cli(&["dead", "list", "-o", "json"]).await.json(), json!([]));
    assert_eq!(count(&gateway.log(), &line), 1, "one line a minute");
}

/// Proves: DL-3
#[tokio::test]
async fn get_says_how_long_an_event_is_tried() {
    let sink = Sink::start().await;
    let given =
        |name: &str, delivery: Value| subscription(name, "orders", &sink.url(), json!({ "delivery": delivery }));
    let gateway = Gateway::with([
        channel("orders", "memory"),
        given("usual", json!({ "backoffDelay": "PT0.2S" })),
        given(
            "short",
            json!({ "retry": 10, "backoffDelay": "PT0.2S", "backoffMax": "PT1M" }),
        ),
        given("never", json!({ "retry": 0 })),
    ])
    .await;
    let table = gateway
        .cli(&["get", "subscriptions", "-o", "wide"])
        .await
        .exits(0)
        .stdout;
    let of = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(of("usual").contains("about 2 h"), "{table}");
    assert!(of("short").contains("about 2 min"), "{table}");
    assert!(of("never").contains("at once"), "{table}");
}

/// Proves: DL-9
#[rstest]
#[case::as_headers(Request::event("orders", "1").header("traceparent", TRACE).header("tracestate", "a=1"))]
#[case::as_attributes(Request::event("orders", "1").header("ce-traceparent", TRACE).header("ce-tracestate", "a=1"))]
#[tokio::test]
async fn trace_context_continues_through(#[values("memory", "embedded")] kind: &str, #[case] request: Request) {
    let sink = Sink::start().await;
    let gateway = orders(kind, &sink, json!({})).await;
    gateway.send(&request).await.is(202);
    let received = sink.wait_for_one().await;
    let found = received
        .header("traceparent")
        .map(str::to_owned)
        .or_else(|| received.attribute("traceparent"));
    let found = found.expect("a traceparent");
    // The trace goes on; the span may be ours.
    assert_eq!(found.split('-').nth(1), TRACE.split('-').nth(1), "{found}");
    let state = received
        .header("tracestate")
        .map(str::to_owned)
        .or_else(|| received.attribute("tracestate"));
    assert_eq!(state.as_deref(), Some("a=1"));
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Proves: DL-1
#[tokio::test]
async fn structured_deliveries_are_whole_documents() {
    let sink = Sink::start().await;
    let gateway = orders("memory", &sink, json!({ "delivery": { "format": "json" } })).await;
    gateway.accept("orders", ["1"]).await;
    let received = sink.wait_for_one().await;
    assert!(
        received
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/cloudevents+json"))
    );
    assert!(
        received.headers.keys().all(|name| !name.as_str().starts_with("ce-")),
        "{:?}",
        received.headers
    );
    let event = received.json();
    assert_eq!((&event["id"], &event["data"]), (&json!("1"), &json!({ "n": 1 })));
}

/// Proves: CH-3
#[tokio::test]
async fn max_in_flight_bounds_what_a_subscriber_is_given_at_once() {
    let sink = Sink::start().await;
    sink.always(Response::never());
    let gateway = orders("memory", &sink, json!({ "maxInFlight": 3 })).await;
    gateway.accept("orders", (0..20).map(|n| n.to_string())).await;
    sink.wait_for(3).await;
    sink.listens_at(3, Duration::from_millis(500)).await;
}

/// Proves: DL-1
#[tokio::test]
async fn https_is_spoken_to_subscribers_whose_certificate_is_trusted() {
    let (trusted, stranger) = (Sink::start_tls().await, Sink::start_tls().await);
    let folder = tempfile::tempdir().expect("a folder");
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, trusted.certificate().expect("it speaks TLS")).expect("a file");
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("trusted", "orders", &trusted.url(), json!({})),
            subscription(
                "stranger",
                "orders",
                &stranger.url(),
                json!({ "delivery": { "retry": 1 } }),
            ),
        ])
        .environment("SSL_CERT_FILE", &roots.to_string_lossy())
        .start()
        .await;
    gateway.accept("orders", ["1"]).await;
    assert_eq!(trusted.wait_for_one().await.id(), "1");
    eventually("a dead letter for the one that is not trusted", || async {
        let list = gateway.cli(&["dead", "list", "stranger", "-o", "json"]).await.json();
        list[0].as_object().cloned()
    })
    .await;
    assert_eq!(stranger.count(), 0);
}

/// Proves: DL-1
#[tokio::test]
async fn http_2_without_tls_is_spoken_when_the_url_says_so() {
    let sink = Sink::start().await;
    let url = sink.url().replace("http://", "h2c://");
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("audit", "orders", &url, json!({})),
    ])
    .await;
    gateway.accept("orders", (0..20).map(|n| n.to_string())).await;
    let received = sink.wait_for(20).await;
    assert!(
        received
            .iter()
            .all(|request| request.version == http::Version::HTTP_2 && request.connection == 0)
    );
}
