//! What turns a gateway into one of Kubernetes: the only part, beside the adapter for Kubernetes Events, that knows kube.
//!
//! Documents are objects of the API server instead of files. Each kind is listed and watched, what comes is kept in a pure
//! index of `spec`, and each change publishes a whole `Spec`, as the watcher of files does: the data plane does not know the
//! difference. What the data plane observes goes back the same way, into the status of the objects.
//!
//! Whatever the API server refuses or does not know becomes a condition or a line of the log that says what to do, and is tried
//! again; the gateway goes on with what it has. Nothing here is in the way of an event.

mod address;
mod channels;
mod checkpoints;
mod client;
mod collection;
mod counted;
mod events;
mod follow;
mod gone;
mod guard;
mod known;
mod lease;
mod refusal;
mod report;
mod request;
pub mod share;
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

pub use checkpoints::{MARK_MAX_BYTES, State, StateError};
pub use client::{Cluster, ConnectError, connect};
pub use counted::Requests;
use follow::Message;
use guard::Guard;
pub use guard::Guarded;
use known::Known;
pub use lease::{Contender, Fence, Identity, Turn};
use report::Reporter;
use store::{INBOX, Store};

/// How a gateway works in its cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The only namespace that is looked at; all of them without one.
    pub namespace: Option<String>,
    /// What names of Services end in.
    pub cluster_domain: String,
    /// The gateway's own Service, `NAME.NAMESPACE.svc.DOMAIN`: what the Services of channels stand for. Without it there are
    /// none.
    pub service: Option<String>,
    /// Of channels that name none, where no ConfigMap says anything else.
    pub default_provisioner: String,
    /// Where the gateway itself lives, its leases and that ConfigMap.
    pub home: String,
}

/// What is asked of the data plane, which this package does not know.
pub trait Observe: Send + Sync + 'static {
    /// The generation of the spec that was applied last; 0 before the first.
    fn applied(&self) -> u64;

    /// What is observed, and of which spec.
    fn observe(&self) -> (Arc<Spec>, Observed);

    /// Whether a source runs, or is still taking away what it made upstream.
    fn has(&self, source: &ObjectKey) -> bool;

    /// Whether it is for this replica to write of an object, right now: asked before each write, for the right may be lost at
    /// any time.
    fn may_write(&self, key: &ObjectKey) -> bool;
}

/// The parts of a gateway that talk to the API server.
pub struct Kubernetes {
    cluster: Cluster,
    settings: Settings,
    known: Known,
    inbox: mpsc::Sender<Message>,
    /// Taken by the one that watches.
    messages: Mutex<Option<mpsc::Receiver<Message>>>,
}

impl Kubernetes {
    pub fn new(cluster: Cluster, settings: Settings) -> Self {
        let (inbox, messages) = mpsc::channel(INBOX);
        Self {
            cluster,
            settings,
            known: Known::default(),
            inbox,
            messages: Mutex::new(Some(messages)),
        }
    }

    /// Publishes a spec whenever one of the documents, or something that they refer to, changes; until `stop`. Once.
    pub async fn watch(&self, out: watch::Sender<Arc<Spec>>, stop: CancellationToken) {
        let Some(messages) = self.messages.lock().take() else {
            return;
        };
        let (cluster, settings) = (self.cluster.clone(), self.settings.clone());
        let store = Store::new(cluster, settings, self.known.clone(), self.inbox.clone(), out);
        store.run(messages, stop).await;
    }

    /// Writes status, Events, finalizers and the Services of channels whenever they are not what is observed; until `stop`.
    pub async fn report(&self, observe: impl Observe, stop: CancellationToken) {
        let observe = Arc::new(observe);
        let guard = Guard {
            cluster: self.cluster.clone(),
            known: self.known.clone(),
            observe: observe.clone(),
            inbox: self.inbox.clone(),
        };
        let reporter = Reporter {
            cluster: self.cluster.clone(),
            settings: self.settings.clone(),
            known: self.known.clone(),
            observe,
            memory: Mutex::default(),
            removals: Mutex::default(),
            events: events::Trouble::default(),
            definitions: report::Definitions::default(),
        };
        tokio::join!(reporter.run(stop.clone()), guard.run(stop));
    }

    /// Takes part in the lease of this name, in the gateway's own namespace; what is in the way of it is among the
    /// [`Kubernetes::troubles`].
    pub fn contender(&self, lease: &str, identity: Identity) -> Contender {
        let (client, known) = (self.cluster.client.clone(), self.known.clone());
        Contender::new(client, &self.settings.home, lease, identity, known)
    }

    /// What sources with a finalizer wait for before they run.
    pub fn guarded(&self) -> Guarded {
        Guarded::new(self.known.clone())
    }

    /// The way to the API server.
    pub fn access(&self) -> &Cluster {
        &self.cluster
    }

    /// What cannot be done at the API server, and what to do about it; for `/readyz`.
    pub fn troubles(&self) -> Vec<String> {
        self.known.with(|known| known.troubles.values().cloned().collect())
    }

    /// Whether channels, subscriptions and provisioners are known: without them nothing can be taken.
    pub fn is_served(&self) -> bool {
        self.known.with(|known| known.is_served)
    }
}
