//! What people are shown: tails that wait, events as they were sent, nothing that a terminal would act on, and messages that say what
//! there is.

use e2e::{
    Gateway, Request, Response, Sink,
    client::Connection,
    documents::{channel, subscription},
    eventually,
};
use rstest::rstest;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const TAIL: &str = "GET /api/v1/channels/default/orders/events HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A gateway with the channel `orders` of a kind, and its subscription `audit`.
async fn audited(kind: &str, subscriber: &str) -> Gateway {
    Gateway::with([
        channel("orders", kind),
        subscription("audit", "orders", subscriber, json!({})),
    ])
    .await
}

async fn tail(gateway: &Gateway) -> BufReader<tokio::net::TcpStream> {
    let mut stream = tokio::net::TcpStream::connect(gateway.admin())
        .await
        .expect("a connection");
    stream.write_all(TAIL.as_bytes()).await.expect("a request");
    BufReader::new(stream)
}

/// The next JSON document of a tail, without the head and the sizes of chunks.
async fn next(tail: &mut BufReader<tokio::net::TcpStream>) -> String {
    loop {
        let mut line = String::new();
        let read = tokio::time::timeout(std::time::Duration::from_secs(30), tail.read_line(&mut line)).await;
        assert!(
            read.expect("in time").expect("the stream goes on") > 0,
            "the tail ended"
        );
        if line.starts_with('{') {
            return line;
        }
    }
}

async fn is_open(tail: &mut BufReader<tokio::net::TcpStream>) -> bool {
    let mut line = String::new();
    tail.read_line(&mut line).await.expect("an answer");
    line.contains("200")
}

/// Tails of a channel that keeps nothing wait for events, however many of them there are, and the gateway goes on.
///
/// Proves: CH-2
#[tokio::test]
async fn tails_of_a_channel_without_subscriptions_wait_and_show_every_event() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let (mut one, mut other) = (tail(&gateway).await, tail(&gateway).await);
    assert!(is_open(&mut one).await && is_open(&mut other).await);
    for round in 0..3 {
        gateway.accept("orders", [format!("e{round}")]).await;
        assert_eq!(gateway.admin_get("/healthz").await.status, 200);
    }
    for tail in [&mut one, &mut other] {
        for round in 0..3 {
            assert!(next(tail).await.contains(&format!("\"e{round}\"")));
        }
    }
}

/// Proves: CH-2
#[tokio::test]
async fn a_tail_beside_a_fast_subscriber_misses_nothing() {
    let sink = Sink::start().await;
    let gateway = audited("memory", &sink.url()).await;
    let mut tail = tail(&gateway).await;
    assert!(is_open(&mut tail).await);
    for n in 0..50 {
        gateway.accept("orders", [format!("e{n}")]).await;
    }
    for n in 0..50 {
        assert!(next(&mut tail).await.contains(&format!("\"e{n}\"")), "event {n}");
    }
}

/// Proves: CH-2
#[tokio::test]
async fn tails_beyond_the_bound_are_refused_until_one_ends() {
    let gateway = Gateway::with([channel("orders", "embedded")]).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut tail = tail(&gateway).await;
        assert!(is_open(&mut tail).await);
        open.push(tail);
    }
    let path = "/api/v1/channels/default/orders/events";
    let refused = gateway.admin_get(path).await.is(503);
    assert_eq!(refused.json()["reason"], "TooManyTails");
    assert!(refused.header("retry-after").is_some());
    // Nothing is written to a tail of a quiet channel: that its client is gone is noticed all the same.
    open.pop();
    eventually("a place is free", || async {
        let mut tail = tail(&gateway).await;
        is_open(&mut tail).await.then_some(())
    })
    .await;
    // An event that is larger than a page is still shown whole.
    let large = Request::event("orders", "large").body("\"".to_owned() + &"x".repeat(900_000) + "\"");
    gateway.send(&large).await.is(202);
    assert!(next(&mut open[0]).await.len() > 900_000);
}

/// Proves: IN-7
#[rstest]
#[tokio::test]
async fn an_event_is_shown_as_it_was_sent(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.always(Response::status(400));
    let gateway = audited(kind, &sink.url()).await;
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    let bodies = [
        r#"{"z":1.50,"a":12345678901234567890123,"f":1.10}"#.to_owned(),
        r#"{"big":1e999,"lone":"\ud800"}"#.to_owned(),
        deep,
    ];
    for (id, body) in bodies.iter().enumerate() {
        gateway
            .send(&Request::event("orders", &format!("e{id}")).body(body))
            .await
            .is(202);
    }
    eventually("three letters", || async {
        let list = gateway.cli(&["dead", "list", "-o", "json"]).await.json();
        (list.as_array().map(Vec::len) == Some(3)).then_some(())
    })
    .await;
    for (id, body) in bodies.iter().enumerate() {
        let id = format!("e{id}");
        let dead_letter = gateway.admin_get(&format!("/api/v1/deadletters?id={id}")).await.is(200);
        assert!(dead_letter.text().contains(body), "{}", dead_letter.text());
        let mut shown = vec![
            gateway.cli(&["dead", "show", "audit", &id]).await.exits(0).stdout,
            gateway
                .cli(&["dead", "show", "audit", &id, "-o", "json"])
                .await
                .exits(0)
                .stdout,
        ];
        if kind == "embedded" {
            shown.push(gateway.cli(&["explain", &id, "-o", "json"]).await.exits(0).stdout);
            gateway.cli(&["explain", &id]).await.exits(0);
        }
        for shown in shown {
            let bare: String = shown.split_whitespace().collect();
            assert!(bare.contains(body), "{shown}");
        }
    }
}

/// Line breaks are allowed between the tokens of JSON, and must not make a second document of one event.
///
/// Proves: IN-7
#[tokio::test]
async fn an_event_is_one_line_of_a_tail_and_is_delivered_byte_for_byte() {
    let sink = Sink::start().await;
    let gateway = audited("embedded", &sink.url()).await;
    let mut tail = tail(&gateway).await;
    assert!(is_open(&mut tail).await);
    let forged = "{\"a\":\n{\"specversion\":\"1.0\",\"id\":\"FORGED\",\"source\":\"/bank\",\"type\":\"payment\"}\r\n}";
    gateway
        .send(&Request::event("orders", "real").body(forged))
        .await
        .is(202);
    gateway.accept("orders", ["after"]).await;
    assert!(next(&mut tail).await.contains("\"real\""));
    assert!(next(&mut tail).await.contains("\"after\""));
    let received = sink.wait_for(2).await;
    let real = received.iter().find(|request| request.id() == "real");
    assert_eq!(real.map(|request| &request.body[..]), Some(forged.as_bytes()));
}

/// Proves: OP-3
#[tokio::test]
async fn no_command_shows_what_a_terminal_would_act_on() {
    let sink = Sink::start().await;
    sink.always(Response::status(400).body("\u{1b}]0;PWN\u{7}\u{1b}[2J\nsecond line \u{9b}2J \u{202e}txt"));
    let gateway = audited("embedded", &sink.url()).await;
    let event = Request::event("orders", "e1")
        .header("ce-subject", "a%E2%80%AEb")
        .header("content-type", "text/plain")
        .body("\u{1b}[31mred\u{9b}1m");
    gateway.send(&event).await.is(202);
    eventually("a letter", || async {
        let list = gateway.cli(&["dead", "list", "-o", "json"]).await.json();
        (list.as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    for command in [
        &["dead", "show", "audit", "e1"][..],
        &["dead", "list"],
        &["explain", "e1"],
        &["get", "all", "-o", "yaml"],
        &["get", "sub"],
    ] {
        let shown = gateway.cli(command).await.exits(0).stdout;
        let acts = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!shown.contains(acts), "{command:?}: {shown:?}");
        assert!(shown.contains("second line") || command != ["dead", "show", "audit", "e1"]);
    }
}

/// Proves: OP-3
#[tokio::test]
async fn who_asks_for_what_is_not_there_is_told_what_is() {
    let sink = Sink::start().await;
    let gateway = audited("memory", &sink.url()).await;
    for (command, parts) in [
        (
            &["get", "foo"][..],
            &["\"foo\"", "channel (chan)", "subscription (sub)", "sources", "all"][..],
        ),
        (&["get", "channel", "invoices"], &["default/invoices", "orders"]),
        (
            &["dead", "show", "NOPE", "x"],
            &["subscription default/NOPE not found", "audit"],
        ),
        (
            &["dead", "show", "audit", "x"],
            &["no dead letter of default/audit has the id x"],
        ),
    ] {
        let said = gateway.cli(command).await.exits(1).stderr;
        for part in parts {
            assert!(said.contains(part), "{command:?}: {said}");
        }
    }
}

/// Proves: OP-3
#[tokio::test]
async fn send_goes_where_it_is_told() {
    let sink = Sink::start().await;
    let gateway = audited("memory", &sink.url()).await;
    let ingress = format!("http://{}", gateway.listen());
    // No admin listener is asked: only the ingress is reached through such a port-forward.
    e2e::cli::run(&[
        "send",
        "orders",
        "--ingress",
        &ingress,
        "--gateway",
        "http://127.0.0.1:1",
    ])
    .await
    .exits(0);
    sink.wait_for_one().await;
    let nobody = e2e::cli::run(&["send", "orders", "--ingress", "http://127.0.0.1:1"])
        .await
        .exits(3);
    assert!(nobody.stderr.contains("--ingress"), "{nobody:?}");
    e2e::cli::run(&["send", "orders", "--ingress", "ftp://x"])
        .await
        .exits(2);
}

/// Proves: OP-3
#[tokio::test]
async fn a_rate_that_is_none_is_refused() {
    let gateway = audited("embedded", "http://127.0.0.1:1/").await;
    let mut admin = Connection::open(gateway.admin()).await.expect("a connection");
    for rate in ["-5", "0", "1e-300", "NaN", "1e999", "\"fast\""] {
        for (verb, rest) in [("deadletters/redrive", ""), ("replay", "\"from\": 0, ")] {
            let request = Request::post(&format!("/api/v1/subscriptions/default/audit/{verb}"))
                .header("content-type", "application/json")
                .body(format!("{{{rest}\"rate\": {rate}}}"));
            let answer = admin.exchange(&request).await.expect("an answer");
            assert!(matches!(answer.status, 400 | 422), "{verb} {rate}: {}", answer.text());
            if rate.parse::<f64>().is_ok_and(f64::is_finite) {
                assert_eq!(answer.status, 400, "{verb} {rate}");
            }
        }
    }
}

/// Proves: DL-5, CH-7
#[rstest]
#[tokio::test]
async fn a_redrive_is_followed_to_its_end_or_goes_on_by_itself(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    sink.always(Response::status(400));
    let gateway = audited(kind, &sink.url()).await;
    gateway.accept("orders", (0..20).map(|n| n.to_string())).await;
    let dead_letters = async |count: usize| {
        eventually(&format!("{count} letters"), || async {
            let list = gateway.cli(&["dead", "list", "-o", "json"]).await.json();
            (list.as_array().map(Vec::len) == Some(count)).then_some(())
        })
        .await;
    };
    dead_letters(20).await;
    let short = gateway.cli(&["dead", "list", "--limit", "3"]).await.exits(0);
    assert!(short.stderr.contains("3 of 20 shown"), "{short:?}");
    assert_eq!(short.stdout.lines().count(), 4);
    let failed = gateway.cli(&["dead", "redrive", "audit", "7"]).await.exits(1);
    assert!(failed.stdout.contains("dead letters  1\n"), "{failed:?}");
    dead_letters(20).await;
    sink.always(Response::status(204));
    let done = gateway.cli(&["dead", "redrive", "audit", "7", "8"]).await.exits(0);
    assert_eq!(done.stdout, "redriven      2 of 2 letters\ndelivered     2\n");
    dead_letters(18).await;
    let before = sink.count();
    gateway.cli(&["dead", "redrive", "audit", "--detach"]).await.exits(0);
    sink.wait_for(before + 18).await;
    dead_letters(0).await;
}

/// Proves: OP-1, DL-5
#[tokio::test]
async fn a_redrive_that_a_drain_cuts_off_is_told_and_its_letters_are_still_there() {
    let sink = Sink::start().await;
    sink.always(Response::status(400));
    let mut gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", (0..20).map(|n| n.to_string())).await;
    eventually("20 letters", || async {
        let list = gateway.cli(&["dead", "list", "-o", "json"]).await.json();
        (list.as_array().map(Vec::len) == Some(20)).then_some(())
    })
    .await;
    sink.always(Response::status(204));
    gateway
        .cli(&["dead", "redrive", "audit", "--rate", "2", "--detach"])
        .await
        .exits(0);
    gateway
        .wait_object("subscription", "audit", |object| {
            object["status"]["redrive"]["matched"] == 20
        })
        .await;
    gateway.terminate().await;
    assert!(gateway.log().contains("redrive is not finished"), "{}", gateway.log());
    let delivered = sink.count() - 20;
    gateway.start_again().await;
    let left = gateway.cli(&["dead", "list", "-o", "json"]).await.json();
    assert_eq!(left.as_array().map(Vec::len), Some(20 - delivered));
}
