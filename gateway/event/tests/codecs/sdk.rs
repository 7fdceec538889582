//! The official Rust SDK reads what we write, and we read what it writes.

use bytes::Bytes;
use cloudevents::{AttributesReader, EventBuilder, EventBuilderV03, EventBuilderV10};
use event::Event;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::any_event;

/// Whether the SDK can hold it: it wants an absolute `dataschema`, and reads JSON data into a tree that is another text
/// afterwards, or refuses what is no JSON under a JSON type.
fn is_for_the_sdk(event: &Event) -> bool {
    let content_type = event.text("datacontenttype").unwrap_or("application/json");
    let is_read = event.data().is_empty() || !content_type.to_lowercase().contains("json");
    is_read && has_no_relative_schema(event)
}

fn has_no_relative_schema(event: &Event) -> bool {
    let is_absolute = |name: &str| event.text(name).is_none_or(|url| url.contains(':'));
    is_absolute("dataschema") && is_absolute("schemaurl")
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    /// Proves: IN-1
    #[test]
    fn the_sdk_reads_our_documents(event in any_event::event()) {
        prop_assume!(is_for_the_sdk(&event));
        let read: cloudevents::Event = serde_json::from_slice(&event.to_json()).unwrap();
        prop_assert_eq!(read.id(), event.id());
        prop_assert_eq!(read.source(), event.source());
        prop_assert_eq!(read.ty(), event.kind());
        prop_assert_eq!(read.subject(), event.text("subject"));
        prop_assert_eq!(read.datacontenttype(), event.text("datacontenttype"));
        for (name, value) in event.attributes().filter(|(name, _)| name.starts_with('x')) {
            prop_assert_eq!(read.extension(name).unwrap().to_string(), value.text);
        }
        let data = read.data().map(|data| Vec::try_from(data.clone()).unwrap()).unwrap_or_default();
        prop_assert_eq!(&data, event.data());
    }

    /// Proves: IN-1
    #[test]
    fn we_read_the_sdks_documents(event in any_event::event()) {
        prop_assume!(is_for_the_sdk(&event));
        let sdk = cloudevents::Event::try_from(&event).unwrap();
        let read = Event::from_json(&serde_json::to_vec(&sdk).unwrap().into()).unwrap();
        for (name, value) in event.attributes().filter(|(name, _)| *name != "time") {
            prop_assert_eq!(read.text(name), Some(value.text), "{}", name);
        }
        prop_assert_eq!(read.data(), event.data());
    }

    /// The conversions lose nothing but the notation of a time.
    #[test]
    fn there_and_back(event in any_event::event()) {
        prop_assume!(has_no_relative_schema(&event));
        let back = Event::try_from(&cloudevents::Event::try_from(&event).unwrap()).unwrap();
        for (name, value) in event.attributes().filter(|(name, _)| *name != "time") {
            prop_assert_eq!(back.attribute(name), Some(value), "{}", name);
        }
        prop_assert_eq!(back.attributes().count(), event.attributes().count());
        prop_assert_eq!(back.data(), event.data());
    }
}

#[test]
fn what_the_sdk_builds_becomes_our_event() {
    let built = EventBuilderV10::new()
        .id("1")
        .source("https://example.com/shop")
        .ty("order.created")
        .time("2026-01-31T12:00:00Z")
        .extension("tier", 3)
        .data("application/json", json!({ "total": 1 }))
        .build()
        .unwrap();
    let event = Event::try_from(&built).unwrap();
    assert_eq!(event.text("tier"), Some("3"));
    assert_eq!(event.data(), &Bytes::from_static(br#"{"total":1}"#));
    assert!(event.text("time").unwrap().starts_with("2026-01-31T12:00:00"));
    let old = EventBuilderV03::new().id("1").source("/s").ty("t").build().unwrap();
    assert_eq!(Event::try_from(&old).unwrap().text("specversion"), Some("0.3"));
}

/// The SDK checks fewer rules; what it lets through and CloudEvents does not is refused by name.
#[test]
fn what_cloudevents_does_not_allow_is_refused() {
    let wrong = EventBuilderV10::new().id("").source("/s").ty("t").build().unwrap();
    assert!(
        Event::try_from(&wrong)
            .unwrap_err()
            .to_string()
            .contains("attribute id")
    );
    let wrong = EventBuilderV10::new()
        .id("1")
        .source("/s")
        .ty("t")
        .extension("Not-A-Name", "x")
        .build()
        .unwrap();
    assert!(Event::try_from(&wrong).unwrap_err().to_string().contains("Not-A-Name"));
}

/// Numbers of data are the SDK's to round, not ours.
#[test]
fn our_document_is_the_same_json_the_sdk_means() {
    let document = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "xn": 5, "xb": true,
        "datacontenttype": "application/json", "data": { "a": [1, "x", null] } });
    let ours = Event::from_json(&document.to_string().into()).unwrap();
    let sdk: cloudevents::Event = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&ours.to_json()).unwrap(), document);
    assert_eq!(serde_json::to_value(&sdk).unwrap(), document);
}
