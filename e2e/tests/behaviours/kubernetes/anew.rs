//! A subscription that is deleted and made anew has nothing of the former one but the name, also when no gateway saw it go.

use std::time::Duration;

use e2e::{
    Response, Sink,
    documents::{channel, subscription},
};
use rstest::rstest;
use serde_json::json;

use super::{apply, ready, rolling::provisioner, settings, shared};

/// Proves: CH-4
#[rstest]
#[tokio::test]
async fn a_subscription_made_anew_while_the_gateway_was_down_begins_as_a_new_one(
    #[values("embedded", "kafka", "nats")] backend: &str,
) {
    let Some(cluster) = shared().await else { return };
    let namespace = &format!("anew-{backend}");
    cluster.kubectl(&["create", "namespace", namespace]).await;
    let orders = match backend {
        "embedded" => channel("orders", "embedded"),
        _ => {
            let Some(provisioner) = provisioner(backend, namespace).await else {
                return;
            };
            apply(cluster, namespace, &[provisioner]).await;
            channel("orders", namespace)
        }
    };
    // They do not take it before the gateway ends.
    let (kept, replaced, anew) = (Sink::start().await, Sink::start().await, Sink::start().await);
    for sink in [&kept, &replaced] {
        sink.always(Response::status(503));
    }
    let again = json!({ "delivery": { "retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT0.2S" } });
    let documents = [
        orders,
        subscription("kept", "orders", &kept.url(), again.clone()),
        subscription("replaced", "orders", &replaced.url(), again.clone()),
        subscription("deleted", "orders", &replaced.url(), again.clone()),
    ];
    let mut gateway = settings(cluster, namespace).prepare();
    gateway.start_again().await;
    apply(cluster, namespace, &documents).await;
    let all = ["subscription/kept", "subscription/replaced", "subscription/deleted"];
    ready(cluster, namespace, &all).await;
    gateway.accept(&format!("{namespace}/orders"), ["old"]).await;
    kept.wait_for(1).await;
    replaced.wait_for(2).await;
    assert!(gateway.terminate().await.success());
    cluster
        .kubectl(&["delete", "-n", namespace, "subscription", "replaced", "deleted"])
        .await;
    apply(
        cluster,
        namespace,
        &[subscription("replaced", "orders", &anew.url(), again)],
    )
    .await;
    kept.always(Response::status(204));
    let before = kept.count();
    gateway.start_again().await;
    ready(cluster, namespace, &["subscription/replaced"]).await;
    kept.wait_for(before + 1).await;
    gateway.accept(&format!("{namespace}/orders"), ["new"]).await;
    anew.wait_for(1).await;
    let last = kept.wait_for(before + 2).await.pop();
    assert_eq!(last.map(|event| event.id()).as_deref(), Some("new"));
    anew.listens_at(1, Duration::from_millis(500)).await;
    assert_eq!(anew.ids(), ["new"]);
    for former in ["replaced", "deleted"] {
        let told = format!("subscription={namespace}/{former}");
        let log = gateway.log();
        let mut forgotten = log
            .lines()
            .filter(|line| line.contains("forgot the place of a deleted subscription"));
        assert!(forgotten.any(|line| line.contains(&told)), "{former}: {log}");
    }
}
