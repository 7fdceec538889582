//! GitHub's webhooks in: who may send, in which order it is checked, and what event comes out.

use std::{collections::BTreeSet, fs, time::Duration};

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, channel_reference, github_source, secret, subscription},
    eventually,
    gateway::condition,
    github::{delivery, signature, unsigned},
    peers::{self, Peer},
    sink::Received,
};
use rstest::rstest;
use serde_json::{Value, json};

const SECRET: &str = "It's a Secret to Everybody";
const PUSH: &[u8] = br#"{ "ref":"refs/heads/main", "repository":{"full_name":"octo/hello"}, "sender":{"login":"mona"}, "big": 12345678901234567890 }"#;

async fn hooked(kind: &str, event_types: &[&str]) -> (Gateway, Sink) {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("github", kind),
        subscription("all", "github", &sink.url(), json!({})),
        secret("github", json!({ "secretToken": SECRET })),
        github_source("hello", event_types, &channel_reference("github")),
    ])
    .await;
    listening(&gateway).await;
    (gateway, sink)
}

/// Waits until the source takes deliveries: before, it is unknown (404) or not ready (503).
async fn listening(gateway: &Gateway) {
    eventually("the hook's path is known", || async {
        let status = gateway.send(&unsigned("hello", "ping", "0", b"{}")).await.status;
        (status != 404 && status != 503).then_some(())
    })
    .await;
}

/// Proves: SR-1, SR-2, SR-3
#[rstest]
#[tokio::test]
async fn a_signed_push_becomes_an_event(#[values("memory", "embedded")] kind: &str) {
    let (gateway, sink) = hooked(kind, &["push"]).await;
    gateway
        .send(&delivery(
            "hello",
            "push",
            "72d3162e-cc78-11e3-81ab-4c9367dc0958",
            PUSH,
            SECRET,
        ))
        .await
        .is(202);
    let event = sink.wait_for_one().await;
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", "dev.knative.source.github.push"),
        ("id", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("source", "https://github.com/octo/hello"),
        ("subject", "refs/heads/main"),
        ("sender", "mona"),
        ("repository", "octo/hello"),
        ("githubhook", "292430182"),
    ] {
        assert_eq!(event.attribute(name).as_deref(), Some(value), "{name}");
    }
    assert!(event.attribute("time").is_some());
    assert_eq!(event.header("content-type"), Some("application/json"));
    assert_eq!(&event.body[..], PUSH, "the payload's bytes are passed on as received");
    let sink_uri = format!("http://{}/default/github", gateway.listen());
    gateway
        .wait_object("githubsource", "hello", |object| {
            object["status"]["sinkUri"] == sink_uri
        })
        .await;
}

/// Proves: SR-3
#[tokio::test]
async fn a_form_delivery_carries_the_same_payload() {
    let (gateway, sink) = hooked("memory", &["push"]).await;
    let form: String = PUSH
        .iter()
        .fold("payload=".to_owned(), |form, byte| format!("{form}%{byte:02X}"));
    let request = unsigned("hello", "push", "1", form.as_bytes())
        .header("content-type", "application/x-www-form-urlencoded")
        .header("X-Hub-Signature-256", signature(SECRET, form.as_bytes()));
    gateway.send(&request).await.is(202);
    assert_eq!(&sink.wait_for_one().await.body[..], PUSH);
}

/// Proves: SR-1, IN-3
#[rstest]
#[case::another_method(Request::new("GET", "/hooks/default/hello"), 405)]
#[case::an_unknown_source(delivery("other", "push", "1", PUSH, SECRET), 404)]
#[case::an_unknown_source_unsigned(unsigned("other", "push", "1", PUSH), 404)]
#[case::no_event_name(delivery("hello", "push", "1", PUSH, SECRET).without("X-GitHub-Event"), 400)]
#[case::no_delivery_id(delivery("hello", "push", "1", PUSH, SECRET).without("X-GitHub-Delivery"), 400)]
#[case::no_signature(unsigned("hello", "push", "1", PUSH), 401)]
#[case::another_secret(delivery("hello", "push", "1", PUSH, "wrong"), 401)]
#[case::another_body(delivery("hello", "push", "1", PUSH, SECRET).body(b"{}"), 401)]
#[case::a_signature_that_is_none(unsigned("hello", "push", "1", PUSH).header("X-Hub-Signature-256", "sha256=zz"), 401)]
#[case::a_ping(delivery("hello", "ping", "1", b"{\"zen\":\"x\"}", SECRET), 200)]
#[case::an_unsigned_ping(unsigned("hello", "ping", "1", b"{}"), 401)]
#[case::a_type_not_asked_for(delivery("hello", "star", "1", b"{}", SECRET), 202)]
#[case::a_body_that_is_no_object(delivery("hello", "push", "1", b"[1]", SECRET), 400)]
#[case::a_body_that_is_no_json(delivery("hello", "push", "1", b"{", SECRET), 400)]
#[tokio::test]
async fn deliveries_are_checked_in_order_and_nothing_else_is_stored(#[case] request: Request, #[case] status: u16) {
    let (gateway, sink) = hooked("memory", &["push"]).await;
    gateway.send(&request).await.is(status);
    gateway
        .send(&delivery("hello", "push", "marker", PUSH, SECRET))
        .await
        .is(202);
    assert_eq!(sink.wait_for_one().await.id(), "marker");
}

/// Proves: IN-3
#[tokio::test]
async fn a_hook_may_carry_25_mib() {
    let (gateway, sink) = hooked("embedded", &["push"]).await;
    let body = format!("{{\"ref\":\"refs/heads/x\",\"pad\":\"{}\"}}", "x".repeat(20 << 20));
    gateway
        .send(&delivery("hello", "push", "large", body.as_bytes(), SECRET))
        .await
        .is(202);
    assert_eq!(sink.wait_for_one().await.body.len(), body.len());
    let mut request = unsigned("hello", "push", "huge", b"");
    request = request.header("content-length", (26 << 20).to_string());
    let mut connection = e2e::client::Connection::open(gateway.listen())
        .await
        .expect("the gateway listens");
    connection.write(&request.head()).await.expect("written");
    assert_eq!(connection.read().await.expect("an answer").status, 413);
}

/// Proves: SR-1, SR-5, CH-9
#[tokio::test]
async fn a_refused_append_is_503_so_that_github_records_a_failure() {
    let sink = Sink::start().await;
    sink.always(Response::never());
    let gateway = Gateway::with([
        e2e::documents::channel_with("github", "memory", json!({ "arguments": { "capacity": 2 } })),
        subscription("stuck", "github", &sink.url(), json!({})),
        secret("github", json!({ "secretToken": SECRET })),
        github_source("hello", &["*"], &channel_reference("github")),
    ])
    .await;
    listening(&gateway).await;
    gateway
        .send(&delivery("hello", "push", "1", PUSH, SECRET))
        .await
        .is(202);
    gateway
        .send(&delivery("hello", "push", "2", PUSH, SECRET))
        .await
        .is(202);
    gateway
        .send(&delivery("hello", "push", "3", PUSH, SECRET))
        .await
        .is(503);
}

/// Proves: SR-6
#[tokio::test]
async fn a_changed_secret_is_read_again_and_never_shown() {
    let (gateway, sink) = hooked("memory", &["push"]).await;
    gateway.apply(&secret("github", json!({ "secretToken": "another-hidden-value" })));
    eventually("the new secret is accepted", || async {
        let request = delivery("hello", "push", "new", PUSH, "another-hidden-value");
        (gateway.send(&request).await.status == 202).then_some(())
    })
    .await;
    gateway
        .send(&delivery("hello", "push", "old", PUSH, SECRET))
        .await
        .is(401);
    assert_eq!(sink.wait_for_one().await.id(), "new");
    let shown = [
        gateway
            .cli(&["get", "githubsource", "hello", "-o", "yaml"])
            .await
            .stdout,
        gateway.cli(&["get", "secret", "github", "-o", "yaml"]).await.stdout,
        gateway.admin_get("/metrics").await.text(),
        gateway.log(),
    ];
    for text in shown {
        assert!(
            !text.contains("another-hidden-value") && !text.contains(SECRET),
            "a secret is shown: {text}"
        );
    }
}

/// Proves: SR-1
#[rstest]
#[case::unless_the_document_says_so(false, 401)]
#[case::and_the_document_says_so(true, 202)]
#[tokio::test]
async fn a_source_without_a_secret_takes_nothing_unsigned(#[case] allow_unsigned: bool, #[case] status: u16) {
    let sink = Sink::start().await;
    let mut source = github_source("hello", &["push"], &channel_reference("github"));
    let spec = source["spec"].as_object_mut().expect("a spec");
    spec.remove("secretToken");
    spec.insert(
        "accessToken".into(),
        json!({ "secretKeyRef": { "name": "github", "key": "accessToken" } }),
    );
    if allow_unsigned {
        spec.insert("allowUnsigned".into(), json!(true));
    }
    let gateway = Gateway::with([
        channel("github", "memory"),
        subscription("all", "github", &sink.url(), json!({})),
        secret("github", json!({ "accessToken": "t" })),
        source,
    ])
    .await;
    listening(&gateway).await;
    gateway.send(&unsigned("hello", "push", "1", PUSH)).await.is(status);
    let object = gateway
        .wait_object("githubsource", "hello", |object| {
            condition(object, "Authenticated").is_some_and(|found| found["reason"] == "Unauthenticated")
        })
        .await;
    let said = condition(&object, "Authenticated").expect("a condition")["message"].to_string();
    assert!(said.contains("allowUnsigned"), "{said}");
    if allow_unsigned {
        sink.wait_for(1).await;
    } else {
        assert!(said.contains("set secretToken"), "{said}");
        assert_eq!(sink.count(), 0);
    }
}

/// Proves: SR-1
#[tokio::test]
async fn a_signed_body_is_not_taken_as_another_event() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("github", "memory"),
        subscription("all", "github", &sink.url(), json!({})),
        secret("github", json!({ "secretToken": SECRET })),
        github_source("hello", &["*"], &channel_reference("github")),
    ])
    .await;
    listening(&gateway).await;
    gateway
        .send(&delivery("hello", "push", "1", PUSH, SECRET))
        .await
        .is(202);
    gateway
        .send(&delivery("hello", "release", "2", PUSH, SECRET))
        .await
        .is(401);
    gateway
        .send(&delivery("hello", "push", "1", PUSH, SECRET))
        .await
        .is(202);
    sink.wait_for(2).await;
}

/// Proves: SR-6, OP-3
#[tokio::test]
async fn a_missing_secret_is_a_condition_with_its_old_reason() {
    let mut gateway = Gateway::set_up()
        .documents([
            channel("github", "memory"),
            github_source("hello", &["push"], &channel_reference("github")),
        ])
        .prepare();
    gateway.start_again().await;
    let object = gateway
        .wait_object("githubsource", "hello", |object| {
            condition(object, "SecretsProvided").is_some_and(|found| found["status"] == "False")
        })
        .await;
    assert_eq!(
        condition(&object, "SecretsProvided").expect("a condition")["reason"],
        "SecretTokenNotFound"
    );
    // Nothing may come in that cannot be verified; a 503 makes GitHub keep it as a failed delivery.
    let refused = gateway.send(&delivery("hello", "push", "1", PUSH, SECRET)).await;
    assert!(refused.is(503).header("retry-after").is_some());
    let metrics = gateway.admin_get("/metrics").await.text();
    assert!(
        metrics.contains(r#"headgate_requests_refused_total{reason="SourceNotReady"}"#),
        "{metrics}"
    );
    gateway.apply(&secret("github", json!({ "secretToken": SECRET })));
    eventually("the delivery is taken once the secret is there", || async {
        let again = gateway.send(&delivery("hello", "push", "1", PUSH, SECRET)).await;
        (again.status == 202).then_some(())
    })
    .await;
}

/// Proves: SR-1, OP-3
#[tokio::test]
async fn a_missing_sink_asks_github_to_come_again() {
    let mut gateway = Gateway::set_up()
        .documents([
            secret("github", json!({ "secretToken": SECRET })),
            github_source("hello", &["push"], &channel_reference("github")),
        ])
        .prepare();
    gateway.start_again().await;
    gateway
        .wait_object("githubsource", "hello", |object| {
            condition(object, "SinkProvided").is_some_and(|found| found["status"] == "False")
        })
        .await;
    listening(&gateway).await;
    let refused = gateway.send(&delivery("hello", "push", "1", PUSH, SECRET)).await;
    assert!(refused.is(503).header("retry-after").is_some());
    gateway.send(&unsigned("hello", "push", "1", PUSH)).await.is(401);
    gateway.apply(&channel("github", "memory"));
    eventually("the delivery is taken once the sink is there", || async {
        let again = gateway.send(&delivery("hello", "push", "1", PUSH, SECRET)).await;
        (again.status == 202).then_some(())
    })
    .await;
    let metrics = gateway.admin_get("/metrics").await.text();
    let stored = r#"headgate_github_deliveries_total{namespace="default",name="hello",result="Stored"} 1"#;
    assert!(metrics.contains(stored), "{metrics}");
}

/// Proves: SR-1, SR-5, DL-5
#[tokio::test]
async fn direct_delivery_survives_a_sink_that_is_down_and_a_kill() {
    let address = e2e::ports::free();
    let mut gateway = Gateway::with([
        secret("github", json!({ "secretToken": SECRET })),
        github_source("hello", &["*"], &json!({ "uri": format!("http://{address}/ci") })),
    ])
    .await;
    listening(&gateway).await;
    for n in 0..5 {
        gateway
            .send(&delivery("hello", "push", &n.to_string(), PUSH, SECRET))
            .await
            .is(202);
    }
    gateway.kill().await;
    gateway.start_again().await;
    let sink = Sink::at(address).await;
    sink.wait_for(5).await;
    let ids: BTreeSet<String> = sink.ids().into_iter().collect();
    assert_eq!(ids, (0..5).map(|n| n.to_string()).collect());
    assert!(sink.received().iter().all(|Received { path, .. }| path == "/ci"));
}

/// Proves: SR-1
#[tokio::test]
async fn overrides_are_laid_over_every_event_of_the_source() {
    let sink = Sink::start().await;
    let mut source = github_source("hello", &["push"], &channel_reference("github"));
    source["spec"]["ceOverrides"] = json!({ "extensions": { "team": "octo", "stage": "test" } });
    let gateway = Gateway::with([
        channel("github", "memory"),
        subscription("all", "github", &sink.url(), json!({})),
        secret("github", json!({ "secretToken": SECRET })),
        source,
    ])
    .await;
    listening(&gateway).await;
    gateway
        .send(&delivery("hello", "push", "1", PUSH, SECRET))
        .await
        .is(202);
    let event = sink.wait_for_one().await;
    assert_eq!(event.attribute("team").as_deref(), Some("octo"));
    assert_eq!(event.attribute("stage").as_deref(), Some("test"));
}

/// Every event GitHub documents, with its own payload, signed by GitHub's own library.
///
/// Proves: SR-1, SR-2, SR-3
#[tokio::test]
async fn every_real_payload_arrives_as_it_was_signed() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let (gateway, sink) = hooked("embedded", &["*"]).await;
    let folder = gateway.home().join("payloads");
    fs::create_dir(&folder).expect("a folder");
    // One line of JSON each: event, guid, signature, file with the payload's bytes.
    let output = peers::run(Peer::Node, "sign-examples.mjs", &[SECRET, &folder.to_string_lossy()]).await;
    let deliveries: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert!(deliveries.len() > 200, "only {} examples", deliveries.len());
    let mut expected = std::collections::BTreeMap::new();
    for example in &deliveries {
        let field = |name: &str| example[name].as_str().expect("text");
        let body = fs::read(field("file")).expect("a payload");
        let request =
            unsigned("hello", field("event"), field("guid"), &body).header("X-Hub-Signature-256", field("signature"));
        let answer = gateway.send(&request).await;
        if field("event") == "ping" {
            assert_eq!(answer.status, 200, "{answer}");
        } else {
            assert_eq!(answer.status, 202, "{}: {answer}", field("event"));
            expected.insert(
                field("guid").to_owned(),
                (format!("dev.knative.source.github.{}", field("event")), body),
            );
        }
    }
    let received = sink.wait_for(expected.len()).await;
    sink.listens_at(expected.len(), Duration::from_millis(200)).await;
    for event in received {
        let (kind, body) = &expected[&event.id()];
        assert_eq!(event.attribute("type").as_ref(), Some(kind));
        assert_eq!(&event.body[..], &body[..], "{kind}");
    }
}
