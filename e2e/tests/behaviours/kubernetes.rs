//! `headgate run --kubernetes` against a real API server, with kubectl as an operator uses it.

mod anew;
mod conditions;
mod default_channel;
mod definitions;
mod destinations;
mod hooks;
mod hops;
mod many;
mod objects;
mod outages;
mod replicas;
mod rolling;
mod sources;
mod targets;
mod workloads;

use e2e::{
    Gateway, cli,
    gateway::{Setup, condition},
    wait::PATIENCE,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use servers::{Kubernetes, kubernetes::ADMIN};
use tokio::{sync::OnceCell, time::Instant};

/// The gateway's own Service, as its Deployment would name it.
const SERVICE: &str = "headgate.headgate-system.svc.cluster.local";

/// The cluster that most tests share, with our definitions in it. `None` when it is to be skipped.
async fn shared() -> Option<&'static Kubernetes> {
    static READY: OnceCell<()> = OnceCell::const_new();
    let cluster = Kubernetes::shared().await?;
    READY.get_or_init(|| define(cluster)).await;
    Some(cluster)
}

/// Installs the custom resource definitions as the documentation says.
async fn define(cluster: &Kubernetes) {
    let crds = cli::run(&["crds"]).await.exits(0);
    cluster.kubectl_with(&["apply", "-f", "-"], &crds.stdout).await;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
    cluster.kubectl(&established).await;
}

/// A namespace of the test's own, and a gateway that looks at nothing else.
async fn gateway_of(cluster: &Kubernetes, namespace: &str) -> Gateway {
    cluster.kubectl(&["create", "namespace", namespace]).await;
    let mut gateway = settings(cluster, namespace).prepare();
    gateway.start_again().await;
    gateway
}

fn settings(cluster: &Kubernetes, namespace: &str) -> Setup {
    Gateway::set_up()
        .in_cluster(cluster, ADMIN)
        .arguments(&["--namespace", namespace, "--service", SERVICE])
}

/// `kubectl apply -n NAMESPACE -f -`
async fn apply(cluster: &Kubernetes, namespace: &str, documents: &[Value]) {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": documents });
    cluster
        .kubectl_with(&["apply", "-n", namespace, "-f", "-"], &list.to_string())
        .await;
}

/// `kubectl wait`: each of these is so within a minute.
async fn wait_for(cluster: &Kubernetes, namespace: &str, what: &str, objects: &[&str]) {
    let condition = format!("--for={what}");
    let mut arguments = vec!["wait", "-n", namespace, &condition, "--timeout=60s"];
    arguments.extend(objects);
    cluster.kubectl(&arguments).await;
}

async fn ready(cluster: &Kubernetes, namespace: &str, objects: &[&str]) {
    wait_for(cluster, namespace, "condition=Ready", objects).await;
}

/// What `kubectl get -o json` shows once it is as wanted.
async fn object(cluster: &Kubernetes, namespace: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let last = Mutex::new(String::new());
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let shown = ["get", "-n", namespace, name, "-o", "json", "--ignore-not-found"];
        let shown = cluster.kubectl(&shown).await;
        let object = serde_json::from_str(&shown).unwrap_or(Value::Null);
        if wanted(&object) {
            return object;
        }
        *last.lock() = shown;
    }
    panic!("{name} in {namespace} is not as it should be; it is: {}", last.lock())
}

/// Waits until a condition of an object has this reason, and gives its message.
async fn reason(cluster: &Kubernetes, namespace: &str, name: &str, kind: &str, reason: &str) -> String {
    let object = object(cluster, namespace, name, |object| {
        condition(object, kind).is_some_and(|condition| condition["reason"] == reason)
    });
    let message = condition(&object.await, kind).map(|condition| condition["message"].clone());
    message
        .and_then(|message| message.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Waits until kubectl prints all of these.
async fn shows(cluster: &Kubernetes, arguments: &[&str], parts: &[&str]) {
    let start = Instant::now();
    loop {
        let shown = cluster.kubectl(arguments).await;
        match parts.iter().find(|part| !shown.contains(**part)) {
            None => return,
            Some(part) => assert!(start.elapsed() < PATIENCE, "{part} is not in\n{shown}"),
        }
    }
}

/// How many requests the API server has had by its own metrics: those that write, and all.
async fn requests(cluster: &Kubernetes) -> (u64, u64) {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).await;
    let (mut writes, mut all) = (0, 0);
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
    {
        // Leases and the like are the API server's own affair.
        let is_ours = line.contains("knative.dev")
            || line.contains(r#"resource="services""#)
            || line.contains(r#"resource="events""#);
        let count = line
            .rsplit(' ')
            .next()
            .and_then(|count| count.parse::<f64>().ok())
            .unwrap_or_default();
        if !is_ours {
            continue;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of requests"
        )]
        let count = count as u64;
        all += count;
        if ["POST", "PUT", "PATCH", "APPLY", "DELETE"]
            .iter()
            .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
        {
            writes += count;
        }
    }
    (writes, all)
}
