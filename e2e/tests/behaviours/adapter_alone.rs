//! `headgate adapter KIND`: the sources of one kind alone, sending to a sink that is elsewhere.

use std::time::Duration;

use e2e::{
    Gateway, Response, Sink,
    documents::{channel, channel_reference, github_source, secret, subscription},
    gateway::{Setup, condition},
    github::delivery,
};
use serde_json::json;

const SECRET: &str = "s";

/// Of a source whose channel is not among its documents.
fn documents() -> [serde_json::Value; 2] {
    [
        secret("github", json!({ "secretToken": SECRET })),
        github_source("hello", &["push"], &channel_reference("github")),
    ]
}

async fn alone(sink: &str) -> Gateway {
    let setup = Setup::default().documents(documents()).adapter("githubsource", sink);
    let mut adapter = setup.prepare();
    adapter.start_again().await;
    adapter
}

/// Proves: SR-1, SR-2
#[tokio::test]
async fn upstream_is_told_2xx_only_when_the_sink_was() {
    let sink = Sink::start().await;
    let adapter = alone(&sink.url()).await;
    let object = adapter
        .wait_object("githubsource", "hello", |object| {
            condition(object, "Ready").is_some_and(|ready| ready["status"] == "True")
        })
        .await;
    assert_eq!(object["status"]["sinkUri"], sink.url());
    sink.next([
        Response::status(503).header("retry-after", "7"),
        Response::status(429),
        Response::status(413),
        Response::status(202),
    ]);
    let push = |id| delivery("hello", "push", id, b"{}", SECRET);
    let refused = adapter.send(&push("1")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("7")));
    adapter.send(&push("1")).await.is(503);
    adapter.send(&push("2")).await.is(413);
    adapter.send(&push("1")).await.is(202);
    assert_eq!(sink.ids(), ["1", "1", "2", "1"]);
}

/// Proves: SR-1
#[tokio::test]
async fn another_gateways_channel_is_a_sink_like_any_other() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("events", "embedded"),
        subscription("all", "events", &sink.url(), json!({})),
    ])
    .await;
    let adapter = alone(&format!("http://{}/default/events", gateway.listen())).await;
    adapter
        .send(&delivery("hello", "push", "1", br#"{"ref":"main"}"#, SECRET))
        .await
        .is(202);
    let event = sink.wait_for_one().await;
    assert_eq!(
        event.attribute("type").as_deref(),
        Some("dev.knative.source.github.push")
    );
    assert_eq!(&event.body[..], br#"{"ref":"main"}"#);
    drop(gateway);
    adapter
        .send(&delivery("hello", "push", "2", b"{}", SECRET))
        .await
        .is(503);
}

#[tokio::test]
async fn only_sources_of_its_kind_run_and_others_do_no_harm() {
    let sink = Sink::start().await;
    let setup = Setup::default()
        .documents(documents())
        .documents([
            channel("github", "embedded"),
            subscription("all", "github", "http://127.0.0.1:9/", json!({})),
        ])
        .adapter("containersources", &sink.url());
    let mut adapter = setup.prepare();
    adapter.start_again().await;
    let objects = adapter.admin_get("/api/v1/objects").await.json();
    assert_eq!(objects["items"], json!([]), "{objects}");
    adapter
        .send(&delivery("hello", "push", "1", b"{}", SECRET))
        .await
        .is(404);
    sink.listens_at(0, Duration::from_millis(50)).await;
}
