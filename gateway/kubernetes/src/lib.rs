//! Runs a gateway on Kubernetes. Apart from the adapter for Kubernetes Events, this is the only crate that uses kube.
//!
//! Documents are objects of the API server instead of files. A reflector lists and watches each kind, the store keeps
//! the objects in an index of `spec`, and each change publishes a whole `Spec`, as the file watcher does: the data
//! plane sees no difference. The status that the data plane observes is written back to the objects.
//!
//! An error of the API server becomes a condition or a log line that says what to do. The request is retried, and the
//! gateway keeps running with the documents it has. No code of this crate is on the path of an event.
//!
//! # Lock order
//!
//! A task that holds several locks took them in this order: the reporter's write history, its removal backoff or its
//! definitions, the cache. While the cache is locked (`Cache::with`), no method of [`Observe`] is called.

mod address;
mod cache;
mod channels;
mod checkpoints;
mod client;
mod collection;
mod deletion;
mod events;
mod finalizer;
mod lease;
pub mod placement;
mod reflector;
mod refusal;
mod report;
mod request;
mod status;
mod store;
#[cfg(test)]
mod testing;
pub mod workloads;

use std::sync::Arc;

use parking_lot::Mutex;
use spec::{ObjectKey, Observed, Spec};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use cache::Cache;
pub use checkpoints::{MARK_MAX_BYTES, State, StateError};
pub use client::{Cluster, ConnectError, connect};
use finalizer::FinalizerController;
pub use finalizer::FinalizerGate;
pub use lease::{Contender, Fence, Identity, Turn};
use reflector::Message;
use report::Reporter;
use store::{INBOX, Store};

/// Settings of a gateway in its cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The only namespace whose objects the gateway reads; `None` reads all namespaces.
    pub namespace: Option<String>,
    /// The DNS suffix of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// The gateway's own Service, `NAME.NAMESPACE.svc.DOMAIN`, which the Services of channels alias. `None` creates no
    /// Services.
    pub service: Option<String>,
    /// The gateway's Service is reached over TLS, with a certificate for its own name.
    pub has_tls: bool,
    /// The provisioner of channels that name none, unless a ConfigMap sets another one.
    pub default_provisioner: String,
    /// The gateway's own namespace, which holds its leases and the ConfigMap of default provisioners.
    pub home: String,
}

/// Lets the reporter query the data plane, which this crate does not depend on.
///
/// The reporter and the finalizer controller call it from their tasks, several times a second. Implementations must not
/// block.
pub trait Observe: Send + Sync + 'static {
    /// Returns the generation of the spec that was applied last; 0 before the first.
    fn applied(&self) -> u64;

    /// Returns the observed state, and the spec it was observed of.
    fn observe(&self) -> (Arc<Spec>, Observed);

    /// Returns whether a source runs, or is still deleting its upstream resources.
    fn has(&self, source: &ObjectKey) -> bool;

    /// Returns whether this replica may write the status of an object now. It is called before each write, because a
    /// lease may be lost at any time.
    fn may_write(&self, key: &ObjectKey) -> bool;
}

/// The parts of a gateway that use the API server.
pub struct Kubernetes {
    cluster: Cluster,
    settings: Settings,
    cache: Cache,
    inbox: mpsc::Sender<Message>,
    /// The inbox of the store; [`Kubernetes::watch`] takes it.
    messages: Mutex<Option<mpsc::Receiver<Message>>>,
}

impl Kubernetes {
    /// Sends no request until [`Kubernetes::watch`] or [`Kubernetes::report`] is called.
    pub fn new(cluster: Cluster, settings: Settings) -> Self {
        let (inbox, messages) = mpsc::channel(INBOX);
        Self {
            cluster,
            settings,
            cache: Cache::default(),
            inbox,
            messages: Mutex::new(Some(messages)),
        }
    }

    /// Publishes a spec to `out` whenever a document changes, or an object that a document refers to, until `stop`. A
    /// second call returns at once.
    pub async fn watch(&self, out: watch::Sender<Arc<Spec>>, stop: CancellationToken) {
        let Some(messages) = self.messages.lock().take() else {
            return;
        };
        let (cluster, settings) = (self.cluster.clone(), self.settings.clone());
        let store = Store::new(cluster, settings, self.cache.clone(), self.inbox.clone(), out);
        store.run(messages, stop).await;
    }

    /// Keeps status, Events, finalizers and the Services of channels equal to the observed state, until `stop`.
    pub async fn report(&self, observe: impl Observe, stop: CancellationToken) {
        let observe = Arc::new(observe);
        let finalizer = FinalizerController {
            cluster: self.cluster.clone(),
            cache: self.cache.clone(),
            observe: observe.clone(),
            inbox: self.inbox.clone(),
        };
        let reporter = Reporter {
            cluster: self.cluster.clone(),
            settings: self.settings.clone(),
            cache: self.cache.clone(),
            observe,
            history: Mutex::default(),
            removal_backoff: Mutex::default(),
            event_errors: events::EventErrors::default(),
            definitions: report::Definitions::default(),
        };
        tokio::join!(reporter.run(stop.clone()), finalizer.run(stop));
    }

    /// Creates a candidate for the lease `lease` in the gateway's own namespace. Errors of the lease appear in
    /// [`Kubernetes::troubles`].
    pub fn contender(&self, lease: &str, identity: Identity) -> Contender {
        let (client, cache) = (self.cluster.client.clone(), self.cache.clone());
        Contender::new(client, &self.settings.home, lease, identity, cache)
    }

    /// Returns the gate that a source with a finalizer passes before it runs.
    pub fn finalizer_gate(&self) -> FinalizerGate {
        FinalizerGate::new(self.cache.clone())
    }

    /// Returns the connection to the API server.
    pub fn access(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns what fails at the API server and how to fix it, for `/readyz`.
    pub fn troubles(&self) -> Vec<String> {
        self.cache.with(|cache| cache.troubles.values().cloned().collect())
    }

    /// Returns whether channels, subscriptions and provisioners could be listed. Until then the gateway accepts no
    /// events.
    pub fn is_served(&self) -> bool {
        self.cache.with(|cache| cache.is_served)
    }
}
