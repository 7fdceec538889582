//! What an event may be: one table for what is taken, one for what is refused and why.

use bytes::Bytes;
use event::{
    Event,
    http_form::{self, DecodeError},
};
use http::{HeaderMap, HeaderName, HeaderValue};

const MINIMAL: &[(&str, &str)] = &[
    ("ce-specversion", "1.0"),
    ("ce-id", "1"),
    ("ce-source", "/s"),
    ("ce-type", "t"),
];

/// A header and what it is set to; nothing removes it.
type Change = (&'static str, &'static [u8]);

/// A minimal message, changed.
fn message(changes: &[Change]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in MINIMAL {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in changes {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        if value.is_empty() {
            headers.remove(name);
        } else {
            headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        }
    }
    headers
}

fn refusal(result: Result<impl Sized, DecodeError>) -> String {
    match result {
        Ok(_) => panic!("taken"),
        Err(error) => error.to_string(),
    }
}

/// Proves: IN-5, IN-6, IN-8
#[test]
fn a_binary_message_that_breaks_a_rule_is_refused_by_name() {
    let cases: &[(&[Change], &str)] = &[
        (&[("ce-specversion", b"")], "ce-specversion is missing"),
        (&[("ce-specversion", b"2.0")], "specversion \"2.0\""),
        (&[("ce-specversion", b"1")], "specversion \"1\""),
        (&[("ce-id", b"")], "attribute id: required"),
        (&[("ce-source", b"")], "attribute source: required"),
        (&[("ce-type", b"")], "attribute type: required"),
        (&[("ce-source", b"a b")], "attribute source: value is no URI reference"),
        (
            &[("ce-source", b"a%20b")],
            "attribute source: value is no URI reference",
        ),
        (&[("ce-time", b"yesterday")], "RFC 3339"),
        (&[("ce-time", b"2026-02-30T00:00:00Z")], "RFC 3339"),
        (&[("ce-time", b"2026-02-03 00:00:00Z")], "RFC 3339"),
        (&[("ce-dataschema", b"{x}")], "attribute dataschema"),
        (&[("ce-my-extension", b"1")], "my-extension"),
        (&[("ce-under_score", b"1")], "under_score"),
        (&[("ce-data", b"1")], "`data` is no attribute"),
        (&[("ce-datacontenttype", b"text/plain")], "content-type carries it"),
        (&[("ce-x", b"a%01b")], "does not allow"),
        (&[("ce-x", b"%EF%BF%BE")], "does not allow"),
        (&[("ce-x", b"\xff")], "not UTF-8"),
    ];
    for (changes, why) in cases {
        let refused = refusal(http_form::decode(&message(changes), Bytes::new()));
        assert!(refused.contains(why), "{changes:?}: {refused}");
    }
    let nothing = refusal(http_form::decode(&HeaderMap::new(), Bytes::from_static(b"{}")));
    assert!(nothing.contains("this is no CloudEvent"), "{nothing}");
}

/// Proves: IN-5
#[test]
fn a_header_that_is_there_twice_is_refused() {
    for name in ["ce-id", "ce-x", "content-type"] {
        let mut headers = message(&[("ce-x", b"1"), ("content-type", b"text/plain")]);
        headers.append(HeaderName::from_static(name), HeaderValue::from_static("text/html"));
        let refused = refusal(http_form::decode(&headers, Bytes::new()));
        assert!(refused.contains(name) && refused.contains("twice"), "{name}: {refused}");
    }
}

/// Proves: IN-5, IN-6, IN-8
#[test]
fn a_document_that_breaks_a_rule_is_refused_by_name() {
    let with = |members: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{members}}}"#);
    let cases = [
        (String::new(), "not a CloudEvent in JSON"),
        ("[]".into(), "not a CloudEvent in JSON"),
        ("{".into(), "not a CloudEvent in JSON"),
        (r#"{"id":"1","source":"/s","type":"t"}"#.into(), "specversion"),
        (with(r#","id":"2""#), "id is there twice"),
        (with(r#","x":1.5"#), "attribute x: 1.5"),
        (with(r#","x":2147483648"#), "attribute x: 2147483648"),
        (with(r#","x":[1]"#), "attribute x: an array"),
        (with(r#","x":{}"#), "attribute x: an object"),
        (with(r#","X":"1""#), "attribute X"),
        (with(r#","a-b":"1""#), "attribute a-b"),
        (with(r#","subject":"""#), "attribute subject: value is empty"),
        (with(r#","subject":7"#), "attribute subject: value must be a string"),
        (with(r#","time":true"#), "attribute time"),
        (with(r#","x":"\u0000""#), "does not allow"),
        (with(r#","x":"\ud800""#), "unpaired surrogate"),
        (with(r#","data":1,"data_base64":"MQ==""#), "both data and data_base64"),
        (with(r#","data_base64":"M""#), "data_base64 is no base64"),
        (with(r#","data_base64":1"#), "data_base64 is no base64"),
        (
            with("").replace(r#""id":"1""#, r#""id":null"#),
            "attribute id: required",
        ),
        (
            with("").replace(r#""id":"1""#, r#""id":1"#),
            "attribute id: value must be a string",
        ),
    ];
    for (document, why) in cases {
        let refused = refusal(Event::from_json(&Bytes::from(document.clone())));
        assert!(refused.contains(why), "{document}: {refused}");
    }
}

/// Proves: IN-8
#[test]
fn what_the_specification_allows_is_taken() {
    let with = |members: &str| {
        Bytes::from(format!(
            r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{members}}}"#
        ))
    };
    for members in [
        "",
        r#","x":-2147483648"#,
        r#","x":false"#,
        r#","x":null"#,
        r#","x":"""#,
        r#","x":"\ud83d\ude00""#,
        r#","time":"1990-12-31T23:59:60Z""#,
        r#","time":"2024-02-29T00:00:00.000000000001-00:00""#,
        r#","dataschema":"relative/path#fragment""#,
        r#","aname20characterslng":"x""#,
        r#","data":null"#,
        r#","data_base64":"""#,
    ] {
        Event::from_json(&with(members)).unwrap_or_else(|error| panic!("{members}: {error}"));
    }
    for changes in [
        &[("ce-id", &b"%E2%82%AC"[..])],
        &[("ce-id", b"100%")],
        &[("ce-x", "\u{20AC}".as_bytes())],
        &[("ce-source", b"urn:a:b")],
        &[("content-type", b"application/cloudevent")],
    ] {
        http_form::decode(&message(changes), Bytes::new()).unwrap_or_else(|error| panic!("{changes:?}: {error}"));
    }
}

/// Proves: IN-1
#[test]
fn formats_we_do_not_have_are_named() {
    let cases = [
        ("application/cloudevents+avro", false),
        ("application/cloudevents+protobuf", false),
        ("application/cloudevents-batch+avro", false),
        ("application/cloudevents+json; charset=utf-16", true),
    ];
    for (content_type, invalid) in cases {
        let headers = message(&[("content-type", content_type.as_bytes())]);
        let error = http_form::decode(&headers, Bytes::from_static(b"{}")).unwrap_err();
        assert_eq!(
            matches!(error, DecodeError::Invalid(_)),
            invalid,
            "{content_type}: {error}"
        );
    }
}

/// One bad event of a batch refuses the batch, and says which it was.
///
/// Proves: IN-5
#[test]
fn a_batch_names_its_bad_event() {
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/cloudevents-batch+json"),
    );
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let body = format!("[{good},{good},{}]", good.replace("\"t\"", "\"\""));
    let refused = refusal(http_form::decode(&headers, body.into()));
    assert!(refused.contains("event 2 of the batch: attribute type"), "{refused}");
}
