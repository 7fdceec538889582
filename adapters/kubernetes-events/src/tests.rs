//! Against a real API server: what arrives is what was written, whatever happens in between.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod load;
mod occurrences;
mod restarts;

use std::{
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use adapter::{
    Adapter, Source,
    suite::{Scripted, source},
};
use event::Event;
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use servers::{
    Kubernetes,
    kubernetes::{ADMIN, Setup},
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Config, Identity, KubernetesEvents, RequestObserver, identity::access};

/// For what takes milliseconds here: an API server that starts on a busy machine took 20 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// A namespace of one test, and a client that writes Event objects into it.
struct TestNamespace {
    namespace: String,
    identity: Identity,
    client: Client,
}

impl TestNamespace {
    /// In a cluster: the test's own namespace.
    async fn in_cluster(cluster: &Kubernetes) -> Self {
        static NAMESPACES: AtomicU64 = AtomicU64::new(0);
        let identity = identity(cluster, ADMIN);
        let client = access(&identity).await.unwrap().client;
        let namespace = Self {
            namespace: format!("test-{}", NAMESPACES.fetch_add(1, Ordering::Relaxed)),
            identity,
            client,
        };
        let document = json!({"metadata": {"name": namespace.namespace}});
        namespace.send(Method::POST, "/api/v1/namespaces", &document).await;
        namespace
    }

    /// In the cluster that the tests share.
    async fn shared() -> Option<Self> {
        Some(Self::in_cluster(Kubernetes::shared().await?).await)
    }

    fn config(&self) -> Config {
        Config {
            namespace: Some(self.namespace.clone()),
            identity: self.identity.clone(),
            ..Config::default()
        }
    }

    /// Writes a new Event object about a pod; gives it as the server keeps it.
    async fn create(&self, name: &str, about: &str, reason: &str) -> Value {
        self.send(
            Method::POST,
            &self.events(),
            &object(&self.namespace, name, about, reason),
        )
        .await
    }

    /// The same thing has happened again.
    async fn repeat(&self, name: &str, count: u64) -> Value {
        let path = format!("{}/{name}", self.events());
        let change = json!({"count": count, "lastTimestamp": "2026-11-24T12:34:56Z"});
        self.send(Method::PATCH, &path, &change).await
    }

    fn events(&self) -> String {
        format!("/api/v1/namespaces/{}/events", self.namespace)
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Value {
        let kind = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(body.to_string().into_bytes()).unwrap();
        self.client.request(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.client
            .request_text(Request::get(path).body(Vec::new()).unwrap())
            .await
            .unwrap()
    }
}

fn identity(cluster: &Kubernetes, user: &str) -> Identity {
    Identity {
        kubeconfig: Some(cluster.kubeconfig()),
        context: Some(user.to_owned()),
        observer: RequestObserver::default(),
    }
}

fn object(namespace: &str, name: &str, about: &str, reason: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": about, "uid": format!("uid-of-{about}")},
        "reason": reason, "type": "Warning", "message": "Back-off restarting failed container", "count": 1,
        "firstTimestamp": "2026-11-24T12:00:00Z", "lastTimestamp": "2026-11-24T12:00:00Z",
        "source": {"component": "kubelet", "host": "node-1"},
    })
}

/// A source that runs.
struct Running {
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Running {
    fn start(config: Config, source: &Source) -> Self {
        let stop = CancellationToken::new();
        let (adapter, stopped) = (KubernetesEvents::new(config, source.clone()), stop.clone());
        let ended = tokio::spawn(async move { adapter.run(stopped).await.unwrap() });
        Self { stop, ended }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.ended)
            .await
            .unwrap()
            .unwrap();
    }

    /// As a crash: nothing is saved at the end.
    async fn kill(self) {
        self.ended.abort();
        assert!(self.ended.await.unwrap_err().is_cancelled());
    }
}

/// A sink that takes everything, and its source.
fn sink() -> (Arc<Scripted>, Source) {
    let outlet = Scripted::storing();
    (outlet.clone(), source(outlet))
}

async fn until(what: &str, is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_watching(source: &Source) {
    until("the source watches", || {
        reason(source, "Watching").as_deref() == Some("")
    })
    .await;
}

/// The reason of a condition; empty when it is met.
fn reason(source: &Source, condition: &str) -> Option<String> {
    source
        .report
        .state()
        .conditions
        .get(condition)
        .map(|condition| condition.reason().to_string())
}

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id().to_owned()).collect()
}

/// The id that an object's event has to have.
fn id(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!(
        "{}.{}",
        metadata["uid"].as_str().unwrap(),
        metadata["resourceVersion"].as_str().unwrap()
    )
}

/// Waits until the mark says that this version is stored.
async fn until_saved(source: &Source, object: &Value) {
    let metadata = &object["metadata"];
    let entry = format!("{}:{}", metadata["uid"], metadata["resourceVersion"].as_str().unwrap());
    let start = Instant::now();
    while !String::from_utf8(source.checkpoint.mark().await.unwrap().unwrap_or_default())
        .unwrap()
        .contains(&entry)
    {
        assert!(start.elapsed() < PATIENCE, "waited in vain: the mark holds {entry}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until exactly these have been stored, in any order.
async fn until_stored(outlet: &Scripted, objects: &[Value]) {
    until("the events are stored", || outlet.stored().len() >= objects.len()).await;
    let (mut stored, mut expected) = (ids(&outlet.stored()), objects.iter().map(id).collect::<Vec<_>>());
    stored.sort();
    expected.sort();
    assert_eq!(stored, expected);
}
