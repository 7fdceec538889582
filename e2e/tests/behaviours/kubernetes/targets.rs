//! What subscriptions and sources refer to: Services, anything with an address, and what is missing.

use e2e::{
    documents::{bare_subscription, channel},
    gateway::is_ready,
};
use serde_json::{Value, json};
use servers::Kubernetes;

use super::{apply, gateway_of, object, ready, reason, shared};

fn subscription_to(name: &str, reference: &Value) -> Value {
    bare_subscription(name, "orders", json!({ "subscriber": { "ref": reference } }))
}

/// Waits until events are sent there.
async fn sent_to(cluster: &Kubernetes, namespace: &str, subscription: &str, url: &str) {
    object(cluster, namespace, &format!("subscription/{subscription}"), |object| {
        is_ready(object) && object["status"]["physicalSubscription"]["subscriberURI"] == url
    })
    .await;
}

#[tokio::test]
async fn a_service_is_a_target_while_it_is_there() {
    let Some(cluster) = shared().await else { return };
    let _gateway = gateway_of(cluster, "services").await;
    let cart = json!({ "apiVersion": "v1", "kind": "Service", "name": "cart" });
    apply(
        cluster,
        "services",
        &[channel("orders", "memory"), subscription_to("all", &cart)],
    )
    .await;
    let message = reason(cluster, "services", "subscription/all", "Resolved", "NotFound").await;
    assert!(message.contains("services/cart"), "{message}");
    let service = |port: u16| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "cart" },
            "spec": { "ports": [{ "port": port }] },
        })
    };
    apply(cluster, "services", &[service(80)]).await;
    sent_to(cluster, "services", "all", "http://cart.services.svc.cluster.local/").await;
    apply(cluster, "services", &[service(8080)]).await;
    sent_to(
        cluster,
        "services",
        "all",
        "http://cart.services.svc.cluster.local:8080/",
    )
    .await;
    cluster.kubectl(&["delete", "-n", "services", "service", "cart"]).await;
    reason(cluster, "services", "subscription/all", "Resolved", "NotFound").await;
}

/// A kind that the gateway has never heard of.
fn definition(group: &str) -> Value {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("boxes.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "kind": "Box", "listKind": "BoxList", "plural": "boxes", "singular": "box" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": open },
            }],
        },
    })
}

#[tokio::test]
async fn anything_with_an_address_is_a_target_even_if_its_kind_comes_later() {
    let Some(cluster) = shared().await else { return };
    let _gateway = gateway_of(cluster, "boxes").await;
    let reference = json!({ "apiVersion": "later.example.org/v1", "kind": "Box", "name": "in" });
    apply(
        cluster,
        "boxes",
        &[channel("orders", "memory"), subscription_to("all", &reference)],
    )
    .await;
    let message = reason(cluster, "boxes", "subscription/all", "Resolved", "NotFound").await;
    assert!(message.contains("has no kind Box in later.example.org/v1"), "{message}");
    apply(cluster, "boxes", &[definition("later.example.org")]).await;
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd/boxes.later.example.org"])
        .await;
    let boxed = |status: Value| json!({ "apiVersion": "later.example.org/v1", "kind": "Box", "metadata": { "name": "in" }, "status": status });
    apply(cluster, "boxes", &[boxed(json!({}))]).await;
    let message = reason(cluster, "boxes", "subscription/all", "Resolved", "emptyHostname").await;
    assert!(message.contains("boxes/in"), "{message}");
    for (status, url) in [
        (
            json!({ "address": { "url": "http://box.example.org/in" } }),
            "http://box.example.org/in",
        ),
        (json!({ "address": { "url": "", "hostname": "box" } }), "http://box/"),
    ] {
        apply(cluster, "boxes", &[boxed(status)]).await;
        sent_to(cluster, "boxes", "all", url).await;
    }
    cluster.kubectl(&["delete", "-n", "boxes", "box", "in"]).await;
    reason(cluster, "boxes", "subscription/all", "Resolved", "NotFound").await;
    ready(cluster, "boxes", &["channel/orders"]).await;
}
