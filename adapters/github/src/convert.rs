//! A payload becomes an event: only the few values that say what it is about are read, the payload itself is not touched.

use bytes::Bytes;
use event::{Event, InvalidAttribute};
use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::{Config, json, subject};

/// Longer values are left out: GitHub's names are far shorter (a reference has 255 bytes at most), and a sink's limit for a
/// header line is often 8 KiB.
const VALUE_MAX_BYTES: usize = 1024;

/// The headers of a delivery.
pub(crate) struct Headers<'a> {
    pub(crate) event: &'a str,
    pub(crate) delivery: &'a str,
    pub(crate) hook_id: Option<&'a str>,
}

/// The values of a payload that become attributes.
#[derive(Debug, Default)]
pub(crate) struct PayloadFields {
    action: Option<String>,
    sender: Option<String>,
    repository: Option<String>,
    subject: Option<String>,
}

impl PayloadFields {
    /// Values of another shape than GitHub documents are as if absent. `None` when the payload is no JSON object in UTF-8.
    pub(crate) fn read(event: &str, payload: &[u8]) -> Option<Self> {
        let mut names = vec!["action", "sender", "repository"];
        names.extend(subject::members(event));
        let found = json::members(std::str::from_utf8(payload).ok()?, &names)?;
        let (&[action, sender, repository], about) = found.split_first_chunk()?;
        Some(Self {
            action: action.and_then(json::text),
            sender: inner(sender, "login"),
            repository: inner(repository, "full_name"),
            subject: subject::subject(event, about),
        })
    }
}

fn inner(value: Option<&RawValue>, name: &str) -> Option<String> {
    json::members(value?.get(), &[name])?
        .first()
        .copied()
        .flatten()
        .and_then(json::text)
}

/// `data` is the payload, `received` when it came.
pub(crate) fn convert(
    config: &Config,
    headers: &Headers<'_>,
    fields: &PayloadFields,
    data: Bytes,
    received: Timestamp,
) -> Result<Event, InvalidAttribute> {
    let kind = format!("dev.knative.source.github.{}", headers.event);
    let mut event = Event::builder(headers.delivery, &config.source, &kind).set("time", &received.to_string());
    let attributes = [
        ("subject", fields.subject.as_deref()),
        ("action", fields.action.as_deref()),
        ("sender", fields.sender.as_deref()),
        ("repository", fields.repository.as_deref()),
        ("githubhook", headers.hook_id),
    ];
    for (name, value) in attributes {
        if let Some(value) = value.and_then(storable) {
            event = event.set(name, &value);
        }
    }
    for (name, value) in &config.extensions {
        event = event.set(name, value);
    }
    event.data("application/json", data).finish()
}

/// CloudEvents allows neither control characters nor noncharacters in attributes (1.0.2, type system, String): they are left
/// out, since a branch or an account may not stop an event. Nothing is left of some values.
fn storable(value: &str) -> Option<String> {
    let value = event::storable(value);
    (1..=VALUE_MAX_BYTES).contains(&value.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn converted(event: &str, json: &str) -> Event {
        let mut config = crate::tests::config(&[], &["*"]);
        config.extensions = [("team".to_owned(), "blue".to_owned())].into();
        let headers = Headers {
            event,
            delivery: "guid-1",
            hook_id: Some("42"),
        };
        let data = Bytes::copy_from_slice(json.as_bytes());
        let fields = PayloadFields::read(event, json.as_bytes()).unwrap();
        convert(&config, &headers, &fields, data, Timestamp::UNIX_EPOCH).unwrap()
    }

    /// Proves: SR-2, SR-3
    #[test]
    fn a_delivery_becomes_an_event_with_its_guid_and_its_bytes() {
        let json = r#"{ "action":"opened", "number": 7, "pull_request":{"number":7}, "sender":{"login":"octocat"}, "repository":{"full_name":"octo/hello"} }"#;
        let event = converted("pull_request", json);
        assert_eq!(event.id(), "guid-1");
        assert_eq!(event.kind(), "dev.knative.source.github.pull_request");
        assert_eq!(event.source(), "https://github.com/octo/hello");
        assert_eq!(&event.data()[..], json.as_bytes());
        let expected = [
            ("specversion", "1.0"),
            ("subject", "7"),
            ("action", "opened"),
            ("sender", "octocat"),
            ("repository", "octo/hello"),
            ("githubhook", "42"),
            ("team", "blue"),
            ("time", "1970-01-01T00:00:00Z"),
            ("datacontenttype", "application/json"),
        ];
        for (name, value) in expected {
            assert_eq!(event.text(name), Some(value), "{name}");
        }
    }

    /// `golden/EVENT[.ACTION].payload.json` is what GitHub sends, `.event.json` beside it all attributes of its event.
    ///
    /// Proves: SR-2, SR-3
    #[test]
    fn golden_payloads_become_golden_events() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let Some(name) = name.strip_suffix(".payload.json") else {
                continue;
            };
            let payload = Bytes::from(std::fs::read(&path).unwrap());
            let kind = name.split('.').next().unwrap();
            let headers = Headers {
                event: kind,
                delivery: "72d3162e-cc78-11e3-81ab-4c9367dc0958",
                hook_id: Some("292430182"),
            };
            let fields = PayloadFields::read(kind, &payload).unwrap();
            let config = crate::tests::config(&[], &["*"]);
            let received = "2026-01-01T00:00:00Z".parse().unwrap();
            let event = convert(&config, &headers, &fields, payload.clone(), received).unwrap();
            let attributes = event.attributes().map(|(name, _)| {
                let value = event.text(name).unwrap_or_default();
                (name.to_owned(), value.to_owned())
            });
            let attributes: std::collections::BTreeMap<String, String> = attributes.collect();
            let golden = std::fs::read(path.with_file_name(format!("{name}.event.json"))).unwrap();
            let golden: std::collections::BTreeMap<String, String> = serde_json::from_slice(&golden).unwrap();
            assert_eq!(attributes, golden, "{name}");
            assert_eq!(event.data(), &payload, "{name}");
            count += 1;
        }
        assert!(count >= 9, "only {count} golden payloads");
    }

    #[test]
    fn what_cannot_be_an_attribute_is_left_out_and_stops_nothing() {
        let long = "x".repeat(VALUE_MAX_BYTES + 1);
        let cases = [
            (r#"{"ref":"a\u0000b\uffffc"}"#.to_owned(), Some("abc")),
            (r#"{"ref":"\u0007\n"}"#.to_owned(), None),
            (r#"{"ref":""}"#.to_owned(), None),
            (r#"{"ref":"\ud800"}"#.to_owned(), None),
            (format!(r#"{{"ref":"{long}"}}"#), None),
            (r#"{"ref":"féé/✓"}"#.to_owned(), Some("féé/✓")),
        ];
        for (json, subject) in cases {
            assert_eq!(converted("push", &json).text("subject"), subject);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_no_payload() {
        assert!(PayloadFields::read("push", b"{\"ref\":\"\xff\"}").is_none());
    }

    proptest! {
        /// Proves: SR-3
        #[test]
        fn no_text_in_a_payload_stops_its_event(login in any::<String>(), reference in "\\PC*|[\\x00-\\x1f]*") {
            let json = serde_json::json!({"sender": {"login": login}, "ref": reference}).to_string();
            let event = converted("push", &json);
            prop_assert_eq!(&event.data()[..], json.as_bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), event in "push|create|issues|.*") {
            let _ = PayloadFields::read(&event, &bytes);
        }
    }
}
