//! Objects are applied, shown, described, edited and deleted.

use std::time::Duration;

use e2e::{
    Request, Sink,
    documents::{bare_subscription, channel, channel_reference, subscription},
    gateway::{condition, is_ready},
    holds,
};
use serde_json::{Value, json};

use super::{SERVICE, apply, gateway_of, object, ready, reason, shared, shows};

/// Proves: CH-1
#[tokio::test]
async fn a_channel_and_a_subscription_are_applied_and_events_flow() {
    let Some(cluster) = shared().await else { return };
    let gateway = gateway_of(cluster, "flow").await;
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "memory"),
        subscription("all", "orders", &sink.url(), json!({})),
    ];
    apply(cluster, "flow", &documents).await;
    ready(cluster, "flow", &["channel/orders", "subscription/all"]).await;
    gateway.accept("flow/orders", ["by-path"]).await;
    for host in ["orders-channel.flow.svc.cluster.local", "orders-channel.flow:8080"] {
        let event = Request::event("flow/orders", host).to("/").header("host", host);
        gateway.send(&event).await.is(202);
    }
    sink.wait_for(3).await;
    let unknown = Request::event("flow/orders", "x")
        .to("/")
        .header("host", "other-channel.flow.svc");
    gateway.send(&unknown).await.is(404);

    let shown = cluster.kubectl(&["get", "-n", "flow", "chan,sub"]).await;
    for part in [
        "READY",
        "REASON",
        "PROVISIONER",
        "DURABILITY",
        "ADDRESS",
        "http://orders-channel.flow.svc.cluster.local/",
        "SUBSCRIBER",
        &sink.url(),
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    let describe = ["describe", "-n", "flow", "subscription", "all"];
    shows(cluster, &describe, &["Events:", "Normal", "it is ready"]).await;
    let service = object(cluster, "flow", "service/orders-channel", |service| !service.is_null()).await;
    assert_eq!(service["spec"]["type"], "ExternalName");
    assert_eq!(service["spec"]["externalName"], SERVICE);
    assert_eq!(service["metadata"]["ownerReferences"][0]["kind"], "Channel");
    let channel = object(cluster, "flow", "channel/orders", is_ready).await;
    assert_eq!(channel["status"]["observedGeneration"], 1);
    assert_eq!(
        channel["status"]["address"]["hostname"],
        "orders-channel.flow.svc.cluster.local"
    );
    assert_eq!(channel["status"]["subscribers"][0]["name"], "flow/all");
}

#[tokio::test]
async fn an_edit_is_followed_and_an_invalid_one_changes_nothing() {
    let Some(cluster) = shared().await else { return };
    let gateway = gateway_of(cluster, "edited").await;
    let (first, second) = (Sink::start().await, Sink::start().await);
    let to = |sink: &Sink, filter: &str| {
        subscription(
            "all",
            "orders",
            &sink.url(),
            json!({ "filters": [{ "cesql": filter }] }),
        )
    };
    apply(cluster, "edited", &[channel("orders", "memory"), to(&first, "TRUE")]).await;
    ready(cluster, "edited", &["channel/orders", "subscription/all"]).await;
    gateway.accept("edited/orders", ["1"]).await;
    first.wait_for(1).await;
    apply(cluster, "edited", &[to(&second, "TRUE")]).await;
    object(cluster, "edited", "subscription/all", |object| {
        object["status"]["observedGeneration"] == 2
            && object["status"]["physicalSubscription"]["subscriberURI"] == second.url()
    })
    .await;
    gateway.accept("edited/orders", ["2"]).await;
    second.wait_for(1).await;
    // No schema knows what an expression means.
    apply(cluster, "edited", &[to(&first, "type = (")]).await;
    let message = reason(cluster, "edited", "subscription/all", "Current", "Invalid").await;
    assert!(message.contains("spec.filters[0].cesql"), "{message}");
    gateway.accept("edited/orders", ["3"]).await;
    second.wait_for(2).await;
    assert_eq!(first.count(), 1);
    let never_valid = subscription(
        "new",
        "orders",
        &first.url(),
        json!({ "filters": [{ "cesql": "type = (" }] }),
    );
    apply(cluster, "edited", &[never_valid]).await;
    reason(cluster, "edited", "subscription/new", "Ready", "Invalid").await;
    apply(cluster, "edited", &[to(&first, "TRUE")]).await;
    object(cluster, "edited", "subscription/all", |object| {
        condition(object, "Current").is_none() && object["status"]["observedGeneration"] == 4
    })
    .await;
}

#[tokio::test]
async fn a_subscription_waits_for_its_channel_and_outlives_it() {
    let Some(cluster) = shared().await else { return };
    let gateway = gateway_of(cluster, "waiting").await;
    let sink = Sink::start().await;
    apply(
        cluster,
        "waiting",
        &[subscription("all", "orders", &sink.url(), json!({}))],
    )
    .await;
    let message = reason(cluster, "waiting", "subscription/all", "ChannelReady", "NotFound").await;
    assert!(message.contains("waiting/orders"), "{message}");
    apply(cluster, "waiting", &[channel("orders", "memory")]).await;
    ready(cluster, "waiting", &["subscription/all"]).await;
    gateway.accept("waiting/orders", ["1"]).await;
    sink.wait_for(1).await;
    cluster
        .kubectl(&["delete", "-n", "waiting", "channel", "orders", "--timeout=30s"])
        .await;
    reason(cluster, "waiting", "subscription/all", "Ready", "NotFound").await;
    let events = ["events", "-n", "waiting", "--for", "subscription/all"];
    shows(cluster, &events, &["Warning", "NotFound", "waiting/orders"]).await;
    cluster
        .kubectl(&["delete", "-n", "waiting", "subscription", "all", "--timeout=30s"])
        .await;
    gateway.send(&Request::event("waiting/orders", "2")).await.is(404);
}

/// Nothing collects garbage here, as in a cluster whose collector hangs behind: it has no controller manager.
#[tokio::test]
async fn the_service_of_a_channel_goes_with_it() {
    let Some(cluster) = shared().await else { return };
    let mut gateway = gateway_of(cluster, "leaving").await;
    // As if it were another gateway's.
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "other-channel", "labels": { "eventing.knative.dev/channel": "other" }, "ownerReferences": [{
            "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "name": "other", "uid": "1", "controller": true,
        }]},
        "spec": { "type": "ExternalName", "externalName": "elsewhere.example.org" },
    });
    apply(
        cluster,
        "leaving",
        &[channel("first", "memory"), channel("second", "memory"), foreign],
    )
    .await;
    let is_there = |service: &Value| service["spec"]["externalName"] == SERVICE;
    object(cluster, "leaving", "service/first-channel", is_there).await;
    object(cluster, "leaving", "service/second-channel", is_there).await;
    let delete = async |channel| {
        cluster
            .kubectl(&["delete", "-n", "leaving", "channel", channel, "--timeout=30s"])
            .await
    };
    delete("first").await;
    object(cluster, "leaving", "service/first-channel", Value::is_null).await;
    // Also of one that was deleted while the gateway was away.
    gateway.terminate().await;
    delete("second").await;
    gateway.start_again().await;
    object(cluster, "leaving", "service/second-channel", Value::is_null).await;
    let left = cluster
        .kubectl(&["get", "-n", "leaving", "services", "-o", "name"])
        .await;
    assert_eq!(left, "service/other-channel\n");
}

#[tokio::test]
async fn replies_go_to_another_channel_and_dead_letters_to_a_service() {
    let Some(cluster) = shared().await else { return };
    let gateway = gateway_of(cluster, "replies").await;
    let (replier, end) = (Sink::start().await, Sink::start().await);
    replier.always(e2e::Response::reply("r", "e2e.reply", "{}"));
    let documents = [
        channel("orders", "memory"),
        channel("answers", "memory"),
        bare_subscription(
            "ask",
            "orders",
            json!({ "subscriber": { "uri": replier.url() }, "reply": { "channel": channel_reference("answers") } }),
        ),
        subscription("hear", "answers", &end.url(), json!({})),
    ];
    apply(cluster, "replies", &documents).await;
    ready(cluster, "replies", &["channel,subscription", "--all"]).await;
    gateway.accept("replies/orders", ["1"]).await;
    assert_eq!(end.wait_for(1).await[0].id(), "r");
}

/// What v0.2's own samples looked like, down to what nobody writes any more.
const OF_V02: &str = r#"
apiVersion: eventing.knative.dev/v1alpha1
kind: ClusterChannelProvisioner
metadata: {name: in-memory-channel}
spec: {}
---
apiVersion: eventing.knative.dev/v1alpha1
kind: Channel
metadata: {name: testchannel, namespace: v02}
spec:
  generation: 1
  provisioner: {apiVersion: eventing.knative.dev/v1alpha1, kind: ClusterChannelProvisioner, name: in-memory-channel}
---
apiVersion: eventing.knative.dev/v1alpha1
kind: Subscription
metadata: {name: testevents-subscription, namespace: v02}
spec:
  generation: 1
  channel: {apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: testchannel}
  subscriber: {dnsName: "SINK"}
---
apiVersion: sources.eventing.knative.dev/v1alpha1
kind: KubernetesEventSource
metadata: {name: testevents, namespace: v02}
spec:
  namespace: v02
  sink: {apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: testchannel}
"#;

#[tokio::test]
async fn documents_of_v02_run_as_they_were_written() {
    let Some(cluster) = shared().await else { return };
    let _gateway = gateway_of(cluster, "v02").await;
    let sink = Sink::start().await;
    let documents = OF_V02.replace("SINK", &sink.address().to_string());
    cluster.kubectl_with(&["apply", "-f", "-"], &documents).await;
    let objects = [
        "channel/testchannel",
        "subscription/testevents-subscription",
        "kuberneteseventsource/testevents",
    ];
    ready(cluster, "v02", &objects).await;
    ready(cluster, "v02", &["clusterchannelprovisioner/in-memory-channel"]).await;
    // The gateway's own Events about these objects are events of the namespace.
    let received = sink.wait_for(1).await;
    assert_eq!(received[0].attribute("type").as_deref(), Some("dev.knative.k8s.event"));
    let sources = cluster.kubectl(&["get", "-n", "v02", "sources"]).await;
    assert!(sources.contains("testevents") && sources.contains("True"), "{sources}");
}

/// A restart finds everything as it left it: no status is written, no Event posted, no Service touched.
#[tokio::test]
async fn a_gateway_that_starts_again_writes_nothing() {
    let Some(cluster) = shared().await else { return };
    let mut gateway = gateway_of(cluster, "again").await;
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "embedded"),
        subscription("all", "orders", &sink.url(), json!({})),
    ];
    apply(cluster, "again", &documents).await;
    ready(cluster, "again", &["channel/orders", "subscription/all"]).await;
    let settled = |object: &Value| {
        is_ready(object)
            && object["status"]["address"]["hostname"] == "orders-channel.again.svc.cluster.local"
            && object["status"]["subscribers"][0]["ready"] == true
    };
    object(cluster, "again", "channel/orders", settled).await;
    let versions = || async {
        let versions = "jsonpath={.items[*].metadata.resourceVersion}";
        let all = [
            "get",
            "-n",
            "again",
            "channel,subscription,service,events",
            "-o",
            versions,
        ];
        cluster.kubectl(&all).await
    };
    let before = versions().await;
    gateway.terminate().await;
    gateway.start_again().await;
    gateway.accept("again/orders", ["1"]).await;
    sink.wait_for(1).await;
    holds(Duration::from_secs(3), "the gateway looks around", || true).await;
    assert_eq!(versions().await, before);
}
