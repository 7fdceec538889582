//! `headgate top`: objects with trouble first, in a pipe and on a terminal.

use e2e::{
    Gateway, Response, Sink, cli,
    documents::{channel, subscription},
    gateway::condition,
};
use serde_json::json;

/// Proves: OP-3
#[tokio::test]
async fn trouble_comes_first_with_its_word_and_reason() {
    let (good, sick) = (Sink::start().await, Sink::start().await);
    sick.always(Response::status(503));
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("good", "orders", &good.url(), json!({})),
        subscription("sick", "orders", &sick.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", (0..12).map(|id| id.to_string())).await;
    good.wait_for(12).await;
    gateway
        .wait_object("subscription", "sick", |object| {
            condition(object, "SinkHealthy").is_some_and(|found| found["status"] == "False")
        })
        .await;
    let shown = gateway
        .cli(&["top", "--once", "--interval", "200ms"])
        .await
        .exits(0)
        .stdout;
    let rows: Vec<&str> = shown.lines().skip_while(|line| !line.starts_with("STATE")).collect();
    assert!(
        rows[1].starts_with("failing") && rows[1].contains("default/sick"),
        "{shown}"
    );
    assert!(rows[1].contains("SinkFailing") && rows[1].contains("12"), "{shown}");
    assert!(
        rows[2..]
            .iter()
            .any(|row| row.starts_with("ok") && row.contains("default/good")),
        "{shown}"
    );
    let elsewhere = gateway
        .cli(&["top", "--once", "--interval", "10ms", "-n", "other"])
        .await;
    assert!(
        !elsewhere.exits(0).stdout.contains("default/"),
        "another namespace is shown"
    );
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_said() {
    let said = cli::run(&["top", "--gateway", "http://127.0.0.1:1"]).await.exits(3);
    assert!(said.stderr.contains("cannot reach the gateway"), "{said:?}");
}

/// On a terminal it is drawn again, in the height that there is.
#[tokio::test]
async fn on_a_terminal_it_goes_on_until_it_is_ended() {
    let sink = Sink::start().await;
    let mut documents = vec![channel("orders", "memory")];
    documents.extend((0..40).map(|n| subscription(&format!("s{n}"), "orders", &sink.url(), json!({}))));
    let gateway = Gateway::with(documents).await;
    let admin = format!("http://{}", gateway.admin());
    // `script` gives it a terminal.
    let binary = e2e::binary::headgate();
    let command = format!(
        "stty rows 24 cols 100; timeout -s INT 3 {} top --interval 200ms --gateway {admin}",
        binary.display()
    );
    let arguments = ["-qec", &command, "/dev/null"];
    let finished = cli::other(gateway.home(), "script", &arguments, b"", "apt-get install bsdutils").await;
    let text = finished.stdout;
    assert!(text.matches("STATE").count() > 2, "it is drawn once: {text:?}");
    assert!(text.contains("more, with less trouble"), "{text:?}");
    assert!(
        text.contains("\u{1b}[?1049h") && text.trim_end().ends_with("\u{1b}[?1049l"),
        "{text:?}"
    );
    let drawn = text.split("\u{1b}[H").last().expect("a last one");
    assert!(drawn.lines().count() <= 24, "{drawn:?}");
}
