//! Channels on a real Kafka: the same documents, what its brokers promise, who we are there, and other people's records.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    Gateway, Request, Sink,
    documents::{self, channel_with, subscription},
    gateway::{condition, is_ready},
};
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde_json::{Value, json};
use servers::{Kafka, kafka::Setup};

fn provisioner(name: &str, servers: &str, more: &Value) -> Value {
    let mut document = json!({
        "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner", "metadata": { "name": name },
        "spec": { "backend": "kafka", "config": { "bootstrapServers": servers, "topicPrefix": prefix() } },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        document["spec"][key] = value.clone();
    }
    document
}

/// Tests share a broker, and each has topics of its own.
fn prefix() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time");
    format!("test{}.", now.as_nanos())
}

async fn status(gateway: &Gateway, kind: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    gateway.wait_object(kind, name, wanted).await
}

/// Proves: CH-8, IN-2
#[tokio::test]
async fn what_the_brokers_promise_is_found_out_shown_and_compared_with_what_is_required() {
    let Some(servers) = Kafka::shared().await else { return };
    let documents = [
        provisioner("weak", servers, &json!({})),
        channel_with("weak", "weak", json!({})),
        provisioner("strict", servers, &json!({ "requireDurability": "quorum" })),
        channel_with("strict", "strict", json!({})),
        provisioner("many", servers, &json!({})),
        channel_with("many", "many", json!({ "arguments": { "replicationFactor": 3 } })),
    ];
    let mut gateway = Gateway::set_up().documents(documents).prepare();
    gateway.start_again().await;
    let weak = status(&gateway, "clusterchannelprovisioner", "weak", is_ready).await;
    assert_eq!(weak["status"]["durability"], "process");
    let degraded = condition(&weak, "DurabilityDegraded").expect("a condition");
    let message = degraded["message"].as_str().unwrap_or_default();
    assert!(
        degraded["status"] == "True" && message.contains("replicationFactor"),
        "{degraded}"
    );
    let answer = gateway.send(&Request::event("weak", "1")).await.is(202);
    assert_eq!(answer.header("headgate-durability"), Some("process"));

    let not_met =
        |object: &Value| condition(object, "Provisioned").is_some_and(|found| found["reason"] == "DurabilityNotMet");
    status(&gateway, "channel", "strict", not_met).await;
    status(&gateway, "clusterchannelprovisioner", "strict", not_met).await;
    gateway.send(&Request::event("strict", "1")).await.is(503);

    let refused = status(&gateway, "channel", "many", |object| {
        condition(object, "Provisioned").is_some_and(|found| found["reason"] == "TopicNotMade")
    })
    .await;
    let message = condition(&refused, "Provisioned").expect("a condition")["message"].clone();
    assert!(
        message.as_str().is_some_and(|text| text.contains("replicationFactor")),
        "{message}"
    );
}

/// Proves: DL-5
#[tokio::test]
async fn a_record_that_is_no_event_is_a_dead_letter_and_holds_nothing_up() {
    let Some(kafka) = Kafka::start(Setup::default()).await else {
        return;
    };
    let sink = Sink::start().await;
    let provisioner = provisioner("events", &kafka.bootstrap(), &json!({}));
    let topic = format!(
        "{}default.orders",
        provisioner["spec"]["config"]["topicPrefix"].as_str().expect("a prefix")
    );
    let gateway = Gateway::with([
        provisioner,
        channel_with("orders", "events", json!({})),
        subscription("printer", "orders", &sink.url(), json!({})),
    ])
    .await;
    status(&gateway, "subscription", "printer", is_ready).await;
    kafka.produce(&topic, "just some text").await;
    let headers = "ce_specversion:1.0,ce_id:by-hand,ce_source:/kafka,ce_type:t,content-type:text/plain";
    kafka.produce(&topic, &format!("{headers}\thello")).await;
    let received = sink.wait_for_one().await;
    assert_eq!(
        (received.id(), &received.body[..]),
        ("by-hand".to_owned(), &b"hello"[..])
    );
    gateway.wait_for_letter("printer", "NotAnEvent").await;
    let tail = kafka.consume(&topic, 2, Duration::from_secs(20)).await;
    assert!(
        tail.contains("just some text") && tail.contains("ce_id:by-hand"),
        "{tail}"
    );
}

/// Proves: SR-6
#[tokio::test]
async fn brokers_that_require_tls_and_a_password_are_used_with_what_a_secret_holds() {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let folder = tempfile::TempDir::new().expect("a folder");
    let keystore = folder.path().join("broker.pem");
    let pem = format!("{}{}", certificate.signing_key.serialize_pem(), certificate.cert.pem());
    std::fs::write(&keystore, pem).expect("a key store");
    let login = "listener.name.client";
    let setup = Setup {
        protocol: Some("SASL_SSL".into()),
        properties: vec![
            format!("{login}.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN"),
            format!(
                "{login}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            format!(
                "{login}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_bob=\"builder-{SECRET}\";"
            ),
            format!("{login}.ssl.keystore.type=PEM"),
            format!("{login}.ssl.keystore.location={}", keystore.display()),
        ],
        scram_users: vec![format!("SCRAM-SHA-512=[name=alice,password=wonder-{SECRET}]")],
        ..Setup::default()
    };
    let Some(kafka) = Kafka::start(setup).await else { return };
    let secret = |name: &str, user: &str, password: &str| {
        let values = json!({ "username": user, "password": password, "ca.crt": certificate.cert.pem() });
        documents::secret(name, values)
    };
    let secured = |name: &str, mechanism: &str| {
        let security = json!({ "protocol": "SASL_SSL", "mechanism": mechanism, "secretRef": { "name": name } });
        let mut document = provisioner(name, &kafka.bootstrap(), &json!({}));
        document["spec"]["config"]["security"] = security;
        document
    };
    let sink = Sink::start().await;
    let documents = [
        secret("scram", "alice", &format!("wonder-{SECRET}")),
        secured("scram", "SCRAM-SHA-512"),
        channel_with("scram", "scram", json!({})),
        subscription("from-scram", "scram", &sink.url(), json!({})),
        secret("plain", "bob", &format!("builder-{SECRET}")),
        secured("plain", "PLAIN"),
        channel_with("plain", "plain", json!({})),
        subscription("from-plain", "plain", &sink.url(), json!({})),
        secret("wrong", "alice", &format!("guess-{SECRET}")),
        secured("wrong", "SCRAM-SHA-512"),
        channel_with("wrong", "wrong", json!({})),
        secured("absent", "PLAIN"),
        channel_with("absent", "absent", json!({})),
    ];
    let mut gateway = Gateway::set_up().documents(documents).prepare();
    gateway.start_again().await;
    for name in ["from-scram", "from-plain"] {
        status(&gateway, "subscription", name, is_ready).await;
    }
    gateway.accept("scram", ["one"]).await;
    gateway.accept("plain", ["two"]).await;
    sink.wait_for(2).await;
    for (name, reason) in [("wrong", "BackendUnreachable"), ("absent", "CredentialsNotFound")] {
        let told = |object: &Value| condition(object, "Provisioned").is_some_and(|found| found["reason"] == reason);
        let channel = status(&gateway, "channel", name, told).await;
        let message = condition(&channel, "Provisioned").expect("a condition")["message"].to_string();
        assert!(
            name != "wrong" || message.contains("Authentication failed"),
            "{message}"
        );
        assert!(!channel.to_string().contains(SECRET), "{channel}");
    }
    assert!(!gateway.log().contains(SECRET), "a password is in the log");
}

/// Proves: CH-6
#[tokio::test]
async fn total_order_over_several_partitions_is_said_to_be_none_and_keys_keep_theirs() {
    let Some(servers) = Kafka::shared().await else { return };
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        provisioner("events", servers, &json!({})),
        channel_with("wide", "events", json!({ "arguments": { "NumPartitions": 4 } })),
        channel_with("narrow", "events", json!({})),
        subscription(
            "wide-total",
            "wide",
            "http://127.0.0.1:9/",
            json!({ "ordering": "total" }),
        ),
        subscription("narrow-total", "narrow", &sink.url(), json!({ "ordering": "total" })),
        subscription("wide-key", "wide", &sink.url(), json!({ "ordering": "key" })),
    ])
    .await;
    let wide = status(&gateway, "subscription", "wide-total", |object| {
        condition(object, "Ordered").is_some()
    })
    .await;
    let ordered = condition(&wide, "Ordered").expect("a condition");
    assert_eq!(
        (&ordered["status"], &ordered["reason"]),
        (&json!("False"), &json!("OrderedPerPartition"))
    );
    let narrow = status(&gateway, "subscription", "narrow-total", is_ready).await;
    assert_eq!(condition(&narrow, "Ordered").expect("a condition")["status"], "True");
    for number in 0..60 {
        let id = format!("{}-{number:02}", number % 5);
        let event = Request::event("wide", &id).header("ce-partitionkey", (number % 5).to_string());
        gateway.send(&event).await.is(202);
    }
    sink.wait_for(60).await;
    let ids = sink.ids();
    for key in 0..5 {
        let own: Vec<&String> = ids.iter().filter(|id| id.starts_with(&format!("{key}-"))).collect();
        assert!(own.len() == 12 && own.is_sorted(), "{own:?}");
    }
}

/// Part of every password here, to look for where none belongs.
const SECRET: &str = "p4ssw0rd";

/// Proves: CH-7
#[tokio::test]
async fn a_stretch_of_time_is_replayed_from_every_partition() {
    let Some(servers) = Kafka::shared().await else { return };
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        provisioner("events", servers, &json!({})),
        channel_with("orders", "events", json!({ "arguments": { "numPartitions": 3 } })),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    status(&gateway, "subscription", "audit", is_ready).await;
    let mut times = Vec::new();
    for part in ["before", "between", "after"] {
        times.push(Timestamp::now());
        for n in 0..12 {
            let id = format!("{part}-{n}");
            let event = Request::event("orders", &id).header("ce-partitionkey", n.to_string());
            gateway.send(&event).await.is(202);
        }
        gateway.settled().await;
        sink.wait_for(12 * times.len()).await;
    }
    // Kafka counts milliseconds.
    let in_milliseconds = |time: Timestamp| {
        time.round(TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Trunc))
            .expect("a time")
            .to_string()
    };
    let (from, to) = (in_milliseconds(times[1]), in_milliseconds(times[2]));
    let replay = ["replay", "audit", "--from", &from, "--to", &to];
    gateway.cli(&replay).await.exits(0);
    let ids = sink
        .wait_for(48)
        .await
        .split_off(36)
        .into_iter()
        .map(|event| event.id());
    let ids: BTreeSet<String> = ids.collect();
    assert_eq!(ids, (0..12).map(|n| format!("between-{n}")).collect());

    // A place is one of a partition, and those are one behind the other.
    let second_partition = 1_u64 << 48;
    let count = async |from: u64, to: u64| {
        let (from, to) = (from.to_string(), to.to_string());
        let counted = [
            "replay",
            "audit",
            "--dry-run",
            "--from",
            &from,
            "--to",
            &to,
            "-o",
            "json",
        ];
        gateway.cli(&counted).await.exits(0).json()["read"].as_u64()
    };
    let first = count(0, second_partition - 1).await.expect("a count");
    let others = count(second_partition, u64::MAX).await.expect("a count");
    assert!(first > 0 && others > 0, "{first} and {others}");
    assert_eq!(first + others, 36);
}
