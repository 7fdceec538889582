//! Destinations that ask for a credential, which is a Secret of the cluster.

use e2e::{
    Sink,
    documents::{bare_subscription, channel, secret},
    eventually,
};
use serde_json::json;

use super::{apply, gateway_of, ready, reason, shared};

/// Proves: SR-6
#[tokio::test]
async fn a_secret_of_the_cluster_is_sent_and_followed() {
    let Some(cluster) = shared().await else { return };
    let namespace = "secured";
    let gateway = gateway_of(cluster, namespace).await;
    let sink = Sink::start().await;
    let bearer = json!({ "bearer": { "secretKeyRef": { "name": "billing", "key": "token" } } });
    let subscriber = json!({ "uri": sink.url(), "auth": bearer, "headers": { "x-team": "payments" } });
    let subscription = bare_subscription("billing", "orders", json!({ "subscriber": subscriber }));
    apply(cluster, namespace, &[channel("orders", "memory"), subscription]).await;
    let message = reason(
        cluster,
        namespace,
        "subscription/billing",
        "Resolved",
        "CredentialsNotFound",
    )
    .await;
    assert!(message.contains("secured/billing"), "{message}");
    let token = |text: &str| secret("billing", json!({ "token": text }));
    apply(cluster, namespace, &[token("first-token")]).await;
    ready(cluster, namespace, &["subscription/billing"]).await;
    let sent = async |id: String| {
        let path = format!("/{namespace}/orders");
        let event = e2e::Request::post(&path)
            .header("ce-specversion", "1.0")
            .header("ce-id", &id);
        let event = event.header("ce-source", "/e2e").header("ce-type", "e2e");
        gateway.send(&event).await.is(202);
    };
    sent("first".to_owned()).await;
    let first = sink.wait_for_one().await;
    assert_eq!(first.header("authorization"), Some("Bearer first-token"));
    assert_eq!(first.header("x-team"), Some("payments"));
    apply(cluster, namespace, &[token("second-token")]).await;
    let mut count = 1;
    eventually("the new token is sent", || {
        count += 1;
        let (sent, sink) = (&sent, &sink);
        async move {
            sent(count.to_string()).await;
            let newest = sink.wait_for(count).await.pop()?;
            (newest.header("authorization") == Some("Bearer second-token")).then_some(())
        }
    })
    .await;
    let shown = cluster
        .kubectl(&["get", "subscriptions,channels,events", "-n", namespace, "-o", "yaml"])
        .await;
    assert!(!shown.contains("-token"), "{shown}");
    assert!(!gateway.log().contains("-token"), "{}", gateway.log());
}
