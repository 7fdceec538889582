//! Sources that make something upstream: it is taken away before they go, and they go in any case.

use e2e::{
    Gateway, Sink,
    documents::{channel, channel_reference, github_source, merge, secret, subscription},
    eventually,
    gateway::{condition, is_ready},
};
use serde_json::{Value, json};
use servers::{GitHub, Kubernetes, github};

use super::{apply, object, settings, shared};

const REPOSITORY: &str = "octo/hello";
const PUSH: &[u8] = br#"{ "ref":"refs/heads/main" }"#;

/// A source with its webhook on this GitHub, in a namespace and of a gateway of its own.
async fn registered(cluster: &Kubernetes, namespace: &str, github: &GitHub, sink: &Sink) -> Gateway {
    cluster.kubectl(&["create", "namespace", namespace]).await;
    let mut gateway = settings(cluster, namespace).public().prepare();
    gateway.start_again().await;
    apply(cluster, namespace, &documents(github, sink)).await;
    object(cluster, namespace, "githubsource/hello", |object| {
        is_ready(object) && condition(object, "WebhookConfigured").is_some_and(|found| found["status"] == "True")
    })
    .await;
    gateway
}

/// A source of a GitHub with its secret, and a channel for its events.
fn documents(github: &GitHub, sink: &Sink) -> [Value; 4] {
    let mut source = github_source("hello", &["push"], &channel_reference("github"));
    let api = json!({
        "githubAPIURL": github.url(), "accessToken": { "secretKeyRef": { "name": "github", "key": "accessToken" } },
    });
    merge(&mut source["spec"], api);
    [
        source,
        channel("github", "embedded"),
        subscription("all", "github", &sink.url(), json!({})),
        secret(
            "github",
            json!({ "secretToken": "s3cret", "accessToken": github::TOKEN }),
        ),
    ]
}

async fn is_gone(cluster: &Kubernetes, namespace: &str) {
    object(cluster, namespace, "githubsource/hello", Value::is_null).await;
}

async fn delete_without_waiting(cluster: &Kubernetes, namespace: &str) {
    cluster
        .kubectl(&["delete", "-n", namespace, "githubsource", "hello", "--wait=false"])
        .await;
}

/// Proves: SR-1, SR-6
#[tokio::test]
async fn a_source_runs_with_its_secret_and_takes_its_webhook_along() {
    let Some(cluster) = shared().await else { return };
    let (github, sink) = (GitHub::start().await, Sink::start().await);
    let gateway = registered(cluster, "github", &github, &sink).await;
    assert_eq!(github.hooks(REPOSITORY).len(), 1);
    let guids = github.happens(REPOSITORY, "push", PUSH).await;
    assert_eq!(sink.wait_for_one().await.id(), guids[0]);
    let source = object(cluster, "github", "githubsource/hello", |object| {
        object["metadata"]["finalizers"][0] == "headgate.dev/upstream"
    })
    .await;
    assert!(source["status"]["sinkUri"].is_string(), "{source}");
    for text in [source.to_string(), gateway.log()] {
        assert!(!text.contains("s3cret") && !text.contains(github::TOKEN), "{text}");
    }
    cluster
        .kubectl(&["delete", "-n", "github", "githubsource", "hello", "--timeout=30s"])
        .await;
    assert_eq!(
        github.hooks(REPOSITORY).len(),
        0,
        "it was taken away before the source went"
    );
}

#[tokio::test]
async fn a_source_that_was_deleted_while_the_gateway_was_down_is_taken_away_by_the_next_one() {
    let Some(cluster) = shared().await else { return };
    let (github, sink) = (GitHub::start().await, Sink::start().await);
    let mut gateway = registered(cluster, "down", &github, &sink).await;
    gateway.kill().await;
    delete_without_waiting(cluster, "down").await;
    let source = object(cluster, "down", "githubsource/hello", |_| true).await;
    assert!(
        source["metadata"]["deletionTimestamp"].is_string(),
        "it waits for a gateway"
    );
    gateway.start_again().await;
    is_gone(cluster, "down").await;
    assert_eq!(github.hooks(REPOSITORY).len(), 0);
}

/// Half a minute, as the data plane's bound says: the longest test here.
#[tokio::test]
async fn a_source_goes_although_its_upstream_does_not_answer() {
    let Some(cluster) = shared().await else { return };
    let (github, sink) = (GitHub::start().await, Sink::start().await);
    let gateway = registered(cluster, "dark", &github, &sink).await;
    github.down(true);
    delete_without_waiting(cluster, "dark").await;
    is_gone(cluster, "dark").await;
    eventually("the log says what is left", || async {
        gateway.log().contains("could not be taken away").then_some(())
    })
    .await;
}

/// Everything goes with its namespace, in whatever order the namespace's controller takes it.
#[tokio::test]
async fn a_namespace_is_deleted_with_all_that_is_in_it() {
    let setup = servers::kubernetes::Setup {
        controller_manager: true,
        ..servers::kubernetes::Setup::default()
    };
    let Some(cluster) = Kubernetes::start(setup).await else {
        return;
    };
    super::define(&cluster).await;
    let (github, sink) = (GitHub::start().await, Sink::start().await);
    let gateway = registered(&cluster, "leaving", &github, &sink).await;
    cluster
        .kubectl(&["delete", "namespace", "leaving", "--timeout=80s"])
        .await;
    eventually("nothing is left in the gateway", || async {
        let channels = gateway.list("channel").await;
        (channels.is_empty() && gateway.list("githubsource").await.is_empty()).then_some(())
    })
    .await;
}

/// What a gateway needs, but for changing a source's finalizers.
const WITHOUT_FINALIZERS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: limited}
rules:
- {apiGroups: [eventing.knative.dev, sources.eventing.knative.dev], resources: ["*"], verbs: [get, list, watch]}
- {apiGroups: [eventing.knative.dev], resources: [channels/status, subscriptions/status], verbs: [patch]}
- {apiGroups: [sources.eventing.knative.dev], resources: [githubsources/status], verbs: [patch]}
- {apiGroups: [""], resources: [services, secrets, configmaps], verbs: [get, list, watch, create, update, patch]}
- {apiGroups: [apps], resources: [deployments], verbs: [list, watch]}
- {apiGroups: [""], resources: [pods], verbs: [list, watch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, get, update]}
"#;

#[tokio::test]
async fn nothing_is_made_upstream_before_the_finalizer_that_takes_it_away_is_there() {
    let setup = servers::kubernetes::Setup {
        users: vec!["limited".to_owned()],
        ..servers::kubernetes::Setup::default()
    };
    let Some(cluster) = Kubernetes::start(setup).await else {
        return;
    };
    super::define(&cluster).await;
    cluster.kubectl_with(&["apply", "-f", "-"], WITHOUT_FINALIZERS).await;
    let bind = ["create", "clusterrolebinding", "limited", "--clusterrole=limited"];
    cluster.kubectl(&[&bind[..], &["--user=limited"]].concat()).await;
    let (github, sink) = (GitHub::start().await, Sink::start().await);
    let mut gateway = Gateway::set_up().in_cluster(&cluster, "limited").public().prepare();
    gateway.start_again().await;
    apply(&cluster, "default", &documents(&github, &sink)).await;
    let message = super::reason(
        &cluster,
        "default",
        "githubsource/hello",
        "Deployed",
        "FinalizerRefused",
    )
    .await;
    assert!(
        message.contains("resources: [githubsources], verbs: [patch]"),
        "{message}"
    );
    assert_eq!(github.hooks(REPOSITORY).len(), 0);
    let right = r#"[{"op":"add","path":"/rules/-","value":{"apiGroups":["sources.eventing.knative.dev"],"resources":["githubsources"],"verbs":["patch"]}}]"#;
    cluster
        .kubectl(&["patch", "clusterrole", "limited", "--type=json", "-p", right])
        .await;
    let source = object(&cluster, "default", "githubsource/hello", |object| {
        is_ready(object) && condition(object, "WebhookConfigured").is_some_and(|found| found["status"] == "True")
    })
    .await;
    assert_eq!(source["metadata"]["finalizers"][0], "headgate.dev/upstream");
    assert_eq!(github.hooks(REPOSITORY).len(), 1);
}
