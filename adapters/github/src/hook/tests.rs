//! A hook over a scripted outlet: the order of checks, the answers, the contract suite of hooks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use adapter::{
    Outlet,
    suite::{self, Sample, Scripted},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

use super::*;
use crate::{
    Sources,
    tests::{config, sign},
};

fn hook(config: Config, outlet: Arc<Scripted>) -> GitHubHook {
    let (hook, _) = Sources::default().source(config, suite::source(outlet));
    hook.unwrap()
}

fn request(event: &str, body: &[u8], secret: Option<&str>) -> HookRequest {
    let mut headers = HeaderMap::new();
    headers.insert("x-github-event", event.parse().unwrap());
    headers.insert("x-github-delivery", HeaderValue::from_static("guid"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(secret) = secret {
        headers.insert("x-hub-signature-256", sign(secret, body).parse().unwrap());
    }
    HookRequest {
        headers,
        body: Bytes::copy_from_slice(body),
    }
}

fn without(mut request: HookRequest, header: &str) -> HookRequest {
    request.headers.remove(header);
    request
}

fn typed(mut request: HookRequest, content_type: &'static str) -> HookRequest {
    let value = HeaderValue::from_static(content_type);
    request.headers.insert(CONTENT_TYPE, value);
    request
}

/// Each row fails the check it is named for and, where there is one, the next check too.
///
/// Proves: SR-1
#[tokio::test]
async fn the_checks_come_in_their_order_and_only_a_good_delivery_is_stored() {
    let outlet = Scripted::storing();
    let hook = hook(config(&["now", "before"], &["push"]), outlet.clone());
    let nameless = |header| without(request("push", b"{}", Some("guessed")), header);
    let form = "application/x-www-form-urlencoded";
    let cases = [
        (nameless("x-github-event"), 400, Outcome::HeaderMissing, 0),
        (nameless("x-github-delivery"), 400, Outcome::HeaderMissing, 0),
        (request("push", b"{}", None), 401, Outcome::SignatureInvalid, 0),
        (
            request("issues", b"[]", Some("guessed")),
            401,
            Outcome::SignatureInvalid,
            0,
        ),
        (
            request("ping", b"{}", Some("guessed")),
            401,
            Outcome::SignatureInvalid,
            0,
        ),
        (request("ping", b"[]", Some("now")), 200, Outcome::Ping, 0),
        (request("issues", b"[]", Some("now")), 202, Outcome::Filtered, 0),
        (
            typed(request("push", b"[]", Some("now")), "text/xml"),
            415,
            Outcome::UnsupportedFormat,
            0,
        ),
        (request("push", b"[]", Some("now")), 400, Outcome::Invalid, 0),
        (
            typed(request("push", b"payload=%5B%5D", Some("now")), form),
            400,
            Outcome::Invalid,
            0,
        ),
        (request("push", b"{}", Some("now")), 202, Outcome::Stored, 1),
        (request("push", b"{}", Some("before")), 202, Outcome::Stored, 2),
        (
            typed(request("push", b"payload=%7B%7D", Some("now")), form),
            202,
            Outcome::Stored,
            3,
        ),
    ];
    let mut counts = [0; Outcome::ALL.len()];
    for (request, status, outcome, stored) in cases {
        let answer = hook.call(request).await;
        assert_eq!(answer.status.as_u16(), status, "{outcome:?}: {}", answer.message);
        assert_eq!(outlet.stored().len(), stored, "{outcome:?}");
        counts[outcome as usize] += 1;
    }
    for outcome in Outcome::ALL {
        assert_eq!(hook.counters().count(outcome), counts[outcome as usize], "{outcome:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_header_that_is_missing() {
    let hook = hook(config(&[], &["*"]), Scripted::storing());
    for header in ["X-GitHub-Event", "X-GitHub-Delivery"] {
        let answer = hook.call(without(request("push", b"{}", None), header)).await;
        assert!(answer.message.contains(header), "{}", answer.message);
    }
}

/// A source that was written without a secret takes what comes; an empty secret is not the same as none.
///
/// Proves: SR-6
#[tokio::test]
async fn an_empty_secret_opens_nothing() {
    let unsigned = request("push", b"{}", None);
    let open = hook(config(&[], &["*"]), Scripted::storing());
    assert_eq!(open.call(unsigned).await.status.as_u16(), 202);
    let closed = hook(config(&[""], &["*"]), Scripted::storing());
    for secret in [None, Some("")] {
        assert_eq!(closed.call(request("push", b"{}", secret)).await.status.as_u16(), 401);
    }
}

/// Proves: SR-3
#[tokio::test]
async fn a_form_is_stored_as_the_document_it_carries() {
    let outlet = Scripted::storing();
    let hook = hook(config(&["now"], &["*"]), outlet.clone());
    let form = request("push", b"payload=%7B%22ref%22%3A+%22a%2Bb%22%7D", Some("now"));
    let answer = hook.call(typed(form, "application/x-www-form-urlencoded")).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.message);
    let stored = outlet.stored();
    assert_eq!(&stored[0].data()[..], br#"{"ref": "a+b"}"#);
    assert_eq!(stored[0].text("subject"), Some("a+b"));
    assert_eq!(stored[0].text("datacontenttype"), Some("application/json"));
}

/// Proves: SR-3
#[tokio::test]
async fn a_large_delivery_is_checked_and_stored_like_a_small_one() {
    let outlet = Scripted::storing();
    let hook = hook(config(&["now"], &["*"]), outlet.clone());
    let body = format!(
        r#"{{"pad":"{}","ref":"refs/heads/main"}}"#,
        "x".repeat(2 * INLINE_MAX_BYTES)
    );
    let forged = hook.call(request("push", body.as_bytes(), Some("guessed"))).await;
    assert_eq!(forged.status.as_u16(), 401);
    let signed = hook.call(request("push", body.as_bytes(), Some("now"))).await;
    assert_eq!(signed.status.as_u16(), 202);
    let stored = outlet.stored();
    assert_eq!(stored.len(), 1);
    assert_eq!(&stored[0].data()[..], body.as_bytes());
    assert_eq!(stored[0].text("subject"), Some("refs/heads/main"));
}

/// Proves: SR-6
#[test]
fn a_secret_is_never_printed() {
    let hook = hook(config(&["hunter2"], &[]), Scripted::storing());
    assert!(!format!("{hook:?}").contains("hunter2"));
}

struct Push;

impl Sample for Push {
    fn hook(&self, outlet: Outlet) -> Arc<dyn Hook> {
        Arc::new(
            Sources::default()
                .source(config(&["now"], &["push"]), suite::source(outlet))
                .0
                .unwrap(),
        )
    }

    fn delivery(&self) -> HookRequest {
        request("push", br#"{"ref":"refs/heads/main"}"#, Some("now"))
    }
}

/// Proves: SR-1
#[tokio::test]
async fn a_2xx_comes_only_after_storage() {
    suite::a_2xx_comes_only_after_storage(&Push).await;
}

/// Proves: SR-1, SR-5
#[tokio::test]
async fn a_refusal_by_the_channel_is_a_failure_github_will_record() {
    suite::a_refusal_is_passed_on(&Push).await;
}

/// Proves: SR-2
#[tokio::test]
async fn a_delivery_that_is_repeated_is_the_same_event() {
    suite::a_repeat_is_the_same_event(&Push).await;
}
