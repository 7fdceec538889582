//! What is left of an installation, and the chart's whole life.

use e2e::{Request, binary::workspace, documents::channel, eventually};
use servers::{Kubernetes, helm::Helm};

use super::steps::{SHOP, SYSTEM, apply, ingress, ready};

/// Of the cluster's objects and of what the documents made.
pub(crate) async fn nothing_is_left(cluster: &Kubernetes) {
    let left = async |arguments: &[&str]| {
        cluster
            .kubectl(&[arguments, &["-o", "name", "--ignore-not-found"]].concat())
            .await
    };
    let definitions = left(&["get", "crd"]).await;
    assert!(!definitions.contains("knative"), "{definitions}");
    let labelled = "--selector=app.kubernetes.io/name=headgate";
    let kinds = "namespaces,clusterroles,clusterrolebindings,statefulsets,deployments,services,leases,configmaps,pods";
    assert_eq!(left(&["get", kinds, "--all-namespaces", labelled]).await, "");
    // Of any label: the cluster's controller could make one anew, without ours.
    let roles = left(&["get", "clusterroles,clusterrolebindings"]).await;
    let ours: Vec<&str> = roles.lines().filter(|role| role.contains("/headgate")).collect();
    assert!(ours.is_empty(), "{ours:?}");
    let services = left(&["get", "services,deployments", "-n", SHOP]).await;
    let mut services: Vec<&str> = services.lines().collect();
    services.sort_unstable();
    assert_eq!(
        services,
        [
            "service/audit",
            "service/beats",
            "service/chat",
            "service/late",
            "service/steady"
        ]
    );
}

/// By Helm's own means, as the page says.
pub(crate) async fn the_chart_is_installed_upgraded_and_removed(cluster: &Kubernetes, helm: &Helm) {
    let path = |relative: &str| workspace().join("deploy").join(relative).display().to_string();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let chart = path("helm/headgate");
    let run = async |arguments: &[&str]| {
        let place = ["-n", SYSTEM, "--timeout", "120s", "--wait"];
        helm.run(&[arguments, &place].concat(), &[("KUBECONFIG", &kubeconfig)])
            .await
    };
    cluster
        .kubectl(&["apply", "-f", &path("kustomize/namespace.yaml")])
        .await;
    run(&["install", "headgate", &chart]).await;
    apply(cluster, [channel("charted", "embedded")]).await;
    ready(cluster, &["channel/charted"]).await;
    run(&[
        "upgrade",
        "headgate",
        &chart,
        "--reuse-values",
        "--set",
        "graceSeconds=20",
    ])
    .await;
    let accepted = eventually("the upgraded gateway takes events", || async {
        let event = Request::event("charted", "1").to("/shop/charted");
        let answer = event.try_send(ingress(cluster).await).await.ok()?;
        (answer.status == 202).then_some(answer)
    })
    .await;
    assert_eq!(accepted.header("headgate-durability"), Some("disk"));
    cluster
        .kubectl(&["delete", "channel", "charted", "-n", SHOP, "--timeout=60s"])
        .await;
    // Its Service goes with it, and before the definitions do: after them nobody could tell that its owner is gone.
    let service = [
        "wait",
        "--for=delete",
        "service/charted-channel",
        "-n",
        SHOP,
        "--timeout=60s",
    ];
    cluster.kubectl(&service).await;
    run(&["uninstall", "headgate"]).await;
    cluster.kubectl(&["delete", "-k", &path("crds"), "--timeout=60s"]).await;
    cluster.kubectl(&["delete", "namespace", SYSTEM, "--timeout=60s"]).await;
}
