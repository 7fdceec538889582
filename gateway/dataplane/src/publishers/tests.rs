//! The publishers of a channel as a request meets them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::{HeaderName, HeaderValue};
use serde_json::json;
use spec::model::SecretText;

use super::*;
use crate::publishers::testing::{ISSUER, Scripted, TestKey, claims};

fn bearer(name: &str, secret: Result<&str, Cause>) -> model::Publisher {
    model::Publisher {
        name: name.to_owned(),
        credential: model::Credential::Bearer(secret.map(|text| SecretText::new(text.as_bytes()))),
    }
}

fn github(name: &str, key: &str) -> model::Publisher {
    model::Publisher {
        name: name.to_owned(),
        credential: model::Credential::Signature(model::Signature {
            scheme: model::Signed::GitHub,
            secret: Ok(SecretText::new(key.as_bytes())),
        }),
    }
}

fn jwt(name: &str) -> model::Publisher {
    model::Publisher {
        name: name.to_owned(),
        credential: model::Credential::Jwt(model::Jwt {
            issuer: ISSUER.to_owned(),
            audience: "headgate".to_owned(),
            claims: [("sub".to_owned(), "ci".to_owned())].into(),
        }),
    }
}

fn no_secret() -> Cause {
    Cause::new(
        Reason::SecretNotFound,
        "there is no secret shop/tokens with the key tokens",
    )
}

fn with_limits(
    publishers: Vec<model::Publisher>,
    limits: Option<model::Limits>,
    before: Option<&Publishers>,
) -> Publishers {
    let issuers = Scripted::with(&[&TestKey::p256("1")]).issuers();
    let desired = model::Publishing { publishers, limits };
    Publishers::new(&ObjectName::new("shop", "orders"), &desired, before, &issuers)
}

fn naming(publishers: Vec<model::Publisher>) -> Publishers {
    with_limits(publishers, None, None)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

async fn refused(publishers: &Publishers, sent: &[(&'static str, &str)]) -> (u16, Reason) {
    let refusal = publishers.identify(&headers(sent), true).await.unwrap_err();
    (refusal.status().as_u16(), refusal.reason)
}

fn event(size: usize) -> Event {
    let builder = Event::builder("1", "/s", "t");
    builder.data("text/plain", vec![b'x'; size].into()).finish().unwrap()
}

/// Proves: PU-1, PU-3
#[tokio::test]
async fn a_request_is_its_publishers_by_any_of_its_tokens() {
    let publishers = naming(vec![bearer("shop", Ok("s1\ns2")), bearer("bank", Ok("b1"))]);
    for (token, name) in [("s1", "shop"), ("s2", "shop"), ("b1", "bank")] {
        let sent = headers(&[("authorization", &format!("Bearer {token}"))]);
        let sender = publishers.identify(&sent, false).await.unwrap();
        assert_eq!(publishers.name(sender).as_deref(), Some(name));
        assert_eq!(publishers.verify(sender, &sent, b""), Ok(sender));
    }
    assert_eq!(refused(&publishers, &[]).await, (401, Reason::CredentialMissing));
    let unknown = [("authorization", "Bearer s3")];
    assert_eq!(refused(&publishers, &unknown).await, (401, Reason::CredentialInvalid));
    let basic = [("authorization", "Basic czE6")];
    assert_eq!(refused(&publishers, &basic).await, (401, Reason::CredentialMissing));
    let challenges = |refusal: &Refusal| publishers.challenges(refusal).collect::<Vec<_>>();
    let missing = publishers.identify(&headers(&[]), true).await.unwrap_err();
    assert_eq!(challenges(&missing), ["Bearer realm=\"headgate\""]);
    let invalid = publishers.identify(&headers(&unknown), true).await.unwrap_err();
    assert_eq!(
        challenges(&invalid),
        ["Bearer realm=\"headgate\", error=\"invalid_token\""]
    );
}

#[tokio::test]
async fn a_channel_without_publishers_is_open() {
    let open = naming(vec![]);
    let sender = open.identify(&headers(&[("authorization", "Bearer x")]), false).await;
    assert_eq!(sender, Ok(Sender::Anyone));
    assert!(open.is_open() && open.name(Sender::Anyone).is_none());
}

/// Proves: PU-1
#[tokio::test]
async fn a_missing_secret_is_503_for_its_publisher_and_leaves_the_others_alone() {
    let publishers = naming(vec![bearer("shop", Err(no_secret())), bearer("bank", Ok("b1"))]);
    let bank = publishers
        .identify(&headers(&[("authorization", "Bearer b1")]), false)
        .await;
    assert_eq!(bank, Ok(Sender::Publisher(1)));
    let refusal = publishers
        .identify(&headers(&[("authorization", "Bearer s1")]), false)
        .await
        .unwrap_err();
    assert_eq!(
        (refusal.status().as_u16(), refusal.reason),
        (503, Reason::SecretNotFound)
    );
    assert!(
        refusal.retry_after.is_some() && !refusal.message.contains("shop/tokens"),
        "{refusal:?}"
    );
    assert_eq!(refused(&publishers, &[]).await, (401, Reason::CredentialMissing));
    let trouble = publishers.trouble().unwrap();
    assert!(
        trouble
            .message
            .starts_with("publisher shop: there is no secret shop/tokens"),
        "{}",
        trouble.message
    );
}

/// Proves: PU-1
#[tokio::test]
async fn a_signature_is_verified_over_the_body_and_needs_all_of_the_event_in_it() {
    let publishers = naming(vec![
        github("old", "k1"),
        github("billing", "k2"),
        bearer("shop", Ok("s1")),
    ]);
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"k2"), b"body");
    let signature = format!("sha256={}", hex::encode(tag));
    let sent = headers(&[("x-hub-signature-256", &signature)]);
    let sender = publishers.identify(&sent, true).await.unwrap();
    assert_eq!(sender, Sender::Signer);
    assert_eq!(publishers.name(sender), None);
    let verified = publishers.verify(sender, &sent, b"body").unwrap();
    assert_eq!(publishers.name(verified).as_deref(), Some("billing"));
    let refusal = publishers.verify(sender, &sent, b"another body").unwrap_err();
    assert_eq!(
        (refusal.status().as_u16(), refusal.reason),
        (401, Reason::SignatureInvalid)
    );
    let binary = publishers.identify(&sent, false).await.unwrap_err();
    assert_eq!(
        (binary.status().as_u16(), binary.reason),
        (401, Reason::SignatureInvalid)
    );
    assert!(binary.message.contains("structured mode"), "{}", binary.message);
    let both = headers(&[("x-hub-signature-256", &signature), ("authorization", "Bearer s1")]);
    assert_eq!(publishers.identify(&both, false).await, Ok(Sender::Publisher(2)));
    let stale = headers(&[("x-hub-signature-256", &signature), ("authorization", "Bearer gone")]);
    assert_eq!(publishers.identify(&stale, true).await, Ok(Sender::Signer));
    assert_eq!(publishers.challenges(&refusal).count(), 2);
}

/// Proves: PU-1
#[tokio::test]
async fn a_token_of_an_issuer_is_told_from_a_bearer_token() {
    let key = TestKey::p256("1");
    let issuers = Scripted::with(&[&key]).issuers();
    let desired = model::Publishing {
        publishers: vec![bearer("shop", Ok("s1")), jwt("ci")],
        limits: None,
    };
    let publishers = Publishers::new(&ObjectName::new("shop", "orders"), &desired, None, &issuers);
    let sent = |token: &str| headers(&[("authorization", &format!("Bearer {token}"))]);
    let ci = publishers.identify(&sent(&key.token(&claims(&json!({})))), false).await;
    assert_eq!(ci, Ok(Sender::Publisher(1)));
    let shop = publishers.identify(&sent("s1"), false).await;
    assert_eq!(shop, Ok(Sender::Publisher(0)));
    for (changed, status) in [
        (json!({ "sub": "other" }), 403),
        (json!({ "iss": "https://other.example" }), 401),
    ] {
        let token = key.token(&claims(&changed));
        let refusal = publishers.identify(&sent(&token), false).await.unwrap_err();
        assert_eq!(refusal.status().as_u16(), status, "{changed}");
        assert!(!refusal.message.contains(&token), "{refusal:?}");
    }
}

/// Proves: PU-4
#[tokio::test(start_paused = true)]
async fn the_limit_of_a_publisher_is_its_own_and_outlives_a_new_token() {
    let limits = model::Limits {
        events_per_second: Some(2),
        bytes_per_second: None,
    };
    let named = |token: &'static str| vec![bearer("shop", Ok(token)), bearer("bank", Ok("b1"))];
    let before = with_limits(named("s1"), Some(limits), None);
    let events = [event(1), event(1)];
    before.spend(Sender::Publisher(0), &events).unwrap();
    let refusal = before.spend(Sender::Publisher(0), &events[..1]).unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.reason), (429, Reason::LimitReached));
    assert!(refusal.retry_after.is_some());
    before.spend(Sender::Publisher(1), &events).unwrap();
    assert_eq!(
        refused(&before, &[("authorization", "Bearer s1")]).await,
        (429, Reason::LimitReached),
        "before the body is read"
    );
    let after = with_limits(named("s2"), Some(limits), Some(&before));
    after.spend(Sender::Publisher(0), &events[..1]).unwrap_err();
    let raised = model::Limits {
        events_per_second: Some(3),
        ..limits
    };
    let after = with_limits(named("s2"), Some(raised), Some(&before));
    after.spend(Sender::Publisher(0), &events[..1]).unwrap();
}

/// Proves: PU-4
#[tokio::test(start_paused = true)]
async fn an_open_channel_has_its_limits_as_a_whole() {
    let limits = model::Limits {
        events_per_second: None,
        bytes_per_second: Some(1000),
    };
    let open = with_limits(vec![], Some(limits), None);
    open.spend(Sender::Anyone, &[event(400), event(400)]).unwrap();
    let refusal = open.spend(Sender::Anyone, &[event(400)]).unwrap_err();
    assert!(refusal.message.contains("1000 bytes a second"), "{}", refusal.message);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    open.spend(Sender::Anyone, &[event(400)]).unwrap();
}
