//! Channels on real brokers that come and go, under load: what was answered 2xx is delivered, whatever the broker.
//!
//! One test for both kinds: the gateway must not be able to tell them apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use e2e::{
    Answer, Gateway, Request, Response, Sink,
    documents::{channel, channel_with, subscription},
    eventually,
    gateway::{condition, is_ready},
    holds,
};
use rstest::rstest;
use serde_json::{Value, json};
use servers::{Kafka, Nats, kafka, nats};
use tokio_util::sync::CancellationToken;

use crate::crash::send_until;

/// A broker of the test's own, or a cluster of three.
pub(crate) enum Brokers {
    Kafka(Kafka),
    Nats(Nats),
}

impl Brokers {
    /// `None` when they are to be skipped. Three keep an acknowledged event on two at least.
    async fn start(kind: &str, count: usize) -> Option<Self> {
        match kind {
            "kafka" => {
                let setup = kafka::Setup {
                    brokers: count,
                    properties: (count > 1)
                        .then(|| "min.insync.replicas=2".to_owned())
                        .into_iter()
                        .collect(),
                    ..kafka::Setup::default()
                };
                Kafka::start(setup).await.map(Self::Kafka)
            }
            _ => {
                let setup = nats::Setup {
                    servers: count,
                    ..nats::Setup::default()
                };
                Nats::start(setup).await.map(Self::Nats)
            }
        }
    }

    fn provisioner(&self, more: &Value) -> Value {
        let (backend, config) = match self {
            Self::Kafka(kafka) => ("kafka", json!({ "bootstrapServers": kafka.bootstrap() })),
            Self::Nats(nats) => ("nats", json!({ "servers": nats.urls().split(',').collect::<Vec<_>>() })),
        };
        let mut document = json!({
            "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner", "metadata": { "name": "events" },
            "spec": { "backend": backend, "config": config },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            document["spec"][key] = value.clone();
        }
        document
    }

    fn replicated(&self) -> Value {
        match self {
            Self::Kafka(_) => json!({ "arguments": { "replicationFactor": 3 } }),
            Self::Nats(_) => json!({ "arguments": { "replicas": 3 } }),
        }
    }

    /// The one that everybody writes to.
    async fn leader(&self, channel: &str) -> usize {
        match self {
            // Partition leaders are spread; the first broker leads something.
            Self::Kafka(_) => 0,
            Self::Nats(nats) => {
                let stream = format!("headgate-default_{channel}");
                eventually("a leader of the stream", || leader(nats, &stream)).await
            }
        }
    }

    async fn kill(&mut self, broker: usize) {
        match self {
            Self::Kafka(kafka) => kafka.kill(broker).await,
            Self::Nats(nats) => nats.kill(broker).await,
        }
    }

    async fn restart(&mut self, brokers: &[usize]) {
        match self {
            Self::Kafka(kafka) => kafka.restart_all(brokers).await,
            Self::Nats(nats) => {
                for &broker in brokers {
                    nats.restart(broker).await;
                }
            }
        }
    }
}

/// As the first server's monitoring tells it.
async fn leader(nats: &Nats, stream: &str) -> Option<usize> {
    let monitoring = nats.monitoring().first()?.strip_prefix("http://")?.parse().ok()?;
    let answer = Request::new("GET", "/jsz?streams=true")
        .try_send(monitoring)
        .await
        .ok()?;
    let found = answer.json();
    let mut streams = found["account_details"].as_array()?.iter().flat_map(|account| {
        let details = account["stream_detail"].as_array();
        details.into_iter().flatten()
    });
    let leader = streams.find(|found| found["name"] == stream)?["cluster"]["leader"].as_str()?;
    // Servers are named n1, n2 ...
    leader.strip_prefix('n')?.parse::<usize>().ok()?.checked_sub(1)
}

async fn every_accepted_arrives(accepted: &BTreeSet<String>, sink: &Sink) {
    eventually("every accepted event at the sink", || async {
        let seen: BTreeSet<String> = sink.ids().into_iter().collect();
        accepted.is_subset(&seen).then_some(())
    })
    .await;
}

async fn accepted_again(gateway: &Gateway, id: &str) -> Answer {
    eventually("an append that is accepted", || async {
        let answer = gateway.send(&Request::event("orders", id)).await;
        (answer.status == 202).then_some(answer)
    })
    .await
}

fn repeats(ids: impl IntoIterator<Item = String>) -> usize {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for id in ids {
        *times.entry(id).or_default() += 1;
    }
    times.values().map(|times| times - 1).sum()
}

/// Proves: CH-1, CH-3, IN-2, IN-3, OP-2
#[rstest]
#[tokio::test]
async fn nothing_accepted_is_lost_when_gateway_and_broker_are_killed_under_load(#[values("kafka", "nats")] kind: &str) {
    let Some(mut brokers) = Brokers::start(kind, 1).await else {
        return;
    };
    let sink = Sink::start().await;
    let mut gateway = Gateway::with([
        brokers.provisioner(&json!({})),
        channel("orders", "events"),
        subscription("printer", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.wait_object("subscription", "printer", is_ready).await;
    let stop = CancellationToken::new();
    let sender = tokio::spawn(send_until(stop.clone(), gateway.listen(), "s".into()));
    for round in 1..=2 {
        sink.wait_for(100 * round).await;
        gateway.kill().await;
        gateway.start_again().await;
        let seen = sink.count();
        sink.wait_for(seen + 20).await;
        brokers.kill(0).await;
        brokers.restart(&[0]).await;
        accepted_again(&gateway, &format!("round-{round}")).await;
    }
    stop.cancel();
    let accepted = sender.await.expect("a sender that ended");
    assert!(accepted.len() > 200, "only {} events were accepted", accepted.len());
    every_accepted_arrives(&accepted, &sink).await;
}

/// A minute: longer than every time-out between gateway and broker, so that none of them ends in giving up.
const OUTAGE: Duration = Duration::from_secs(60);

/// Proves: CH-1, CH-2, IN-2, IN-3, OP-3
#[rstest]
#[tokio::test]
async fn a_broker_that_is_gone_for_a_minute_is_503_and_everything_goes_on_when_it_is_back(
    #[values("kafka", "nats")] kind: &str,
) {
    let Some(mut brokers) = Brokers::start(kind, 1).await else {
        return;
    };
    let (sink, local) = (Sink::start().await, Sink::start().await);
    let gateway = Gateway::with([
        brokers.provisioner(&json!({})),
        channel("orders", "events"),
        subscription("printer", "orders", &sink.url(), json!({})),
        channel("local", "embedded"),
        subscription("beside", "local", &local.url(), json!({})),
    ])
    .await;
    gateway.wait_object("subscription", "printer", is_ready).await;
    let stop = CancellationToken::new();
    let sender = tokio::spawn(send_until(stop.clone(), gateway.listen(), "s".into()));
    sink.wait_for(50).await;

    brokers.kill(0).await;
    let since = tokio::time::Instant::now();
    let refused = eventually("a refusal", || async {
        let answer = gateway.send(&Request::event("orders", "nobody-stored-it")).await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    let told = |object: &Value| condition(object, "Accepting").is_some_and(|found| found["reason"] == "Refusing");
    gateway.wait_object("channel", "orders", told).await;
    // The channel beside it is not concerned.
    gateway.accept("local", ["one", "two"]).await;
    local.wait_for(2).await;
    // Nothing is delivered, nothing accepted, and publishers are not kept waiting.
    let (seen, log) = (sink.count(), gateway.log().len());
    holds(
        OUTAGE.saturating_sub(since.elapsed()),
        "nothing comes from a broker that is gone",
        || sink.count() == seen,
    )
    .await;
    let asked = tokio::time::Instant::now();
    assert_eq!(
        gateway.send(&Request::event("orders", "nobody-stored-it")).await.status,
        503
    );
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "refused after {:?}",
        asked.elapsed()
    );
    let said = gateway.log().len() - log;
    assert!(said < 64 << 10, "{said} bytes of log in one outage");

    brokers.restart(&[0]).await;
    accepted_again(&gateway, "after").await;
    let accepting = |object: &Value| condition(object, "Accepting").is_some_and(|found| found["status"] == "True");
    gateway.wait_object("channel", "orders", accepting).await;
    // An outage is one line when it begins and one when it is over, and not each try to connect.
    let log = gateway.log();
    let [away, back] = match kind {
        "kafka" => ["Kafka does not acknowledge", "Kafka acknowledges again"],
        _ => ["NATS is away", "NATS is back"],
    };
    for (line, level) in [(away, "WARN"), (back, "INFO")] {
        let lines: Vec<&str> = log.lines().filter(|one| one.contains(line)).collect();
        assert!(lines.len() == 1 && lines[0].contains(level), "{lines:?}");
        assert!(kind == "kafka" || lines[0].contains("default/orders"), "{lines:?}");
    }
    assert!(
        !log.contains("event: ") && !log.contains("facility="),
        "a library's own lines"
    );
    stop.cancel();
    let mut accepted = sender.await.expect("a sender that ended");
    accepted.insert("after".to_owned());
    every_accepted_arrives(&accepted, &sink).await;
}

/// Proves: CH-1, CH-8, IN-2, IN-3
#[rstest]
#[tokio::test]
async fn of_three_brokers_one_may_go_and_without_two_nothing_is_answered_2xx(#[values("kafka", "nats")] kind: &str) {
    let Some(mut brokers) = Brokers::start(kind, 3).await else {
        return;
    };
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        brokers.provisioner(&json!({ "requireDurability": "quorum" })),
        channel_with("orders", "events", brokers.replicated()),
        subscription("printer", "orders", &sink.url(), json!({})),
    ])
    .await;
    let ready = gateway.wait_object("channel", "orders", is_ready).await;
    assert_eq!(ready["status"]["durability"], "quorum");
    let degraded = condition(&ready, "DurabilityDegraded").expect("a condition");
    assert_eq!(degraded["status"], "False", "{degraded}");
    let stop = CancellationToken::new();
    let sender = tokio::spawn(send_until(stop.clone(), gateway.listen(), "s".into()));
    sink.wait_for(20).await;

    let first = brokers.leader("orders").await;
    brokers.kill(first).await;
    let answer = accepted_again(&gateway, "on-two").await;
    assert_eq!(answer.header("headgate-durability"), Some("quorum"));

    let second = (first + 1) % 3;
    brokers.kill(second).await;
    // What was under way may still be answered; from then on one replica alone must not do.
    eventually("a refusal with one of three brokers", || async {
        let answer = gateway.send(&Request::event("orders", "on-one")).await;
        (answer.status == 503 && answer.header("retry-after").is_some()).then_some(())
    })
    .await;

    brokers.restart(&[first, second]).await;
    accepted_again(&gateway, "on-three").await;
    stop.cancel();
    let mut accepted = sender.await.expect("a sender that ended");
    assert!(accepted.len() > 20, "only {} events were accepted", accepted.len());
    accepted.extend(["on-two".to_owned(), "on-three".to_owned()]);
    every_accepted_arrives(&accepted, &sink).await;
}

/// Proves: CH-3, CH-5
#[rstest]
#[tokio::test]
async fn a_gateway_killed_between_delivery_and_commit_repeats_no_more_than_what_was_in_flight(
    #[values("kafka", "nats")] kind: &str,
) {
    const IN_FLIGHT: usize = 16;
    let Some(brokers) = Brokers::start(kind, 1).await else {
        return;
    };
    let sink = Sink::start().await;
    let mut gateway = Gateway::with([
        brokers.provisioner(&json!({})),
        channel("orders", "events"),
        subscription("printer", "orders", &sink.url(), json!({ "maxInFlight": IN_FLIGHT })),
    ])
    .await;
    gateway.wait_object("subscription", "printer", is_ready).await;
    gateway.accept("orders", (0..200).map(|n| format!("settled-{n}"))).await;
    sink.wait_for(200).await;
    // From here on the subscriber has every event and never answers.
    sink.always(Response::never());
    gateway.accept("orders", (0..100).map(|n| format!("later-{n}"))).await;
    sink.wait_for(200 + IN_FLIGHT).await;
    // Kafka's commits and the data plane's acknowledgements are within half a second; nothing outside shows them.
    sink.listens_at(200 + IN_FLIGHT, Duration::from_secs(2)).await;
    gateway.kill().await;
    sink.always(Response::status(204));
    gateway.start_again().await;
    sink.wait_for(300 + IN_FLIGHT).await;
    let accepted: BTreeSet<String> = (0..100).map(|n| format!("later-{n}")).collect();
    every_accepted_arrives(&accepted, &sink).await;
    sink.listens_at(300 + IN_FLIGHT, Duration::from_secs(1)).await;
    assert_eq!(repeats(sink.ids()), IN_FLIGHT);
}

/// Proves: CH-1, CH-3, CH-6, DL-3
#[rstest]
#[tokio::test]
async fn a_gateway_that_joins_and_one_that_leaves_amid_retries_lose_nothing(#[values("kafka", "nats")] kind: &str) {
    let Some(brokers) = Brokers::start(kind, 1).await else {
        return;
    };
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let partitions = match kind {
        "kafka" => json!({ "arguments": { "numPartitions": 4 } }),
        _ => json!({}),
    };
    let delivery = json!({ "retry": 100, "backoffPolicy": "linear", "backoffDelay": "PT0.5S" });
    let documents = [
        brokers.provisioner(&json!({})),
        channel_with("orders", "events", partitions),
        subscription(
            "printer",
            "orders",
            &sink.url(),
            json!({ "delivery": delivery, "ordering": "key" }),
        ),
    ];
    let mut first = Gateway::with(documents.clone()).await;
    first.wait_object("subscription", "printer", is_ready).await;
    for number in 0..40 {
        let event = Request::event("orders", &format!("{}-{number:02}", number % 8));
        let keyed = event.header("ce-partitionkey", (number % 8).to_string());
        first.send(&keyed).await.is(202);
    }
    // Every key's first event was tried, and waits for its next attempt.
    eventually("an attempt of every key", || async {
        let keys: BTreeSet<String> = sink.ids().iter().map(|id| id[..1].to_owned()).collect();
        (keys.len() == 8).then_some(())
    })
    .await;
    let second = Gateway::with(documents).await;
    let seen = sink.count();
    sink.wait_for(seen + 20).await;
    assert!(first.terminate().await.success());
    let from = sink.count();
    sink.always(Response::status(204));
    let wanted: BTreeSet<String> = (0..40).map(|number| format!("{}-{number:02}", number % 8)).collect();
    eventually("every event, accepted by the subscriber", || async {
        let seen: BTreeSet<String> = sink.ids().into_iter().skip(from).collect();
        wanted.is_subset(&seen).then_some(())
    })
    .await;
    // One gateway has them all now: each key in stored order.
    let ids = sink.ids().split_off(from);
    for key in 0..8 {
        let mut own: Vec<&String> = ids.iter().filter(|id| id.starts_with(&format!("{key}-"))).collect();
        own.dedup();
        assert!(own.is_sorted(), "{own:?}");
    }
    let dead_letters = second.cli(&["dead", "list", "printer", "-o", "json"]).await.stdout;
    assert_eq!(dead_letters.trim(), "[]");
}

/// Proves: CH-2, OP-3
#[rstest]
#[tokio::test]
async fn a_broker_that_never_answers_holds_up_no_other_channel(#[values("kafka", "nats")] kind: &str) {
    // One after the other they would take longer than anybody here waits.
    const CHANNELS: usize = 40;
    // Takes connections, and says nothing.
    let silent = e2e::ports::listener();
    let address = silent.local_addr().expect("an address").to_string();
    let config = match kind {
        "kafka" => json!({ "bootstrapServers": address }),
        _ => json!({ "servers": address }),
    };
    let sink = Sink::start().await;
    let mut documents = vec![
        json!({
            "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner",
            "metadata": { "name": "events" }, "spec": { "backend": kind, "config": config },
        }),
        channel("local", "embedded"),
        subscription("beside", "local", &sink.url(), json!({})),
    ];
    documents.extend((0..CHANNELS).map(|number| channel(&format!("far-{number}"), "events")));
    let mut gateway = Gateway::set_up().documents(documents).prepare();
    gateway.start_again().await;
    gateway.wait_object("subscription", "beside", is_ready).await;
    gateway.accept("local", ["one"]).await;
    sink.wait_for(1).await;
    let told =
        |object: &Value| condition(object, "Provisioned").is_some_and(|found| found["reason"] == "BackendUnreachable");
    let last = format!("far-{}", CHANNELS - 1);
    gateway.wait_object("channel", &last, told).await;
    gateway.send(&Request::event(&last, "1")).await.is(503);
}

/// Proves: IN-3
#[rstest]
#[case::kafka("kafka", 34 << 20)]
#[case::nats("nats", 9 << 20)]
#[tokio::test]
async fn an_event_larger_than_the_broker_takes_is_413_and_holds_nothing_up(#[case] kind: &str, #[case] bytes: usize) {
    let Some(brokers) = Brokers::start(kind, 1).await else {
        return;
    };
    let sink = Sink::start().await;
    let gateway = Gateway::set_up()
        .documents([
            brokers.provisioner(&json!({})),
            channel("orders", "events"),
            subscription("printer", "orders", &sink.url(), json!({})),
        ])
        .arguments(&["--max-body-bytes", "67108864"])
        .start()
        .await;
    gateway.wait_object("subscription", "printer", is_ready).await;
    let large = Request::event("orders", "large").body(vec![b'x'; bytes]);
    let refused = gateway.send(&large).await;
    assert_eq!(refused.status, 413, "{}", refused.text());
    gateway.accept("orders", ["small"]).await;
    assert_eq!(sink.wait_for_one().await.id(), "small");
}

/// Proves: CH-7, DL-6
#[rstest]
#[tokio::test]
async fn what_became_of_an_event_on_a_broker_is_told(#[values("kafka", "nats")] kind: &str) {
    let Some(broker) = Brokers::start(kind, 1).await else {
        return;
    };
    let (good, dead) = (Sink::start().await, Sink::start().await);
    dead.always(Response::status(400));
    let filtered = json!({ "filters": [ { "exact": { "type": "another" } } ] });
    let gateway = Gateway::with([
        broker.provisioner(&json!({})),
        channel("orders", "events"),
        subscription("dead", "orders", &dead.url(), json!({})),
        subscription("filtered", "orders", &good.url(), filtered),
        subscription("good", "orders", &good.url(), json!({})),
    ])
    .await;
    gateway.settled().await;
    gateway.accept("orders", ["1", "2"]).await;
    let expected = ["dead-lettered", "left out", "delivered"];
    eventually("each subscription says what it did", || async {
        let answer = gateway.cli(&["explain", "2", "-o", "json"]).await.exits(0).json();
        let rows = answer["found"][0]["subscriptions"].as_array()?;
        (rows.iter().map(|row| &row["stage"]).collect::<Vec<_>>() == expected).then_some(())
    })
    .await;
}
