//! A payload becomes an event: only the few fields that say what it is about are read, the payload itself is not touched.

use bytes::Bytes;
use event::{Event, InvalidAttribute};
use jiff::Timestamp;
use serde::Deserialize;

use crate::Config;

/// What a delivery's headers say.
pub(crate) struct Headers<'a> {
    pub(crate) event: &'a str,
    pub(crate) delivery: &'a str,
    pub(crate) hook_id: Option<&'a str>,
}

/// The parts of a payload that become attributes. Fields of another shape than GitHub documents are as if absent.
#[derive(Default, Deserialize)]
pub(crate) struct Payload {
    #[serde(default, deserialize_with = "lenient")]
    action: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    sender: Option<Account>,
    #[serde(default, deserialize_with = "lenient")]
    repository: Option<Repository>,
    #[serde(default, deserialize_with = "lenient")]
    issue: Option<Numbered>,
    #[serde(default, deserialize_with = "lenient")]
    pull_request: Option<Numbered>,
    #[serde(default, deserialize_with = "lenient")]
    discussion: Option<Numbered>,
    #[serde(default, deserialize_with = "lenient")]
    number: Option<u64>,
    #[serde(default, rename = "ref", deserialize_with = "lenient")]
    reference: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    ref_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    release: Option<Release>,
    #[serde(default, deserialize_with = "lenient")]
    sha: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    comment: Option<Comment>,
    #[serde(default, deserialize_with = "lenient")]
    check_run: Option<Headed>,
    #[serde(default, deserialize_with = "lenient")]
    check_suite: Option<Headed>,
    #[serde(default, deserialize_with = "lenient")]
    workflow_run: Option<Identified>,
    #[serde(default, deserialize_with = "lenient")]
    workflow_job: Option<Identified>,
    #[serde(default, deserialize_with = "lenient")]
    deployment: Option<Identified>,
}

#[derive(Deserialize)]
struct Account {
    login: String,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

#[derive(Deserialize)]
struct Numbered {
    number: u64,
}

#[derive(Deserialize)]
struct Release {
    tag_name: String,
}

#[derive(Deserialize)]
struct Comment {
    commit_id: String,
}

#[derive(Deserialize)]
struct Headed {
    head_sha: String,
}

#[derive(Deserialize)]
struct Identified {
    id: u64,
}

/// `None` for a value that is not what was expected; the value itself is read either way.
fn lenient<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Expected(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Expected(value) => Some(value),
        Either::Other(_) => None,
    })
}

/// `None` when it is no JSON object.
pub(crate) fn parse(payload: &[u8]) -> Option<Payload> {
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(payload).ok()
}

pub(crate) fn convert(
    config: &Config,
    headers: &Headers<'_>,
    payload: &Payload,
    data: Bytes,
    received: Timestamp,
) -> Result<Event, InvalidAttribute> {
    let kind = format!("dev.knative.source.github.{}", headers.event);
    let mut event = Event::builder(headers.delivery, &config.source, &kind).set("time", &received.to_string());
    if let Some(subject) = subject(headers.event, payload) {
        event = event.set("subject", &clean(&subject));
    }
    let extensions = [
        ("action", payload.action.as_deref()),
        ("sender", payload.sender.as_ref().map(|sender| &*sender.login)),
        (
            "repository",
            payload.repository.as_ref().map(|repository| &*repository.full_name),
        ),
        ("githubhook", headers.hook_id),
    ];
    for (name, value) in extensions {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            event = event.set(name, &clean(value));
        }
    }
    for (name, value) in &config.extensions {
        event = event.set(name, value);
    }
    event.data("application/json", data).finish()
}

/// What the event is about.
fn subject(event: &str, payload: &Payload) -> Option<String> {
    let number = |of: &Option<Numbered>| of.as_ref().map(|found| found.number.to_string());
    let id = |of: &Option<Identified>| of.as_ref().map(|found| found.id.to_string());
    let subject = match event {
        "push" => payload.reference.clone(),
        "create" | "delete" => payload
            .reference
            .as_ref()
            .map(|name| match payload.ref_type.as_deref() {
                Some("branch") => format!("refs/heads/{name}"),
                Some("tag") => format!("refs/tags/{name}"),
                _ => name.clone(),
            }),
        "release" => payload.release.as_ref().map(|release| release.tag_name.clone()),
        "status" => payload.sha.clone(),
        "commit_comment" => payload.comment.as_ref().map(|comment| comment.commit_id.clone()),
        "check_run" => payload.check_run.as_ref().map(|check| check.head_sha.clone()),
        "check_suite" => payload.check_suite.as_ref().map(|check| check.head_sha.clone()),
        "workflow_run" => id(&payload.workflow_run),
        "workflow_job" => id(&payload.workflow_job),
        "deployment" | "deployment_status" => id(&payload.deployment),
        _ => number(&payload.pull_request)
            .or_else(|| number(&payload.issue))
            .or_else(|| number(&payload.discussion))
            .or_else(|| payload.number.map(|number| number.to_string())),
    };
    subject.filter(|subject| !subject.is_empty())
}

/// CloudEvents allows no control characters in attributes; a branch or a label may not stop an event.
fn clean(value: &str) -> String {
    value
        .chars()
        .filter(|c| !c.is_control() && (*c as u32) & 0xFFFE != 0xFFFE && !matches!(*c as u32, 0xFDD0..=0xFDEF))
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn config() -> Config {
        Config {
            name: "default/hook".into(),
            source: "https://github.com/octo/hello".into(),
            event_types: vec!["*".into()],
            secrets: vec![],
            extensions: [("team".to_owned(), "blue".to_owned())].into(),
        }
    }

    fn converted(event: &str, json: &str) -> Event {
        let headers = Headers {
            event,
            delivery: "guid-1",
            hook_id: Some("42"),
        };
        let data = Bytes::copy_from_slice(json.as_bytes());
        convert(
            &config(),
            &headers,
            &parse(json.as_bytes()).unwrap(),
            data,
            Timestamp::UNIX_EPOCH,
        )
        .unwrap()
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

    #[test]
    fn the_subject_is_what_the_event_is_about() {
        let cases = [
            ("push", r#"{"ref":"refs/heads/main"}"#, Some("refs/heads/main")),
            ("create", r#"{"ref":"v1","ref_type":"tag"}"#, Some("refs/tags/v1")),
            (
                "delete",
                r#"{"ref":"topic","ref_type":"branch"}"#,
                Some("refs/heads/topic"),
            ),
            ("release", r#"{"release":{"tag_name":"v2"}}"#, Some("v2")),
            ("status", r#"{"sha":"abc"}"#, Some("abc")),
            ("issues", r#"{"issue":{"number":3}}"#, Some("3")),
            (
                "issue_comment",
                r#"{"issue":{"number":4},"comment":{"id":1}}"#,
                Some("4"),
            ),
            ("pull_request_review", r#"{"pull_request":{"number":5}}"#, Some("5")),
            ("workflow_run", r#"{"workflow_run":{"id":99}}"#, Some("99")),
            ("check_run", r#"{"check_run":{"head_sha":"def"}}"#, Some("def")),
            ("star", r#"{"action":"created"}"#, None),
            ("issues", r#"{"issue":"not an object"}"#, None),
        ];
        for (event, json, subject) in cases {
            assert_eq!(converted(event, json).text("subject"), subject, "{event}");
        }
    }

    #[test]
    fn only_a_json_object_is_a_payload() {
        for not in ["", "[]", "1", "\"x\"", "{", "null", "{} x"] {
            assert!(parse(not.as_bytes()).is_none(), "{not}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics_or_is_refused_for_its_texts(login in "\\PC*|[\\x00-\\x1f]*", reference in any::<String>()) {
            let json = serde_json::json!({"sender": {"login": login}, "ref": reference}).to_string();
            let event = converted("push", &json);
            prop_assert_eq!(&event.data()[..], json.as_bytes());
        }
    }
}
