//! What is in the way is said where a person looks, with what to do; everything else goes on.

use e2e::{
    Gateway, Request, Sink,
    documents::{channel, github_source, subscription},
    eventually,
    gateway::condition,
};
use serde_json::json;
use servers::{
    Kubernetes,
    kubernetes::{ADMIN, Setup},
};

use super::{SERVICE, apply, define, gateway_of, object, ready, reason, shared};

#[tokio::test]
async fn a_service_of_somebody_else_is_left_alone() {
    let Some(cluster) = shared().await else { return };
    let gateway = gateway_of(cluster, "taken").await;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "orders-channel" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    apply(cluster, "taken", &[foreign, channel("orders", "memory")]).await;
    let message = reason(cluster, "taken", "channel/orders", "ServiceReady", "ServiceTaken").await;
    assert!(message.contains("taken/orders-channel"), "{message}");
    // By path it is there all the same.
    ready(cluster, "taken", &["channel/orders"]).await;
    gateway.accept("taken/orders", ["1"]).await;
    let channel = object(cluster, "taken", "channel/orders", |_| true).await;
    assert_eq!(
        channel["status"]["address"]["url"],
        format!("http://{SERVICE}/taken/orders")
    );
    let service = object(cluster, "taken", "service/orders-channel", |_| true).await;
    assert_eq!(service["spec"]["type"], "ClusterIP");
    cluster
        .kubectl(&["delete", "-n", "taken", "service", "orders-channel"])
        .await;
    object(cluster, "taken", "service/orders-channel", |service| {
        service["spec"]["type"] == "ExternalName"
    })
    .await;
    // Drift is corrected.
    let drift = r#"{"spec":{"externalName":"elsewhere.example.org"}}"#;
    cluster
        .kubectl(&["patch", "-n", "taken", "service", "orders-channel", "-p", drift])
        .await;
    object(cluster, "taken", "service/orders-channel", |service| {
        service["spec"]["externalName"] == SERVICE
    })
    .await;
}

/// What `/readyz` says.
async fn readiness(gateway: &Gateway) -> serde_json::Value {
    gateway.admin_get("/readyz").await.json()
}

#[tokio::test]
async fn without_its_definitions_a_gateway_says_how_to_install_them_and_goes_on_when_they_are() {
    let Some(cluster) = Kubernetes::start(Setup::default()).await else {
        return;
    };
    let mut gateway = Gateway::set_up().in_cluster(&cluster, ADMIN).prepare();
    let mut child = gateway.command().kill_on_drop(true).spawn().expect("it starts");
    // Each kind is asked for on its own, and told when its answer comes.
    eventually("it says what is missing", || async {
        let answer = Request::new("GET", "/readyz").try_send(gateway.admin()).await.ok()?;
        let text = answer.text();
        let parts = [
            "channels of eventing.knative.dev/v1alpha1",
            "headgate crds | kubectl apply -f -",
        ];
        (answer.status == 503 && parts.iter().all(|part| text.contains(part))).then_some(())
    })
    .await;
    define(&cluster).await;
    eventually("it is ready", || async {
        let answer = Request::new("GET", "/readyz").try_send(gateway.admin()).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    apply(&cluster, "default", &[channel("orders", "memory")]).await;
    ready(&cluster, "default", &["channel/orders"]).await;
    child.kill().await.expect("our own child");
    gateway.start_again().await;
}

/// Rules of a gateway that may read all but one kind, no secrets and no default channel, and may have no lease.
const ALL_BUT_GITHUB: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: limited}
rules:
- {apiGroups: [eventing.knative.dev], resources: [channels, subscriptions, clusterchannelprovisioners], verbs: [get, list, watch]}
- {apiGroups: [eventing.knative.dev], resources: [channels/status, subscriptions/status], verbs: [patch]}
- {apiGroups: [sources.eventing.knative.dev], resources: [kuberneteseventsources, gcppubsubsources, containersources], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [services], verbs: [get, list, watch, create, patch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create]}
"#;

/// By which `/readyz` tells of it.
const LEASE_RULE: &str = "a Role of namespace default the rule {apiGroups: [\\\"coordination.k8s.io\\\"], resources: [leases], verbs: [get, create, update]}";

/// What only one replica may do, such as to write a status, waits for a right; it is told again when the right is taken away.
async fn leases_are_had_and_lost(cluster: &Kubernetes, gateway: &Gateway) {
    let told = async |is_told: bool| {
        eventually(&format!("the missing right is told: {is_told}"), || async {
            let answer = gateway.admin_get("/readyz").await;
            let said = ["lease default/headgate-first: ", "lease default/headgate-leader: "]
                .map(|lease| answer.text().contains(lease));
            (answer.status == 200 && said == [is_told; 2]).then(|| answer.text())
        })
        .await
    };
    let text = told(true).await;
    assert!(text.contains(LEASE_RULE), "{text}");
    let create = [
        "create",
        "role",
        "leases",
        "--resource=leases",
        "--verb=get,create,update",
    ];
    cluster.kubectl(&create).await;
    cluster
        .kubectl(&["create", "rolebinding", "leases", "--role=leases", "--user=limited"])
        .await;
    told(false).await;
    // Renewed no more: it is told before the lease is lost, and while others may have it.
    let only_get = r#"[{"op":"replace","path":"/rules/0/verbs","value":["get"]}]"#;
    cluster
        .kubectl(&["patch", "role", "leases", "--type=json", "-p", only_get])
        .await;
    told(true).await;
    let all = r#"[{"op":"replace","path":"/rules/0/verbs","value":["get","create","update"]}]"#;
    cluster
        .kubectl(&["patch", "role", "leases", "--type=json", "-p", all])
        .await;
    told(false).await;
}

/// Proves: OP-3
#[tokio::test]
async fn a_missing_right_is_told_as_the_rule_to_add_and_the_rest_goes_on() {
    let setup = Setup {
        users: vec!["limited".to_owned()],
        ..Setup::default()
    };
    let Some(cluster) = Kubernetes::start(setup).await else {
        return;
    };
    define(&cluster).await;
    cluster.kubectl_with(&["apply", "-f", "-"], ALL_BUT_GITHUB).await;
    let bind = [
        "create",
        "clusterrolebinding",
        "limited",
        "--clusterrole=limited",
        "--user=limited",
    ];
    cluster.kubectl(&bind).await;
    let mut gateway = Gateway::set_up().in_cluster(&cluster, "limited").prepare();
    gateway.start_again().await;
    let readiness = readiness(&gateway).await.to_string();
    let rule = "resources: [githubsources], verbs: [get, list, watch]";
    assert!(readiness.contains(rule) && gateway.log().contains(rule), "{readiness}");
    let rule = "resources: [configmaps], resourceNames: [default-channel], verbs: [get, list, watch]";
    assert!(readiness.contains(rule), "{readiness}");
    leases_are_had_and_lost(&cluster, &gateway).await;
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "memory"),
        subscription("all", "orders", &sink.url(), json!({})),
    ];
    apply(&cluster, "default", &documents).await;
    ready(&cluster, "default", &["channel/orders", "subscription/all"]).await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    // Now it may read the sources, and not the secret that one of them names.
    let sources = r#"[{"op":"add","path":"/rules/-","value":{"apiGroups":["sources.eventing.knative.dev"],"resources":["githubsources","githubsources/status"],"verbs":["get","list","watch","patch"]}}]"#;
    cluster
        .kubectl(&["patch", "clusterrole", "limited", "--type=json", "-p", sources])
        .await;
    let sink = json!({ "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "name": "orders" });
    apply(&cluster, "default", &[github_source("hooks", &["push"], &sink)]).await;
    let message = reason(
        &cluster,
        "default",
        "githubsource/hooks",
        "SecretsProvided",
        "Forbidden",
    )
    .await;
    let rule = "resources: [secrets], resourceNames: [github], verbs: [get, list, watch]";
    assert!(message.contains(rule), "{message}");
    let allow = [
        "create",
        "role",
        "github",
        "--resource=secrets",
        "--resource-name=github",
        "--verb=get,list,watch",
    ];
    cluster.kubectl(&allow).await;
    cluster
        .kubectl(&["create", "rolebinding", "github", "--role=github", "--user=limited"])
        .await;
    reason(
        &cluster,
        "default",
        "githubsource/hooks",
        "SecretsProvided",
        "SecretTokenNotFound",
    )
    .await;
    cluster
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "github",
            "--from-literal=secretToken=s3cret",
        ])
        .await;
    object(&cluster, "default", "githubsource/hooks", |object| {
        condition(object, "SecretsProvided").is_some_and(|condition| condition["status"] == "True")
    })
    .await;
    assert!(!gateway.log().contains("s3cret"));
    // What it asks is counted, and how it was answered.
    let metrics = gateway.admin_get("/metrics").await.text();
    for (verb, resource, outcome) in [
        ("get", "leases", "forbidden"),
        ("list", "documents", "ok"),
        ("list", "documents", "forbidden"),
        ("watch", "services", "ok"),
        ("patch", "status", "ok"),
        ("create", "events", "ok"),
    ] {
        let labels = format!(r#"{{verb="{verb}",resource="{resource}",outcome="{outcome}"}} "#);
        let series = format!("headgate_kubernetes_requests_total{labels}");
        assert!(metrics.contains(&series), "{series} is not in\n{metrics}");
    }
}
