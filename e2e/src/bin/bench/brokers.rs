//! Kafka and NATS for the benchmark: the real servers, one of each for the whole run, and what a gateway costs on them.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{
    Gateway, Request, Sink,
    documents::{channel, subscription},
    wait::within,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    process::{cpu_micros, memory_mib, now},
    report::OnBroker,
};

const CHANNELS: usize = 20;
const SUBSCRIPTIONS: usize = 200;
/// Each group's first assignment takes a broker a moment, and there are many.
const PATIENCE: Duration = Duration::from_secs(120);

/// The document that a channel on a broker needs, under the kind's own name; every call has topics or streams of its own.
pub(crate) async fn provisioner(kind: &str) -> anyhow::Result<Vec<Value>> {
    let own = format!("bench{}", now());
    let config = match kind {
        "kafka" => {
            let servers = servers::Kafka::shared().await.context("Kafka is skipped")?;
            json!({ "bootstrapServers": servers, "topicPrefix": format!("{own}.") })
        }
        "nats" => {
            let servers = servers::Nats::shared().await.context("NATS is skipped")?;
            json!({ "servers": servers, "streamPrefix": format!("{own}-") })
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![json!({
        "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner", "metadata": { "name": kind },
        "spec": { "backend": kind, "config": config },
    })])
}

/// Many subscriptions with nothing to do, and how they go from one gateway to another.
pub(crate) async fn footprint(kind: &'static str) -> anyhow::Result<OnBroker> {
    let sink = Sink::start().await;
    let mut documents = provisioner(kind).await?;
    for number in 0..CHANNELS {
        documents.push(channel(&format!("channel-{number}"), kind));
    }
    for number in 0..SUBSCRIPTIONS {
        let name = format!("to-{number}");
        documents.push(subscription(
            &name,
            &format!("channel-{}", number % CHANNELS),
            &sink.url(),
            json!({}),
        ));
    }
    let mut first = Gateway::with(documents.clone()).await;
    flows(&first, &sink).await;
    let idle_mib = memory_mib(first.pid(), "VmRSS");
    let (before, since) = (cpu_micros(first.pid()), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let spent = cpu_micros(first.pid()) - before;
    let idle_cpu = spent as f64 / 1e4 / since.elapsed().as_secs_f64();
    let start = Instant::now();
    let second = Gateway::with(documents).await;
    flows(&second, &sink).await;
    let joined = start.elapsed();
    first.terminate().await;
    let start = Instant::now();
    flows(&second, &sink).await;
    Ok(OnBroker {
        subscriptions: SUBSCRIPTIONS,
        idle_mib,
        idle_cpu,
        joined,
        left: start.elapsed(),
    })
}

/// Sends an event to every channel, and waits until each subscription delivered it.
async fn flows(gateway: &Gateway, sink: &Sink) {
    let before = sink.count();
    for number in 0..CHANNELS {
        let event = Request::event(&format!("channel-{number}"), &now().to_string());
        gateway.send(&event).await.is(202);
    }
    within(PATIENCE, "an event of every channel at every subscriber", || async {
        (sink.count() >= before + SUBSCRIPTIONS).then_some(())
    })
    .await;
}
