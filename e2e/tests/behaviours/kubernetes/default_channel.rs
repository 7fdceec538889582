//! Channels that name no provisioner get what a ConfigMap says, and keep it.

use e2e::{Gateway, documents::merge, eventually};
use serde_json::{Value, json};
use servers::Kubernetes;

use super::{apply, gateway_of, object, ready, reason, shared, shows};

const NAMESPACE: &str = "defaulted";

fn plain(name: &str) -> Value {
    json!({ "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "metadata": { "name": name } })
}

fn config(name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
        "data": { "default-channel-config": text },
    })
}

/// Waits until the log has this as often.
async fn logged(gateway: &Gateway, text: &str, times: usize) {
    eventually(&format!("it logs {text}"), || async {
        (gateway.log().matches(text).count() >= times).then_some(())
    })
    .await;
}

async fn given(cluster: &Kubernetes, name: &str, provisioner: &str) {
    object(cluster, NAMESPACE, &format!("channel/{name}"), |channel| {
        channel["status"]["provisioner"]["name"] == provisioner
    })
    .await;
}

#[tokio::test]
async fn a_channel_gets_the_default_of_its_time_and_keeps_it() {
    let Some(cluster) = shared().await else { return };
    let mut gateway = gateway_of(cluster, NAMESPACE).await;
    // As Knative v0.2 has it in its release.
    let former = "clusterdefault:\n  apiversion: eventing.knative.dev/v1alpha1\n  kind: ClusterChannelProvisioner\n  \
                  name: in-memory-channel\n";
    apply(cluster, NAMESPACE, &[config("default-channel-webhook", former)]).await;
    logged(&gateway, "defaulted/default-channel-webhook", 1).await;
    apply(cluster, NAMESPACE, &[plain("first")]).await;
    ready(cluster, NAMESPACE, &["channel/first"]).await;
    given(cluster, "first", "in-memory-channel").await;
    shows(cluster, &["get", "-n", NAMESPACE, "channels"], &["in-memory-channel"]).await;

    let ours = "clusterdefault: {name: in-memory-channel}\nnamespacedefaults: {defaulted: {name: embedded}}";
    apply(cluster, NAMESPACE, &[config("default-channel", ours)]).await;
    logged(&gateway, "defaulted/default-channel\"", 1).await;
    apply(cluster, NAMESPACE, &[plain("second")]).await;
    given(cluster, "second", "embedded").await;

    // What cannot be used is told, and the one before it goes on.
    let wrong = "clusterdefault: {name: in-memory-channel}\nnamespacedefault: {defaulted: {name: kafka}}";
    apply(cluster, NAMESPACE, &[config("default-channel", wrong)]).await;
    let fault = "line 2: namespacedefault is not known, did you mean `namespacedefaults`?";
    eventually("the fault is told", || async {
        let answer = gateway.admin_get("/readyz").await;
        (answer.status == 200 && answer.text().contains(fault)).then_some(())
    })
    .await;
    apply(cluster, NAMESPACE, &[plain("third")]).await;
    given(cluster, "third", "embedded").await;

    // A gateway that has read no good one does not guess; what was given before it is known.
    gateway.terminate().await;
    gateway.start_again().await;
    apply(cluster, NAMESPACE, &[plain("fourth")]).await;
    let message = reason(
        cluster,
        NAMESPACE,
        "channel/fourth",
        "Provisioned",
        "DefaultChannelInvalid",
    )
    .await;
    assert!(
        message.contains("ConfigMap defaulted/default-channel ") && message.contains(fault),
        "{message}"
    );
    ready(
        cluster,
        NAMESPACE,
        &["channel/first", "channel/second", "channel/third"],
    )
    .await;
    gateway.accept("defaulted/first", ["1"]).await;
    let last = "namespacedefaults: {defaulted: {name: in-memory-channel}}";
    apply(cluster, NAMESPACE, &[config("default-channel", last)]).await;
    ready(cluster, NAMESPACE, &["channel/fourth"]).await;
    for (channel, provisioner) in [
        ("first", "in-memory-channel"),
        ("second", "embedded"),
        ("third", "embedded"),
        ("fourth", "in-memory-channel"),
    ] {
        given(cluster, channel, provisioner).await;
    }
    let answer = gateway.admin_get("/readyz").await;
    assert!(!answer.text().contains("default-channel-config"), "{}", answer.text());
    // To name what it has is no change.
    let mut named = plain("second");
    merge(&mut named, json!({ "spec": { "provisioner": { "name": "embedded" } } }));
    apply(cluster, NAMESPACE, &[named]).await;
    object(cluster, NAMESPACE, "channel/second", |channel| {
        channel["status"]["observedGeneration"] == 2
    })
    .await;
    ready(cluster, NAMESPACE, &["channel/second"]).await;
    // Without any, the gateway's own setting counts.
    cluster
        .kubectl(&[
            "delete",
            "-n",
            NAMESPACE,
            "configmap",
            "default-channel",
            "default-channel-webhook",
        ])
        .await;
    logged(
        &gateway,
        "using the --default-provisioner flag: no ConfigMap sets a default",
        1,
    )
    .await;
    apply(cluster, NAMESPACE, &[plain("fifth")]).await;
    given(cluster, "fifth", "embedded").await;
}
