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

async fn letters(gateway: &Gateway) -> Vec<Value> {
    match gateway.cli(&["dead", "list", "-o", "json"]).await.json() {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

async fn first_letter(gateway: &Gateway) -> Value {
    eventually("a dead letter", || async { letters(gateway).await.into_iter().next() }).await
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
    replies.stays_at(0, Duration::from_millis(400)).await;
    assert_eq!(subscriber.count(), 1);
    assert!(letters(&gateway).await.is_empty());
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
    replies.stays_at(0, Duration::from_millis(300)).await;
    assert_eq!(subscriber.count(), 1);
    assert!(letters(&gateway).await.is_empty());
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

/// Proves: RP-2
#[rstest]
#[tokio::test]
async fn the_subscriber_is_called_again_when_the_reply_cannot_be_placed(#[values("memory", "embedded")] kind: &str) {
    let (subscriber, target) = (Sink::start().await, Sink::start().await);
    subscriber.always(Response::reply("r1", "e2e.reply", "{}"));
    target.next([Response::status(503)]);
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription(
            "ask",
            "orders",
            &subscriber.url(),
            json!({ "reply": { "uri": target.url() } }),
        ),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    target.wait_for(2).await;
    target.stays_at(2, Duration::from_millis(300)).await;
    assert_eq!(subscriber.ids(), ["1", "1"]);
    assert!(letters(&gateway).await.is_empty());
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
    let letter = dead.wait_for_one().await;
    assert_eq!(letter.id(), "1", "the original, not the reply");
    assert_eq!(letter.attribute("headgatereason").as_deref(), Some("ReplyRefused"));
    assert_eq!(
        letter.attribute("knativeerrordest").as_deref(),
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
    let letter = first_letter(&gateway).await;
    assert!(letter.to_string().contains("ReplyTooLarge"), "{letter}");
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
    let letter = first_letter(&gateway).await;
    assert!(letter.to_string().contains("Loop"), "{letter}");
    let hops: Vec<_> = subscriber
        .received()
        .iter()
        .map(|request| request.attribute("headgatehops"))
        .collect();
    assert_eq!(hops, [None, Some("1".into()), Some("2".into()), Some("3".into())]);
    subscriber.stays_at(4, Duration::from_millis(300)).await;
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
    subscriber.wait_for(2).await;
    let target = Sink::at(address).await;
    assert_eq!(target.wait_for(1).await[0].id(), "r1");
}
