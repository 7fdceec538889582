//! The API server restarts, forgets its history, or is away: what runs goes on, and what changed meanwhile is found.

use e2e::{
    Gateway, Sink,
    documents::{channel, subscription},
};
use serde_json::json;
use servers::{
    Kubernetes,
    kubernetes::{ADMIN, Setup},
};

use super::{apply, define, object, ready};

#[tokio::test]
async fn restarts_and_a_lost_history_of_the_api_server_are_survived() {
    let Some(mut cluster) = Kubernetes::start(Setup::default()).await else {
        return;
    };
    define(&cluster).await;
    let mut gateway = Gateway::set_up().in_cluster(&cluster, ADMIN).prepare();
    gateway.start_again().await;
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "memory"),
        subscription("all", "orders", &sink.url(), json!({})),
        subscription("other", "orders", &sink.url(), json!({})),
    ];
    apply(&cluster, "default", &documents).await;
    ready(
        &cluster,
        "default",
        &["channel/orders", "subscription/all", "subscription/other"],
    )
    .await;
    cluster.kill().await;
    gateway.accept("orders", ["while-away"]).await;
    sink.wait_for(2).await;
    cluster = cluster.restart().await;
    cluster
        .kubectl(&["delete", "subscription", "other", "--timeout=30s"])
        .await;
    object(&cluster, "default", "channel/orders", |object| {
        object["status"]["subscribers"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
    })
    .await;
    // Changes that no watch will ever tell of: the history they are in is gone.
    cluster.compact().await;
    cluster.kill().await;
    cluster = cluster.restart().await;
    cluster.compact().await;
    apply(&cluster, "default", &[channel("invoices", "memory")]).await;
    ready(&cluster, "default", &["channel/invoices"]).await;
    gateway.accept("invoices", ["1"]).await;
    gateway.accept("orders", ["2"]).await;
    sink.wait_for(3).await;
}
