//! What sources run in pods: Deployments come with them, tell how they are, take their events, and go with them.

use e2e::{
    Gateway, Request, Sink,
    documents::{channel, channel_reference, container_source, merge, subscription},
    eventually,
    gateway::{Setup, condition},
};
use serde_json::{Value, json};
use servers::{Kubernetes, kubernetes::ADMIN};
use tokio::sync::OnceCell;

use super::{SERVICE, apply, define, object, ready, reason};

/// Deployments become pods, and what belongs to a deleted object goes.
async fn with_controllers() -> Option<&'static Kubernetes> {
    static READY: OnceCell<()> = OnceCell::const_new();
    let cluster = Kubernetes::shared_with_controllers().await?;
    READY.get_or_init(|| define(cluster)).await;
    Some(cluster)
}

async fn gateway(cluster: &Kubernetes, namespace: &str) -> Gateway {
    cluster.kubectl(&["create", "namespace", namespace]).await;
    let mut gateway = Setup::default()
        .in_cluster(cluster, ADMIN)
        .arguments(&["--namespace", namespace, "--service", SERVICE])
        .environment("HEADGATE_IMAGE", "headgate:test")
        .prepare();
    gateway.start_again().await;
    gateway
}

async fn items(cluster: &Kubernetes, namespace: &str, kind: &str) -> Vec<Value> {
    let list = cluster.kubectl(&["get", "-n", namespace, kind, "-o", "json"]).await;
    let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
    list["items"].as_array().cloned().unwrap_or_default()
}

async fn only(cluster: &Kubernetes, namespace: &str, kind: &str) -> Value {
    eventually(&format!("there is one of {kind}"), || async {
        let found = items(cluster, namespace, kind).await;
        (found.len() == 1).then(|| found[0].clone())
    })
    .await
}

/// Proves: SR-1, SR-6
#[tokio::test]
async fn a_container_source_is_a_deployment_whose_events_come_in_by_its_own_address() {
    let Some(cluster) = with_controllers().await else {
        return;
    };
    let gateway = gateway(cluster, "beats").await;
    let sink = Sink::start().await;
    let mut source = container_source("beats", "beats:1", &channel_reference("log"));
    let more = json!({
        "args": ["--period=1"],
        "env": { "LEVEL": "debug" },
        "ceOverrides": { "extensions": { "team": "blue" } },
    });
    merge(&mut source["spec"], more);
    let documents = [
        channel("log", "embedded"),
        subscription("all", "log", &sink.url(), json!({})),
        source.clone(),
    ];
    apply(cluster, "beats", &documents).await;
    let deployment = only(cluster, "beats", "deployments").await;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let url = format!("http://{SERVICE}/sources/beats/beats");
    assert_eq!(container["args"], json!(["--period=1", format!("--sink={url}")]));
    let env = container["env"].as_array().expect("variables");
    for expected in [
        json!({"name": "K_SINK", "value": url}),
        json!({"name": "K_CE_OVERRIDES", "value": r#"{"extensions":{"team":"blue"}}"#}),
        json!({"name": "LEVEL", "value": "debug"}),
    ] {
        assert!(env.contains(&expected), "{expected} in {env:?}");
    }
    let pod = only(cluster, "beats", "pods").await;
    object(cluster, "beats", "containersource/beats", |object| {
        let deployed = condition(object, "Deployed");
        deployed.is_some_and(|deployed| deployed["message"].to_string().contains("is being started"))
    })
    .await;
    // As a kubelet tells it.
    let crashed = json!({"status": {"containerStatuses": [{
        "name": "source", "image": "beats:1", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 7, "reason": "Error", "message": "no such host: upstream"}},
    }]}});
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let patch = [
        "patch",
        "-n",
        "beats",
        "pod",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &crashed.to_string(),
    ];
    cluster.kubectl(&patch).await;
    let message = reason(cluster, "beats", "containersource/beats", "Ready", "CrashLoop").await;
    assert!(
        message.contains("exit code 7") && message.contains("no such host: upstream"),
        "{message}"
    );
    // What the container posts before it ends is an event like any other.
    ready(cluster, "beats", &["subscription/all"]).await;
    let posted = Request::event("sources/beats/beats", "1");
    gateway.send(&posted).await.is(202);
    let event = sink.wait_for_one().await;
    assert_eq!(event.attribute("team").as_deref(), Some("blue"));
    source["spec"]["image"] = json!("beats:2");
    apply(cluster, "beats", &[source]).await;
    object(cluster, "beats", "deployment", |list| {
        list["items"][0]["spec"]["template"]["spec"]["containers"][0]["image"] == "beats:2"
    })
    .await;
    cluster
        .kubectl(&["delete", "-n", "beats", "containersource", "beats"])
        .await;
    eventually("it has taken its Deployment along", || async {
        items(cluster, "beats", "deployments").await.is_empty().then_some(())
    })
    .await;
}

/// Proves: SR-6
#[tokio::test]
async fn a_source_with_an_account_runs_in_a_pod_of_its_own() {
    let Some(cluster) = with_controllers().await else {
        return;
    };
    let _gateway = gateway(cluster, "own").await;
    let source = json!({
        "apiVersion": "sources.eventing.knative.dev/v1alpha1", "kind": "KubernetesEventSource",
        "metadata": { "name": "shop" },
        "spec": { "namespace": "own", "serviceAccountName": "reader", "sink": channel_reference("log") },
    });
    apply(cluster, "own", &[channel("log", "embedded"), source.clone()]).await;
    let message = reason(cluster, "own", "kuberneteseventsource/shop", "Deployed", "Deploying").await;
    assert!(!message.is_empty());
    let deployment = only(cluster, "own", "deployments").await;
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["serviceAccountName"], &deployment["spec"]["strategy"]["type"]),
        (&json!("reader"), &json!("Recreate"))
    );
    assert_eq!(pod["containers"][0]["image"], "headgate:test");
    let role = only(cluster, "own", "roles").await;
    assert_eq!(role["rules"][0]["resourceNames"].as_array().map(Vec::len), Some(1));
    // Its document is the source, and its state is there to be written.
    let name = deployment["metadata"]["name"].as_str().expect("a name");
    let document = object(cluster, "own", &format!("configmap/{name}"), |found| !found.is_null()).await;
    assert!(
        document["data"]["source.yaml"]
            .as_str()
            .is_some_and(|text| text.contains("KubernetesEventSource"))
    );
    object(cluster, "own", &format!("configmap/{name}-state"), |found| {
        !found.is_null()
    })
    .await;
    // Without an account it runs in the gateway, once nothing of it is left outside.
    let mut inside = source;
    inside["spec"]
        .as_object_mut()
        .expect("a spec")
        .remove("serviceAccountName");
    cluster
        .kubectl(&[
            "patch",
            "-n",
            "own",
            "kuberneteseventsource",
            "shop",
            "--type=json",
            "-p",
            r#"[{"op":"remove","path":"/spec/serviceAccountName"}]"#,
        ])
        .await;
    ready(cluster, "own", &["kuberneteseventsource/shop"]).await;
    assert!(items(cluster, "own", "deployments").await.is_empty());
    let watching = object(cluster, "own", "kuberneteseventsource/shop", |found| {
        condition(found, "Watching").is_some_and(|watching| watching["status"] == "True")
    });
    watching.await;
}
