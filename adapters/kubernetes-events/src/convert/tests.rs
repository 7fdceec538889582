//! Objects as a real API server sent them (golden/NAME.json) and the attributes they become (golden/NAME.attributes, one a
//! line). `HEADGATE_BLESS=1` rewrites the attributes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;

fn config() -> Config {
    Config {
        extensions: [("team".to_owned(), "blue".to_owned())].into(),
        ..Config::default()
    }
}

fn converted(object: &str) -> Event {
    let data = Bytes::copy_from_slice(object.as_bytes());
    convert(&config(), &EventFields::read(object).unwrap(), data).unwrap()
}

fn attributes(event: &Event) -> String {
    let mut lines: Vec<_> = event
        .attributes()
        .map(|(name, value)| format!("{name}: {}\n", value.text))
        .collect();
    lines.sort();
    lines.concat()
}

/// Proves: SR-2, SR-3
#[test]
fn golden_objects_become_golden_events() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/golden");
    let mut objects: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    objects.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    assert!(objects.len() >= 7, "golden objects are missing: {objects:?}");
    for path in objects {
        let object = fs::read_to_string(&path).unwrap();
        let event = converted(object.trim_end());
        assert_eq!(event.data(), object.trim_end().as_bytes(), "{}", path.display());
        let expected = path.with_extension("attributes");
        if std::env::var_os("HEADGATE_BLESS").is_some() {
            fs::write(&expected, attributes(&event)).unwrap();
        }
        assert_eq!(
            attributes(&event),
            fs::read_to_string(&expected).unwrap(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_bundle_says_how_many_it_stands_for() {
    let event = converted(r#"{"metadata":{"uid":"u","resourceVersion":"7","namespace":"a","name":"b"}}"#);
    let bundled = bundle(&event, 12).unwrap();
    assert_eq!(
        (bundled.text("suppressed"), bundled.id(), bundled.data()),
        (Some("12"), "u.7", event.data())
    );
}

#[test]
fn what_cannot_be_an_attribute_is_left_out_and_stops_nothing() {
    let long = "x".repeat(VALUE_MAX_BYTES + 1);
    let cases = [
        (r#"a\u0000b\uffffc"#, Some("abc")),
        (r"\u0007\n", None),
        ("", None),
        (long.as_str(), None),
        ("féé ✓", Some("féé ✓")),
    ];
    for (reason, expected) in cases {
        let object = format!(r#"{{"metadata":{{"uid":"u","resourceVersion":"7"}},"reason":"{reason}"}}"#);
        assert_eq!(converted(&object).text("reason"), expected, "{reason}");
    }
}

proptest! {
    /// Proves: SR-3
    #[test]
    fn no_text_in_an_object_stops_its_event(text in any::<String>(), kind in "\\PC*|[\\x00-\\x1f]*", time in "[0-9TZ:.+-]{0,30}") {
        let object = serde_json::json!({
            "metadata": {"uid": "u", "resourceVersion": "7", "namespace": text, "name": text},
            "involvedObject": {"apiVersion": text, "kind": kind, "namespace": text, "name": text},
            "reason": text, "type": text, "lastTimestamp": time,
        })
        .to_string();
        let event = converted(&object);
        prop_assert_eq!(&event.data()[..], object.as_bytes());
    }
}
