//! Destinations that ask who the gateway is: headers and credentials, their rotation, and that no output shows them.

mod signatures;
mod tls;
mod tokens;

use std::time::Duration;

use e2e::{
    Gateway, Response, Sink,
    documents::{bare_subscription, channel, channel_with, github_source, secret, subscription},
    eventually,
    gateway::{condition, is_ready},
    github::delivery,
};
use serde_json::{Value, json};

/// `Basic` with the user `shop` and the password `pass-word-of-basic`.
const BASIC: &str = "Basic c2hvcDpwYXNzLXdvcmQtb2YtYmFzaWM=";

fn bearer(secret: &str, key: &str) -> Value {
    json!({ "bearer": { "secretKeyRef": { "name": secret, "key": key } } })
}

/// What a person or a program can read of a gateway: its log, its API, the output of its commands.
async fn outputs(gateway: &Gateway) -> String {
    let mut all = vec![gateway.log()];
    for path in [
        "/metrics",
        "/readyz",
        "/api/v1/objects",
        "/api/v1/info",
        "/api/v1/deadletters",
    ] {
        all.push(gateway.admin_get(path).await.text());
    }
    let kinds = ["channel", "subscription", "secret", "githubsource"];
    for kind in kinds {
        for form in ["wide", "yaml", "json"] {
            all.push(gateway.cli(&["get", kind, "-o", form]).await.stdout);
        }
    }
    let letters = gateway.cli(&["dead", "list", "-o", "json"]).await;
    for letter in letters.json().as_array().into_iter().flatten() {
        let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
        let (subscription, id) = (text("subscription"), text("event"));
        all.push(gateway.cli(&["dead", "show", &subscription, &id]).await.stdout);
        all.push(gateway.cli(&["explain", &id]).await.stdout);
    }
    all.push(letters.stdout);
    all.push(gateway.cli(&["doctor"]).await.stdout);
    let documents = gateway.documents().to_string_lossy().into_owned();
    all.push(gateway.cli(&["doctor", &documents]).await.stdout);
    let validated = e2e::cli::run(&["validate", &documents]).await;
    all.extend([validated.stdout, validated.stderr]);
    all.join("\n")
}

/// Proves: SR-6, DL-1
#[tokio::test]
async fn every_kind_of_destination_is_sent_its_headers_and_credential() {
    let [subscriber, reply, dead_letters, direct] = [
        Sink::start().await,
        Sink::start().await,
        Sink::start().await,
        Sink::start().await,
    ];
    subscriber.answer_by(|request| {
        Some(match request.id().as_str() {
            "refused" => Response::status(400),
            _ => Response::reply("answer", "e2e.answer", "{}"),
        })
    });
    let destination = |sink: &Sink, team: &str, auth: Value| json!({ "uri": sink.url(), "auth": auth, "headers": { "x-team": team, "x-tier": "gold" } });
    let basic = json!({ "basic": { "secretRef": { "name": "basic" } } });
    let tokens = json!({ "subscriber": "token-of-subscriber", "deadletters": "token-of-dead-letters", "direct": "token-of-direct" });
    let sink = destination(&direct, "direct", bearer("tokens", "direct"));
    let gateway = Gateway::with([
        secret("tokens", tokens),
        secret("basic", json!({ "username": "shop", "password": "pass-word-of-basic" })),
        secret("github", json!({ "secretToken": "s3cret" })),
        channel_with(
            "orders",
            "memory",
            json!({ "delivery": { "deadLetterSink": destination(&dead_letters, "letters", bearer("tokens", "deadletters")) } }),
        ),
        bare_subscription(
            "s",
            "orders",
            json!({
                "subscriber": destination(&subscriber, "subscriber", bearer("tokens", "subscriber")),
                "reply": destination(&reply, "reply", basic),
            }),
        ),
        github_source("hello", &["push"], &sink),
    ])
    .await;
    gateway.accept("orders", ["1", "refused"]).await;
    gateway
        .send(&delivery("hello", "push", "guid", b"{}", "s3cret"))
        .await
        .is(202);
    subscriber.wait_for(2).await;
    for (sink, team, authorization) in [
        (&subscriber, "subscriber", "Bearer token-of-subscriber"),
        (&reply, "reply", BASIC),
        (&dead_letters, "letters", "Bearer token-of-dead-letters"),
        (&direct, "direct", "Bearer token-of-direct"),
    ] {
        for request in sink.wait_for(1).await {
            assert_eq!(request.header("authorization"), Some(authorization), "{team}");
            assert_eq!(request.header("x-team"), Some(team));
            assert_eq!(request.header("x-tier"), Some("gold"));
            assert_eq!(request.headers.get_all("authorization").iter().count(), 1);
        }
    }
}

/// Proves: SR-6
#[tokio::test]
async fn no_output_shows_a_credential_even_when_the_sink_repeats_it() {
    let sink = Sink::start().await;
    // A sink that answers with what it was sent, as debugging services do.
    sink.answer_by(|request| {
        let authorization = request.header("authorization").unwrap_or("none").to_owned();
        Some(Response::status(400).body(format!("you sent {authorization}")))
    });
    let gateway = Gateway::with([
        secret("token", json!({ "token": "hunter2-bearer-token" })),
        secret("basic", json!({ "username": "shop", "password": "pass-word-of-basic" })),
        secret("key", json!({ "key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" })),
        channel("orders", "memory"),
        bare_subscription(
            "token",
            "orders",
            json!({ "subscriber": {
                "uri": sink.url(), "auth": bearer("token", "token"),
                "sign": { "standardWebhooks": { "secretKeyRef": { "name": "key", "key": "key" } } },
            } }),
        ),
        bare_subscription(
            "basic",
            "orders",
            json!({ "subscriber": { "uri": sink.url(), "auth": { "basic": { "secretRef": { "name": "basic" } } } } }),
        ),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    for subscription in ["token", "basic"] {
        gateway.wait_for_letter(subscription, "SinkRejected").await;
    }
    let shown = outputs(&gateway).await;
    assert!(shown.contains("you sent"), "the answers are shown: {shown}");
    assert!(shown.contains("<redacted>"), "{shown}");
    for secret in ["hunter2-bearer", "pass-word-of-basic", "c2hvcDpwYXNz", "MfKQ9r8G"] {
        let at = shown.find(secret).map(|at| &shown[at.saturating_sub(200)..]);
        assert_eq!(at, None, "{secret}");
    }
}

/// Proves: SR-6
#[tokio::test]
async fn a_changed_credential_is_used_without_a_restart_and_no_event_is_lost() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        secret("token", json!({ "token": "first-token\n" })),
        channel("orders", "memory"),
        bare_subscription(
            "s",
            "orders",
            json!({ "subscriber": { "uri": sink.url(), "auth": bearer("token", "token") } }),
        ),
    ])
    .await;
    // Its answer comes after the change: the delivery in flight is not disturbed.
    sink.next([Response::status(204).after(Duration::from_secs(2))]);
    gateway.accept("orders", ["slow"]).await;
    sink.wait_for(1).await;
    gateway.apply(&secret("token", json!({ "token": "second-token" })));
    let mut sent = 0;
    eventually("a delivery with the new token", || {
        sent += 1;
        let (gateway, sink, id) = (&gateway, &sink, sent.to_string());
        async move {
            gateway.accept("orders", [&id]).await;
            let all = sink.wait_for(1).await;
            let newest = all.last()?;
            (newest.header("authorization") == Some("Bearer second-token")).then_some(())
        }
    })
    .await;
    let all = sink.wait_for(1 + sent).await;
    assert_eq!(all[0].header("authorization"), Some("Bearer first-token"));
    let mut ids = sink.ids();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1 + sent, "each event once: {:?}", sink.ids());
    assert_eq!(all.len(), 1 + sent, "{:?}", sink.ids());
}

/// Proves: SR-6
#[tokio::test]
async fn without_its_secret_nothing_is_sent_and_events_wait() {
    let (sink, other) = (Sink::start().await, Sink::start().await);
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("other", "orders", &other.url(), json!({})),
            bare_subscription(
                "s",
                "orders",
                json!({ "subscriber": { "uri": sink.url(), "auth": bearer("tokne", "token") } }),
            ),
            secret("token", json!({ "token": "the-token" })),
        ])
        .prepare();
    gateway.start_again().await;
    let is_missing =
        |object: &Value| condition(object, "Resolved").is_some_and(|found| found["reason"] == "CredentialsNotFound");
    let object = gateway.wait_object("subscription", "s", is_missing).await;
    let message = condition(&object, "Resolved").expect("it is there")["message"].to_string();
    assert!(
        message.contains("default/tokne") && message.contains("`token`"),
        "{message}"
    );
    assert_eq!(condition(&object, "Ready").expect("it is there")["status"], "False");
    gateway.accept("orders", ["1"]).await;
    other.wait_for(1).await;
    sink.listens_at(0, Duration::from_millis(300)).await;
    gateway.apply(&secret("tokne", json!({ "token": "the-token" })));
    gateway.wait_object("subscription", "s", is_ready).await;
    assert_eq!(
        sink.wait_for_one().await.header("authorization"),
        Some("Bearer the-token")
    );
    // And again, while it runs.
    gateway.remove(&secret("tokne", json!({})));
    gateway.wait_object("subscription", "s", is_missing).await;
    gateway.accept("orders", ["2"]).await;
    other.wait_for(2).await;
    sink.listens_at(1, Duration::from_millis(300)).await;
}

/// Proves: SR-6
#[tokio::test]
async fn credentials_that_cannot_be_used_are_conditions() {
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            secret("bad", json!({ "username": "a:b", "password": "p", "token": "two words", "key": "whsec_AAAA" })),
            bare_subscription(
                "colon",
                "orders",
                json!({ "subscriber": { "uri": "http://127.0.0.1:9/", "auth": { "basic": { "secretRef": { "name": "bad" } } } } }),
            ),
            bare_subscription(
                "words",
                "orders",
                json!({ "subscriber": { "uri": "http://127.0.0.1:9/", "auth": bearer("bad", "token") } }),
            ),
            bare_subscription(
                "short",
                "orders",
                json!({ "subscriber": {
                    "uri": "http://127.0.0.1:9/",
                    "sign": { "standardWebhooks": { "secretKeyRef": { "name": "bad", "key": "key" } } },
                } }),
            ),
        ])
        .prepare();
    gateway.start_again().await;
    for (name, words) in [("colon", "colon"), ("words", "white space"), ("short", "3 bytes")] {
        let object = gateway
            .wait_object("subscription", name, |object| {
                condition(object, "Resolved").is_some_and(|found| found["reason"] == "CredentialsInvalid")
            })
            .await;
        let message = condition(&object, "Resolved").expect("it is there")["message"].to_string();
        assert!(message.contains(words), "{name}: {message}");
    }
}
