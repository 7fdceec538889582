//! The source with Google's own emulator, and Google's own client that publishes.

use std::collections::HashMap;

use adapter::{Adapter, suite::Scripted};
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::{
    client::{Publisher, SubscriptionAdmin, TopicAdmin},
    model::Message,
};
use servers::PubSub;

use super::{Running, config, texts, until};
use crate::{Config, PubSubSource, names::topic, reader::SUBSCRIBED};

/// A topic's id in a project of the test's own.
fn desired(host: &str, project: &str) -> Config {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = config(host);
    config.project = project.to_owned();
    config
}

async fn create_topic(host: &str, config: &Config) {
    let admin = TopicAdmin::builder()
        .with_endpoint(format!("http://{host}"))
        .with_credentials(anonymous::Builder::new().build());
    let admin = admin.build().await.unwrap();
    admin.create_topic().set_name(topic(config)).send().await.unwrap();
}

async fn publisher(host: &str, config: &Config) -> Publisher {
    let publisher = Publisher::builder(topic(config))
        .with_endpoint(format!("http://{host}"))
        .with_credentials(anonymous::Builder::new().build());
    publisher.build().await.unwrap()
}

async fn subscriptions(host: &str, project: &str) -> Vec<String> {
    let admin = SubscriptionAdmin::builder()
        .with_endpoint(format!("http://{host}"))
        .with_credentials(anonymous::Builder::new().build());
    let admin = admin.build().await.unwrap();
    let found = admin
        .list_subscriptions()
        .set_project(format!("projects/{project}"))
        .send()
        .await
        .unwrap();
    found.subscriptions.into_iter().map(|found| found.name).collect()
}

/// Proves: SR-1, SR-3
#[tokio::test]
async fn messages_of_a_topic_that_comes_later_become_events() {
    let Some(host) = PubSub::shared().await else { return };
    let config = desired(host, "comes-later");
    let outlet = Scripted::storing();
    let running = Running::start(config.clone(), outlet.clone());
    running.until_reason(SUBSCRIBED, "TopicNotFound").await;
    create_topic(host, &config).await;
    running.until_reason(SUBSCRIBED, "").await;

    let publisher = publisher(host, &config).await;
    let plain = Message::new()
        .set_data("hello")
        .set_attributes(HashMap::from([("origin", "till-7")]));
    let id = publisher.publish(plain).await.unwrap();
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-id", "order-17"),
        ("ce-source", "/shop/till/7"),
        ("ce-type", "com.acme.order.placed"),
        ("content-type", "application/json"),
    ];
    let event = Message::new()
        .set_data(r#"{"total": 1.50}"#)
        .set_attributes(HashMap::from(attributes));
    publisher.publish(event).await.unwrap();
    until(
        "both",
        || outlet.stored().len() == 2,
        || format!("{:?}", outlet.stored()),
    )
    .await;

    let mut stored = outlet.stored();
    stored.sort_by(|a, b| b.kind().cmp(a.kind()));
    assert_eq!(
        (stored[0].id(), stored[0].kind()),
        (&*id, "google.pubsub.topic.publish")
    );
    assert_eq!(
        stored[0].source(),
        "//pubsub.googleapis.com/projects/comes-later/topics/orders"
    );
    let body: serde_json::Value = serde_json::from_slice(stored[0].data()).unwrap();
    assert_eq!(
        (&body["ID"], &body["Attributes"]["origin"]),
        (&id.into(), &"till-7".into())
    );
    assert_eq!(
        (stored[1].id(), &stored[1].data()[..]),
        ("order-17", &br#"{"total": 1.50}"#[..])
    );

    let source = running.source.clone();
    running.stop().await;
    assert_eq!(subscriptions(host, "comes-later").await.len(), 1);
    PubSubSource::new(config, source).delete().await.unwrap();
    assert!(subscriptions(host, "comes-later").await.is_empty());
}

/// Proves: CH-6
#[tokio::test]
async fn messages_of_a_key_are_stored_in_the_order_they_were_published() {
    const KEYS: usize = 5;
    const EACH: usize = 100;
    let Some(host) = PubSub::shared().await else { return };
    let mut config = desired(host, "in-order");
    config.ordering = true;
    create_topic(host, &config).await;
    let outlet = Scripted::storing();
    let running = Running::start(config.clone(), outlet.clone());
    running.until_reason(SUBSCRIBED, "").await;
    assert_eq!(running.reason("Ordered"), "");
    let publisher = publisher(host, &config).await;
    let mut published = Vec::new();
    for n in 0..KEYS * EACH {
        let message = Message::new()
            .set_data(n.to_string())
            .set_ordering_key(format!("key-{}", n % KEYS));
        published.push(publisher.publish(message));
    }
    for sent in published {
        sent.await.unwrap();
    }
    until(
        "all",
        || outlet.stored().len() >= KEYS * EACH,
        || outlet.stored().len().to_string(),
    )
    .await;
    for key in 0..KEYS {
        let mut of_key = outlet.stored();
        of_key.retain(|event| event.text("partitionkey") == Some(&format!("key-{key}")));
        let numbers: Vec<usize> = texts(&of_key).iter().map(|text| text.parse().unwrap()).collect();
        let expected: Vec<usize> = (0..EACH).map(|n| n * KEYS + key).collect();
        assert_eq!(numbers, expected, "key-{key}");
    }
    running.stop().await;
}

#[tokio::test]
async fn an_emulator_that_goes_away_and_comes_back_is_used_again() {
    let Some(mut emulator) = PubSub::start().await else {
        return;
    };
    let host = emulator.host();
    let config = desired(&host, "comes-back");
    create_topic(&host, &config).await;
    let outlet = Scripted::storing();
    let running = Running::start(config.clone(), outlet.clone());
    running.until_reason(SUBSCRIBED, "").await;
    emulator.kill().await;
    running.until_reason(SUBSCRIBED, "PubSubUnreachable").await;
    emulator.restart().await;
    running.until_reason(SUBSCRIBED, "TopicNotFound").await;
    create_topic(&host, &config).await;
    running.until_reason(SUBSCRIBED, "").await;
    let publisher = publisher(&host, &config).await;
    publisher.publish(Message::new().set_data("again")).await.unwrap();
    until(
        "again",
        || texts(&outlet.stored()) == ["again"],
        || format!("{:?}", outlet.stored()),
    )
    .await;
    running.stop().await;
}
