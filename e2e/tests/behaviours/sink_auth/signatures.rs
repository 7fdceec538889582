//! Requests signed by Standard Webhooks, verified with the library that others wrote.

use e2e::{
    Gateway, Response, Sink,
    documents::{bare_subscription, channel, secret},
    eventually,
    peers::{self, Peer},
    sink::Received,
};
use serde_json::{Value, json};

const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

const GOOD: &str = "good";

/// The library's word on each request.
async fn verified(gateway: &Gateway, key: &str, requests: &[Received]) -> Vec<String> {
    let requests: Vec<Value> = requests
        .iter()
        .map(|request| {
            let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
            let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
            let headers: serde_json::Map<String, Value> = names
                .iter()
                .map(|name| ((*name).to_owned(), header(name).into()))
                .collect();
            json!({ "headers": headers, "body": String::from_utf8_lossy(&request.body) })
        })
        .collect();
    let file = gateway.home().join("requests.json");
    std::fs::write(&file, json!(requests).to_string()).expect("a file");
    let output = peers::run(Peer::Node, "verify-webhooks.mjs", &[key, &file.to_string_lossy()]).await;
    serde_json::from_str(&output).expect("a list")
}

fn signed(sink: &Sink, previous: bool) -> Value {
    let mut keys = json!({ "secretKeyRef": { "name": "keys", "key": "current" } });
    if previous {
        keys["previousSecretKeyRef"] = json!({ "name": "keys", "key": "previous" });
    }
    json!({ "uri": sink.url(), "sign": { "standardWebhooks": keys } })
}

/// Proves: DL-1, SR-6
#[tokio::test]
async fn subscriber_reply_and_dead_letter_sink_get_signatures_that_others_verify() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let [subscriber, reply, dead_letters] = [Sink::start().await, Sink::start().await, Sink::start().await];
    subscriber.answer_by(|request| {
        Some(match request.json()["id"].as_str() {
            Some("refused") => Response::status(400),
            _ => Response::reply("answer", "e2e.answer", r#"{"n":1}"#),
        })
    });
    let gateway = Gateway::with([
        secret("keys", json!({ "current": FIRST })),
        channel("orders", "memory"),
        bare_subscription(
            "s",
            "orders",
            json!({
                "subscriber": signed(&subscriber, false), "reply": signed(&reply, false),
                "delivery": { "deadLetterSink": signed(&dead_letters, false) },
            }),
        ),
    ])
    .await;
    gateway.accept("orders", ["1", "refused"]).await;
    let mut all = subscriber.wait_for(2).await;
    all.extend(reply.wait_for(1).await);
    all.extend(dead_letters.wait_for(1).await);
    assert_eq!(verified(&gateway, FIRST, &all).await, vec![GOOD; all.len()]);
    let mut ids: Vec<&str> = Vec::new();
    for request in &all {
        // The signature covers the attributes, because they are in the body.
        let media = request.header("content-type").unwrap_or_default();
        assert!(media.starts_with("application/cloudevents+json"), "{media}");
        assert_eq!(request.header("ce-id"), None);
        assert!(request.json()["source"].is_string());
        ids.extend(request.header("webhook-id"));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        ids.len(),
        all.len(),
        "the letter of an event is another message than the event: {ids:?}"
    );
    assert_ne!(verified(&gateway, SECOND, &all[..1]).await, [GOOD]);
    all[0].body = String::from_utf8_lossy(&all[0].body)
        .replace("\"source\"", "\"Source\"")
        .into();
    assert_ne!(
        verified(&gateway, FIRST, &all[..1]).await,
        [GOOD],
        "a changed attribute is noticed"
    );
}

/// Proves: DL-2, SR-6
#[tokio::test]
async fn an_event_keeps_its_id_in_every_attempt_and_replay() {
    let sink = Sink::start().await;
    sink.next([Response::status(503), Response::hang_up(), Response::status(204)]);
    let gateway = Gateway::with([
        secret("keys", json!({ "current": FIRST })),
        channel("orders", "embedded"),
        bare_subscription("s", "orders", json!({ "subscriber": signed(&sink, false) })),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(3).await;
    gateway.cli(&["replay", "s", "--from", "1h"]).await.exits(0);
    let all = sink.wait_for(4).await;
    let ids: Vec<_> = all.iter().map(|request| request.header("webhook-id")).collect();
    assert!(ids[0].is_some_and(|id| id.starts_with("msg_")), "{ids:?}");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

/// Proves: SR-6
#[tokio::test]
async fn during_a_rotation_both_keys_verify_and_afterwards_the_new_one_alone() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        secret("keys", json!({ "current": FIRST })),
        channel("orders", "memory"),
        bare_subscription("s", "orders", json!({ "subscriber": signed(&sink, false) })),
    ])
    .await;
    let count = std::cell::Cell::new(0);
    let next = async |signatures: usize| {
        eventually("a request with so many signatures", || async {
            count.set(count.get() + 1);
            gateway.accept("orders", [count.get().to_string()]).await;
            let newest = sink.wait_for(count.get()).await.pop()?;
            let found = newest.header("webhook-signature")?.split(' ').count();
            (found == signatures).then_some(newest)
        })
        .await
    };
    let first = next(1).await;
    gateway.apply(&secret("keys", json!({ "current": SECOND, "previous": FIRST })));
    gateway.apply(&bare_subscription(
        "s",
        "orders",
        json!({ "subscriber": signed(&sink, true) }),
    ));
    let both = next(2).await;
    gateway.apply(&bare_subscription(
        "s",
        "orders",
        json!({ "subscriber": signed(&sink, false) }),
    ));
    let last = next(1).await;
    let all = [first, both, last];
    let word = |words: Vec<String>| words.iter().map(|word| word == GOOD).collect::<Vec<_>>();
    assert_eq!(word(verified(&gateway, FIRST, &all).await), [true, true, false]);
    assert_eq!(word(verified(&gateway, SECOND, &all).await), [false, true, true]);
}
