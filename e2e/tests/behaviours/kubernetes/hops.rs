//! From a channel of every replica to one that is another replica's: a hop like any other (CONTRACT LP).

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{bare_subscription, channel, channel_reference, channel_with, subscription},
    eventually,
};
use serde_json::{Value, json};
use servers::{Kubernetes, Nats};

use super::{apply, object, ready, replicas::replica, shared};

const HOPS_MAX: &str = "4";

/// Two replicas. The first has the channel `log`; the second has the subscriptions `of_stream` of the channel `stream`,
/// which is on NATS: it had their first events before there was another, and NATS leaves a consumer where it is.
struct Pair {
    first: Gateway,
    second: Gateway,
}

impl Pair {
    async fn start(cluster: &Kubernetes, namespace: &str, of_stream: &[&str]) -> Option<Self> {
        let servers = Nats::shared().await?;
        cluster.kubectl(&["create", "namespace", namespace]).await;
        let provisioner = json!({
            "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner",
            "metadata": { "name": format!("nats-{namespace}") },
            "spec": { "backend": "nats", "config": { "servers": servers, "streamPrefix": format!("{namespace}-") } },
        });
        let mut documents = vec![
            provisioner,
            channel_with("stream", &format!("nats-{namespace}"), json!({})),
            channel("log", "embedded"),
        ];
        let before = Sink::start().await;
        documents.extend(
            of_stream
                .iter()
                .map(|name| subscription(name, "stream", &before.url(), json!({}))),
        );
        let mut second = gateway(cluster, namespace, 1);
        second.start_again().await;
        apply(cluster, namespace, &documents).await;
        let names: Vec<String> = of_stream.iter().map(|name| format!("subscription/{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        ready(cluster, namespace, &names).await;
        second.accept(&format!("{namespace}/stream"), ["before"]).await;
        before.wait_for(of_stream.len()).await;
        let mut first = gateway(cluster, namespace, 0);
        first.start_again().await;
        ready(cluster, namespace, &["channel/log"]).await;
        Some(Self { first, second })
    }

    /// Sends an event to `stream` at the second replica.
    async fn send(&self, namespace: &str, id: &str) {
        self.second
            .send(&Request::event(&format!("{namespace}/stream"), id))
            .await
            .is(202);
    }
}

fn gateway(cluster: &Kubernetes, namespace: &str, ordinal: u32) -> Gateway {
    let setup = replica(cluster, namespace, ordinal);
    setup.arguments(&["--max-hops", HOPS_MAX]).prepare()
}

/// Applies a subscription of `stream` and waits until it is what the second replica has.
async fn edited(cluster: &Kubernetes, namespace: &str, subscription: &Value) {
    apply(cluster, namespace, std::slice::from_ref(subscription)).await;
    let name = subscription["metadata"]["name"].as_str().expect("a name");
    let is_known = |object: &Value| object["status"]["observedGeneration"] == object["metadata"]["generation"];
    object(cluster, namespace, &format!("subscription/{name}"), is_known).await;
}

/// From one channel to another.
fn into(name: &str, channel: &str, to: &str) -> Value {
    bare_subscription(name, channel, json!({ "subscriber": { "ref": channel_reference(to) } }))
}

/// Proves: LP, RP-2, DL-5
#[tokio::test]
async fn whichever_way_an_event_gets_to_another_replicas_channel_the_hop_is_counted() {
    let Some(cluster) = shared().await else { return };
    let of_stream = ["forwarded", "answered", "refused"];
    let Some(pair) = Pair::start(cluster, "hops", &of_stream).await else {
        return;
    };
    let (sink, answering, refusing) = (Sink::start().await, Sink::start().await, Sink::start().await);
    // What it says of hops is not believed.
    answering.always(Response::reply("reply", "e2e.reply", "{}").header("ce-headgatehops", "0"));
    refusing.always(Response::status(400));
    apply(cluster, "hops", &[subscription("all", "log", &sink.url(), json!({}))]).await;
    ready(cluster, "hops", &["subscription/all"]).await;
    let reply = json!({ "reply": { "channel": channel_reference("log") } });
    let dead_letter = json!({ "delivery": { "deadLetterSink": { "ref": channel_reference("log") } } });
    for edit in [
        into("forwarded", "stream", "log"),
        subscription("answered", "stream", &answering.url(), reply),
        subscription("refused", "stream", &refusing.url(), dead_letter),
    ] {
        edited(cluster, "hops", &edit).await;
    }
    pair.send("hops", "1").await;
    let received = sink.wait_for(3).await;
    let ids: std::collections::BTreeSet<String> = received.iter().map(|event| event.id()).collect();
    assert_eq!(ids, ["1".to_owned(), "reply".to_owned()].into());
    for event in received {
        let told = (event.attribute("headgatehops"), event.attribute("headgatechain"));
        assert_eq!(told, (Some("1".into()), Some("hops/stream".into())), "{event:?}");
    }
    assert_eq!((answering.count(), refusing.count()), (1, 1));
}

/// Proves: LP
#[tokio::test]
async fn a_loop_over_two_replicas_ends_at_the_hop_limit() {
    let Some(cluster) = shared().await else { return };
    let Some(pair) = Pair::start(cluster, "round", &["there"]).await else {
        return;
    };
    apply(cluster, "round", &[into("back", "log", "stream")]).await;
    ready(cluster, "round", &["subscription/back"]).await;
    edited(cluster, "round", &into("there", "stream", "log")).await;
    pair.send("round", "1").await;
    let dead_letter = eventually("a letter about the loop", || async {
        let list = pair.first.cli(&["dead", "list", "round/back", "-o", "json"]).await;
        let dead_letters: Value = serde_json::from_str(&list.stdout).ok()?;
        dead_letters.as_array()?.first().cloned()
    })
    .await;
    assert_eq!(dead_letter["reason"], "Loop", "{dead_letter}");
    let detail = dead_letter["detail"].as_str().unwrap_or_default();
    let chain = "round/stream round/log round/stream round/log round/stream";
    assert!(detail.contains(chain), "{dead_letter}");
}
