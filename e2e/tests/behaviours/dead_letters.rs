//! Where events go that cannot be delivered: to a sink or the channel's own log, whole, and never nowhere.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{
    Gateway, Request, Response, Sink,
    documents::{bare_subscription, channel, channel_reference, channel_with, subscription},
    eventually, ports,
};
use rstest::rstest;
use serde_json::{Value, json};

/// The letters in the log, as `headgate dead list` shows them, once there are `count`.
async fn letters(gateway: &Gateway, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters in the log"), || async {
        let list = gateway.cli(&["dead", "list", "-o", "json"]).await.json();
        list.as_array().filter(|list| list.len() >= count).cloned()
    })
    .await
}

/// Proves: DL-5, DL-6
#[rstest]
#[tokio::test]
async fn an_exhausted_event_goes_to_the_dead_letter_sink_with_what_happened(
    #[values("memory", "embedded")] kind: &str,
) {
    let (sink, dead) = (Sink::start().await, Sink::start().await);
    sink.always(Response::status(500).body("the till is on fire"));
    let delivery = json!({ "retry": 2, "deadLetterSink": { "uri": dead.url() } });
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), json!({ "delivery": delivery })),
    ])
    .await;
    gateway
        .send(
            &Request::event("orders", "1")
                .header("ce-myext", "kept")
                .body(b"{ \"n\": 1.0 }"),
        )
        .await
        .is(202);
    let letter = dead.wait_for_one().await;
    assert_eq!(sink.count(), 3);
    assert_eq!(&letter.body[..], b"{ \"n\": 1.0 }");
    for (name, value) in [
        ("id", "1"),
        ("source", "/e2e"),
        ("type", "e2e.test"),
        ("myext", "kept"),
        ("knativeerrordest", sink.url().as_str()),
        ("knativeerrorcode", "500"),
        ("headgatesubscription", "default/audit"),
        ("headgateattempts", "3"),
    ] {
        assert_eq!(letter.attribute(name).as_deref(), Some(value), "{name}");
    }
    assert!(
        letter
            .attribute("headgatereason")
            .is_some_and(|reason| !reason.is_empty())
    );
    let data = STANDARD
        .decode(letter.attribute("knativeerrordata").expect("the answer's body"))
        .expect("base64");
    assert_eq!(data, b"the till is on fire");
    assert_eq!(gateway.cli(&["dead", "list", "-o", "json"]).await.json(), json!([]));
}

/// Proves: DL-6
#[tokio::test]
async fn a_long_answer_is_cut_to_1024_characters_that_still_decode() {
    let (sink, dead) = (Sink::start().await, Sink::start().await);
    let body: String = (0..5000)
        .map(|n| char::from(b'a' + u8::try_from(n % 26).expect("a letter")))
        .collect();
    sink.always(Response::status(400).body(body.clone()));
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription(
            "audit",
            "orders",
            &sink.url(),
            json!({ "delivery": { "deadLetterSink": { "uri": dead.url() } } }),
        ),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    let letter = dead.wait_for_one().await;
    let data = letter.attribute("knativeerrordata").expect("the answer's body");
    assert!(data.len() <= 1024 && data.len() > 1000, "{} characters", data.len());
    let decoded = STANDARD.decode(&data).expect("still decodable");
    assert!(body.as_bytes().starts_with(&decoded));
    assert_eq!(letter.attribute("headgateattempts").as_deref(), Some("1"));
}

/// Proves: DL-6
#[tokio::test]
async fn without_an_answer_there_is_no_code_and_without_a_body_no_data() {
    let (empty, dead) = (Sink::start().await, Sink::start().await);
    empty.always(Response::status(400));
    let nobody = format!("http://{}/", ports::free());
    let delivery = json!({ "delivery": { "retry": 1, "deadLetterSink": { "uri": dead.url() } } });
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("nobody", "orders", &nobody, delivery.clone()),
        subscription("empty", "orders", &empty.url(), delivery),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    let received = dead.wait_for(2).await;
    let of = |name: &str| {
        let wanted = Some(format!("default/{name}"));
        received
            .iter()
            .find(|letter| letter.attribute("headgatesubscription") == wanted)
            .expect("a letter")
            .clone()
    };
    assert_eq!(of("nobody").attribute("knativeerrorcode"), None);
    assert_eq!(
        of("nobody").attribute("knativeerrordest").as_deref(),
        Some(nobody.as_str())
    );
    assert_eq!(of("empty").attribute("knativeerrorcode").as_deref(), Some("400"));
    assert_eq!(of("empty").attribute("knativeerrordata"), None);
}

/// Proves: DL-5
#[rstest]
#[tokio::test]
async fn the_dead_letter_sink_is_retried_by_the_same_policy(#[values("memory", "embedded")] kind: &str) {
    let (sink, dead) = (Sink::start().await, Sink::start().await);
    sink.always(Response::status(400));
    dead.next([Response::status(503), Response::hang_up()]);
    let delivery = json!({ "delivery": { "retry": 2, "deadLetterSink": { "uri": dead.url() } } });
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), delivery),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    dead.wait_for(3).await;
    dead.stays_at(3, std::time::Duration::from_millis(300)).await;
    assert_eq!(gateway.cli(&["dead", "list", "-o", "json"]).await.json(), json!([]));
}

/// Proves: DL-5, CH-7
#[rstest]
#[case::without_a_dead_letter_sink(false)]
#[case::when_that_sink_fails_too(true)]
#[tokio::test]
async fn an_undeliverable_event_lies_in_the_channels_log(
    #[values("memory", "embedded")] kind: &str,
    #[case] with_sink: bool,
) {
    let (sink, dead) = (Sink::start().await, Sink::start().await);
    sink.always(Response::status(500).body("no"));
    dead.always(Response::status(500));
    let delivery = if with_sink {
        json!({ "delivery": { "retry": 1, "deadLetterSink": { "uri": dead.url() } } })
    } else {
        json!({ "delivery": { "retry": 1 } })
    };
    let mut gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), delivery),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    let letter = letters(&gateway, 1).await.remove(0);
    assert!(letter.to_string().contains("default/audit"), "{letter}");
    assert_eq!(dead.count(), if with_sink { 2 } else { 0 });
    if kind == "embedded" {
        // A settlement is durable milliseconds after the letter (CH-5): a kill in between makes a second one.
        sink.stays_at(2, std::time::Duration::from_millis(300)).await;
        gateway.kill().await;
        gateway.start_again().await;
        assert_eq!(letters(&gateway, 1).await.len(), 1, "the log survives a kill");
    }
    assert_eq!(sink.count(), 2, "a dead letter is settled: it is not delivered again");
}

/// Proves: DL-5
#[tokio::test]
async fn a_channel_may_be_the_dead_letter_sink() {
    let (sink, end) = (Sink::start().await, Sink::start().await);
    sink.always(Response::status(400));
    let delivery = json!({ "delivery": { "deadLetterSink": { "ref": channel_reference("dead") } } });
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        channel("dead", "embedded"),
        subscription("audit", "orders", &sink.url(), delivery),
        subscription("undertaker", "dead", &end.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    let letter = end.wait_for_one().await;
    assert_eq!(
        letter.attribute("headgatesubscription").as_deref(),
        Some("default/audit")
    );
    assert_eq!(letter.attribute("knativeerrorcode").as_deref(), Some("400"));
}

/// Proves: DL-5
#[tokio::test]
async fn a_channels_delivery_is_the_default_of_its_subscriptions_field_by_field() {
    let (sink, dead) = (Sink::start().await, Sink::start().await);
    sink.always(Response::status(500));
    let defaults =
        json!({ "delivery": { "retry": 1, "backoffDelay": "PT0.02S", "deadLetterSink": { "uri": dead.url() } } });
    let own = json!({ "subscriber": { "uri": sink.url() }, "delivery": { "retry": 3, "backoffDelay": "PT0.02S" } });
    let gateway = Gateway::with([
        channel_with("orders", "memory", defaults),
        bare_subscription("audit", "orders", own),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    let letter = dead.wait_for_one().await;
    assert_eq!(letter.attribute("headgateattempts").as_deref(), Some("4"));
}

/// Proves: DL-5, DL-6, CH-7
#[rstest]
#[tokio::test]
async fn letters_are_shown_redriven_and_dropped_from_the_command_line(#[values("memory", "embedded")] kind: &str) {
    let (sink, other) = (Sink::start().await, Sink::start().await);
    let body = "x".repeat(3000);
    sink.always(Response::status(422).body(body.clone()));
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", &sink.url(), json!({})),
        subscription("other", "orders", &other.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1", "2", "3"]).await;
    assert_eq!(letters(&gateway, 3).await.len(), 3);

    let table = gateway.cli(&["dead", "list", "audit"]).await.exits(0).stdout;
    let heading = table.lines().next().unwrap_or_default();
    for column in ["SUBSCRIPTION", "EVENT", "TYPE", "REASON", "CODE", "ATTEMPTS", "AGE"] {
        assert!(heading.contains(column), "{table}");
    }
    assert!(table.contains("422"), "{table}");

    let whole = gateway.cli(&["dead", "show", "audit", "2"]).await.exits(0).stdout;
    assert!(whole.contains(&body), "the whole answer is shown: {whole}");
    gateway.cli(&["dead", "show", "audit", "no-such-event"]).await.exits(1);

    gateway.cli(&["dead", "drop", "audit", "1"]).await.exits(0);
    assert_eq!(letters(&gateway, 2).await.len(), 2);

    sink.always(Response::status(204));
    let before = sink.count();
    gateway.cli(&["dead", "redrive", "audit", "2"]).await.exits(0);
    sink.wait_for(before + 1).await;
    assert_eq!(sink.ids().last().map(String::as_str), Some("2"));
    gateway.cli(&["dead", "redrive", "audit"]).await.exits(0);
    sink.wait_for(before + 2).await;
    eventually("the log is empty", || async {
        (gateway.cli(&["dead", "list", "-o", "json"]).await.json() == json!([])).then_some(())
    })
    .await;
    let mut ids = other.ids();
    ids.sort();
    assert_eq!(ids, ["1", "2", "3"], "redriving concerns one subscription alone");
}
