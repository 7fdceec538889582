//! A rolling update under load, with several replicas: one after the other ends and is started again, while events come in
//! by whichever is there. Nothing that was answered 2xx is lost, and no more is repeated than was in flight.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use e2e::{
    Gateway, Request, Response, Sink,
    client::Connection,
    documents::{channel_with, subscription},
    eventually,
};
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::{Value, json};
use servers::{Kafka, Kubernetes, Nats};
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

use super::{apply, ready, replicas::replica, shared};

const REPLICAS: u32 = 3;

/// Each is replaced this often.
const ROUNDS: usize = 2;

/// Of the subscription, in each replica.
const IN_FLIGHT: usize = 16;

const SENDERS: usize = 4;

/// A Service picks a pod for a connection; each of these is used for so many events.
const BY_CONNECTION: usize = 20;

/// A provisioner on a broker of the tests, with names of its own there.
pub(super) async fn provisioner(backend: &str, namespace: &str) -> Option<Value> {
    let config = match backend {
        "kafka" => json!({ "bootstrapServers": Kafka::shared().await?, "topicPrefix": format!("{namespace}.") }),
        _ => json!({ "servers": Nats::shared().await?, "streamPrefix": format!("{namespace}-") }),
    };
    Some(json!({
        "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner",
        "metadata": { "name": namespace }, "spec": { "backend": backend, "config": config },
    }))
}

/// The addresses behind a Service: of replicas that are ready, and for a moment of those that just ended.
#[derive(Clone, Default)]
struct Endpoints(Arc<Mutex<BTreeMap<u32, SocketAddr>>>);

impl Endpoints {
    fn put(&self, ordinal: u32, gateway: &Gateway) {
        self.0.lock().insert(ordinal, gateway.listen());
    }

    fn remove(&self, ordinal: u32) {
        self.0.lock().remove(&ordinal);
    }

    /// The next in turn.
    fn pick(&self, turn: usize) -> Option<SocketAddr> {
        let all = self.0.lock();
        let index = turn.checked_rem(all.len())?;
        all.values().nth(index).copied()
    }
}

/// What one sender was answered.
#[derive(Default)]
struct Answered {
    accepted: BTreeSet<String>,
    /// Neither 202 nor a refusal that says when to come again.
    others: Vec<String>,
}

/// Sends events until `stop`, as clients of a Service do: who refuses, or is gone, is left for another. Each id is sent once, so
/// that what comes twice was delivered twice.
async fn send(prefix: String, channel: String, endpoints: Endpoints, stop: CancellationToken) -> Answered {
    let mut answered = Answered::default();
    let (mut connection, mut turn) = (None, 0);
    for number in 0_usize.. {
        if stop.is_cancelled() {
            break;
        }
        if number.is_multiple_of(BY_CONNECTION) {
            connection = None;
        }
        if connection.is_none() {
            turn += 1;
            let Some(address) = endpoints.pick(turn) else {
                yield_now().await;
                continue;
            };
            connection = Connection::open(address).await.ok();
        }
        let Some(open) = &mut connection else {
            yield_now().await;
            continue;
        };
        let id = format!("{prefix}-{number}");
        match open.exchange(&Request::event(&channel, &id)).await {
            Ok(answer) if answer.status == 202 => {
                answered.accepted.insert(id);
            }
            Ok(answer) => {
                let comes_again = answer.status == 503 && answer.header("retry-after").is_some();
                if !comes_again {
                    answered.others.push(answer.to_string());
                }
                connection = None;
            }
            Err(_) => connection = None,
        }
    }
    answered
}

/// `kubectl rollout restart`: the highest ordinal first, the next one when that is ready again.
async fn roll(replicas: &mut [Gateway], endpoints: &Endpoints, sink: &Sink) {
    for (ordinal, gateway) in (0..REPLICAS).zip(replicas).rev() {
        let status = gateway.terminate().await;
        assert!(status.success(), "replica {ordinal} ended with {status}");
        // Senders may go to it until here: a Service hears of it late.
        endpoints.remove(ordinal);
        let seen = sink.count();
        sink.wait_for(seen + 50).await;
        gateway.start_again().await;
        endpoints.put(ordinal, gateway);
        let seen = sink.count();
        sink.wait_for(seen + 50).await;
    }
}

async fn started(cluster: &Kubernetes, namespace: &str) -> Vec<Gateway> {
    let mut replicas = Vec::new();
    for ordinal in 0..REPLICAS {
        let mut gateway = replica(cluster, namespace, ordinal).prepare();
        gateway.start_again().await;
        replicas.push(gateway);
    }
    replicas
}

/// Proves: CH-1, CH-3, IN-2, IN-3, OP-1
#[rstest]
#[tokio::test]
async fn replicas_that_are_replaced_one_by_one_lose_nothing(#[values("kafka", "nats")] backend: &str) {
    let Some(cluster) = shared().await else { return };
    let namespace = &format!("rolling-{backend}");
    let Some(provisioner) = provisioner(backend, namespace).await else {
        return;
    };
    cluster.kubectl(&["create", "namespace", namespace]).await;
    let sink = Sink::start().await;
    // So that something is in flight at any moment.
    sink.always(Response::status(204).after(Duration::from_millis(10)));
    let arguments = match backend {
        "kafka" => json!({ "arguments": { "numPartitions": 6 } }),
        _ => json!({}),
    };
    let documents = [
        provisioner,
        channel_with("orders", namespace, arguments),
        subscription("all", "orders", &sink.url(), json!({ "maxInFlight": IN_FLIGHT })),
    ];
    // All of them see the subscription come at the same time.
    let mut replicas = started(cluster, namespace).await;
    apply(cluster, namespace, &documents).await;
    ready(cluster, namespace, &["channel/orders", "subscription/all"]).await;
    let endpoints = Endpoints::default();
    for (ordinal, gateway) in (0..).zip(&replicas) {
        // The leader's word is that the channel is there; one that is not so far passes it on.
        let first = Request::event(&format!("{namespace}/orders"), &format!("first-{ordinal}"));
        eventually("every replica takes events", || async {
            let answer = gateway.send(&first).await;
            assert!([202, 503].contains(&answer.status), "{answer}");
            (answer.status == 202).then_some(())
        })
        .await;
        endpoints.put(ordinal, gateway);
    }
    let stop = CancellationToken::new();
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let channel = format!("{namespace}/orders");
        senders.spawn(send(format!("s{sender}"), channel, endpoints.clone(), stop.clone()));
    }
    sink.wait_for(200).await;
    for _ in 0..ROUNDS {
        roll(&mut replicas, &endpoints, &sink).await;
    }
    stop.cancel();
    let (mut accepted, mut others) = (BTreeSet::new(), Vec::new());
    for answered in senders.join_all().await {
        accepted.extend(answered.accepted);
        others.extend(answered.others);
    }
    assert!(accepted.len() > 300, "only {} events were accepted", accepted.len());
    assert!(
        others.is_empty(),
        "{} other answers, such as {}",
        others.len(),
        others[0]
    );
    eventually("every accepted event at the sink", || async {
        let seen: BTreeSet<String> = sink.ids().into_iter().collect();
        accepted.is_subset(&seen).then_some(())
    })
    .await;
    let ids = sink.ids();
    let repeats = ids.len() - ids.iter().collect::<BTreeSet<_>>().len();
    // What a replica has in its hands when it goes to another may come twice: with NATS the whole subscription does, with Kafka a
    // partition.
    let in_hands = IN_FLIGHT * replicas.len() * ROUNDS;
    assert!(
        repeats <= in_hands,
        "{repeats} of {} deliveries were repeats, {in_hands} may be",
        ids.len()
    );
}
