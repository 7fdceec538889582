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
async fn dead_letters(gateway: &Gateway, count: usize) -> Vec<Value> {
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
    let dead_letter = dead.wait_for_one().await;
    assert_eq!(sink.count(), 3);
    assert_eq!(&dead_letter.body[..], b"{ \"n\": 1.0 }");
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
        assert_eq!(dead_letter.attribute(name).as_deref(), Some(value), "{name}");
    }
    assert!(
        dead_letter
            .attribute("headgatereason")
            .is_some_and(|reason| !reason.is_empty())
    );
    let data = STANDARD
        .decode(dead_letter.attribute("knativeerrordata").expect("the answer's body"))
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
    let dead_letter = dead.wait_for_one().await;
    let data = dead_letter.attribute("knativeerrordata").expect("the answer's body");
    assert!(data.len() <= 1024 && data.len() > 1000, "{} characters", data.len());
    let decoded = STANDARD.decode(&data).expect("still decodable");
    assert!(body.as_bytes().starts_with(&decoded));
    assert_eq!(dead_letter.attribute("headgateattempts").as_deref(), Some("1"));
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
            .find(|dead_letter| dead_letter.attribute("headgatesubscription") == wanted)
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
    dead.listens_at(3, std::time::Duration::from_millis(300)).await;
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
    let dead_letter = dead_letters(&gateway, 1).await.remove(0);
    assert!(dead_letter.to_string().contains("default/audit"), "{dead_letter}");
    assert_eq!(dead.count(), if with_sink { 2 } else { 0 });
    if kind == "embedded" {
        // A settlement is durable milliseconds after the letter (CH-5): a kill in between makes a second one.
        sink.listens_at(2, std::time::Duration::from_millis(300)).await;
        gateway.kill().await;
        gateway.start_again().await;
        assert_eq!(dead_letters(&gateway, 1).await.len(), 1, "the log survives a kill");
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
    let dead_letter = end.wait_for_one().await;
    assert_eq!(
        dead_letter.attribute("headgatesubscription").as_deref(),
        Some("default/audit")
    );
    assert_eq!(dead_letter.attribute("knativeerrorcode").as_deref(), Some("400"));
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
    let dead_letter = dead.wait_for_one().await;
    assert_eq!(dead_letter.attribute("headgateattempts").as_deref(), Some("4"));
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
    assert_eq!(dead_letters(&gateway, 3).await.len(), 3);

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
    assert_eq!(dead_letters(&gateway, 2).await.len(), 2);

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

/// A structured event with as many attributes as one may have, some of them named as facts of a letter are.
fn full_event(id: &str) -> String {
    let mut event = json!({ "specversion": "1.0", "id": id, "source": "/e2e", "type": "e2e.test", "data": { "n": 1 },
        "headgatesubscription": "default/payments", "headgatereason": "Forged", "headgateattempts": "11",
        "knativeerrordest": "http://bank.example/", "knativeerrorcode": "200" });
    for number in 0..220 {
        event[format!("x{number}")] = "v".repeat(550).into();
    }
    event.to_string()
}

/// What a person can list is what the gauge counts; what a stranger wrote is no fact, and no letter is out of reach.
///
/// Proves: DL-5, DL-6, IN-8
#[rstest]
#[tokio::test]
async fn a_letter_of_an_event_with_all_attributes_it_may_have_is_listed_shown_and_dropped(
    #[values("memory", "embedded")] kind: &str,
) {
    let (sink, other) = (Sink::start().await, Sink::start().await);
    sink.always(Response::status(400).body("x".repeat(64 * 1024)));
    let gateway = Gateway::with([
        channel("orders", kind),
        // As headers they would be more than this sink takes.
        subscription(
            "fragile",
            "orders",
            &sink.url(),
            json!({ "delivery": { "format": "json" } }),
        ),
        subscription(
            "payments",
            "orders",
            &other.url(),
            json!({ "delivery": { "format": "json" } }),
        ),
    ])
    .await;
    gateway
        .send(&Request::structured("orders", full_event("full")))
        .await
        .is(202);
    gateway.accept("orders", ["plain"]).await;
    let list = dead_letters(&gateway, 2).await;
    for dead_letter in &list {
        assert_eq!(dead_letter["subscription"], "default/fragile", "{dead_letter}");
        assert_eq!(
            (&dead_letter["reason"], &dead_letter["attempts"]),
            (&json!("SinkRejected"), &json!(1))
        );
        assert_eq!(dead_letter["destination"], sink.url());
    }
    let metrics = gateway.admin_get("/metrics").await.text();
    let gauge = |line: &&str| line.starts_with("headgate_channel_dead_letters{");
    let counted = metrics.lines().find(gauge).expect("a gauge");
    assert!(counted.ends_with(" 2") || counted.ends_with(" 2.0"), "{counted}");
    let shown = gateway
        .cli(&["dead", "show", "fragile", "full", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(shown["answer"]["text"].as_str().map(str::len), Some(64 * 1024));
    let event = &shown["cloudevent"];
    assert_eq!(event["knativeerrordest"], "http://bank.example/", "it came so");
    assert_eq!(
        (&event["headgatesubscription"], &event["x219"]),
        (&Value::Null, &json!("v".repeat(550)))
    );
    gateway.cli(&["dead", "drop", "fragile", "full"]).await.exits(0);
    assert_eq!(dead_letters(&gateway, 1).await.len(), 1);
}

/// Proves: DL-5, DL-6, IN-8
#[tokio::test]
async fn a_dead_letter_sink_gets_the_facts_of_an_event_with_all_attributes_it_may_have() {
    let (sink, dead) = (Sink::start().await, Sink::start().await);
    sink.always(Response::status(400).body("y".repeat(64 * 1024)));
    let delivery = json!({ "delivery": { "deadLetterSink": { "uri": dead.url() }, "format": "json" } });
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("fragile", "orders", &sink.url(), delivery),
    ])
    .await;
    gateway
        .send(&Request::structured("orders", full_event("full")))
        .await
        .is(202);
    let dead_letter = dead.wait_for_one().await.json();
    assert_eq!(dead_letter["headgatesubscription"], "default/fragile");
    assert_eq!(
        (&dead_letter["headgatereason"], &dead_letter["knativeerrorcode"]),
        (&json!("SinkRejected"), &json!("400"))
    );
    assert_eq!(
        (&dead_letter["knativeerrordest"], &dead_letter["x0"]),
        (&json!(sink.url()), &json!("v".repeat(550)))
    );
}

/// Proves: CH-2, DL-7
#[tokio::test]
async fn an_event_that_is_too_costly_for_a_filter_is_a_dead_letter_that_says_so() {
    let sink = Sink::start().await;
    let costly = format!("big LIKE '%{}b%'", "_".repeat(250));
    let filter = vec![costly; 60].join(" OR ");
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription(
            "costly",
            "orders",
            &sink.url(),
            json!({ "filters": [{ "cesql": filter }] }),
        ),
    ])
    .await;
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "big": "a".repeat(100_000),
    });
    gateway
        .send(&Request::structured("orders", event.to_string()))
        .await
        .is(202);
    let dead_letter = &dead_letters(&gateway, 1).await[0];
    let text = dead_letter.to_string();
    assert!(
        text.contains("FilterError") && text.contains("too costly for this event"),
        "{text:.2000}"
    );
    assert_eq!(sink.count(), 0);
}
