#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use serde_json::json;

use super::*;
use crate::publishers::testing::{ISSUER, Scripted, TestKey, claims, seconds_from_now};

fn expecting(audience: &str, claims: &[(&str, &str)]) -> model::Jwt {
    let claims = claims
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    model::Jwt {
        issuer: ISSUER.to_owned(),
        audience: audience.to_owned(),
        claims: claims.collect(),
    }
}

/// The publisher of a token among some, or the status and message of its refusal.
async fn published(keys: &[&TestKey], expected: &[model::Jwt], token: &str) -> Result<usize, (u16, String)> {
    let issuers = Scripted::with(keys).issuers();
    let trusted: Vec<_> = expected
        .iter()
        .map(|expected| Trusted::new(expected, &issuers))
        .collect();
    let trusted: Vec<_> = trusted.iter().enumerate().collect();
    let token = Unverified::parse(token).unwrap();
    let found = publisher(&token, &trusted).await;
    found.map_err(|refusal| (refusal.status().as_u16(), refusal.message))
}

/// Proves: PU-1
#[tokio::test]
async fn a_token_is_good_by_its_key_its_times_its_audience_and_its_claims() {
    for key in [TestKey::p256("1"), TestKey::ed25519("2")] {
        let expected = [expecting("headgate", &[("repository", "octo/hello")])];
        let judged = async |changed: Value| {
            let mut given = json!({ "repository": "octo/hello" });
            given
                .as_object_mut()
                .unwrap()
                .extend(changed.as_object().unwrap().clone());
            published(&[&key], &expected, &key.token(&claims(&given))).await
        };
        assert_eq!(judged(json!({})).await, Ok(0));
        assert_eq!(judged(json!({ "aud": ["other", "headgate"] })).await, Ok(0));
        assert_eq!(
            judged(json!({ "exp": seconds_from_now(-20) })).await,
            Ok(0),
            "clocks differ a little"
        );
        assert_eq!(judged(json!({ "nbf": seconds_from_now(20) })).await, Ok(0));
        for (changed, status, words) in [
            (json!({ "exp": seconds_from_now(-40) }), 401, "has expired"),
            (json!({ "exp": null }), 401, "no usable claim exp"),
            (json!({ "exp": "never" }), 401, "exp"),
            (json!({ "nbf": seconds_from_now(40) }), 401, "not good yet"),
            (json!({ "nbf": "soon" }), 401, "no usable claim nbf"),
            (json!({ "aud": "other" }), 401, "another audience"),
            (json!({ "aud": [] }), 401, "another audience"),
            (json!({ "aud": null }), 401, "another audience"),
            (json!({ "repository": "octo/other" }), 403, "its claim repository"),
            (json!({ "repository": null }), 403, "its claim repository"),
        ] {
            let refused = judged(changed.clone()).await.unwrap_err();
            assert!(
                refused.0 == status && refused.1.contains(words),
                "{changed}: {refused:?}"
            );
        }
    }
}

/// Proves: PU-1
#[tokio::test]
async fn publishers_of_one_issuer_differ_in_audience_and_claims() {
    let key = TestKey::p256("1");
    let expected = [
        expecting("other", &[]),
        expecting("headgate", &[("groups", "shop")]),
        expecting("headgate", &[("level", "3"), ("verified", "true")]),
    ];
    let judged = async |changed: Value| published(&[&key], &expected, &key.token(&claims(&changed))).await;
    assert_eq!(judged(json!({ "aud": "other" })).await, Ok(0));
    assert_eq!(judged(json!({ "groups": ["bank", "shop"] })).await, Ok(1));
    assert_eq!(judged(json!({ "level": 3, "verified": true })).await, Ok(2));
    let refused = judged(json!({ "groups": [["shop"]] })).await.unwrap_err();
    assert_eq!(refused.0, 403, "{refused:?}");
}

/// Proves: PU-1
#[tokio::test]
async fn another_key_another_kind_of_signature_and_no_signature_are_refused() {
    let (ours, theirs) = (TestKey::p256("1"), TestKey::p256("1"));
    let good = ours.token(&claims(&json!({})));
    let expected = [expecting("headgate", &[])];
    let parts: Vec<&str> = good.split('.').collect();
    let encoded = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let with_head = |head: Value| format!("{}.{}.{}", encoded(head), parts[1], parts[2]);
    let forged = encoded(claims(&json!({ "sub": "admin" })));
    for (token, words) in [
        (theirs.token(&claims(&json!({}))), "not of its issuer's key"),
        (format!("{}.{forged}.{}", parts[0], parts[2]), "not of its issuer's key"),
        (format!("{}.{}.", parts[0], parts[1]), "issuer's key"),
        (with_head(json!({ "alg": "none" })), "not accepted"),
        (with_head(json!({ "alg": "HS256", "kid": "1" })), "not accepted"),
        (
            with_head(json!({ "alg": "ES256", "kid": "1", "crit": ["exp"] })),
            "not accepted",
        ),
        (with_head(json!({ "alg": "RS256", "kid": "1" })), "does not have"),
        (with_head(json!({ "alg": "ES256", "kid": "2" })), "does not have"),
    ] {
        let refused = published(&[&ours], &expected, &token).await.unwrap_err();
        assert!(refused.0 == 401 && refused.1.contains(words), "{words}: {refused:?}");
    }
    assert_eq!(published(&[&ours], &expected, &good).await, Ok(0));
    assert_eq!(
        published(&[&theirs, &ours], &expected, &good).await,
        Ok(0),
        "two keys may have one id"
    );
}

#[test]
fn a_clock_that_cannot_be_right_makes_no_token_good() {
    let good = claims(&json!({}));
    let good = good.as_object().unwrap();
    in_time(good, SystemTime::now()).unwrap();
    let before = UNIX_EPOCH - std::time::Duration::from_secs(1);
    assert!(in_time(good, before).unwrap_err().message.contains("clock"));
}

#[test]
fn what_is_no_jwt_is_left_to_others() {
    let long = "a".repeat(TOKEN_MAX_BYTES + 1);
    for text in ["", "a", "a.b", "a.b.c", "e30.e30.", "e30.e30.e30.e30", "....", &long] {
        assert!(Unverified::parse(text).is_none(), "{text}");
    }
}
