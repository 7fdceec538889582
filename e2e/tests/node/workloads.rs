//! What runs in pods for sources: an image of other people's, and an adapter under an account of its own.

use e2e::{
    binary::workspace,
    documents::{channel, channel_reference, container_source},
    eventually,
};
use serde_json::{Value, json};
use servers::{Docker, Kubernetes, Node};

use super::steps::{IMAGE, SHOP, apply, condition, ready, service, shown, to_service};

const BEATS: &str = "localhost/beats:1";
const ENDS: &str = "localhost/ends:1";

pub(crate) async fn images(node: &Node, docker: &Docker) {
    let beats = r#"n=0
while :; do n=$((n + 1))
  wget -q -O - --header 'ce-specversion: 1.0' --header "ce-id: beat-$n" --header 'ce-source: /beats' --header 'ce-type: beat' \
    --post-data '' "$K_SINK"
  sleep 1
done"#;
    for (image, script) in [(BEATS, beats), (ENDS, "echo 'no such place' >&2; exit 3")] {
        let archive = tempfile::NamedTempFile::new().expect("a file for an image");
        docker.image(image, script).await;
        docker.save(image, archive.path()).await;
        node.load(archive.path()).await;
    }
}

/// Of an image that says nothing of its user: on a cluster it may not be root, unless its source says so.
fn image(name: &str, image: &str) -> Value {
    let mut source = container_source(name, image, &channel_reference("beats"));
    source["spec"]["template"] = json!({ "spec": { "securityContext": { "runAsUser": 65532 } } });
    source
}

/// Its events arrive; one that ends again and again says with which code.
pub(crate) async fn a_container_source_is_a_pod(cluster: &Kubernetes) {
    let mut documents = service("beats").to_vec();
    documents.extend([
        channel("beats", "embedded"),
        to_service("beats", "beats", "beats"),
        image("beats", BEATS),
        image("ends", ENDS),
    ]);
    apply(cluster, documents).await;
    ready(
        cluster,
        &[
            "pod/beats",
            "channel/beats",
            "subscription/beats",
            "containersource/beats",
        ],
    )
    .await;
    eventually("the pod's events arrive", || async {
        shown(cluster, "beats").await.contains_key("beat-3").then_some(())
    })
    .await;
    let ends = condition(cluster, "containersource/ends", "Ready", |ready| {
        ready["reason"] == "CrashLoop"
    })
    .await;
    assert!(
        ends["message"]
            .as_str()
            .is_some_and(|message| message.contains("exit code 3")),
        "{ends}"
    );
}

/// The cluster's own events, read as the account of the sample.
pub(crate) async fn an_adapter_is_a_pod_under_its_own_account(cluster: &Kubernetes) {
    apply(cluster, service("chat")).await;
    let sample = workspace().join("deploy/kubernetes/events-access.yaml");
    cluster.kubectl(&["apply", "-f", &sample.display().to_string()]).await;
    ready(
        cluster,
        &["pod/chat", "subscription/watched", "kuberneteseventsource/watched"],
    )
    .await;
    let pods = cluster.kubectl(&["get", "pods", "-n", SHOP, "-o", "json"]).await;
    let pods: Value = serde_json::from_str(&pods).expect("kubectl prints JSON");
    let of_account = pods["items"].as_array().expect("a list").iter();
    let mut of_account = of_account.filter(|pod| pod["spec"]["serviceAccountName"] == "events-reader");
    let pod = of_account.next().expect("a pod under the account");
    assert_eq!(pod["spec"]["containers"][0]["image"], IMAGE);
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "till-closed" }, "reason": "Closed", "type": "Normal",
        "involvedObject": { "apiVersion": "v1", "kind": "Pod", "namespace": SHOP, "name": "till" }, "message": "the till is closed",
    });
    apply(cluster, [event]).await;
    eventually("the cluster's event is at the service", || async {
        let shown = shown(cluster, "chat").await;
        let mut events = shown.values().map(|(_, event)| event);
        events
            .find(|event| event["type"] == "dev.knative.k8s.event" && event["reason"] == "Closed")
            .map(|_| ())
    })
    .await;
}
