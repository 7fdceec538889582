#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue};
use spec::model::SecretText;

use super::*;

const BODY: &[u8] = br#"{"specversion":"1.0","id":"1"}"#;

fn signer(scheme: Signed, secret: &str) -> Signer {
    Signer::new(&model::Signature {
        scheme,
        secret: Ok(SecretText::new(secret.as_bytes())),
    })
}

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn mac(algorithm: hmac::Algorithm, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&Key::new(algorithm, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().to_vec()
}

fn why(result: Result<(), Refusal>) -> String {
    result.unwrap_err().message
}

/// Proves: PU-1, PU-2
#[test]
fn a_standard_webhook_is_signed_with_its_id_and_time() {
    // The example of the specification's own libraries.
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = br#"{"test": 2432232314}"#;
    let sent = |signature: &str, timestamp: &str| {
        headers(&[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()),
            ("webhook-timestamp", timestamp.to_owned()),
            ("webhook-signature", signature.to_owned()),
        ])
    };
    let (good, time) = ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "1614265330");
    let signer = signer(Signed::StandardWebhooks, &format!("whsec_b2xk\n{secret}\n"));
    let verify = |headers: &HeaderMap, body: &[u8], now| signer.verify(headers, body, at(now));
    let now = 1_614_265_330;
    verify(&sent(good, time), body, now).unwrap();
    verify(&sent(&format!("v1,AAAA v1a,AAAA {good}"), time), body, now + 299).unwrap();
    assert!(why(verify(&sent(good, time), b"{}", now)).contains("not of this body"));
    assert!(why(verify(&sent(good, "1614265331"), body, now)).contains("not of this body"));
    assert!(why(verify(&sent(good, time), body, now + 301)).contains("301 s from the gateway's clock"));
    assert!(why(verify(&sent(good, time), body, now - 301)).contains("301 s from the gateway's clock"));
    assert!(why(verify(&sent(good, "soon"), body, now)).contains("webhook-timestamp"));
    assert!(why(verify(&sent("v1a,x", time), body, now)).contains("not of this body"));
    let mut without = sent(good, time);
    without.remove("webhook-id");
    assert!(why(verify(&without, body, now)).contains("webhook-id is missing"));
    let mut twice = sent(good, time);
    twice.append("webhook-signature", HeaderValue::from_static("v1,AAAA"));
    assert!(why(verify(&twice, body, now)).contains("there twice"));
}

/// Proves: PU-1
#[test]
fn github_signs_the_body_in_hexadecimal_digits() {
    let signer = signer(Signed::GitHub, "new\nold\n");
    for key in ["new", "old"] {
        let tag = hex::encode(mac(hmac::HMAC_SHA256, key.as_bytes(), &[BODY]));
        let sent = headers(&[("x-hub-signature-256", format!("sha256={tag}"))]);
        assert!(signer.is_named(&sent));
        signer.verify(&sent, BODY, at(0)).unwrap();
        assert!(why(signer.verify(&sent, b"other", at(0))).contains("not of this body"));
        let bare = headers(&[("x-hub-signature-256", tag)]);
        assert!(why(signer.verify(&bare, BODY, at(0))).contains("does not begin with sha256="));
    }
    assert!(!signer.is_named(&HeaderMap::new()));
}

/// Proves: PU-1
#[test]
fn any_other_hmac_is_described_by_the_document() {
    let scheme = |algorithm, encoding, prefix: &str| {
        Signed::Hmac(model::Hmac {
            header: "X-Signature".to_owned(),
            algorithm,
            encoding,
            prefix: prefix.to_owned(),
        })
    };
    let sha512 = mac(hmac::HMAC_SHA512, b"key", &[BODY]);
    let sha256 = mac(hmac::HMAC_SHA256, b"key", &[BODY]);
    let cases = [
        (
            scheme(HmacAlgorithm::Sha256, SignatureEncoding::Hex, "sha256="),
            format!("sha256={}", hex::encode(&sha256)),
        ),
        (
            scheme(HmacAlgorithm::Sha256, SignatureEncoding::Hex, ""),
            hex::encode(&sha256).to_uppercase(),
        ),
        (
            scheme(HmacAlgorithm::Sha256, SignatureEncoding::Base64, ""),
            BASE64_STANDARD.encode(&sha256),
        ),
        (
            scheme(HmacAlgorithm::Sha512, SignatureEncoding::Base64, ""),
            BASE64_STANDARD.encode(&sha512),
        ),
    ];
    for (scheme, value) in cases {
        let sent = headers(&[("x-signature", value.clone())]);
        signer(scheme.clone(), "key").verify(&sent, BODY, at(0)).unwrap();
        assert!(signer(scheme, "other").verify(&sent, BODY, at(0)).is_err(), "{value}");
    }
    let hex = signer(scheme(HmacAlgorithm::Sha256, SignatureEncoding::Hex, ""), "key");
    for (value, words) in [
        ("zz", "holds no hexadecimal digits"),
        ("", "not of this body"),
        ("00", "not of this body"),
    ] {
        let sent = headers(&[("x-signature", value.to_owned())]);
        assert!(why(hex.verify(&sent, BODY, at(0))).contains(words), "{value:?}");
    }
}

/// Proves: PU-1
#[test]
fn a_key_that_is_missing_or_unusable_is_the_gateways_trouble() {
    let missing = Signer::new(&model::Signature {
        scheme: Signed::GitHub,
        secret: Err(Cause::new(Reason::SecretNotFound, "there is no secret")),
    });
    let refusal = missing.verify(&HeaderMap::new(), BODY, at(0)).unwrap_err();
    assert_eq!(
        (refusal.status().as_u16(), refusal.reason),
        (503, Reason::SecretNotFound)
    );
    assert!(refusal.is_retriable());
    for secret in ["whsec_***", "", "\n"] {
        let unusable = signer(Signed::StandardWebhooks, secret);
        let cause = unusable.trouble().unwrap();
        assert_eq!(cause.reason, Reason::CredentialsInvalid, "{secret:?}");
    }
}
