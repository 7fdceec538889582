//! What a subscriber answers with, and where that goes.

use std::time::Duration;

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, channel_reference, subscription},
    eventually, ports,
};
use rstest::rstest;
use serde_json::{Value, json};

/// `orders` is answered by a subscriber whose replies go through channel `replies` to a sink.
async fn answered(kind: &str, response: Response) -> (Gateway, Sink, Sink) {
    let (subscriber, replies) = (Sink::start().await, Sink::start().await);
    subscriber.always(response);
    let gateway = Gateway::with([
        channel("orders", kind),
        channel("replies", kind),
        subscription(
            "ask",
            "orders",
            &subscriber.url(),
            json!({ "reply": { "channel": channel_reference("replies") } }),
        ),
        subscription("hear", "replies", &replies.url(), json!({})),
    ])
    .await;
    (gateway, subscriber, replies)
}

async fn dead_letters(gateway: &Gateway) -> Vec<Value> {
    match gateway.cli(&["dead", "list", "-o", "json"]).await.json() {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

async fn first_dead_letter(gateway: &Gateway) -> Value {
    eventually("a dead letter", || async {
        dead_letters(gateway).await.into_iter().next()
    })
    .await
}

/// Proves: RP-1, RP-2, LP
#[rstest]
#[case::ok_in_binary_mode(Response::reply("r1", "e2e.reply", "{\"total\": 1.50}"))]
#[case::ok_in_structured_mode(structured(200))]
#[case::created_in_structured_mode(structured(201))]
#[tokio::test]
async fn an_event_in_a_200_or_201_is_the_reply(#[values("memory", "embedded")] kind: &str, #[case] response: Response) {
    let (gateway, subscriber, replies) = answered(kind, response).await;
    gateway.accept("orders", ["1"]).await;
    let reply = replies.wait_for_one().await;
    assert_eq!(
        (reply.id().as_str(), reply.attribute("type").as_deref()),
        ("r1", Some("e2e.reply"))
    );
    assert_eq!(&reply.body[..], b"{\"total\": 1.50}");
    assert_eq!(reply.attribute("headgatehops").as_deref(), Some("1"));
    assert_eq!(subscriber.count(), 1);
}

fn structured(status: u16) -> Response {
    let body = r#"{"specversion":"1.0","id":"r1","source":"/e2e/replier","type":"e2e.reply","datacontenttype":"application/json","data":{"total": 1.50}}"#;
    Response::status(status)
        .header("content-type", "application/cloudevents+json; charset=utf-8")
        .body(body)
}

/// Proves: RP-1
#[rstest]
#[case::accepted(202)]
#[case::no_content(204)]
#[tokio::test]
async fn an_event_in_a_202_or_204_is_no_reply(#[case] status: u16) {
    let response = match status {
        204 => Response::status(204)
            .header("ce-specversion", "1.0")
            .header("ce-id", "r")
            .header("ce-source", "/s")
            .header("ce-type", "t"),
        _ => structured(status),
    };
    let (gateway, subscriber, replies) = answered("memory", response).await;
    gateway.accept("orders", ["1"]).await;
    subscriber.wait_for(1).await;
    replies.listens_at(0, Duration::from_millis(400)).await;
    assert_eq!(subscriber.count(), 1);
    assert!(dead_letters(&gateway).await.is_empty());
}

/// Proves: RP-3
#[rstest]
#[case::empty(Response::status(200))]
#[case::text(Response::status(200).header("content-type", "text/plain").body("thanks"))]
#[case::a_broken_event(Response::status(200).header("content-type", "application/cloudevents+json").body("{\"id\":1}"))]
#[tokio::test]
async fn a_200_that_carries_no_event_is_delivered(#[case] response: Response) {
    let (gateway, subscriber, replies) = answered("memory", response).await;
    gateway.accept("orders", ["1"]).await;
    subscriber.wait_for(1).await;
    replies.listens_at(0, Duration::from_millis(300)).await;
    assert_eq!(subscriber.count(), 1);
    assert!(dead_letters(&gateway).await.is_empty());
}

/// Proves: RP-3
#[tokio::test]
async fn a_reply_without_a_target_is_dropped_and_counted() {
    let subscriber = Sink::start().await;
    subscriber.always(Response::reply("r1", "e2e.reply", "{}"));
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("ask", "orders", &subscriber.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    subscriber.wait_for(1).await;
    eventually("a metric that counts the dropped reply", || async {
        let metrics = gateway.admin_get("/metrics").await.text();
        let counted = |line: &str| line.contains("repl") && line.contains("Drop") && line.ends_with(" 1");
        metrics
            .lines()
            .any(|line| !line.starts_with('#') && counted(line))
            .then_some(())
    })
    .await;
    assert_eq!(subscriber.count(), 1);
}

/// A subscriber that replies, and `replies` as the target of its replies.
async fn replying_to(target: &str, kind: &str, delivery: Value) -> (Gateway, Sink) {
    let subscriber = Sink::start().await;
    subscriber.always(Response::reply("r1", "e2e.reply", "{}"));
    let more = json!({ "reply": { "uri": target }, "delivery": delivery });
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("ask", "orders", &subscriber.url(), more),
    ])
    .await;
    (gateway, subscriber)
}

/// Proves: RP-2
#[rstest]
#[tokio::test]
async fn a_reply_that_cannot_be_placed_is_tried_again_alone(#[values("memory", "embedded")] kind: &str) {
    let target = Sink::start().await;
    target.next([Response::status(503), Response::status(404), Response::hang_up()]);
    let delivery = json!({ "backoffPolicy": "linear", "backoffDelay": "PT0.2S" });
    let (gateway, subscriber) = replying_to(&target.url(), kind, delivery).await;
    gateway.accept("orders", ["1"]).await;
    target.wait_for(4).await;
    target.listens_at(4, Duration::from_millis(300)).await;
    assert_eq!(target.ids(), ["r1", "r1", "r1", "r1"]);
    assert_eq!(subscriber.ids(), ["1"], "the subscriber took it the first time");
    assert!(dead_letters(&gateway).await.is_empty());
    let text = gateway.cli(&["explain", "1"]).await.exits(0).stdout;
    assert!(
        text.contains("ReplyFailed 503") && text.contains("replied"),
        "explain tells of the reply's tries:\n{text}"
    );
}

/// Proves: RP-2, DL-6
#[rstest]
#[tokio::test]
async fn a_reply_whose_budget_is_spent_makes_a_dead_letter(#[values("memory", "embedded")] kind: &str) {
    let target = Sink::start().await;
    target.always(Response::status(503));
    let delivery = json!({ "retry": 2, "backoffPolicy": "linear", "backoffDelay": "PT0.1S" });
    let (gateway, subscriber) = replying_to(&target.url(), kind, delivery).await;
    // Of the event's own budget nothing is left: the reply has one of its own.
    subscriber.next([Response::status(500), Response::status(500)]);
    gateway.accept("orders", ["1"]).await;
    let dead_letter = first_dead_letter(&gateway).await;
    assert_eq!(
        (
            &dead_letter["reason"],
            &dead_letter["destination"],
            &dead_letter["attempts"],
            &dead_letter["code"]
        ),
        (&json!("ReplyFailed"), &json!(target.url()), &json!(3), &json!(503)),
        "{dead_letter:#}"
    );
    assert_eq!((subscriber.count(), target.count()), (3, 3));
}

/// A reply channel that is full refuses at first.
///
/// Proves: RP-2
#[tokio::test]
async fn a_reply_for_a_channel_that_is_full_waits_for_it() {
    let (subscriber, replies) = (Sink::start().await, Sink::start().await);
    subscriber.answer_by(|request| {
        Some(Response::reply(
            &format!("reply to {}", request.id()),
            "e2e.reply",
            "{}",
        ))
    });
    let hear = |paused| subscription("hear", "replies", &replies.url(), json!({ "paused": paused }));
    let more = json!({
        "reply": { "channel": channel_reference("replies") },
        "delivery": { "retry": 100, "backoffPolicy": "linear", "backoffDelay": "PT0.2S" },
    });
    let gateway = Gateway::with([
        channel("orders", "memory"),
        e2e::documents::channel_with("replies", "memory", json!({ "arguments": { "capacity": 1 } })),
        subscription("ask", "orders", &subscriber.url(), more),
        hear(true),
    ])
    .await;
    gateway.accept("orders", ["1", "2", "3"]).await;
    subscriber.wait_for(3).await;
    subscriber.listens_at(3, Duration::from_secs(1)).await;
    gateway.apply(&hear(false));
    replies.wait_for(3).await;
    assert_eq!((subscriber.count(), replies.count()), (3, 3));
}

/// Proves: RP-2
#[rstest]
#[tokio::test]
async fn a_pause_gives_no_event_back_whose_reply_waits(#[values("memory", "embedded")] kind: &str) {
    let address = ports::free();
    let delivery = json!({ "retry": 100, "backoffPolicy": "linear", "backoffDelay": "PT0.2S" });
    let (gateway, subscriber) = replying_to(&format!("http://{address}/"), kind, delivery).await;
    gateway.accept("orders", ["1"]).await;
    subscriber.wait_for(1).await;
    gateway.cli(&["pause", "ask"]).await.exits(0);
    subscriber.listens_at(1, Duration::from_millis(500)).await;
    gateway.cli(&["resume", "ask"]).await.exits(0);
    let target = Sink::at(address).await;
    assert_eq!(target.wait_for(1).await[0].id(), "r1");
    assert_eq!(subscriber.count(), 1);
}

/// Proves: RP-2, OP-1
#[rstest]
#[case::drained(true)]
#[case::killed(false)]
#[tokio::test]
async fn the_subscriber_is_called_again_when_the_process_ended_before_the_reply_was_placed(#[case] drained: bool) {
    let address = ports::free();
    let delivery = json!({ "retry": 100, "backoffPolicy": "linear", "backoffDelay": "PT0.2S" });
    let (mut gateway, subscriber) = replying_to(&format!("http://{address}/"), "embedded", delivery).await;
    gateway.accept("orders", ["1"]).await;
    subscriber.wait_for(1).await;
    if drained {
        gateway.terminate().await;
    } else {
        gateway.kill().await;
    }
    let target = Sink::at(address).await;
    gateway.start_again().await;
    assert_eq!(target.wait_for(1).await[0].id(), "r1");
    assert_eq!(subscriber.ids(), ["1", "1"]);
}

/// Proves: RP-3
#[rstest]
#[case::a_wrong_time(Response::reply("r1", "e2e.reply", "{}").header("ce-time", "yesterday"), "time")]
#[case::a_batch(Response::status(200).header("content-type", "application/cloudevents-batch+json").body("[]"), "batch")]
#[case::compressed(Response::reply("r1", "e2e.reply", "{}").header("content-encoding", "gzip"), "gzip")]
#[case::text(Response::status(200).header("content-type", "text/plain").body("thanks"), "text/plain")]
#[tokio::test]
async fn what_is_wrong_with_a_reply_is_logged_once_a_minute_and_explained(
    #[case] response: Response,
    #[case] fault: &str,
) {
    let (gateway, subscriber, replies) = answered("embedded", response).await;
    gateway.accept("orders", (0..20).map(|id| id.to_string())).await;
    subscriber.wait_for(20).await;
    gateway
        .wait_object("subscription", "ask", |object| object["status"]["unsettledEvents"] == 0)
        .await;
    assert_eq!((subscriber.count(), replies.count()), (20, 0));
    assert!(dead_letters(&gateway).await.is_empty(), "delivered all the same");
    let log = gateway.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("Malformed")).collect();
    assert!(
        lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains(fault) && lines[0].contains("default/ask"),
        "{lines:#?}"
    );
    let text = gateway.cli(&["explain", "7"]).await.exits(0).stdout;
    assert!(text.contains("Malformed 200") && text.contains(fault), "{text}");
    assert!(text.contains("delivered"), "{text}");
}

/// Proves: RP-2, DL-6
#[rstest]
#[tokio::test]
async fn a_reply_refused_for_good_makes_a_dead_letter(#[values("memory", "embedded")] kind: &str) {
    let (subscriber, target, dead) = (Sink::start().await, Sink::start().await, Sink::start().await);
    subscriber.always(Response::reply("r1", "e2e.reply", "{}"));
    target.always(Response::status(400));
    let more = json!({ "reply": { "uri": target.url() }, "delivery": { "deadLetterSink": { "uri": dead.url() } } });
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("ask", "orders", &subscriber.url(), more),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    let dead_letter = dead.wait_for_one().await;
    assert_eq!(dead_letter.id(), "1", "the original, not the reply");
    assert_eq!(dead_letter.attribute("headgatereason").as_deref(), Some("ReplyRefused"));
    assert_eq!(
        dead_letter.attribute("knativeerrordest").as_deref(),
        Some(target.url().as_str())
    );
    assert_eq!(subscriber.count(), 1);
}

/// Proves: RP-4
#[rstest]
#[tokio::test]
async fn a_reply_that_is_too_large_makes_a_dead_letter(#[values("memory", "embedded")] kind: &str) {
    let subscriber = Sink::start().await;
    let data = format!("\"{}\"", "x".repeat(5000));
    subscriber.always(Response::reply("r1", "e2e.reply", &data));
    let more = json!({
        "reply": { "channel": channel_reference("replies") },
        "delivery": { "maxReplyBytes": 1000 },
    });
    let gateway = Gateway::with([
        channel("orders", kind),
        channel("replies", kind),
        subscription("ask", "orders", &subscriber.url(), more),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    let dead_letter = first_dead_letter(&gateway).await;
    assert!(dead_letter.to_string().contains("ReplyTooLarge"), "{dead_letter}");
    assert_eq!(subscriber.count(), 1);
}

/// Proves: RP-1
#[tokio::test]
async fn a_subscription_may_have_a_reply_and_no_subscriber() {
    let target = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", "memory"),
        e2e::documents::bare_subscription("pass", "orders", json!({ "reply": { "uri": target.url() } })),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    assert_eq!(target.wait_for_one().await.id(), "1");
}

/// Proves: LP
#[rstest]
#[tokio::test]
async fn a_loop_ends_at_the_hop_limit_in_the_dead_letter_log(#[values("memory", "embedded")] kind: &str) {
    let subscriber = Sink::start().await;
    // It claims to be the first hop each time; its cause's count holds.
    subscriber.always(Response::reply("again", "e2e.again", "{}").header("ce-headgatehops", "0"));
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", kind),
            subscription(
                "echo",
                "orders",
                &subscriber.url(),
                json!({ "reply": { "channel": channel_reference("orders") } }),
            ),
        ])
        .arguments(&["--max-hops", "3"])
        .start()
        .await;
    gateway.accept("orders", ["1"]).await;
    let dead_letter = first_dead_letter(&gateway).await;
    assert!(dead_letter.to_string().contains("Loop"), "{dead_letter}");
    let hops: Vec<_> = subscriber
        .received()
        .iter()
        .map(|request| request.attribute("headgatehops"))
        .collect();
    assert_eq!(hops, [None, Some("1".into()), Some("2".into()), Some("3".into())]);
    subscriber.listens_at(4, Duration::from_millis(300)).await;
}

/// Proves: LP
#[rstest]
#[case::small(Some("2"), Some("2"))]
#[case::no_number(Some("many"), None)]
#[case::negative(Some("-1"), None)]
#[case::huge(Some("99999999999999999999"), None)]
#[case::absent(None, None)]
#[tokio::test]
async fn a_hop_count_from_outside_is_kept_only_when_it_is_a_small_integer(
    #[case] sent: Option<&str>,
    #[case] expected: Option<&str>,
) {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    let mut request = Request::event("orders", "1");
    if let Some(sent) = sent {
        request = request.header("ce-headgatehops", sent);
    }
    gateway.send(&request).await.is(202);
    assert_eq!(sink.wait_for_one().await.attribute("headgatehops").as_deref(), expected);
}

/// Proves: RP-2
#[tokio::test]
async fn a_reply_target_that_is_down_holds_the_original_back() {
    let subscriber = Sink::start().await;
    subscriber.always(Response::reply("r1", "e2e.reply", "{}"));
    let address = ports::free();
    let more = json!({ "reply": { "uri": format!("http://{address}/") }, "delivery": { "retry": 100, "backoffPolicy": "linear", "backoffDelay": "PT0.2S" } });
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("ask", "orders", &subscriber.url(), more),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    subscriber.wait_for(1).await;
    subscriber.listens_at(1, Duration::from_secs(1)).await;
    let target = Sink::at(address).await;
    assert_eq!(target.wait_for(1).await[0].id(), "r1");
    assert_eq!(subscriber.count(), 1);
}

/// Proves: LP, IN-8
#[rstest]
#[tokio::test]
async fn an_event_with_all_attributes_it_may_have_does_not_go_round_for_ever(
    #[values("memory", "embedded")] kind: &str,
) {
    let into = |name: &str, from: &str, to: &str| {
        e2e::documents::bare_subscription(name, from, json!({ "subscriber": { "ref": channel_reference(to) } }))
    };
    let gateway = Gateway::set_up()
        .documents([
            channel("ping", kind),
            channel("pong", kind),
            into("there", "ping", "pong"),
            into("back", "pong", "ping"),
        ])
        .arguments(&["--max-hops", "5"])
        .start()
        .await;
    let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/e2e", "type": "t", "knativeerrordest": "x" });
    for number in 0..220 {
        event[format!("x{number}")] = "v".repeat(550).into();
    }
    gateway
        .send(&Request::structured("ping", event.to_string()))
        .await
        .is(202);
    let dead_letter = first_dead_letter(&gateway).await;
    assert_eq!(dead_letter["reason"], "Loop", "{dead_letter}");
    assert!(
        dead_letter["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("default/ping default/pong")),
        "{dead_letter}"
    );
}

/// Proves: IN-8, RP-3
#[tokio::test]
async fn what_a_reply_says_in_the_gateways_name_is_removed_and_too_many_attributes_are_malformed() {
    let reply = Response::reply("r1", "e2e.reply", "{}")
        .header("ce-headgatereason", "Forged")
        .header("ce-headgatechain", "default/forged")
        .header("ce-headgatehops", "9")
        .header("ce-knativeerrordest", "http://bank.example/");
    let (gateway, subscriber, replies) = answered("memory", reply).await;
    gateway.accept("orders", ["1"]).await;
    let reply = replies.wait_for_one().await;
    let attribute = |name: &str| reply.attribute(name);
    assert_eq!(attribute("headgatereason"), None);
    assert_eq!(attribute("headgatechain").as_deref(), Some("default/orders"));
    assert_eq!(attribute("headgatehops").as_deref(), Some("1"));
    assert_eq!(attribute("knativeerrordest").as_deref(), Some("http://bank.example/"));

    let mut event = json!({ "specversion": "1.0", "id": "r2", "source": "/e2e", "type": "t" });
    for number in 0..221 {
        event[format!("x{number}")] = "v".into();
    }
    subscriber.always(
        Response::status(200)
            .header("content-type", "application/cloudevents+json")
            .body(event.to_string()),
    );
    gateway.accept("orders", ["2"]).await;
    subscriber.wait_for(2).await;
    replies.listens_at(1, Duration::from_millis(300)).await;
}
