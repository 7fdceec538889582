//! Definitions of another version: the gateway says which and what to do, goes on, and recovers when the right ones are there.

use e2e::{
    Gateway, Request, Sink,
    documents::{channel, subscription},
    eventually,
    gateway::condition,
};
use serde_json::{Value, json};
use servers::{
    Kubernetes,
    kubernetes::{ADMIN, Setup},
};

use super::{apply, define, object, ready, reason};

const CHANNELS: &str = "channels.eventing.knative.dev";
const SUBSCRIPTIONS: &str = "subscriptions.eventing.knative.dev";

/// Waits until `/readyz` answers so, and says all of these or none of them.
async fn readiness(gateway: &Gateway, status: u16, parts: &[&str], are_there: bool) {
    eventually(
        &format!("/readyz is {status}, and it is {are_there} that it says {parts:?}"),
        || async {
            let answer = Request::new("GET", "/readyz").try_send(gateway.admin()).await.ok()?;
            let text = answer.text();
            let as_wanted = parts.iter().all(|part| text.contains(part) == are_there);
            (answer.status == status && as_wanted).then_some(())
        },
    )
    .await;
}

async fn patch(cluster: &Kubernetes, definition: &str, patch: &Value) {
    let patch = patch.to_string();
    cluster
        .kubectl(&["patch", "crd", definition, "--type=json", "-p", &patch])
        .await;
}

/// The definition under another version, as one that is older or newer than ours would be.
async fn move_to_another_version(cluster: &Kubernetes, definition: &str) {
    let ours = cluster.kubectl(&["get", "crd", definition, "-o", "json"]).await;
    let mut other: Value = serde_json::from_str(&ours).expect("kubectl prints JSON");
    other["metadata"] = json!({ "name": definition });
    other["spec"]["versions"][0]["name"] = json!("v1");
    other.as_object_mut().expect("an object").remove("status");
    cluster.kubectl(&["delete", "crd", definition]).await;
    cluster.kubectl_with(&["create", "-f", "-"], &other.to_string()).await;
}

/// Proves: OP-3
#[tokio::test]
async fn definitions_of_another_version_are_told_and_the_right_ones_are_taken() {
    let Some(cluster) = Kubernetes::start(Setup::default()).await else {
        return;
    };
    define(&cluster).await;
    move_to_another_version(&cluster, CHANNELS).await;
    let mut gateway = Gateway::set_up().in_cluster(&cluster, ADMIN).prepare();
    let mut child = gateway.command().kill_on_drop(true).spawn().expect("it starts");
    let parts = [
        "no channels of eventing.knative.dev/v1alpha1",
        "headgate crds | kubectl apply -f -",
    ];
    readiness(&gateway, 503, &parts, true).await;
    cluster.kubectl(&["delete", "crd", CHANNELS]).await;
    define(&cluster).await;
    readiness(&gateway, 200, &parts, false).await;
    child.kill().await.expect("our own child");
    gateway.start_again().await;

    // Without a status subresource, as v0.2 had it: events flow, and it is said where a person can see it.
    patch(
        &cluster,
        CHANNELS,
        &json!([{ "op": "remove", "path": "/spec/versions/0/subresources" }]),
    )
    .await;
    eventually("the server serves it so", || async {
        let served = cluster
            .kubectl(&["get", "--raw", "/apis/eventing.knative.dev/v1alpha1"])
            .await;
        (!served.contains("channels/status")).then_some(())
    })
    .await;
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "memory"),
        subscription("all", "orders", &sink.url(), json!({})),
    ];
    apply(&cluster, "default", &documents).await;
    ready(&cluster, "default", &["subscription/all"]).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    let parts = [
        "the definition of channels has no status subresource",
        "headgate crds | kubectl apply --server-side -f -",
    ];
    readiness(&gateway, 200, &parts, true).await;
    define(&cluster).await;
    ready(&cluster, "default", &["channel/orders"]).await;
    readiness(&gateway, 200, &parts, false).await;

    // One whose status knows less drops the rest; what it knows is there.
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/x-kubernetes-preserve-unknown-fields";
    patch(&cluster, CHANNELS, &json!([{ "op": "remove", "path": status }])).await;
    eventually("the server serves it so", || async {
        let more = [
            "--type=merge",
            "-p",
            r#"{"status":{"more":"x"}}"#,
            "--dry-run=server",
            "-o",
            "json",
        ];
        let patched = ["patch", "channel", "orders", "--subresource=status"];
        let shown = cluster.kubectl(&[&patched[..], &more].concat()).await;
        (!shown.contains("more")).then_some(())
    })
    .await;
    apply(&cluster, "default", &[channel("invoices", "memory")]).await;
    ready(&cluster, "default", &["channel/invoices"]).await;
    let parts = ["the definition of channels drops ", "provisioner"];
    readiness(&gateway, 200, &parts, true).await;
    define(&cluster).await;
    object(&cluster, "default", "channel/invoices", |channel| {
        channel["status"]["provisioner"]["name"] == "in-memory-channel"
    })
    .await;
    readiness(&gateway, 200, &parts, false).await;

    // One that knows nothing of what is wanted lets everything pass: then the gateway itself says what is wrong.
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    patch(
        &cluster,
        SUBSCRIPTIONS,
        &json!([{ "op": "replace", "path": spec, "value": anything }]),
    )
    .await;
    let mut odd = subscription("odd", "orders", &sink.url(), json!({}));
    odd["spec"] = json!({ "channel": { "name": "orders" }, "subscriber": [1], "maxInFlight": "many" });
    eventually("the other definition is in force", || async {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [odd] }).to_string();
        cluster.try_kubectl(&["apply", "-f", "-"], &list).await.ok()
    })
    .await;
    let message = reason(&cluster, "default", "subscription/odd", "Ready", "Invalid").await;
    for part in ["spec.subscriber", "spec.maxInFlight"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    gateway.accept("orders", ["2"]).await;
    sink.wait_for(2).await;
    define(&cluster).await;
    // What is there stays until somebody corrects it, and the correction is taken.
    apply(
        &cluster,
        "default",
        &[subscription("odd", "orders", &sink.url(), json!({}))],
    )
    .await;
    object(&cluster, "default", "subscription/odd", |object| {
        condition(object, "Ready").is_some_and(|ready| ready["status"] == "True")
    })
    .await;
}
