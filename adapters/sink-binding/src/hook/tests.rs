//! The suite of hooks, and what is this one's own.

use std::sync::Arc;

use adapter::{
    Outlet,
    suite::{self, Sample, Scripted, source},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

const BINARY: &[(&str, &str)] = &[
    ("ce-specversion", "1.0"),
    ("ce-id", "1"),
    ("ce-source", "/beats"),
    ("ce-type", "beat"),
    ("content-type", "text/plain"),
];

fn hook(outlet: Outlet) -> ContainerHook {
    let config = HookConfig {
        extensions: [("team".to_owned(), "blue".to_owned())].into(),
        max_body_bytes: 1024,
    };
    ContainerHook::new(config, source(outlet))
}

fn request(headers: &[(&'static str, &'static str)], body: &'static str) -> HookRequest {
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    HookRequest {
        headers: headers.collect::<HeaderMap>(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

struct Beats;

impl Sample for Beats {
    fn hook(&self, outlet: Outlet) -> Arc<dyn Hook> {
        Arc::new(hook(outlet))
    }

    fn delivery(&self) -> HookRequest {
        request(BINARY, "thump")
    }
}

/// Proves: SR-1
#[tokio::test]
async fn a_2xx_comes_only_after_storage() {
    suite::a_2xx_comes_only_after_storage(&Beats).await;
}

/// Proves: SR-1, SR-5
#[tokio::test]
async fn a_refusal_is_passed_on() {
    suite::a_refusal_is_passed_on(&Beats).await;
}

/// Proves: SR-2
#[tokio::test]
async fn a_repeat_is_the_same_event() {
    suite::a_repeat_is_the_same_event(&Beats).await;
}

/// Proves: SR-3, IN-1, IN-5
#[tokio::test]
async fn events_of_every_mode_are_stored_with_the_overrides() {
    const STRUCTURED: &str = r#"{"specversion":"1.0","id":"2","source":"/beats","type":"beat","data":{"a":1.0}}"#;
    const BATCH: &str = r#"[{"specversion":"1.0","id":"3","source":"/b","type":"beat","team":"red"},{"specversion":"1.0","id":"4","source":"/b","type":"beat"}]"#;
    let outlet = Scripted::storing();
    let hook = hook(outlet.clone());
    let traced: Vec<_> = BINARY.iter().copied().chain([("traceparent", "00-a-b-01")]).collect();
    for request in [
        request(&traced, "thump"),
        request(&[("content-type", "application/cloudevents+json")], STRUCTURED),
        request(&[("content-type", "application/cloudevents-batch+json")], BATCH),
        request(&[("content-type", "application/cloudevents-batch+json")], "[]"),
    ] {
        let answer = hook.call(request).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        assert!(answer.accepted.is_some());
    }
    let stored = outlet.stored();
    let ids: Vec<&str> = stored.iter().map(Event::id).collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    assert!(stored.iter().all(|event| event.text("team") == Some("blue")));
    assert_eq!(
        (&stored[0].data()[..], stored[0].text("traceparent")),
        (&b"thump"[..], Some("00-a-b-01"))
    );
    assert_eq!(&stored[1].data()[..], br#"{"a":1.0}"#);
}

/// Proves: IN-3, SR-5
#[tokio::test]
async fn statuses_are_those_of_a_channel() {
    let taking = hook(Scripted::storing());
    let mut gzip = BINARY.to_vec();
    gzip.push(("content-encoding", "gzip"));
    for (request, status) in [
        (request(&[], "no event"), 400),
        (request(&BINARY[1..], "no version"), 400),
        (request(&[("content-type", "application/cloudevents+avro")], "x"), 415),
        (request(&gzip, "x"), 415),
    ] {
        let answer = taking.call(request).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
    for (refusal, status) in suite::REFUSALS.into_iter().zip([429, 507, 503, 413, 503, 503]) {
        let answer = hook(Scripted::refusing(refusal)).call(request(BINARY, "thump")).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
}
