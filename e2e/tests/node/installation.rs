//! Headgate installed, used, disturbed and removed, by the commands of docs/kubernetes.md.

use e2e::{
    binary::{headgate, workspace},
    documents::{channel, channel_reference, github_source},
    eventually, github, tree,
};
use serde_json::json;
use servers::{Docker, Kubernetes, Node, helm::Helm};
use tokio::process::Command;

use super::{
    disturbance,
    pods::{ASKS, asking_image},
    removal,
    steps::{IMAGE, SHOP, SYSTEM, apply, condition, ingress, namespace, ready, run_page, service, shown, to_service},
    workloads,
};

/// Who the gateway is, in its pod.
const USER: u32 = 65532;

/// One story, since each part stands on the one before and only one gateway can be installed.
///
/// Proves: SR-1, CH-1, OP-1, OP-2
#[tokio::test]
async fn headgate_is_installed_used_disturbed_and_removed() {
    let (Some(node), Some(docker)) = (Node::shared().await, Docker::shared().await) else {
        return;
    };
    let cluster = node.cluster();
    image_of_the_recipe(node, docker).await;
    asking_image(node, docker).await;
    workloads::images(node, docker).await;
    volume(node).await;
    admin_tokens(cluster).await;
    run_page(cluster, "Install").await;
    namespace(cluster, SHOP).await;

    events_travel_to_a_service_in_a_pod(cluster).await;
    workloads::a_container_source_is_a_pod(cluster).await;
    workloads::an_adapter_is_a_pod_under_its_own_account(cluster).await;
    disturbance::what_was_accepted_outlives_the_pod(cluster).await;
    disturbance::an_upgrade_under_traffic_loses_nothing(cluster).await;
    run_page(cluster, "Uninstall").await;
    removal::nothing_is_left(cluster).await;
    if let Some(helm) = Helm::fetched().await {
        cluster.kubectl(&["delete", "persistentvolume", "headgate-data"]).await;
        volume(node).await;
        removal::the_chart_is_installed_upgraded_and_removed(cluster, &helm).await;
        removal::nothing_is_left(cluster).await;
    }
}

/// The secret of which the page tells: without it the commands in the pod may not even read.
async fn admin_tokens(cluster: &Kubernetes) {
    let namespace = workspace().join("deploy/kustomize/namespace.yaml");
    cluster
        .kubectl(&["apply", "-f", &namespace.display().to_string()])
        .await;
    let tokens = ["--from-literal=token=operate", "--from-literal=read-token=read"];
    let create = ["create", "secret", "generic", "headgate-admin", "-n", SYSTEM];
    cluster.kubectl(&[&create[..], &tokens].concat()).await;
}

/// deploy/Dockerfile.binary, of the binary that all tests are about.
async fn image_of_the_recipe(node: &Node, docker: &Docker) {
    let folder = tempfile::TempDir::with_prefix("headgate-image-").expect("a folder for the image");
    let root = folder.path().join("root");
    let laid_out = Command::new(workspace().join("deploy/rootfs.sh"))
        .arg(headgate())
        .arg(&root)
        .status()
        .await;
    assert!(laid_out.expect("a shell").success());
    docker
        .build(&root, &workspace().join("deploy/Dockerfile.binary"), IMAGE)
        .await;
    let archive = folder.path().join("image.tar");
    docker.save(IMAGE, &archive).await;
    node.load(&archive).await;
}

/// deploy/kubernetes/volume.yaml with this node's name and a folder of it.
async fn volume(node: &Node) {
    let folder = node.volumes().join("gateway");
    std::fs::create_dir_all(&folder).expect("a folder for the volume");
    std::os::unix::fs::chown(&folder, Some(USER), Some(USER)).expect("root gives a folder away");
    let sample = tree::read(&workspace().join("deploy/kubernetes/volume.yaml"));
    let volume = sample
        .replace("/srv/headgate", &folder.display().to_string())
        .replace("NODE", "node");
    node.cluster().kubectl_with(&["apply", "-f", "-"], &volume).await;
}

/// By a hook, by the channel's own name from a pod, and from the cluster itself.
async fn events_travel_to_a_service_in_a_pod(cluster: &Kubernetes) {
    let mut documents = service("audit").to_vec();
    documents.extend([
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "github" }, "stringData": { "secretToken": "hush" } }),
        channel("orders", "embedded"),
        to_service("orders-audit", "orders", "audit"),
        github_source("hello", &["push"], &channel_reference("orders")),
        json!({
            "apiVersion": "sources.eventing.knative.dev/v1alpha1", "kind": "KubernetesEventSource", "metadata": { "name": "happenings" },
            "spec": { "namespace": SHOP, "reasons": ["Opened"], "sink": channel_reference("orders") },
        }),
    ]);
    apply(cluster, documents).await;
    ready(cluster, &["channel/orders", "subscription/orders-audit", "pod/audit"]).await;
    // The source says which right is missing, until it is given by the page's sample.
    condition(cluster, "githubsource/hello", "Ready", |ready| {
        let message = ready["message"].as_str().unwrap_or_default();
        ready["status"] == "False" && message.contains("github")
    })
    .await;
    let access = workspace().join("deploy/kubernetes/secret-access.yaml");
    cluster.kubectl(&["apply", "-f", &access.display().to_string()]).await;
    ready(cluster, &["githubsource/hello"]).await;
    let role = [
        "create",
        "role",
        "headgate-events",
        "-n",
        SHOP,
        "--verb=list,watch",
        "--resource=events",
    ];
    cluster.kubectl(&role).await;
    let account = "--serviceaccount=headgate-system:headgate";
    let binding = [
        "create",
        "rolebinding",
        "headgate-events",
        "-n",
        SHOP,
        "--role=headgate-events",
        account,
    ];
    cluster.kubectl(&binding).await;
    ready(cluster, &["kuberneteseventsource/happenings"]).await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "till-open" }, "reason": "Opened", "type": "Normal",
        "involvedObject": { "apiVersion": "v1", "kind": "Pod", "namespace": SHOP, "name": "till" }, "message": "the till is open",
    });
    apply(cluster, [event]).await;
    let body = br#"{"ref":"refs/heads/main"}"#;
    let delivery = github::delivery("hello", "push", "72d3162e", body, "hush").to("/hooks/shop/hello");
    delivery.send(ingress(cluster).await).await.is(202);

    let asks = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "orders-something" },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "it", "image": ASKS, "command": [
            "/bin/sh", "-c", "until wget -q -O - --header 'ce-specversion: 1.0' --header 'ce-id: from-a-pod' --header 'ce-source: /pod' \
             --header 'ce-type: order' --post-data n=1 \
             http://orders-channel.shop.svc.cluster.local/; do sleep 1; done",
        ] }] },
    });
    apply(cluster, [asks]).await;
    let shown = eventually("all three are at the service", || async {
        let shown = shown(cluster, "audit").await;
        let mut kinds: Vec<&str> = shown.values().filter_map(|(_, event)| event["type"].as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let all = ["dev.knative.k8s.event", "dev.knative.source.github.push", "order"];
        (kinds == all).then_some(shown)
    })
    .await;
    assert_eq!(shown["72d3162e"].1["data"], json!({ "ref": "refs/heads/main" }));
    assert_eq!(shown["from-a-pod"].1["type"], "order");
    // As the page says to look.
    let got = cluster
        .kubectl(&[
            "exec",
            "-n",
            SYSTEM,
            "headgate-0",
            "--",
            "headgate",
            "get",
            "all",
            "-n",
            SHOP,
        ])
        .await;
    assert!(
        got.contains("subscription/orders-audit") && got.contains("True"),
        "{got}"
    );
}
