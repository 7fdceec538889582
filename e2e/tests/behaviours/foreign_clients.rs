//! Other people's CloudEvents libraries, and curl, as senders and receivers: the gateway speaks what they speak.

use e2e::{
    Gateway, Sink,
    documents::{channel, subscription},
    peers::{self, Peer},
    ports,
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{Duration, timeout},
};

/// What each foreign sender sends, in its own words, in both modes.
const EXPECTED_EXTENSION: &str = "ümlaut 100%";

/// Proves: IN-1, IN-5, IN-6, DL-1
#[rstest]
#[case::javascript(Peer::Node, "send.mjs", "receive.mjs")]
#[case::python(Peer::Python, "send.py", "receive.py")]
#[tokio::test]
async fn a_foreign_sdk_sends_and_receives_in_both_modes(
    #[values("memory", "embedded")] kind: &str,
    #[case] peer: Peer,
    #[case] sender: &str,
    #[case] receiver: &str,
) {
    if peers::skipped(peer) {
        return;
    }
    let address = ports::free();
    let mut receiver = peers::command(peer, receiver, &[&address.port().to_string()])
        .await
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(receiver.stdout.take().expect("piped")).lines();
    let patience = Duration::from_secs(60);
    let ready = timeout(patience, lines.next_line())
        .await
        .expect("the receiver starts")
        .expect("output");
    assert_eq!(ready.as_deref(), Some("ready"));

    let url = format!("http://{address}");
    let gateway = Gateway::with([
        channel("foreign", kind),
        subscription("binary", "foreign", &format!("{url}/binary"), json!({})),
        subscription(
            "structured",
            "foreign",
            &format!("{url}/structured"),
            json!({ "delivery": { "format": "json" } }),
        ),
    ])
    .await;
    let target = format!("http://{}/default/foreign", gateway.listen());
    // Two events, `binary` and `structured`, by the mode they were sent in; each is received in both modes.
    peers::run(peer, sender, &[&target]).await;
    let mut received = Vec::new();
    while received.len() < 4 {
        let line = timeout(patience, lines.next_line())
            .await
            .expect("four events arrive")
            .expect("output");
        received.push(serde_json::from_str::<Value>(&line.expect("a line per event")).expect("JSON"));
    }
    for sent in ["binary", "structured"] {
        for by in ["/binary", "/structured"] {
            let found = received.iter().find(|event| event["id"] == sent && event["path"] == by);
            let event = found.unwrap_or_else(|| panic!("{sent} at {by} is missing: {received:#?}"));
            assert_eq!(event["type"], "e2e.foreign");
            assert_eq!(event["source"], "/foreign");
            assert_eq!(event["ext"], EXPECTED_EXTENSION);
            assert_eq!(event["data"], json!({ "greeting": "grüß dich", "n": 7 }), "{event}");
        }
    }
}

/// Proves: IN-1, IN-2, IN-4
#[tokio::test]
async fn curl_is_a_client() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    let target = format!("http://{}/default/orders", gateway.listen());
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "-i", "--max-time", "20"])
            .args(arguments)
            .arg(&target);
        async move {
            let output = command
                .output()
                .await
                .expect("curl is installed (apt-get install curl)");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).to_lowercase()
        }
    };
    let head = [
        "-H",
        "ce-specversion: 1.0",
        "-H",
        "ce-id: by-curl",
        "-H",
        "ce-source: /curl",
        "-H",
        "ce-type: t",
    ];
    let accepted = curl(&[&head[..], &["-H", "content-type: text/plain", "-d", "hello"]].concat()).await;
    assert!(
        accepted.starts_with("http/1.1 202") && accepted.contains("headgate-durability: disk"),
        "{accepted}"
    );
    assert_eq!(sink.wait_for_one().await.id(), "by-curl");
    // A large body makes curl ask first: Expect: 100-continue.
    let large = gateway.home().join("large");
    std::fs::write(&large, vec![b'x'; 900_000]).expect("a file");
    let from_file = format!("@{}", large.display());
    let large = curl(&[&head[..], &["-H", "expect: 100-continue", "--data-binary", &from_file]].concat()).await;
    assert!(large.contains("202 accepted"), "{large}");
    assert!(curl(&["-X", "OPTIONS"]).await.contains("allow: post, options"));
    // HTTP/2 without TLS, asked for by prior knowledge.
    let h2 = curl(&[&head[..], &["--http2-prior-knowledge", "-d", "hello"]].concat()).await;
    assert!(h2.starts_with("http/2 202"), "{h2}");
}
