//! The console: pages at the admin listener, what they show, who may see and change what, and that nothing of an event acts in a browser.

mod access;
mod browser;
mod changes;

use std::time::Duration;

use e2e::{
    Answer, Gateway, Request, Response, Sink,
    documents::{channel, channel_reference, github_source, secret, subscription},
    eventually,
    gateway::is_ready,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// An id that would be markup.
const HOSTILE: &str = "<script>alert(1)</script>\"'&";

async fn page(gateway: &Gateway, path: &str) -> Answer {
    Request::new("GET", path).send(gateway.admin()).await
}

/// A form as a browser sends it from a page of ours.
fn form(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Request {
    let body: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    let host = gateway.admin().to_string();
    Request::post(path)
        .header("host", &host)
        .header("origin", format!("http://{host}"))
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.join("&"))
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// The hidden text of the forms of a page.
fn form_token(page: &Answer) -> String {
    let text = page.text();
    let token = text
        .split("name=\"form\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    token.unwrap_or_else(|| panic!("no form in {text}")).to_owned()
}

/// A gateway with a subscriber that takes events and one that refuses them, and an event that both have seen.
async fn shop(arguments: &[&str]) -> (Gateway, Sink, Sink) {
    let (good, bad) = (Sink::start().await, Sink::start().await);
    bad.always(Response::status(500).body("<b>no</b> room"));
    let quick = json!({ "delivery": { "retry": 1, "backoffDelay": "PT0.02S" } });
    let documents = [
        channel("orders", "embedded"),
        subscription("audit", "orders", &good.url(), json!({})),
        subscription("broken", "orders", &bad.url(), quick),
    ];
    let mut gateway = Gateway::set_up().documents(documents).arguments(arguments).prepare();
    gateway.start_again().await;
    eventually("the channel takes events and both subscribers are ready", || async {
        let page = page(&gateway, "/readyz").await;
        (page.status == 200).then_some(())
    })
    .await;
    (gateway, good, bad)
}

async fn until(gateway: &Gateway, path: &str, part: &str) -> Answer {
    eventually(&format!("{path} shows {part}"), || async {
        let page = page(gateway, path).await;
        page.text().contains(part).then_some(page)
    })
    .await
}

/// Proves: CH-7, DL-6, OP-3
#[tokio::test]
async fn every_page_is_whole_safe_and_small() {
    let (gateway, good, _bad) = shop(&[]).await;
    gateway.apply(&secret("github", json!({ "secretToken": "a-long-one-of-many" })));
    gateway.apply(&github_source("hello", &["push"], &channel_reference("orders")));
    gateway.wait_object("githubsource", "hello", is_ready).await;
    gateway.accept("orders", ["order-1"]).await;
    good.wait_for(1).await;
    gateway.wait_for_letter("broken", "SinkError").await;
    for (path, part) in [
        ("/", "aria-label=\"Channel default/orders\""),
        ("/ui/channels/default/orders", "order-1"),
        ("/ui/events/order-1", "Dead letter"),
        ("/ui/deadletters", "SinkError 500"),
        ("/ui/deadletters?subscription=default%2Fbroken", "SinkError 500"),
        (
            "/ui/deadletters/redrive?subscription=default%2Fbroken",
            "Deliver 1 dead letter again",
        ),
        ("/ui/subscriptions/default/audit", "Settings in force"),
        (
            "/ui/subscriptions/default/audit/replay?from=earliest",
            "1 event would be delivered again",
        ),
        ("/ui/sources", "githubsource/default/hello"),
        ("/ui/sources/githubsource/default/hello", "webhookURL"),
        ("/ui/documents", "subscription"),
        ("/ui/documents?kind=Secret&namespace=default&name=github", "redacted"),
        ("/ui/health", "disk space"),
        ("/ui/login", "no token"),
        ("/ui/reasons/SinkFailing", "SinkHealthy"),
    ] {
        let page = until(&gateway, path, part).await.is(200);
        let policy = page.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        let text = page.text();
        for inline in ["style=\"", "onclick", "javascript:", "a-long-one-of-many"] {
            assert!(!text.contains(inline), "{path} has {inline}");
        }
        assert!(!text.contains("http-equiv") && !text.contains("src=\"http"), "{path}");
        assert!(page.body.len() < 200_000, "{path}: {} bytes", page.body.len());
    }
    let mut loaded = page(&gateway, "/").await.body.len();
    for asset in ["/ui/style.css", "/ui/console.js", "/ui/icon.svg"] {
        let answer = page(&gateway, asset).await.is(200);
        loaded += answer.body.len();
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = Request::new("GET", asset)
            .header("if-none-match", tag)
            .send(gateway.admin())
            .await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{asset}");
    }
    assert!(loaded < 300_000, "{loaded} bytes");
}

/// Proves: OP-3
#[tokio::test]
async fn an_address_that_leads_nowhere_is_a_page_as_well() {
    let (gateway, _good, _bad) = shop(&[]).await;
    assert_eq!(page(&gateway, "/ui").await.is(303).header("location"), Some("/"));
    for (path, status) in [
        ("/ui/nothing", 404),
        ("/ui/channels/default/nothing", 404),
        ("/ui/events/nothing", 404),
        ("/ui/subscriptions/default/nothing", 404),
        ("/ui/sources/channel/default/orders", 404),
        ("/ui/reasons/Nothing", 404),
        ("/ui/jobs/7", 404),
        ("/ui/jobs/x", 400),
        ("/ui/channels/default/orders?before=x", 400),
        ("/ui/subscriptions/default/audit/replay?from=yesterday", 400),
        ("/?channel=default%2Fnothing", 404),
    ] {
        let page = page(&gateway, path).await.is(status);
        assert!(page.text().contains("<main"), "{path}: {page}");
        assert!(page.header("content-security-policy").is_some(), "{path}");
    }
}

/// Proves: OP-3
#[tokio::test]
async fn what_an_event_holds_is_text_and_nothing_else() {
    let (gateway, _good, _bad) = shop(&[]).await;
    let event = json!({
        "specversion": "1.0", "id": HOSTILE, "source": "javascript:alert(1)", "type": HOSTILE, "subject": "\u{202e}<img src=x>",
        "datacontenttype": "text/html", "data": "<script>alert(2)</script>",
    });
    gateway
        .send(&Request::structured("orders", event.to_string()))
        .await
        .is(202);
    gateway.wait_for_letter("broken", "SinkError").await;
    let story = format!("/ui/events/{}", encoded(HOSTILE));
    for path in [
        &*story,
        &format!("{story}?view=raw"),
        "/ui/channels/default/orders",
        "/ui/deadletters",
        "/",
    ] {
        let text = page(&gateway, path).await.is(200).text();
        assert!(
            !text.contains("<script>") && !text.contains("<img") && !text.contains("<b>no"),
            "{path}: {text}"
        );
        assert!(!text.contains("href=\"javascript:"), "{path}");
    }
    let text = page(&gateway, &story).await.text();
    assert!(
        text.contains("&lt;script&gt;alert(2)&lt;/script&gt;") && text.contains("\\u{202e}"),
        "{text}"
    );
    let data = page(&gateway, "/ui/data/default/orders/0").await.is(200);
    assert_eq!(data.text(), "<script>alert(2)</script>");
    assert_eq!(data.header("content-type"), Some("application/octet-stream"));
    assert!(
        data.header("content-disposition")
            .is_some_and(|value| value.starts_with("attachment"))
    );
    assert_eq!(data.header("x-content-type-options"), Some("nosniff"));
    // Ids that a browser would take out of a path.
    for id in ["..", "a/b?c#d"] {
        let event = json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "t" });
        gateway
            .send(&Request::structured("orders", event.to_string()))
            .await
            .is(202);
        let list = until(&gateway, "/ui/channels/default/orders", &format!(">{id}</a>"))
            .await
            .text();
        let link = list
            .split(&format!(">{id}</a>"))
            .next()
            .and_then(|before| before.rsplit("href=\"").next());
        let link = link.map(|link| link.trim_end_matches('"').replace("&amp;", "&"));
        page(&gateway, &link.expect("a link")).await.is(200);
    }
}

/// Proves: OP-3
#[tokio::test]
async fn a_page_is_told_that_its_channel_moved_and_the_stream_ends_with_the_gateway() {
    let (gateway, _good, _bad) = shop(&[]).await;
    page(&gateway, "/ui/live?channel=nothing").await.is(400);
    let request = b"GET /ui/live?channel=default%2Forders HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut stream = TcpStream::connect(gateway.admin()).await.expect("a connection");
    stream.write_all(request).await.expect("written");
    let mut lines = BufReader::new(stream).lines();
    let mut line = async || {
        let line = timeout(Duration::from_secs(60), lines.next_line()).await;
        line.expect("a line in time").expect("readable")
    };
    while line().await.is_some_and(|line| !line.is_empty()) {}
    gateway.accept("orders", ["order-1"]).await;
    while line().await.is_some_and(|line| line != "data: moved") {}
    let mut gateway = gateway;
    gateway.terminate().await;
    while let Some(_rest) = line().await {}
}

/// Proves: CH-2, OP-3
#[tokio::test]
async fn two_thousand_subscriptions_make_small_pages() {
    let sink = Sink::start().await;
    let mut gateway = Gateway::set_up().documents([channel("orders", "memory")]).prepare();
    let many: Vec<String> = (0..2000)
        .map(|n| {
            subscription(
                &format!("s{n:04}"),
                "orders",
                &sink.url(),
                json!({ "filters": [ { "exact": { "type": "none" } } ] }),
            )
            .to_string()
        })
        .collect();
    gateway.write("many.yaml", &format!("---\n{}", many.join("\n---\n")));
    gateway.start_again().await;
    for (path, part) in [
        ("/", "1\u{202f}994 more subscriptions"),
        ("/?channel=default%2Forders&page=19", "s1999"),
        ("/ui/channels/default/orders", "2\u{202f}000 subscriptions"),
        ("/ui/documents?page=20", "Page 21 of"),
        ("/ui/health", "Checks"),
        ("/ui/subscriptions/default/s1000", "Settings in force"),
    ] {
        let page = until(&gateway, path, part).await;
        assert!(page.body.len() < 250_000, "{path}: {} bytes", page.body.len());
    }
    gateway.accept("orders", ["order-1"]).await;
}
