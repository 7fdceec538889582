//! The kit's node itself: what the other tests here stand on.

use e2e::{Sink, eventually, ports};
use serde_json::json;
use servers::{Docker, Kubernetes, Node};

pub(crate) const ASKS: &str = "localhost/asks:1";

/// An image with busybox that asks its first argument, a URL, again and again.
pub(crate) async fn asking_image(node: &Node, docker: &Docker) {
    let archive = tempfile::NamedTempFile::new().expect("a file for an image");
    docker
        .image(ASKS, r#"while :; do wget -q -O - "$1"; sleep 1; done"#)
        .await;
    docker.save(ASKS, archive.path()).await;
    node.load(archive.path()).await;
}

/// Pods are refused until the controller has made the account that they get.
pub(crate) async fn accounts(cluster: &Kubernetes, namespace: &str) {
    eventually("the account of pods is there", || async {
        let accounts = cluster
            .kubectl(&["get", "serviceaccounts", "-n", namespace, "-o", "name"])
            .await;
        accounts.contains("serviceaccount/default").then_some(())
    })
    .await;
}

/// A pod asks a Service by its name, the Service asks another pod, and that one tells this machine.
#[tokio::test]
async fn pods_find_each_other_by_name_and_reach_this_machine() {
    let (Some(node), Some(docker)) = (Node::shared().await, Docker::shared().await) else {
        return;
    };
    let sink = Sink::at((node.host(), ports::free().port()).into()).await;
    asking_image(node, docker).await;
    let pod = |name: &str, arguments: &[&str]| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": name } },
            "spec": { "containers": [{ "name": "it", "image": ASKS, "args": arguments }], "terminationGracePeriodSeconds": 0 },
        })
    };
    let mut relay = pod("relay", &[]);
    let answer = format!(
        "wget -q -O - http://{}/told >&2; printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello\\n'",
        sink.address()
    );
    relay["spec"]["containers"][0]["command"] = json!([
        "/bin/sh",
        "-c",
        format!("while :; do nc -l -p 8080 -e /bin/sh -c {answer:?}; done")
    ]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "relay" },
        "spec": { "selector": { "app": "relay" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    let list =
        json!({ "apiVersion": "v1", "kind": "List", "items": [relay, service, pod("asks", &["http://relay/"])] });
    let cluster = node.cluster();
    accounts(cluster, "default").await;
    cluster.kubectl_with(&["apply", "-f", "-"], &list.to_string()).await;
    sink.wait_for(1).await;
    eventually("the answer is in the log of the pod that asked", || async {
        cluster.kubectl(&["logs", "asks"]).await.contains("hello").then_some(())
    })
    .await;
    assert_eq!(sink.received()[0].path, "/told");
    cluster.kubectl(&["delete", "pod", "--all", "--now"]).await;
}
