//! Channels that name their publishers: who gets in, how that is refused, and what an event says about who sent it.

mod issuer;
mod signed;

use std::time::Duration;

use e2e::{
    Answer, Gateway, Request, Response, Sink,
    client::Connection,
    documents::{channel, channel_reference, channel_with, github_source, secret, subscription},
    eventually,
    gateway::{condition, is_ready},
    github::delivery,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{Instant, timeout},
};

/// A publisher with the tokens of key `name` of the secret `tokens`.
fn bearer(name: &str) -> Value {
    json!({ "name": name, "bearer": { "secretKeyRef": { "name": "tokens", "key": name } } })
}

/// The channel `orders` with these publishers, and a subscription of a sink to it.
async fn guarded(publishers: Value, secrets: Value, mut more: Value) -> (Gateway, Sink) {
    let sink = Sink::start().await;
    more["publishers"] = publishers;
    let documents = [
        secret("tokens", secrets),
        channel_with("orders", "memory", more),
        subscription("audit", "orders", &sink.url(), json!({})),
    ];
    (Gateway::with(documents).await, sink)
}

fn with_token(request: Request, token: &str) -> Request {
    request.header("authorization", format!("Bearer {token}"))
}

async fn send(gateway: &Gateway, id: &str, token: &str) -> Answer {
    gateway.send(&with_token(Request::event("orders", id), token)).await
}

/// How many requests channel `orders` has refused for a reason.
async fn refused(gateway: &Gateway, reason: &str) -> usize {
    let metrics = gateway.admin_get("/metrics").await.text();
    let labels = format!("headgate_events_refused_total{{namespace=\"default\",name=\"orders\",reason=\"{reason}\"}} ");
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&labels)?.parse().ok());
    count.unwrap_or(0)
}

/// Proves: PU-1, PU-3
#[tokio::test]
async fn only_a_publisher_gets_in_and_its_events_say_who_it_is() {
    let secrets = json!({ "shop": "shop-token", "bank": "bank-token" });
    let (gateway, sink) = guarded(json!([bearer("shop"), bearer("bank")]), secrets, json!({})).await;
    let answer = gateway.send(&Request::event("orders", "1")).await.is(401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"headgate\""));
    assert!(answer.text().contains("Authorization: Bearer"), "{answer}");
    let answer = send(&gateway, "2", "guessed-token").await.is(401);
    assert!(
        answer.header("www-authenticate").is_some() && !answer.text().contains("guessed"),
        "{answer}"
    );
    send(&gateway, "3", "shop-token").await.is(202);
    let forged = Request::event("orders", "4").header("ce-headgatepublisher", "shop");
    gateway.send(&with_token(forged, "bank-token")).await.is(202);
    let batch = r#"[{"specversion":"1.0","id":"5","source":"/s","type":"t","headgatepublisher":"bank"}]"#;
    let batch = Request::structured("orders", batch).header("content-type", "application/cloudevents-batch+json");
    gateway.send(&with_token(batch, "shop-token")).await.is(202);
    let mut received: Vec<_> = sink.wait_for(3).await;
    received.sort_by_key(|event| event.id());
    let said: Vec<_> = received
        .iter()
        .map(|event| (event.id(), event.attribute("headgatepublisher")))
        .collect();
    let expected = [("3", "shop"), ("4", "bank"), ("5", "shop")];
    assert_eq!(said, expected.map(|(id, name)| (id.to_owned(), Some(name.to_owned()))));
    assert!(received.iter().all(|event| event.header("authorization").is_none()));
    assert_eq!(refused(&gateway, "CredentialMissing").await, 1);
    assert_eq!(refused(&gateway, "CredentialInvalid").await, 1);
    let log = gateway.log();
    assert!(log.contains("the request of a publisher is refused"), "{log}");
    for secret in ["shop-token", "bank-token", "guessed-token"] {
        assert!(!log.contains(secret), "{log}");
        let shown = gateway.cli(&["get", "all", "-o", "yaml"]).await;
        assert!(!shown.stdout.contains(secret), "{}", shown.stdout);
    }
}

/// Proves: PU-1
#[tokio::test]
async fn the_command_send_takes_the_token_from_a_file() {
    let (gateway, sink) = guarded(json!([bearer("shop")]), json!({ "shop": "shop-token" }), json!({})).await;
    let file = gateway.home().join("token");
    std::fs::write(&file, "shop-token\n").expect("a file");
    let file = file.to_string_lossy();
    let refused = gateway.cli(&["send", "orders", "--id", "1"]).await.exits(1);
    assert!(refused.stderr.contains("401"), "{refused:?}");
    gateway
        .cli(&["send", "orders", "--id", "2", "--token-file", &file])
        .await
        .exits(0);
    assert_eq!(sink.wait_for_one().await.id(), "2");
}

/// Proves: PU-3
#[tokio::test]
async fn a_publishers_name_filters_events_and_no_sender_or_reply_forges_it() {
    let (of_shop, replies, open) = (Sink::start().await, Sink::start().await, Sink::start().await);
    let forged = Response::reply("r1", "e2e.reply", "{}").header("ce-headgatepublisher", "shop");
    of_shop.always(forged);
    let filters = json!([{ "exact": { "headgatepublisher": "shop" } }]);
    let reply = json!({ "filters": filters, "reply": { "channel": channel_reference("replies") } });
    let documents = [
        secret("tokens", json!({ "shop": "shop-token", "bank": "bank-token" })),
        channel_with(
            "orders",
            "memory",
            json!({ "publishers": [bearer("shop"), bearer("bank")] }),
        ),
        // A reply is written inside the gateway: it needs no credential.
        channel_with("replies", "memory", json!({ "publishers": [bearer("bank")] })),
        channel("open", "memory"),
        subscription("shop", "orders", &of_shop.url(), reply),
        subscription("replies", "replies", &replies.url(), json!({})),
        subscription("open", "open", &open.url(), json!({})),
    ];
    let gateway = Gateway::with(documents).await;
    send(&gateway, "1", "bank-token").await.is(202);
    send(&gateway, "2", "shop-token").await.is(202);
    assert_eq!(of_shop.wait_for_one().await.id(), "2");
    let reply = replies.wait_for_one().await;
    assert_eq!(
        (reply.id(), reply.attribute("headgatepublisher")),
        ("r1".to_owned(), None)
    );
    let forged = Request::event("open", "3").header("ce-headgatepublisher", "shop");
    gateway.send(&forged).await.is(202);
    assert_eq!(open.wait_for_one().await.attribute("headgatepublisher"), None);
}

/// Proves: PU-1, SR-1
#[tokio::test]
async fn a_source_writes_without_a_credential_of_the_channel() {
    let sink = Sink::start().await;
    let documents = [
        secret("tokens", json!({ "shop": "shop-token" })),
        secret("github", json!({ "secretToken": "hook-secret" })),
        channel_with("orders", "memory", json!({ "publishers": [bearer("shop")] })),
        github_source("hello", &["push"], &channel_reference("orders")),
        subscription("audit", "orders", &sink.url(), json!({})),
    ];
    let gateway = Gateway::with(documents).await;
    let signed = delivery(
        "hello",
        "push",
        "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        b"{}",
        "hook-secret",
    );
    gateway.send(&signed).await.is(202);
    let event = sink.wait_for_one().await;
    assert_eq!(
        event.attribute("type").as_deref(),
        Some("dev.knative.source.github.push")
    );
    assert_eq!(event.attribute("headgatepublisher"), None);
}

/// Proves: PU-2
#[tokio::test]
async fn a_token_is_rotated_without_a_refused_event() {
    let (gateway, _sink) = guarded(json!([bearer("shop")]), json!({ "shop": "old" }), json!({})).await;
    send(&gateway, "1", "old").await.is(202);
    gateway.apply(&secret("tokens", json!({ "shop": "new\nold\n" })));
    eventually("the new token is good", || async {
        send(&gateway, "2", "old").await.is(202);
        (send(&gateway, "3", "new").await.status == 202).then_some(())
    })
    .await;
    gateway.apply(&secret("tokens", json!({ "shop": "new" })));
    eventually("the old token is refused", || async {
        send(&gateway, "4", "new").await.is(202);
        (send(&gateway, "5", "old").await.status == 401).then_some(())
    })
    .await;
}

/// Proves: PU-1
#[tokio::test]
async fn a_missing_secret_is_503_and_a_condition_until_it_comes() {
    let publishers = json!([bearer("shop"), bearer("bank")]);
    let (gateway, _sink) = guarded(publishers, json!({ "bank": "bank-token" }), json!({})).await;
    let answer = send(&gateway, "1", "shop-token").await.is(503);
    assert!(answer.header("retry-after").is_some(), "{answer}");
    gateway.send(&Request::event("orders", "2")).await.is(401);
    send(&gateway, "3", "bank-token").await.is(202);
    let known = |object: &Value| condition(object, "PublishersKnown").map(|known| known["reason"] == "SecretNotFound");
    let object = gateway
        .wait_object("channel", "orders", |object| known(object) == Some(true))
        .await;
    assert!(is_ready(&object), "{object}");
    let message = condition(&object, "PublishersKnown").expect("a condition")["message"].as_str();
    assert!(
        message.is_some_and(|message| message.starts_with("publisher shop: secret default/tokens has no key `shop`"))
    );
    assert!(refused(&gateway, "SecretNotFound").await >= 1);
    gateway.apply(&secret("tokens", json!({ "bank": "bank-token", "shop": "shop-token" })));
    eventually("the token is good", || async {
        (send(&gateway, "4", "shop-token").await.status == 202).then_some(())
    })
    .await;
    gateway
        .wait_object("channel", "orders", |object| known(object).is_none())
        .await;
}

/// Proves: PU-1
#[tokio::test]
async fn a_refusal_does_not_wait_for_the_body() {
    let (gateway, _sink) = guarded(json!([bearer("shop")]), json!({ "shop": "shop-token" }), json!({})).await;
    let head = |more: &str| {
        format!(
            "POST /default/orders HTTP/1.1\r\nhost: h\r\ncontent-type: application/cloudevents+json\r\ncontent-length: 900000\r\n{more}\r\n"
        )
    };
    // A body that never comes.
    let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
    let began = Instant::now();
    connection.write(head("").as_bytes()).await.expect("written");
    connection.read().await.expect("an answer").is(401);
    // Well before a stalled body is cut off (30 s).
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // A client that asks for leave first is not given it.
    let mut stream = TcpStream::connect(gateway.listen()).await.expect("the gateway listens");
    stream
        .write_all(head("expect: 100-continue\r\n").as_bytes())
        .await
        .expect("written");
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    read.expect("the connection ends").expect("read");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // One that sends at once, with curl, reads the answer although its body is large.
    let large = gateway.home().join("large");
    std::fs::write(&large, vec![b'x'; 900_000]).expect("a file");
    let url = format!("http://{}/default/orders", gateway.listen());
    let curl = Command::new("curl")
        .args([
            "-s",
            "-o",
            "-",
            "-w",
            "%{http_code}",
            "-H",
            "Expect:",
            "-H",
            "content-type: application/cloudevents+json",
        ])
        .args(["--data-binary", &format!("@{}", large.display()), &url])
        .output();
    let output = curl.await.expect("curl runs");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("401"), "{output:?}");
}

/// Proves: PU-4
#[tokio::test]
async fn a_publisher_beyond_its_limit_is_told_when_to_come_again_and_others_go_on() {
    let secrets = json!({ "shop": "shop-token", "bank": "bank-token" });
    let more = json!({ "limits": { "eventsPerSecond": 5 } });
    let (gateway, _sink) = guarded(json!([bearer("shop"), bearer("bank")]), secrets, more).await;
    let batch = |token: &str, count: usize| {
        let events: Vec<_> = (0..count)
            .map(|id| json!({ "specversion": "1.0", "id": id.to_string(), "source": "/s", "type": "t" }))
            .collect();
        let batch = Request::structured("orders", json!(events).to_string());
        with_token(
            batch.header("content-type", "application/cloudevents-batch+json"),
            token,
        )
    };
    let answer = gateway.send(&batch("shop-token", 6)).await.is(429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.text().contains("5 events a second"), "{answer}");
    gateway.send(&batch("bank-token", 5)).await.is(202);
    // Faster than five a second, whatever machine this is: one of them is refused.
    let beyond = eventually("too many events", || async {
        let answer = gateway.send(&batch("shop-token", 5)).await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    assert_eq!(beyond.is(429).header("retry-after"), Some("1"));
    eventually("the publisher may go on", || async {
        (send(&gateway, "again", "shop-token").await.status == 202).then_some(())
    })
    .await;
    assert!(refused(&gateway, "LimitReached").await >= 2);
}

/// Proves: PU-1
#[tokio::test]
async fn a_channel_that_is_open_to_other_machines_says_so_and_works() {
    let documents = [
        secret("tokens", json!({ "shop": "shop-token" })),
        channel("open", "memory"),
        channel_with("orders", "memory", json!({ "publishers": [bearer("shop")] })),
    ];
    let gateway = Gateway::set_up()
        .documents(documents)
        .ingress_everywhere()
        .start()
        .await;
    let reason = |object: &Value| condition(object, "Guarded").map(|guarded| guarded["reason"].clone());
    let open = gateway
        .wait_object("channel", "open", |object| reason(object).is_some())
        .await;
    assert_eq!(reason(&open), Some(json!("NoPublishers")));
    assert!(is_ready(&open), "{open}");
    gateway.send(&Request::event("open", "1")).await.is(202);
    let guarded = gateway.wait_object("channel", "orders", is_ready).await;
    assert_eq!(reason(&guarded), None);
    let findings = gateway.cli(&["doctor", "-o", "json"]).await.json();
    let findings = findings.as_array().expect("findings");
    let exposure = findings
        .iter()
        .find(|finding| finding["check"] == "exposure")
        .expect("a finding");
    assert_eq!(exposure["status"], "warning");
    assert!(
        exposure["message"]
            .as_str()
            .is_some_and(|text| text.contains("channel default/open from every client"))
    );
    let folder = gateway.documents().to_string_lossy().into_owned();
    let validated = gateway.cli(&["validate", "--strict", &folder]).await;
    assert_eq!(validated.code, 0, "{}", validated.stdout);
    let validated = gateway
        .cli(&["validate", "--strict", "--listen", "0.0.0.0:8080", &folder])
        .await;
    assert_eq!(validated.code, 1, "{}", validated.stdout);
    assert!(validated.stdout.contains("names no publishers"), "{}", validated.stdout);
}
