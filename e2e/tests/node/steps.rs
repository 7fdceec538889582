//! What the parts of the story do with the cluster.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use e2e::{binary::workspace, documents::subscription, tree};
use serde_json::{Value, json};
use servers::Kubernetes;

use super::pods::accounts;

pub(crate) const IMAGE: &str = "headgate:0.1.0";
pub(crate) const SYSTEM: &str = "headgate-system";
pub(crate) const SHOP: &str = "shop";

/// Runs the commands of a section, as they are in the page.
pub(crate) async fn run_page(cluster: &Kubernetes, section: &str) {
    run_page_in(cluster, section, workspace()).await;
}

/// The same where another version of `deploy/` is.
pub(crate) async fn run_page_in(cluster: &Kubernetes, section: &str, folder: &Path) {
    let page = tree::read(&workspace().join("docs/kubernetes.md"));
    let section = page
        .split("\n## ")
        .find(|part| part.starts_with(&format!("{section}\n")));
    let commands = section.and_then(|text| text.split("```sh\n").nth(1));
    let commands = commands.and_then(|text| text.split("```").next());
    cluster.shell(folder, commands.expect("the section has commands")).await;
}

/// A namespace that takes pods.
pub(crate) async fn namespace(cluster: &Kubernetes, name: &str) {
    cluster.kubectl(&["create", "namespace", name]).await;
    accounts(cluster, name).await;
}

pub(crate) async fn apply(cluster: &Kubernetes, documents: impl IntoIterator<Item = Value>) {
    let items: Vec<Value> = documents.into_iter().collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    cluster
        .kubectl_with(&["apply", "-n", SHOP, "-f", "-"], &list.to_string())
        .await;
}

/// A pod that shows what it gets, and its Service.
pub(crate) fn service(name: &str) -> [Value; 2] {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "sink", "image": IMAGE, "args": ["sink", "--listen", "0.0.0.0:9000", "-o", "json"],
            "readinessProbe": { "tcpSocket": { "port": 9000 }, "periodSeconds": 1 },
        }] },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": 9000 }] },
    });
    [pod, service]
}

pub(crate) fn to_service(name: &str, channel: &str, service: &str) -> Value {
    let mut document = subscription(name, channel, "", json!({}));
    document["spec"]["subscriber"] = json!({ "ref": { "apiVersion": "v1", "kind": "Service", "name": service } });
    document
}

/// How often each event was shown by a pod of [`service`], by id.
pub(crate) async fn shown(cluster: &Kubernetes, pod: &str) -> BTreeMap<String, (usize, Value)> {
    let log = cluster.kubectl(&["logs", "-n", SHOP, pod]).await;
    let mut events: BTreeMap<String, (usize, Value)> = BTreeMap::new();
    for line in log.lines() {
        if let Ok(event) = serde_json::from_str::<Value>(line) {
            let id = event["id"].as_str().expect("an id").to_owned();
            events.entry(id).or_insert((0, event)).0 += 1;
        }
    }
    events
}

pub(crate) async fn ready(cluster: &Kubernetes, objects: &[&str]) {
    let mut arguments = vec!["wait", "-n", SHOP, "--for=condition=Ready", "--timeout=90s"];
    arguments.extend(objects);
    cluster.kubectl(&arguments).await;
}

/// Waits until a condition of an object, which may not have it yet, is as said.
pub(crate) async fn condition(
    cluster: &Kubernetes,
    object: &str,
    kind: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    e2e::eventually(&format!("{object} has the wanted condition {kind}"), || async {
        let object = cluster.kubectl(&["get", object, "-n", SHOP, "-o", "json"]).await;
        let object: Value = serde_json::from_str(&object).expect("kubectl prints JSON");
        let conditions = object["status"]["conditions"].as_array()?.clone();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == kind && wanted(condition))
    })
    .await
}

/// The gateway's Service, as this machine reaches it.
pub(crate) async fn ingress(cluster: &Kubernetes) -> SocketAddr {
    let address = cluster
        .kubectl(&[
            "get",
            "service",
            "headgate",
            "-n",
            SYSTEM,
            "-o",
            "jsonpath={.spec.clusterIP}",
        ])
        .await;
    SocketAddr::new(address.parse().expect("an address"), 80)
}
