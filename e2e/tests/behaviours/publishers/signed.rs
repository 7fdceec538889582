//! Publishers that sign: webhooks by a shared key, tokens by the key of an identity provider.

use e2e::{
    Request, eventually,
    gateway::{condition, is_ready},
    peers::{self, Peer},
};
use serde_json::{Value, json};

use super::{bearer, guarded, issuer::Issuer, refused, send};

/// Proves: PU-1, PU-2
#[tokio::test]
async fn a_webhook_signed_by_the_specifications_own_library_gets_in() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let (key, next) = (
        "whsec_b2xkIGtleSBvZiB0aGUgdGVzdA==",
        "whsec_bmV3IGtleSBvZiB0aGUgdGVzdA==",
    );
    let publishers = json!([{
        "name": "billing",
        "signature": { "scheme": "standard-webhooks", "secretKeyRef": { "name": "tokens", "key": "billing" } },
    }]);
    let secrets = json!({ "billing": format!("{key}\n{next}") });
    let (gateway, sink) = guarded(publishers, secrets, json!({})).await;
    let body = r#"{"specversion":"1.0","id":"1","source":"/billing","type":"paid","data":{"ü": 1.50}}"#;
    let signed = async |key: &str, seconds: &str| {
        let headers = peers::run(Peer::Node, "sign-webhook.mjs", &[key, body, seconds]).await;
        let headers: Value = serde_json::from_str(&headers).expect("JSON");
        let headers = headers.as_object().expect("headers").clone();
        headers
            .into_iter()
            .fold(Request::structured("orders", body), |request, (name, value)| {
                request.header(&name, value.as_str().expect("text"))
            })
    };
    let request = signed(key, "0").await;
    gateway.send(&request).await.is(202);
    let event = sink.wait_for_one().await;
    assert_eq!(event.attribute("headgatepublisher").as_deref(), Some("billing"));
    assert_eq!(event.body, "{\"ü\": 1.50}");
    gateway.send(&signed(next, "0").await).await.is(202);
    let answer = gateway.send(&Request::structured("orders", body)).await.is(401);
    assert_eq!(answer.header("www-authenticate"), Some("Signature realm=\"headgate\""));
    let altered = body.replace("1.50", "9.50");
    gateway.send(&request.clone().body(altered)).await.is(401);
    let stale = gateway.send(&signed(key, "-400").await).await.is(401);
    assert!(stale.text().contains("the gateway's clock"), "{stale}");
    gateway.send(&signed("whsec_YW5vdGhlciBrZXk=", "0").await).await.is(401);
    let mut binary = Request::event("orders", "2").body(body);
    for (name, value) in request.headers.iter().filter(|(name, _)| name.starts_with("webhook-")) {
        binary = binary.header(name, value);
    }
    let answer = gateway.send(&binary).await.is(401);
    assert!(answer.text().contains("structured mode"), "{answer}");
    assert_eq!(refused(&gateway, "SignatureInvalid").await, 4);
}

/// Proves: PU-1, PU-2, PU-3
#[tokio::test]
async fn tokens_of_an_identity_provider_get_in_by_key_audience_and_claims() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let issuer = Issuer::start().await;
    issuer.publishes(&["rsa-1", "ec-1", "ed-1"]).await;
    let publishers = json!([{
        "name": "ci",
        "jwt": { "issuer": issuer.url(), "audience": "headgate", "claims": { "repository": "octo/hello" } },
    }]);
    let (gateway, sink) = guarded(publishers, json!({}), json!({})).await;
    let good = json!({ "repository": "octo/hello" });
    for key in ["rsa-1", "ec-1", "ed-1"] {
        send(&gateway, key, &issuer.token(key, &good).await).await.is(202);
    }
    let received = sink.wait_for(3).await;
    assert!(
        received
            .iter()
            .all(|event| event.attribute("headgatepublisher").as_deref() == Some("ci"))
    );
    for (changed, status) in [
        (json!({ "repository": "octo/other" }), 403),
        (json!({ "repository": "octo/hello", "aud": "another" }), 401),
        (json!({ "repository": "octo/hello", "exp": 1 }), 401),
        (json!({ "repository": "octo/hello", "nbf": 4_000_000_000_u64 }), 401),
        (
            json!({ "repository": "octo/hello", "iss": "https://another.example" }),
            401,
        ),
    ] {
        let answer = send(&gateway, "bad", &issuer.token("rsa-1", &changed).await).await;
        assert_eq!(answer.status, status, "{changed}: {answer}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{answer}");
    }
    // A new key is good at once, the old one as long as the issuer has it.
    issuer.publishes(&["rsa-1", "rsa-2"]).await;
    send(&gateway, "new", &issuer.token("rsa-2", &good).await).await.is(202);
    send(&gateway, "old", &issuer.token("rsa-1", &good).await).await.is(202);
    // Tokens with unknown keys do not make the gateway ask again and again.
    let before = issuer.asked().await;
    for _ in 0..20 {
        send(&gateway, "forged", &issuer.token("rsa-unknown", &good).await)
            .await
            .is(401);
    }
    assert!(
        issuer.asked().await <= before + 2,
        "{before} and {}",
        issuer.asked().await
    );
    // An outage leaves known keys in force.
    issuer.is_away(true).await;
    send(&gateway, "meanwhile", &issuer.token("rsa-2", &good).await)
        .await
        .is(202);
}

/// Proves: PU-2
#[tokio::test]
async fn an_identity_provider_that_was_never_reached_is_503_and_a_condition_until_it_comes() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let issuer = Issuer::start().await;
    issuer.publishes(&["ec-1"]).await;
    issuer.is_away(true).await;
    let publishers = json!([
        { "name": "ci", "jwt": { "issuer": issuer.url(), "audience": "headgate" } },
        bearer("shop"),
    ]);
    let (gateway, _sink) = guarded(publishers, json!({ "shop": "shop-token" }), json!({})).await;
    let token = issuer.token("ec-1", &json!({})).await;
    let answer = send(&gateway, "1", &token).await.is(503);
    assert!(answer.header("retry-after").is_some(), "{answer}");
    send(&gateway, "2", "shop-token").await.is(202);
    let why = |object: &Value| condition(object, "PublishersKnown").map(|known| known["reason"] == "IssuerUnreachable");
    let object = gateway
        .wait_object("channel", "orders", |object| why(object) == Some(true))
        .await;
    assert!(is_ready(&object), "{object}");
    issuer.is_away(false).await;
    eventually("the token is good", || async {
        (send(&gateway, "3", &token).await.status == 202).then_some(())
    })
    .await;
    gateway
        .wait_object("channel", "orders", |object| why(object).is_none())
        .await;
}
