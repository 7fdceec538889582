//! Every form an event may come in, and that it leaves as it came: version, attributes, and the bytes of its data.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{
    Gateway, Request, Sink,
    documents::{channel, subscription},
    sink::Received,
};
use rstest::rstest;
use serde_json::{Value, json};

/// A gateway with one channel and two subscribers: one takes binary mode, one structured.
struct Pair {
    gateway: Gateway,
    binary: Sink,
    structured: Sink,
}

async fn pair(kind: &str) -> Pair {
    let (binary, structured) = (Sink::start().await, Sink::start().await);
    let gateway = Gateway::with([
        channel("forms", kind),
        subscription("binary", "forms", &binary.url(), json!({})),
        subscription(
            "structured",
            "forms",
            &structured.url(),
            json!({ "delivery": { "format": "json" } }),
        ),
    ])
    .await;
    Pair {
        gateway,
        binary,
        structured,
    }
}

impl Pair {
    async fn through(&self, request: &Request) -> (Received, Received) {
        self.gateway.send(request).await.is(202);
        (self.binary.wait_for_one().await, self.structured.wait_for_one().await)
    }
}

/// Data that a careless gateway changes: numbers beyond 2^53, duplicate keys, spacing, escapes, odd exponents.
const ODD_JSON: &str =
    "{ \"b\":1,\"a\": 12345678901234567890 ,\"a\":1.10,\"e\":1E400,\"u\":\"\\u00e9\\ud83d\\ude00\",\n\t\"n\":-0.0}";

/// Proves: IN-1, IN-7
#[rstest]
#[case::version_1_0("1.0")]
#[case::version_0_3("0.3")]
#[tokio::test]
async fn the_version_received_is_the_version_sent_on(
    #[values("memory", "embedded")] kind: &str,
    #[case] version: &str,
) {
    let pair = pair(kind).await;
    let (binary, structured) = pair
        .through(&Request::event("forms", "1").header("ce-specversion", version))
        .await;
    assert_eq!(binary.attribute("specversion").as_deref(), Some(version));
    assert_eq!(structured.json()["specversion"], version);
}

/// Proves: IN-1
#[tokio::test]
async fn structured_0_3_with_base64_data_is_taken() {
    let pair = pair("memory").await;
    let document = json!({ "specversion": "0.3", "id": "1", "source": "/s", "type": "t", "datacontenttype": "image/png",
        "datacontentencoding": "base64", "schemaurl": "http://example.com/s", "data": STANDARD.encode([0u8, 159, 146, 150]) });
    let (binary, structured) = pair.through(&Request::structured("forms", document.to_string())).await;
    assert_eq!(&binary.body[..], [0, 159, 146, 150]);
    assert_eq!(binary.attribute("specversion").as_deref(), Some("0.3"));
    assert_eq!(binary.attribute("schemaurl").as_deref(), Some("http://example.com/s"));
    let sent = structured.json();
    assert_eq!(
        (&sent["specversion"], &sent["data"]),
        (&json!("0.3"), &document["data"])
    );
    assert_eq!(sent["datacontentencoding"], "base64");
}

/// Proves: IN-7
#[rstest]
#[tokio::test]
async fn odd_json_leaves_as_the_bytes_that_came(#[values("memory", "embedded")] kind: &str) {
    let pair = pair(kind).await;
    let document = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/json","data":{ODD_JSON}}}"#
    );
    let (binary, structured) = pair.through(&Request::structured("forms", &document)).await;
    assert_eq!(binary.body, ODD_JSON);
    assert!(
        String::from_utf8_lossy(&structured.body).contains(ODD_JSON),
        "{:?}",
        structured.body
    );
}

/// Proves: IN-7
#[rstest]
#[tokio::test]
async fn odd_json_in_binary_mode_leaves_as_the_bytes_that_came(#[values("memory", "embedded")] kind: &str) {
    let pair = pair(kind).await;
    let (binary, structured) = pair.through(&Request::event("forms", "1").body(ODD_JSON)).await;
    assert_eq!(binary.body, ODD_JSON);
    assert!(
        String::from_utf8_lossy(&structured.body).contains(ODD_JSON),
        "{:?}",
        structured.body
    );
}

/// Proves: IN-7
#[rstest]
#[tokio::test]
async fn bytes_that_are_no_text_survive_both_modes(#[values("memory", "embedded")] kind: &str) {
    let pair = pair(kind).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let request = Request::event("forms", "1")
        .header("content-type", "application/octet-stream")
        .body(&bytes);
    let (binary, structured) = pair.through(&request).await;
    assert_eq!(binary.body, bytes);
    assert_eq!(
        STANDARD
            .decode(structured.json()["data_base64"].as_str().expect("data_base64"))
            .expect("base64"),
        bytes
    );
}

/// Proves: IN-7
#[tokio::test]
async fn text_data_is_a_json_string_in_structured_mode() {
    let pair = pair("memory").await;
    let text = "plain \"text\"\nwith é and \u{1F600}";
    let request = Request::event("forms", "1")
        .header("content-type", "text/plain; charset=utf-8")
        .body(text);
    let (binary, structured) = pair.through(&request).await;
    assert_eq!(binary.body, text);
    assert_eq!(binary.header("content-type"), Some("text/plain; charset=utf-8"));
    let sent = structured.json();
    let data = sent["data"].as_str().map(str::to_owned).or_else(|| {
        let bytes = STANDARD.decode(sent["data_base64"].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    });
    assert_eq!(data.as_deref(), Some(text), "{sent}");
}

/// Proves: IN-7, IN-8
#[rstest]
#[case::in_binary_mode(Request::event("forms", "1").without("content-type").body(""))]
#[case::in_structured_mode(Request::structured(
    "forms",
    r#"{"specversion":"1.0","id":"1","source":"/e2e","type":"e2e.test"}"#
))]
#[tokio::test]
async fn an_event_without_data_stays_without(#[case] request: Request) {
    let pair = pair("memory").await;
    let (binary, structured) = pair.through(&request).await;
    assert!(binary.body.is_empty());
    assert_eq!(binary.header("content-type"), None);
    let sent = structured.json();
    assert!(
        sent.get("data").is_none() && sent.get("data_base64").is_none(),
        "{sent}"
    );
}

/// Proves: IN-7
#[tokio::test]
async fn null_is_data() {
    let pair = pair("memory").await;
    let document =
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/json","data":null}"#;
    let (binary, _) = pair.through(&Request::structured("forms", document)).await;
    assert!(binary.body == "null" || binary.body.is_empty(), "{:?}", binary.body);
}

/// Proves: IN-8
#[rstest]
#[tokio::test]
async fn attributes_and_extensions_pass_through_as_they_were_written(#[values("memory", "embedded")] kind: &str) {
    let pair = pair(kind).await;
    let request = Request::event("forms", "1")
        .header("ce-time", "2018-04-05T17:31:00.123456789+02:00")
        .header("ce-subject", "a/b")
        .header("ce-dataschema", "http://example.com/schema#1")
        .header("ce-comexampleextension", "value")
        .header("ce-count", "007")
        .header(
            "ce-traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
    let (binary, structured) = pair.through(&request).await;
    let sent = structured.json();
    for (name, value) in [
        ("time", "2018-04-05T17:31:00.123456789+02:00"),
        ("subject", "a/b"),
        ("dataschema", "http://example.com/schema#1"),
        ("comexampleextension", "value"),
        ("count", "007"),
    ] {
        assert_eq!(binary.attribute(name).as_deref(), Some(value), "{name} in binary mode");
        assert_eq!(sent[name], value, "{name} in structured mode");
    }
}

/// Proves: IN-6
#[rstest]
#[tokio::test]
async fn attribute_values_are_percent_decoded_and_encoded_again(#[values("memory", "embedded")] kind: &str) {
    let pair = pair(kind).await;
    let request = Request::event("forms", "1").header("ce-subject", "caf%C3%A9%20%22%F0%9F%98%80%22%20100%25 %ZZ%");
    let (binary, structured) = pair.through(&request).await;
    assert_eq!(structured.json()["subject"], "café \"\u{1F600}\" 100% %ZZ%");
    // What was a bad escape comes out encoded, so that it decodes to what it was.
    assert_eq!(
        binary.header("ce-subject"),
        Some("caf%C3%A9%20%22%F0%9F%98%80%22%20100%25%20%25ZZ%25")
    );
}

/// Proves: IN-6
#[tokio::test]
async fn values_from_structured_mode_are_encoded_in_headers() {
    let pair = pair("memory").await;
    let document = json!({ "specversion": "1.0", "id": "1 2", "source": "/s", "type": "t", "subject": "ü%\"" });
    let (binary, structured) = pair.through(&Request::structured("forms", document.to_string())).await;
    assert_eq!(binary.header("ce-id"), Some("1%202"));
    assert_eq!(binary.header("ce-subject"), Some("%C3%BC%25%22"));
    assert_eq!(structured.json()["subject"], "ü%\"");
}

/// Proves: IN-5
#[rstest]
#[case::plain("application/cloudevents+json")]
#[case::with_a_charset("application/cloudevents+json; charset=utf-8")]
#[case::in_capitals("Application/CloudEvents+JSON")]
#[case::without_a_suffix("application/cloudevents")]
#[case::without_a_suffix_but_a_charset("application/cloudevents;charset=UTF-8")]
#[tokio::test]
async fn structured_mode_is_recognised_by_its_media_type(#[case] media_type: &str) {
    let pair = pair("memory").await;
    let document = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","ext":"x","data":{"n":1}}"#;
    let (binary, structured) = pair
        .through(&Request::structured("forms", document).header("content-type", media_type))
        .await;
    assert_eq!((binary.id(), &binary.body[..]), ("1".to_owned(), &br#"{"n":1}"#[..]));
    assert_eq!(binary.attribute("ext").as_deref(), Some("x"));
    let sent = structured.header("content-type").unwrap_or_default();
    assert!(sent.starts_with("application/cloudevents+json"), "{sent}");
}

/// Proves: IN-8
#[tokio::test]
async fn extensions_in_json_may_be_numbers_and_booleans() {
    let pair = pair("memory").await;
    let document = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","count":42,"flag":true,"gone":null}"#;
    let (binary, _) = pair.through(&Request::structured("forms", document)).await;
    assert_eq!(binary.attribute("count").as_deref(), Some("42"));
    assert_eq!(binary.attribute("flag").as_deref(), Some("true"));
    assert_eq!(binary.attribute("gone"), None);
}

fn batch(events: &[Value]) -> Request {
    Request::structured("forms", Value::from(events.to_vec()).to_string())
        .header("content-type", "application/cloudevents-batch+json")
}

fn member(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "t", "data": { "id": id } })
}

/// Proves: IN-5
#[rstest]
#[tokio::test]
async fn a_batch_is_stored_whole(#[values("memory", "embedded")] kind: &str) {
    let pair = pair(kind).await;
    pair.gateway
        .send(&batch(&[member("1"), member("2"), member("3")]))
        .await
        .is(202);
    pair.binary.wait_for(3).await;
    let mut ids = pair.binary.ids();
    ids.sort();
    assert_eq!(ids, ["1", "2", "3"]);
}

/// Proves: IN-5, IN-3
#[rstest]
#[tokio::test]
async fn a_batch_with_one_bad_event_stores_none(#[values("memory", "embedded")] kind: &str) {
    let pair = pair(kind).await;
    pair.gateway
        .send(&batch(&[member("1"), json!({ "specversion": "1.0", "id": "2" })]))
        .await
        .is(400);
    // What comes afterwards comes alone.
    pair.gateway.accept("forms", ["after"]).await;
    assert_eq!(pair.binary.wait_for_one().await.id(), "after");
}

/// Proves: IN-5
#[tokio::test]
async fn an_empty_batch_is_202() {
    let pair = pair("memory").await;
    pair.gateway.send(&batch(&[])).await.is(202);
    pair.gateway
        .send(&Request::structured("forms", "{}").header("content-type", "application/cloudevents-batch+json"))
        .await
        .is(400);
}

/// Proves: DL-1, IN-7
#[tokio::test]
async fn chunked_requests_are_taken_and_sent_on_with_a_length() {
    let pair = pair("memory").await;
    let mut request = Request::event("forms", "1").header("transfer-encoding", "chunked");
    request.body = b"3\r\n{\"n\r\n4\r\n\":1}\r\n0\r\n\r\n".to_vec();
    let (binary, _) = pair.through(&request).await;
    assert_eq!(&binary.body[..], br#"{"n":1}"#);
    assert_eq!(binary.header("content-length"), Some("7"));
}

/// In binary mode the data would be the event, and pass filters that the event itself does not.
///
/// Proves: IN-1, IN-7
#[rstest]
#[case::structured("application/cloudevents+json")]
#[case::any_case("Application/CloudEvents")]
#[case::batch("application/cloudevents-batch+json; charset=utf-8")]
#[case::with_spaces(" application/cloudevents+json")]
#[case::of_no_format("application/cloudevents-unheard-of")]
#[tokio::test]
async fn data_that_calls_itself_an_event_never_arrives_as_the_event(
    #[values("memory", "embedded")] kind: &str,
    #[case] content_type: &str,
) {
    let pair = pair(kind).await;
    let inner = json!({ "specversion": "1.0", "id": "inner", "source": "/bank", "type": "payment.approved" });
    let outer = json!({ "specversion": "1.0", "id": "outer", "source": "/s", "type": "safe", "datacontenttype": content_type,
        "data_base64": STANDARD.encode(inner.to_string()) });
    let (binary, structured) = pair.through(&Request::structured("forms", outer.to_string())).await;
    for received in [binary, structured] {
        let media = received.header("content-type").expect("a content type");
        assert!(media.starts_with("application/cloudevents+json"), "{media}");
        let sent = received.json();
        assert_eq!((&sent["id"], &sent["type"]), (&json!("outer"), &json!("safe")));
        assert_eq!(sent["datacontenttype"], content_type);
    }
}

/// Proves: IN-1, IN-7
#[rstest]
#[tokio::test]
async fn json_data_without_a_content_type_says_what_it_is_in_binary_mode_alone(
    #[values("memory", "embedded")] kind: &str,
) {
    let through = async |request: Request| {
        let pair = pair(kind).await;
        let (binary, structured) = pair.through(&request).await;
        let media = binary.header("content-type").map(str::to_owned);
        (media, structured.json()["datacontenttype"].clone())
    };
    let with = |data: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{data}}}"#);
    let json = Some("application/json".to_owned());
    for (data, media) in [
        (r#","data":{"a": 1}"#, json),
        (r#","data_base64":"eyJhIjogMX0=""#, None),
        ("", None),
    ] {
        assert_eq!(
            through(Request::structured("forms", with(data))).await,
            (media, Value::Null),
            "{data}"
        );
    }
    let binary = Request::event("forms", "1").without("content-type").body(r#"{"a": 1}"#);
    assert_eq!(through(binary).await, (None, Value::Null));
}

/// Proves: IN-6
#[tokio::test]
async fn a_content_type_that_is_said_twice_is_taken_when_it_is_the_same() {
    let pair = pair("memory").await;
    let request = Request::event("forms", "1")
        .header("content-type", "application/json")
        .body("{}");
    let other = request.clone().header("ce-datacontenttype", "text/plain");
    let refused = pair.gateway.send(&other).await.is(400).text();
    assert!(refused.contains("datacontenttype"), "{refused}");
    let (binary, structured) = pair
        .through(&request.header("ce-datacontenttype", "application/json"))
        .await;
    assert_eq!(binary.header("content-type"), Some("application/json"));
    assert_eq!(structured.json()["datacontenttype"], "application/json");
}

/// Proves: IN-3, IN-8
#[tokio::test]
async fn an_event_leaves_room_for_the_gateways_own_attributes_or_is_refused() {
    let pair = pair("memory").await;
    let with = |count: usize, bytes: usize| {
        let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t" });
        for number in 0..count {
            event[format!("x{number}")] = "v".repeat(bytes).into();
        }
        event
    };
    for (event, limit) in [
        (with(221, 1), "224"),
        (with(100, 1400), "131072"),
        (with(400, 1), "224"),
    ] {
        let refused = pair
            .gateway
            .send(&Request::structured("forms", event.to_string()))
            .await
            .is(400);
        assert!(refused.text().contains(limit), "{}", refused.text());
    }
    let fits = Request::structured("forms", with(220, 1).to_string());
    pair.gateway.send(&fits).await.is(202);
    assert_eq!(pair.structured.wait_for_one().await.json()["x219"], "v");
}
