//! A KubernetesEventSource of the built gateway, against a real API server.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use e2e::{
    Gateway, Sink,
    documents::{channel, channel_reference, channel_with, subscription},
    eventually,
    gateway::{Setup, condition},
    sink::{Received, Response},
};
use serde_json::{Value, json};
use servers::{
    Kubernetes,
    kubernetes::{self, ADMIN},
};

const SOURCE: &str = "kuberneteseventsource";

/// A source of one namespace, its channel, and a subscriber.
fn documents(namespace: &str, channel: Value, sink: &Sink, more: Value) -> Vec<Value> {
    let mut spec = json!({ "namespace": namespace, "sink": channel_reference("events") });
    e2e::documents::merge(&mut spec, more);
    vec![
        channel,
        subscription("all", "events", &sink.url(), json!({})),
        json!({
            "apiVersion": "sources.eventing.knative.dev/v1alpha1", "kind": "KubernetesEventSource",
            "metadata": { "name": "cluster" }, "spec": spec,
        }),
    ]
}

fn as_user(cluster: &Kubernetes, user: &str) -> Setup {
    let kubeconfig = cluster.kubeconfig();
    Gateway::set_up()
        .environment("KUBECONFIG", &kubeconfig.to_string_lossy())
        .environment("HEADGATE_KUBE_CONTEXT", user)
}

/// Writes Event objects and gives the ids that their events must have.
async fn write(cluster: &Kubernetes, namespace: &str, names: impl Iterator<Item = String>) -> BTreeSet<String> {
    let objects: Vec<Value> = names.map(|name| object(namespace, &name)).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    let ids = r#"jsonpath={.metadata.uid}.{.metadata.resourceVersion}{"\n"}"#;
    let made = cluster
        .kubectl_with(&["create", "-f", "-", "-o", ids], &list.to_string())
        .await;
    made.lines().map(str::to_owned).collect()
}

fn object(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "namespace": namespace, "name": name },
        "involvedObject": { "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "web-0", "uid": "u" },
        "reason": "BackOff", "type": "Warning", "message": "Back-off", "count": 1, "source": { "component": "kubelet" },
        "firstTimestamp": "2026-11-24T12:00:00Z", "lastTimestamp": "2026-11-24T12:00:00Z",
    })
}

/// What the only source of a gateway has saved.
fn mark(data: &Path) -> String {
    let sources = fs::read_dir(data.join("sources")).into_iter().flatten().flatten();
    let marks = sources.filter_map(|source| fs::read_to_string(source.path().join("mark")).ok());
    marks.collect()
}

fn names(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |index| format!("{prefix}-{index}"))
}

/// Waits until the sink has exactly these, each once.
async fn arrived(sink: &Sink, expected: &BTreeSet<String>) -> Vec<Received> {
    let received = sink.wait_for(expected.len()).await;
    let ids: BTreeSet<String> = received.iter().map(Received::id).collect();
    assert_eq!(&ids, expected);
    assert_eq!(received.len(), expected.len(), "something was repeated");
    received
}

/// Proves: SR-1, SR-2, SR-3
#[tokio::test]
async fn events_of_a_namespace_arrive_once_although_the_gateway_is_killed() {
    let Some(cluster) = Kubernetes::shared().await else {
        return;
    };
    cluster.kubectl(&["create", "namespace", "killed"]).await;
    let mut expected = write(cluster, "killed", names("before", 3)).await;
    let sink = Sink::start().await;
    let channel = channel("events", "embedded");
    let mut gateway = as_user(cluster, ADMIN)
        .documents(documents("killed", channel, &sink, json!({})))
        .start()
        .await;
    let received = arrived(&sink, &expected).await;
    for (name, value) in [
        ("type", "dev.knative.k8s.event"),
        ("source", "/apis/v1/namespaces/killed/pods/web-0"),
        ("reason", "BackOff"),
        ("eventtype", "Warning"),
        ("kind", "Pod"),
        ("namespace", "killed"),
        ("name", "web-0"),
        ("count", "1"),
        ("time", "2026-11-24T12:00:00Z"),
    ] {
        assert_eq!(received[0].attribute(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(received[0].json()["involvedObject"]["name"], "web-0");
    expected.extend(write(cluster, "killed", names("while-watched", 20)).await);
    arrived(&sink, &expected).await;
    let source = gateway
        .wait_object(SOURCE, "cluster", |object| {
            object["status"]["lastEventTime"].is_string()
        })
        .await;
    for kind in ["Watching", "Ready"] {
        assert_eq!(
            condition(&source, kind).expect("a condition")["status"],
            "True",
            "{kind}: {source}"
        );
    }
    let metrics = gateway.admin_get("/metrics").await.text();
    let stored = r#"headgate_source_events_total{kind="KubernetesEventSource",namespace="default",name="cluster",result="stored"} 23"#;
    assert!(metrics.contains(stored), "{metrics}");
    assert!(metrics.contains("headgate_source_lag_seconds{"), "{metrics}");
    for verb in ["list", "watch"] {
        let asked = format!(r#"headgate_kubernetes_requests_total{{verb="{verb}",resource="events",outcome="ok"}}"#);
        assert!(metrics.contains(&asked), "{metrics}");
    }
    // A kill between storing and saving, some milliseconds, repeats what lies between.
    eventually("all of them are marked", || async {
        let mark = mark(gateway.data());
        let marked = |id: &String| {
            id.split_once('.')
                .is_some_and(|(uid, version)| mark.contains(&format!("\"{uid}\":{version}")))
        };
        expected.iter().all(marked).then_some(())
    })
    .await;
    gateway.kill().await;
    expected.extend(write(cluster, "killed", names("while-down", 20)).await);
    gateway.start_again().await;
    arrived(&sink, &expected).await;
    expected.extend(write(cluster, "killed", names("after", 3)).await);
    arrived(&sink, &expected).await;
    sink.listens_at(expected.len(), Duration::from_millis(500)).await;
}

#[tokio::test]
async fn a_missing_right_is_a_condition_until_it_is_given() {
    let setup = kubernetes::Setup {
        users: vec!["reader".to_owned()],
        ..kubernetes::Setup::default()
    };
    let Some(cluster) = Kubernetes::start(setup).await else {
        return;
    };
    let sink = Sink::start().await;
    let mut gateway = as_user(&cluster, "reader")
        .documents(documents(
            "default",
            channel("events", "memory"),
            &sink,
            json!({ "kinds": ["Pod"] }),
        ))
        .prepare();
    gateway.start_again().await;
    let is_forbidden =
        |object: &Value| condition(object, "Watching").is_some_and(|watching| watching["reason"] == "Forbidden");
    let source = gateway.wait_object(SOURCE, "cluster", is_forbidden).await;
    let message = condition(&source, "Watching").expect("a condition")["message"].to_string();
    for part in ["list", "events", "namespace default"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(
        condition(&source, "Ready").expect("a condition")["status"],
        "False",
        "{source}"
    );
    assert!(!gateway.log().contains(&cluster.token("reader")));
    let verbs = ["create", "role", "reader", "--resource=events", "--verb=list,watch"];
    cluster.kubectl(&verbs).await;
    cluster
        .kubectl(&["create", "rolebinding", "reader", "--role=reader", "--user=reader"])
        .await;
    let expected = write(&cluster, "default", names("seen", 2)).await;
    arrived(&sink, &expected).await;
    gateway.settled().await;
}

/// Proves: SR-5
#[tokio::test]
async fn a_full_channel_holds_the_source_back_and_loses_nothing() {
    let Some(cluster) = Kubernetes::shared().await else {
        return;
    };
    cluster.kubectl(&["create", "namespace", "slow"]).await;
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let small = channel_with("events", "memory", json!({ "arguments": { "capacity": 10 } }));
    let mut documents = documents("slow", small, &sink, json!({}));
    let patience =
        json!({ "spec": { "delivery": { "retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT0.1S" } } });
    e2e::documents::merge(&mut documents[1], patience);
    let gateway = as_user(cluster, ADMIN).documents(documents).start().await;
    let mut expected = BTreeSet::new();
    for round in 0..10 {
        expected.extend(write(cluster, "slow", names(&format!("round-{round}"), 5)).await);
    }
    let is_full = |object: &Value| condition(object, "Accepted").is_some_and(|accepted| accepted["reason"] == "Full");
    gateway.wait_object(SOURCE, "cluster", is_full).await;
    sink.always(Response::status(202));
    eventually("each event was taken", || async {
        let taken: BTreeSet<String> = sink.received().iter().map(Received::id).collect();
        (taken == expected).then_some(())
    })
    .await;
    gateway
        .wait_object(SOURCE, "cluster", |object| {
            condition(object, "Accepted").is_some_and(|accepted| accepted["status"] == "True")
        })
        .await;
}
