//! OAuth 2.0 client credentials: tokens are fetched, kept, replaced, and their absence is a failed attempt of its own kind.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use e2e::{
    Gateway, Response, Sink,
    documents::{bare_subscription, channel, merge, secret},
    eventually,
    gateway::condition,
};
use serde_json::{Value, json};
use tokio::time::Duration;

/// `Basic` with `gate%3Away` and `client%2Fsecret`: id and secret are encoded before they are joined (RFC 6749, 2.3.1).
const CLIENT: &str = "Basic Z2F0ZSUzQXdheTpjbGllbnQlMkZzZWNyZXQ=";

/// An authorization server that numbers its tokens.
async fn authorization_server(expires_in: u64, delay: Duration) -> (Sink, Arc<AtomicUsize>) {
    let (server, issued) = (Sink::start().await, Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&issued);
    server.answer_by(move |request| {
        if request.header("authorization") != Some(CLIENT) {
            return Some(Response::status(401).body(r#"{"error":"invalid_client"}"#));
        }
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let token =
            json!({ "access_token": format!("issued-{number}"), "token_type": "Bearer", "expires_in": expires_in });
        let answer = Response::status(200).header("content-type", "application/json");
        Some(answer.body(token.to_string()).after(delay))
    });
    (server, issued)
}

fn documents(sink: &Sink, server: &str, more: Value) -> [Value; 3] {
    let oauth2 = json!({
        "tokenURL": format!("{server}token?tenant=1"), "clientID": "gate:way",
        "clientSecretKeyRef": { "name": "client", "key": "secret" },
        "scopes": ["events.write", "events.read"], "audience": "https://api.example/",
    });
    let mut spec = json!({ "subscriber": { "uri": sink.url(), "auth": { "oauth2": oauth2 } } });
    merge(&mut spec, more);
    [
        channel("orders", "memory"),
        secret("client", json!({ "secret": "client/secret" })),
        bare_subscription("s", "orders", spec),
    ]
}

/// Proves: DL-1, SR-6
#[tokio::test]
async fn many_deliveries_share_one_token() {
    let sink = Sink::start().await;
    let (server, _) = authorization_server(3600, Duration::from_millis(300)).await;
    let gateway = Gateway::with(documents(&sink, &server.url(), json!({}))).await;
    // All of them begin while the token is fetched.
    gateway.accept("orders", (0..40).map(|id| id.to_string())).await;
    for request in sink.wait_for(40).await {
        assert_eq!(request.header("authorization"), Some("Bearer issued-1"));
    }
    let fetch = server.wait_for_one().await;
    assert_eq!(fetch.path, "/token?tenant=1");
    assert_eq!(fetch.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        String::from_utf8_lossy(&fetch.body),
        "grant_type=client_credentials&scope=events.write+events.read&audience=https%3A%2F%2Fapi.example%2F"
    );
    let shown = super::outputs(&gateway).await;
    for secret in ["client/secret", "client%2Fsecret", "Z2F0ZSUz", "issued-1"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

/// Proves: DL-1
#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let sink = Sink::start().await;
    let (server, issued) = authorization_server(1, Duration::ZERO).await;
    let gateway = Gateway::with(documents(&sink, &server.url(), json!({}))).await;
    let mut sent = 0;
    eventually("a second token", || {
        sent += 1;
        let (gateway, id, issued) = (&gateway, sent.to_string(), &issued);
        async move {
            gateway.accept("orders", [id]).await;
            (issued.load(Ordering::SeqCst) >= 2).then_some(())
        }
    })
    .await;
    let all = sink.wait_for(sent).await;
    let with = |token: &str| {
        all.iter()
            .filter(|it| it.header("authorization") == Some(token))
            .count()
    };
    assert!(with("Bearer issued-1") > 0 && with("Bearer issued-2") > 0);
    assert!(server.count() < sent, "it is kept between deliveries");
}

/// Proves: DL-2
#[tokio::test]
async fn a_refused_token_is_replaced_once_within_the_attempt() {
    let sink = Sink::start().await;
    // Only the second token is good, and no retry is left that could hide a failed attempt.
    sink.answer_by(|request| {
        let is_good = request.header("authorization") == Some("Bearer issued-2");
        Some(Response::status(if is_good { 204 } else { 401 }))
    });
    let (server, _) = authorization_server(3600, Duration::ZERO).await;
    let more = json!({ "delivery": { "retry": 0 } });
    let gateway = Gateway::with(documents(&sink, &server.url(), more)).await;
    gateway.accept("orders", ["1", "2"]).await;
    eventually("both are taken", || async {
        let all = sink.received();
        let taken = all
            .iter()
            .filter(|it| it.header("authorization") == Some("Bearer issued-2"));
        (taken.count() == 2).then_some(())
    })
    .await;
    assert_eq!(gateway.cli(&["dead", "list", "-o", "json"]).await.json(), json!([]));
    assert_eq!(
        server.count(),
        2,
        "a token that others replaced meanwhile is not replaced again"
    );
    // A sink that refuses every token is a sink that refuses the event.
    sink.answer_by(|_| Some(Response::status(401)));
    let before = sink.count();
    gateway.accept("orders", ["3"]).await;
    gateway.wait_for_letter("s", "SinkRejected").await;
    assert_eq!(sink.count() - before, 2, "one more attempt with another token");
    assert_eq!(server.count(), 3);
}

/// Proves: DL-2, DL-6, SR-6
#[tokio::test]
async fn a_token_endpoint_that_fails_is_a_failed_attempt_with_its_own_reason() {
    let sink = Sink::start().await;
    let server = Sink::start().await;
    // Repeats what it was sent, and more than anybody wants to keep.
    server.answer_by(|request| {
        let authorization = request.header("authorization").unwrap_or_default();
        let text = format!(r#"{{"error":"invalid_client","sent":"{authorization}"}}"#);
        Some(Response::status(401).body(text + &" ".repeat(200_000)))
    });
    let more = json!({ "delivery": { "retry": 2 } });
    let gateway = Gateway::with(documents(&sink, &server.url(), more)).await;
    gateway.accept("orders", ["1"]).await;
    gateway.wait_for_letter("s", "TokenUnavailable").await;
    assert_eq!(
        (server.count(), sink.count()),
        (3, 0),
        "each attempt asks, and nothing is sent"
    );
    let letter = gateway.cli(&["dead", "show", "s", "1"]).await.stdout;
    assert!(
        letter.contains("invalid_client") && letter.contains("<redacted>"),
        "{letter}"
    );
    assert!(letter.len() < 100_000, "{} bytes", letter.len());
    let shown = super::outputs(&gateway).await;
    for secret in ["client/secret", "client%2Fsecret", "Z2F0ZSUz"] {
        assert!(!shown.contains(secret), "{secret}");
    }
    let metrics = gateway.admin_get("/metrics").await.text();
    assert!(metrics.contains(r#"reason="TokenUnavailable""#), "{metrics}");
}

/// Proves: DL-2
#[tokio::test]
async fn an_outage_of_the_token_endpoint_is_survived_by_retries() {
    let sink = Sink::start().await;
    let (server, _) = authorization_server(3600, Duration::ZERO).await;
    let address = server.address();
    drop(server);
    let more = json!({ "delivery": { "retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT0.1S" } });
    let gateway = Gateway::with(documents(&sink, &format!("http://{address}/"), more)).await;
    gateway.accept("orders", (0..5).map(|id| id.to_string())).await;
    eventually("failed attempts", || async {
        let metrics = gateway.admin_get("/metrics").await.text();
        metrics.contains(r#"reason="TokenUnavailable""#).then_some(())
    })
    .await;
    assert_eq!(sink.count(), 0);
    let server = Sink::at(address).await;
    server.always(Response::status(200).body(r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#));
    sink.wait_for(5).await;
}

/// Proves: EG-1
#[tokio::test]
async fn a_token_endpoint_at_a_refused_address_is_a_condition() {
    let sink = Sink::start().await;
    let mut gateway = Gateway::set_up()
        .documents(documents(&sink, "https://169.254.169.254/", json!({})))
        .prepare();
    gateway.start_again().await;
    let object = gateway
        .wait_object("subscription", "s", |object| {
            condition(object, "Resolved").is_some_and(|found| found["reason"] == "EgressRefused")
        })
        .await;
    let message = condition(&object, "Resolved").expect("it is there")["message"].to_string();
    assert!(
        message.contains("tokenURL") && message.contains("link-local"),
        "{message}"
    );
}
