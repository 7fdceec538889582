//! A real API server with its controllers for the tests of this package, and a namespace with a source for each of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use servers::Kubernetes;
use tokio::sync::OnceCell;

use crate::workloads::Owner;

/// For what takes a second here: a busy machine took 20 s for a start.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct World {
    pub(crate) cluster: &'static Kubernetes,
    pub(crate) namespace: String,
}

impl World {
    /// A namespace of the test's own. `None` when it is to be skipped.
    pub(crate) async fn new() -> Option<Self> {
        static NAMESPACES: AtomicU64 = AtomicU64::new(0);
        static KINDS: OnceCell<()> = OnceCell::const_new();
        let cluster = Kubernetes::shared_with_controllers().await?;
        KINDS
            .get_or_init(|| async {
                cluster.kubectl_with(&["apply", "-f", "-"], &spec::crds()).await;
                let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
                cluster.kubectl(&wait).await;
            })
            .await;
        let namespace = format!("test-{}", NAMESPACES.fetch_add(1, Ordering::Relaxed));
        cluster.kubectl(&["create", "namespace", &namespace]).await;
        Some(Self { cluster, namespace })
    }

    /// A client of one's own, as each process has.
    pub(crate) async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(self.cluster.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.unwrap()).unwrap()
    }

    /// A ContainerSource as a user applies it.
    pub(crate) async fn source(&self, name: &str) -> Owner {
        let document = json!({
            "apiVersion": "sources.eventing.knative.dev/v1alpha1", "kind": "ContainerSource",
            "metadata": {"name": name}, "spec": {"image": "registry.example/beats:1"},
        });
        self.apply(&document).await;
        let uid = self
            .kubectl(&["get", "containersource", name, "-o", "jsonpath={.metadata.uid}"])
            .await;
        Owner {
            api_version: "sources.eventing.knative.dev/v1alpha1".into(),
            kind: "ContainerSource".into(),
            namespace: self.namespace.clone(),
            name: name.into(),
            uid,
        }
    }

    pub(crate) async fn apply(&self, document: &Value) {
        let arguments = ["apply", "--namespace", &self.namespace, "-f", "-"];
        self.cluster.kubectl_with(&arguments, &document.to_string()).await;
    }

    /// As the administrator, in this namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(arguments);
        self.cluster.kubectl(&all).await
    }

    /// All objects of a kind here.
    pub(crate) async fn list(&self, kind: &str) -> Vec<Value> {
        let list = self.kubectl(&["get", kind, "-o", "json"]).await;
        let list: Value = serde_json::from_str(&list).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// `null` when it does not exist, as while an object is being recreated.
    pub(crate) async fn get(&self, kind: &str, name: &str) -> Value {
        let object = self
            .kubectl(&["get", kind, name, "-o", "json", "--ignore-not-found"])
            .await;
        match object.trim() {
            "" => Value::Null,
            object => serde_json::from_str(object).unwrap(),
        }
    }
}

/// Waits until something is there.
///
/// # Panics
/// When it does not come.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut poll: impl FnMut() -> F) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = poll().await {
                return found;
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    });
    found
        .await
        .unwrap_or_else(|_| panic!("it did not come to that: {what}"))
}
