//! Google Pub/Sub in, from Google's own imitations: what arrives, what survives a kill, what the source says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    Gateway, Request, Sink,
    documents::{channel, channel_reference, pubsub_source, secret, subscription},
    eventually,
    gateway::condition,
};
use serde_json::{Value, json};
use servers::PubSub;

/// Google takes so many messages in one request.
const PUBLISH_MAX: usize = 1000;

/// Another process's emulator, by REST.
#[derive(Clone, Copy)]
pub(crate) struct Emulator(SocketAddr);

impl Emulator {
    pub(crate) async fn shared() -> Option<Self> {
        let host = PubSub::shared().await?;
        Some(Self(host.parse().expect("an address")))
    }

    pub(crate) fn host(self) -> String {
        self.0.to_string()
    }

    pub(crate) async fn create_topic(self, topic: &str) {
        let path = format!("/v1/projects/shop/topics/{topic}");
        let request = Request::new("PUT", &path).header("content-type", "application/json");
        request.body("{}").send(self.0).await.is(200);
    }

    /// Publishes messages as the REST API has them; gives their ids.
    pub(crate) async fn publish(self, topic: &str, messages: &[Value]) -> Vec<String> {
        let path = format!("/v1/projects/shop/topics/{topic}:publish");
        let mut ids = Vec::new();
        for messages in messages.chunks(PUBLISH_MAX) {
            let body = json!({ "messages": messages }).to_string();
            let request = Request::post(&path)
                .header("content-type", "application/json")
                .body(body);
            let answer = request.send(self.0).await.is(200).json();
            let published = answer["messageIds"].as_array().cloned().unwrap_or_default();
            ids.extend(published.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        assert_eq!(ids.len(), messages.len());
        ids
    }

    /// Tells Google's Go fake something that only it understands (e2e/servers/pubsub/main.go).
    async fn control(self, control: &str, number: i32) {
        let request = Request::post(&format!("/test/{control}"));
        request.body(number.to_string()).send(self.0).await.is(200);
    }

    async fn has_subscription(self, full_name: &str) -> bool {
        let request = Request::new("GET", &format!("/v1/{full_name}"));
        request.send(self.0).await.status == 200
    }
}

fn text(text: &str) -> Value {
    json!({ "data": BASE64_STANDARD.encode(text) })
}

fn to_orders() -> Value {
    json!({ "sink": channel_reference("orders") })
}

/// Documents of a source `NAME` of the topic of that name, whose events go through a channel to a sink.
fn documents(emulator: Emulator, name: &str, kind: &str, sink: &Sink) -> [Value; 3] {
    [
        channel("orders", kind),
        subscription("all", "orders", &sink.url(), json!({})),
        pubsub_source(name, name, &emulator.host(), to_orders()),
    ]
}

async fn wait_for(gateway: &Gateway, name: &str, kind: &str, status: &str, reason: Option<&str>) -> Value {
    let wanted = |object: &Value| {
        condition(object, kind)
            .is_some_and(|said| said["status"] == status && reason.is_none_or(|reason| said["reason"] == reason))
    };
    gateway.wait_object("gcppubsubsource", name, wanted).await
}

/// Proves: SR-1, SR-2, SR-3
#[tokio::test]
async fn a_topic_that_comes_later_is_subscribed_to_and_its_messages_arrive() {
    let Some(emulator) = Emulator::shared().await else {
        return;
    };
    let sink = Sink::start().await;
    let documents = documents(emulator, "comes-later", "embedded", &sink);
    let gateway = Gateway::with(documents.clone()).await;
    wait_for(&gateway, "comes-later", "Subscribed", "False", Some("TopicNotFound")).await;
    emulator.create_topic("comes-later").await;
    let object = wait_for(&gateway, "comes-later", "Ready", "True", None).await;
    let name = object["status"]["subscription"]
        .as_str()
        .expect("a subscription")
        .to_owned();
    let start = "projects/shop/subscriptions/headgate-default-comes-later-";
    assert_eq!(name.strip_prefix(start).map(str::len), Some(8), "{name}");

    let message = json!({ "data": BASE64_STANDARD.encode("hello"), "attributes": { "origin": "till-7" } });
    let ids = emulator.publish("comes-later", &[message]).await;
    let event = sink.wait_for_one().await;
    assert_eq!(event.id(), ids[0]);
    for (attribute, value) in [
        ("specversion", "1.0"),
        ("type", "google.pubsub.topic.publish"),
        ("source", "//pubsub.googleapis.com/projects/shop/topics/comes-later"),
    ] {
        assert_eq!(event.attribute(attribute).as_deref(), Some(value), "{attribute}");
    }
    let body = event.json();
    assert_eq!(
        (&body["ID"], &body["Data"]),
        (&json!(ids[0]), &json!(BASE64_STANDARD.encode("hello")))
    );
    assert_eq!(body["Attributes"], json!({ "origin": "till-7" }));
    assert!(event.attribute("time").is_some() && body["PublishTime"].is_string());

    let labels = r#"{kind="GcpPubSubSource",namespace="default",name="comes-later""#;
    gateway
        .wait_metric(&format!(r#"headgate_source_events_total{labels},result="stored"}} 1"#))
        .await;
    gateway
        .wait_metric(&format!("headgate_source_lag_seconds{labels}}}"))
        .await;

    gateway.remove(&documents[2]);
    eventually("its subscription is deleted", || async {
        (!emulator.has_subscription(&name).await).then_some(())
    })
    .await;
}

/// Proves: SR-3
#[tokio::test]
async fn a_cloud_event_in_a_message_arrives_as_itself() {
    let Some(emulator) = Emulator::shared().await else {
        return;
    };
    let sink = Sink::start().await;
    emulator.create_topic("wrapped").await;
    let gateway = Gateway::with(documents(emulator, "wrapped", "memory", &sink)).await;
    wait_for(&gateway, "wrapped", "Ready", "True", None).await;
    let binary = json!({
        "data": BASE64_STANDARD.encode(r#"{"total": 1.50}"#),
        "attributes": {
            "ce-specversion": "1.0", "ce-id": "17", "ce-source": "/till/7", "ce-type": "order.placed",
            "content-type": "application/json",
        },
    });
    let document = r#"{"specversion":"1.0","id":"18","source":"/till/7","type":"order.placed","data":{"total": 2.50}}"#;
    let structured = json!({
        "data": BASE64_STANDARD.encode(document),
        "attributes": { "content-type": "application/cloudevents+json" },
    });
    emulator.publish("wrapped", &[binary, structured]).await;
    let mut events = sink.wait_for(2).await;
    events.sort_by_key(|event| event.id());
    for (event, (id, body)) in events
        .iter()
        .zip([("17", r#"{"total": 1.50}"#), ("18", r#"{"total": 2.50}"#)])
    {
        assert_eq!((event.id().as_str(), &event.body[..]), (id, body.as_bytes()));
        assert_eq!(event.attribute("source").as_deref(), Some("/till/7"));
        assert_eq!(event.attribute("type").as_deref(), Some("order.placed"));
    }
}

/// Proves: CH-6
#[tokio::test]
async fn the_order_of_a_key_is_kept_up_to_the_subscriber() {
    let Some(emulator) = Emulator::shared().await else {
        return;
    };
    let sink = Sink::start().await;
    emulator.create_topic("in-order").await;
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("all", "orders", &sink.url(), json!({ "ordering": "key" })),
        pubsub_source(
            "in-order",
            "in-order",
            &emulator.host(),
            json!({ "sink": channel_reference("orders"), "ordering": true }),
        ),
    ])
    .await;
    wait_for(&gateway, "in-order", "Ready", "True", None).await;
    let message =
        |n: usize| json!({ "data": BASE64_STANDARD.encode(n.to_string()), "orderingKey": format!("k{}", n % 3) });
    let messages: Vec<Value> = (0..300).map(message).collect();
    let ids = emulator.publish("in-order", &messages).await;
    let events = sink.wait_for(300).await;
    for key in 0..3 {
        let of_key = events
            .iter()
            .filter(|event| event.attribute("partitionkey") == Some(format!("k{key}")));
        let arrived: Vec<String> = of_key.map(e2e::sink::Received::id).collect();
        let published: Vec<&String> = ids.iter().skip(key).step_by(3).collect();
        assert_eq!(arrived.iter().collect::<Vec<_>>(), published, "k{key}");
    }
}

/// Proves: SR-1, SR-2, OP-2
#[tokio::test]
async fn ten_thousand_messages_survive_two_kills() {
    const MESSAGES: usize = 10_000;
    // Google's emulator goes on sending to those who were killed.
    let Some(fake) = PubSub::fake().await else { return };
    let emulator = Emulator(fake.host().parse().expect("an address"));
    let sink = Sink::start().await;
    emulator.create_topic("kills").await;
    let mut gateway = Gateway::with(documents(emulator, "kills", "embedded", &sink)).await;
    let object = wait_for(&gateway, "kills", "Ready", "True", None).await;
    emulator.control("sends", 0).await;
    let messages: Vec<Value> = (0..MESSAGES).map(|n| text(&n.to_string())).collect();
    let ids = emulator.publish("kills", &messages).await;
    let published: BTreeMap<&str, String> = ids
        .iter()
        .map(String::as_str)
        .zip((0..).map(|n: u32| n.to_string()))
        .collect();
    // What is not sent yet is a backlog at each kill. What was in hand at the first, a thousand at most, is not sent again
    // before the second: its leases run.
    for (sent, arrived) in [(3000, 1000), (3000, 4000)] {
        emulator.control("sends", sent).await;
        eventually("some of them arrived", || async {
            (sink.ids().len() >= arrived).then_some(())
        })
        .await;
        gateway.kill().await;
        gateway.start_again().await;
    }
    emulator.control("sends", i32::MAX).await;
    // Leases last 60 s after those who held them are gone.
    emulator.control("later", 61).await;
    eventually("every message arrived", || async {
        let seen: BTreeSet<String> = sink.ids().into_iter().collect();
        (seen.len() >= MESSAGES).then_some(())
    })
    .await;
    // Repeats are allowed, and are the same event: each id stands for the one message that has it.
    let mut missing: BTreeSet<&str> = published.keys().copied().collect();
    for event in sink.received() {
        let (id, body) = (event.id(), event.json());
        let wanted = published.get(&*id).map(|text| BASE64_STANDARD.encode(text));
        assert_eq!(body["Data"].as_str(), wanted.as_deref(), "{id}");
        missing.remove(&*id);
    }
    assert!(missing.is_empty(), "{missing:?}");
    let again = wait_for(&gateway, "kills", "Ready", "True", None).await;
    assert_eq!(
        again["status"]["subscription"], object["status"]["subscription"],
        "it is adopted"
    );
}

/// Proves: SR-1
#[tokio::test]
async fn messages_wait_while_the_gateway_is_stopped_and_come_once() {
    // The emulator may hand the second message to the gateway that is gone.
    let Some(fake) = PubSub::fake().await else { return };
    let emulator = Emulator(fake.host().parse().expect("an address"));
    let sink = Sink::start().await;
    emulator.create_topic("stopped").await;
    let mut gateway = Gateway::with(documents(emulator, "stopped", "embedded", &sink)).await;
    wait_for(&gateway, "stopped", "Ready", "True", None).await;
    let mut ids = emulator.publish("stopped", &[text("a")]).await;
    sink.wait_for_one().await;
    assert!(gateway.terminate().await.success());
    ids.extend(emulator.publish("stopped", &[text("b")]).await);
    gateway.start_again().await;
    sink.wait_for(2).await;
    assert_eq!(
        sink.ids(),
        ids,
        "a message that was stored before is acknowledged before the end"
    );
}

#[tokio::test]
async fn an_emulator_named_in_the_environment_is_used() {
    let Some(emulator) = Emulator::shared().await else {
        return;
    };
    emulator.create_topic("by-environment").await;
    let mut source = pubsub_source("by-environment", "by-environment", "", to_orders());
    source["spec"].as_object_mut().expect("a spec").remove("emulatorHost");
    let gateway = Gateway::set_up()
        .documents([channel("orders", "memory"), source])
        .environment("PUBSUB_EMULATOR_HOST", &emulator.host())
        .start()
        .await;
    wait_for(&gateway, "by-environment", "Ready", "True", None).await;
}

/// Proves: SR-6
#[tokio::test]
async fn a_key_that_is_replaced_is_used_at_once_and_never_shown() {
    let key = |json: &str| secret("google", json!({ "key.json": json }));
    let source = json!({
        "apiVersion": "sources.eventing.knative.dev/v1alpha1", "kind": "GcpPubSubSource", "metadata": { "name": "keyed" },
        "spec": {
            "googleCloudProject": "shop", "topic": "keyed", "gcpCredsSecret": { "name": "google" },
            "sink": channel_reference("orders"),
        },
    });
    let gateway = Gateway::with([channel("orders", "memory"), source.clone()]).await;
    wait_for(
        &gateway,
        "keyed",
        "SecretsProvided",
        "False",
        Some("CredentialsNotFound"),
    )
    .await;
    gateway.apply(&key("hunter2"));
    wait_for(&gateway, "keyed", "Subscribed", "False", Some("CredentialsInvalid")).await;
    // The form is right, and nobody can sign with it: known without asking Google.
    let unusable = json!({
        "type": "service_account", "client_email": "a@shop.iam.gserviceaccount.com", "private_key_id": "1",
        "private_key": "hunter3", "project_id": "shop",
    });
    gateway.apply(&key(&unusable.to_string()));
    let object = wait_for(&gateway, "keyed", "Subscribed", "False", Some("CredentialsRejected")).await;
    for shown in [object.to_string(), gateway.log()] {
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
