//! One event, every subscription that wants it, once each.

use std::time::Duration;

use e2e::{
    Gateway, Request, Sink,
    documents::{bare_subscription, channel, channel_reference, channel_with, subscription},
};
use rstest::rstest;
use serde_json::{Value, json};

/// Proves: CH-1
#[rstest]
#[tokio::test]
async fn every_subscription_gets_every_event_once_even_where_targets_are_equal(
    #[values("memory", "embedded")] kind: &str,
) {
    let (shared, own) = (Sink::start().await, Sink::start().await);
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("first", "orders", &shared.url(), json!({})),
        subscription("second", "orders", &shared.url(), json!({})),
        subscription("third", "orders", &own.url(), json!({})),
    ])
    .await;
    let ids: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    gateway.accept("orders", &ids).await;
    shared.wait_for(100).await;
    own.wait_for(50).await;
    shared.listens_at(100, Duration::from_millis(300)).await;
    for id in &ids {
        assert_eq!(
            shared.ids().iter().filter(|known| *known == id).count(),
            2,
            "event {id} at the shared target"
        );
        assert_eq!(
            own.ids().iter().filter(|known| *known == id).count(),
            1,
            "event {id} at the third"
        );
    }
}

/// Which of the events a subscription with `filters` gets.
async fn matching(filters: Value) -> Vec<String> {
    let (filtered, all) = (Sink::start().await, Sink::start().await);
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("filtered", "orders", &filtered.url(), json!({ "filters": filters })),
        subscription("all", "orders", &all.url(), json!({})),
    ])
    .await;
    for (id, kind, source, extra) in [
        ("push", "dev.github.push", "/octo/hello", None),
        ("issue", "dev.github.issue", "/octo/hello", Some("opened")),
        ("closed", "dev.github.issue", "/octo/other", Some("closed")),
        ("pod", "dev.k8s.event", "/cluster", None),
    ] {
        let mut request = Request::event("orders", id)
            .header("ce-type", kind)
            .header("ce-source", source);
        if let Some(action) = extra {
            request = request.header("ce-action", action);
        }
        gateway.send(&request).await.is(202);
    }
    all.wait_for(4).await;
    filtered.wait_for(1).await;
    // The last event matches nothing but marks the end: it has its own attribute.
    holds_still(&filtered).await;
    let mut ids = filtered.ids();
    ids.sort();
    ids
}

async fn holds_still(sink: &Sink) {
    let mut count = sink.count();
    loop {
        tokio::time::sleep(Duration::from_millis(150)).await;
        if sink.count() == count {
            return;
        }
        count = sink.count();
    }
}

/// Proves: CH-1
#[rstest]
#[case::exact(json!([{ "exact": { "type": "dev.github.push" } }]), &["push"])]
#[case::exact_with_two_attributes(json!([{ "exact": { "type": "dev.github.issue", "source": "/octo/other" } }]), &["closed"])]
#[case::prefix(json!([{ "prefix": { "type": "dev.github." } }]), &["closed", "issue", "push"])]
#[case::suffix(json!([{ "suffix": { "source": "hello" } }]), &["issue", "push"])]
#[case::an_extension(json!([{ "exact": { "action": "opened" } }]), &["issue"])]
#[case::two_filters_must_both_match(json!([{ "prefix": { "type": "dev.github" } }, { "suffix": { "source": "other" } }]), &["closed"])]
#[case::all(json!([{ "all": [{ "prefix": { "type": "dev." } }, { "exact": { "source": "/cluster" } }] }]), &["pod"])]
#[case::any(json!([{ "any": [{ "exact": { "type": "dev.github.push" } }, { "exact": { "action": "closed" } }] }]), &["closed", "push"])]
#[case::not(json!([{ "not": { "prefix": { "type": "dev.github" } } }]), &["pod"])]
#[case::nested(json!([{ "not": { "any": [{ "exact": { "action": "opened" } }, { "exact": { "action": "closed" } }] } }]), &["pod", "push"])]
#[tokio::test]
async fn a_filter_lets_through_what_it_says(#[case] filters: Value, #[case] expected: &[&str]) {
    assert_eq!(matching(filters).await, expected);
}

/// Proves: CH-1, LP
#[rstest]
#[tokio::test]
async fn a_subscriber_may_be_another_channel_and_the_hop_is_counted(#[values("memory", "embedded")] kind: &str) {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("first", kind),
        channel("second", kind),
        bare_subscription(
            "forward",
            "first",
            json!({ "subscriber": { "ref": channel_reference("second") } }),
        ),
        subscription("end", "second", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("first", ["1"]).await;
    let received = sink.wait_for_one().await;
    assert_eq!(
        (received.id().as_str(), received.attribute("headgatehops").as_deref()),
        ("1", Some("1"))
    );
    assert_eq!(&received.body[..], br#"{"n":1}"#);
}

/// Proves: CH-1
#[tokio::test]
async fn subscribers_listed_by_hand_in_a_channel_are_served() {
    let (sink, replies) = (Sink::start().await, Sink::start().await);
    sink.always(e2e::Response::reply("r", "e2e.reply", "{}"));
    let subscribers =
        json!({ "subscribable": { "subscribers": [{ "subscriberURI": sink.url(), "replyURI": replies.url() }] } });
    let gateway = Gateway::with([channel_with("orders", "memory", subscribers)]).await;
    gateway.accept("orders", ["1"]).await;
    assert_eq!(sink.wait_for_one().await.id(), "1");
    assert_eq!(replies.wait_for_one().await.id(), "r");
}

/// Proves: CH-1
#[tokio::test]
async fn a_service_document_and_a_dns_name_are_targets() {
    let (service, named) = (Sink::start().await, Sink::start().await);
    let document = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "billing" },
        "spec": { "type": "ExternalName", "externalName": "127.0.0.1", "ports": [{ "port": service.address().port() }] } });
    let reference = json!({ "apiVersion": "v1", "kind": "Service", "name": "billing" });
    let gateway = Gateway::with([
        document,
        channel("orders", "memory"),
        bare_subscription(
            "by-service",
            "orders",
            json!({ "subscriber": { "ref": reference, "uri": "/in/voices?x=1" } }),
        ),
        bare_subscription(
            "by-name",
            "orders",
            json!({ "subscriber": { "dnsName": named.address().to_string() } }),
        ),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    assert_eq!(service.wait_for_one().await.path, "/in/voices?x=1");
    assert_eq!(named.wait_for_one().await.path, "/");
}
