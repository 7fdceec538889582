//! Who may use the admin listener: hosts, tokens, and what is logged of changes.

use std::fs;

use e2e::{
    Answer, Gateway, Request, Sink,
    client::Connection,
    documents::{channel, subscription},
    eventually,
};
use serde_json::json;

const PAUSE: &str = "/api/v1/subscriptions/default/audit/pause";

async fn gateway(arguments: &[&str]) -> (Gateway, Sink) {
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "memory"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ];
    // Objects are read over the admin API, which may not be open: only readiness is waited for.
    let mut gateway = Gateway::set_up().documents(documents).arguments(arguments).prepare();
    gateway.start_again().await;
    (gateway, sink)
}

async fn with_token(gateway: &Gateway, request: Request, token: &str) -> Answer {
    let request = match token {
        "" => request,
        token => request.header("authorization", format!("Bearer {token}")),
    };
    request.send(gateway.admin()).await
}

fn read() -> Request {
    Request::new("GET", "/api/v1/info")
}

fn change() -> Request {
    Request::post(PAUSE)
        .header("content-type", "application/json")
        .body("{}")
}

/// Proves: OP-3
#[tokio::test]
async fn a_foreign_host_is_421_for_every_method_and_health_is_open() {
    let (gateway, _sink) = gateway(&["--admin-host", "gateway.example"]).await;
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8081",
        "localhost:8081.evil.example",
    ] {
        for request in [
            read(),
            change(),
            Request::new("GET", "/api/v1/nothing"),
            Request::new("OPTIONS", "/"),
        ] {
            let answer = request.header("host", host).send(gateway.admin()).await;
            assert!([400, 421].contains(&answer.status), "{host}: {answer}");
        }
        if !host.starts_with("localhost:") {
            let answer = read().header("host", host).send(gateway.admin()).await.is(421);
            assert_eq!(answer.json()["reason"], "ForeignHost");
        }
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:8081", "Gateway.example"] {
        read().header("host", host).send(gateway.admin()).await.is(200);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let request = Request::new("GET", path).header("host", "evil.example");
        request.send(gateway.admin()).await.is(200);
    }
    let absolute = read().to("http://evil.example/api/v1/info").header("host", "localhost");
    absolute.send(gateway.admin()).await.is(421);
    read()
        .header("host", "localhost")
        .also("host", "localhost")
        .send(gateway.admin())
        .await
        .is(400);
    let mut connection = Connection::open(gateway.admin()).await.expect("the gateway listens");
    connection
        .write(b"GET /api/v1/info HTTP/1.1\r\n\r\n")
        .await
        .expect("written");
    connection.read().await.expect("an answer").is(400);
    let metrics = gateway.admin_get("/metrics").await.text();
    let counted = metrics
        .lines()
        .find(|line| line.starts_with(r#"headgate_admin_requests_refused_total{reason="ForeignHost"}"#));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
}

/// Proves: OP-3
#[tokio::test]
async fn tokens_on_loopback_guard_what_they_are_for() {
    let (gateway, _sink) = gateway(&["--admin-token", "operate-it"]).await;
    with_token(&gateway, read(), "").await.is(200);
    with_token(&gateway, change(), "").await.is(401);
    with_token(&gateway, change(), "operate-i").await.is(401);
    with_token(&gateway, change(), "operate-it").await.is(200);
    drop(gateway);

    let (gateway, _sink) = self::gateway(&["--admin-token", "operate-it", "--admin-read-token", "read-it"]).await;
    with_token(&gateway, read(), "").await.is(401);
    with_token(&gateway, read(), "read-it").await.is(200);
    with_token(&gateway, read(), "operate-it").await.is(200);
    let refused = with_token(&gateway, change(), "read-it").await.is(403);
    assert_eq!(refused.json()["reason"], "ReadOnlyToken");
    with_token(&gateway, change(), "operate-it").await.is(200);
    gateway.cli(&["get", "channels"]).await.exits(1);
    gateway
        .cli(&["get", "channels", "--admin-token", "read-it"])
        .await
        .exits(0);
}

/// Proves: OP-3
#[tokio::test]
async fn off_loopback_nothing_is_open_but_health() {
    for (arguments, token, statuses) in [
        (&[][..], "", [403, 403]),
        (&["--admin-token", "operate-it"], "", [401, 401]),
        (&["--admin-token", "operate-it"], "operate-it", [200, 200]),
        (&["--admin-read-token", "read-it"], "read-it", [200, 403]),
    ] {
        let sink = Sink::start().await;
        let documents = [
            channel("orders", "memory"),
            subscription("audit", "orders", &sink.url(), json!({})),
        ];
        let set_up = Gateway::set_up().documents(documents).arguments(arguments);
        let mut gateway = set_up.admin_everywhere().prepare();
        gateway.start_again().await;
        for (request, status) in [read(), change()].into_iter().zip(statuses) {
            with_token(&gateway, request, token).await.is(status);
        }
        gateway.admin_get("/healthz").await.is(200);
        gateway.admin_get("/metrics").await.is(200);
    }
}

/// Proves: OP-3
#[tokio::test]
async fn a_token_file_is_read_again_when_it_changes() {
    let sink = Sink::start().await;
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("audit", "orders", &sink.url(), json!({})),
        ])
        .arguments(&["--admin-token-file", "token", "--admin-read-token-file", "read-token"])
        .prepare();
    let file = |name: &str| gateway.home().join(name);
    let (operate, read_only) = (file("token"), file("read-token"));
    fs::write(&operate, "first\n").expect("a token is written");
    gateway.start_again().await;
    with_token(&gateway, change(), "first").await.is(200);
    with_token(&gateway, read(), "second").await.is(401);
    fs::write(&operate, "second").expect("a token is written");
    fs::write(&read_only, "reader").expect("a token is written");
    eventually("the new token is good", || async {
        (with_token(&gateway, change(), "second").await.status == 200).then_some(())
    })
    .await;
    with_token(&gateway, change(), "first").await.is(401);
    with_token(&gateway, read(), "reader").await.is(200);
    gateway
        .cli(&["get", "channels", "--admin-token-file", "token"])
        .await
        .exits(0);
    fs::remove_file(&operate).expect("it was there");
    with_token(&gateway, change(), "second").await.is(401);
    gateway
        .cli(&["get", "channels", "--admin-token-file", "token"])
        .await
        .exits(2);
}

/// Proves: OP-3
#[tokio::test]
async fn changes_are_logged_and_wrong_tokens_once_a_minute() {
    let (gateway, _sink) = gateway(&["--admin-token", "operate-it"]).await;
    with_token(&gateway, change(), "operate-it").await.is(200);
    with_token(
        &gateway,
        change().to("/api/v1/subscriptions/default/none/pause"),
        "operate-it",
    )
    .await
    .is(404);
    let log = gateway.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("changed over the admin API"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in ["INFO", "pause", "default/audit", "count=1", "operate", "127.0.0.1:"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    for _ in 0..50 {
        with_token(&gateway, change(), "wrong-one").await.is(401);
    }
    let log = gateway.log();
    assert_eq!(log.matches("a wrong token was sent").count(), 1, "{log}");
    assert!(
        !log.contains("wrong-one") && !log.contains("operate-it"),
        "a token is in the log"
    );
    let metrics = gateway.admin_get("/metrics").await.text();
    assert!(
        metrics.contains(r#"headgate_admin_requests_refused_total{reason="Unauthorized"} 50"#),
        "{metrics}"
    );
}
