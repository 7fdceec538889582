//! Builds the journey from a spec, and takes it down again: `plan` decides, this acts.
//!
//! One task compares specs with what runs and assigns the work; all others read. The work on each channel is a task of its own
//! (`work`), so that a broker that does not answer delays no other channel (CONTRACT CH-2). A part that cannot run is reported as
//! a condition and retried with backoff; it never stops another part (CONTRACT OP-3).

mod admit;
mod apply;
mod backends;
pub(crate) mod collector;
mod observe;
mod plan;
mod readiness;
mod remote;
mod source_states;
mod sources;
mod state;
mod work;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adapter::SourceMetrics;
use channel::Channel;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{ObjectKey, ObjectName, Observed, Spec};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    dead_letters::RedriveCounts,
    ingress::{Ingress, Others},
    inspect::{switches::Switches, tries::Tries},
    journey::outbound::Channels,
    metrics::Metrics,
};
pub(crate) use apply::cursor_name;
pub use backends::{Backends, RouteKind, SourceParts};
pub use readiness::Readiness;
use remote::Remote;
pub use source_states::Identity;
use source_states::SourceStates;
use sources::RunningSource;
pub(crate) use state::{OpenChannel, RunningSubscription, State};
use work::Works;

/// The first wait before an open or a start is retried, doubling up to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A spec counts as applied, and the gateway as ready, after this time at the latest: what takes longer to open is a broker that
/// does not answer, and is reported as degraded. Local channels open in milliseconds.
const OPENING_PATIENCE: Duration = Duration::from_secs(2);

/// After the deadline of a drain the dispatchers have this long to drop what they hold; dropping waits for nothing.
const ABANDON_TIME: Duration = Duration::from_secs(1);

/// Settings of the whole data plane.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--max-body-bytes`.
    pub max_body_bytes: usize,
    /// `--max-hops` (CONTRACT LP).
    pub max_hops: u32,
    /// `http://HOST:PORT` of the ingress listener, no trailing slash: what addresses in status are made of.
    pub ingress_url: String,
    /// Where small state (the pause switches, the checkpoints of sources) is kept; `None` keeps it in memory.
    pub state_dir: Option<PathBuf>,
    /// Whether other machines reach the ingress, so that a channel without publishers is open to them.
    pub is_exposed: bool,
    /// Where all sources send, instead of their channels: for adapters that run alone.
    pub remote: Option<Url>,
}

/// Why a subscription was not paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The spec names no such subscription.
    #[error("subscription {0} not found")]
    NotFound(ObjectName),
    /// The switch works until a restart.
    #[error("the switch is set, but could not be written to disk")]
    NotPersisted(#[from] std::io::Error),
}

/// A cheap handle on the data plane.
#[derive(Clone)]
pub struct Plane(pub(crate) Arc<PlaneInner>);

/// The data plane, as its handles and its tasks share it.
pub(crate) struct PlaneInner {
    pub(crate) settings: Settings,
    pub(crate) backends: Arc<dyn Backends>,
    pub(crate) metrics: Metrics,
    pub(crate) tries: Arc<Tries>,
    pub(crate) ingress: Arc<Ingress>,
    /// For forwarding from channel to channel.
    pub(crate) channels: Channels,
    pub(crate) switches: Switches,
    pub(crate) source_states: SourceStates,
    pub(crate) source_metrics: SourceMetrics,
    pub(crate) remote: Option<Arc<Remote>>,
    pub(crate) runtime: Runtime,
    pub(crate) requests: Requests,
}

/// The parts that run, and how far the newest spec is applied.
#[derive(Default)]
pub(crate) struct Runtime {
    pub(crate) state: Mutex<State>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when draining begins: ends redrives, replays and sources, and stops dispatchers gently.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the grace period of a drain is over: what is in flight is given up.
    pub(crate) abandoning: CancellationToken,
    /// Notified when a dispatcher ended by itself; `State` says which one.
    ended: Notify,
    /// The generation of the spec that was applied last; 0 before the first.
    applied: AtomicU64,
    transitions: Mutex<spec::observed::Transitions>,
}

/// The requests of people that are being served.
pub(crate) struct Requests {
    /// Letters that a redrive delivers now: no other takes them.
    pub(crate) redriving: Mutex<HashSet<(ObjectName, u64)>>,
    /// Redrives that run, and their counts so far.
    pub(crate) redrives: Mutex<Vec<(ObjectName, watch::Receiver<RedriveCounts>)>>,
    /// The right to read a page of letters for a person.
    pub(crate) listing: Semaphore,
    /// Subscriptions that a replay goes to.
    pub(crate) replaying: Mutex<HashSet<ObjectName>>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            redriving: Mutex::default(),
            redrives: Mutex::default(),
            listing: Semaphore::new(1),
            replaying: Mutex::default(),
        }
    }
}

impl Plane {
    /// Trusts requests with these credentials as another replica's: the gateway's own attributes in its events are kept
    /// (CONTRACT LP, DL-6).
    pub fn trust_replicas(&self, user: &str, key: &str) {
        self.0.ingress.trust_replicas(user, key);
    }

    /// Creates a data plane that runs nothing yet.
    ///
    /// # Errors
    /// When the state folder cannot be read, or the URL of `remote` cannot be sent to.
    pub fn new(settings: Settings, backends: Arc<dyn Backends>, registry: &mut Registry) -> std::io::Result<Self> {
        let metrics = Metrics::new(registry);
        let remote = settings.remote.as_ref().map(Remote::new).transpose();
        let shared = Arc::new(PlaneInner {
            ingress: Arc::new(Ingress::new(metrics.clone(), settings.max_body_bytes)),
            switches: Switches::open(settings.state_dir.as_deref())?,
            source_states: SourceStates::open(settings.state_dir.as_deref())?,
            source_metrics: SourceMetrics::registered(registry),
            remote: remote.map_err(std::io::Error::other)?.map(Arc::new),
            settings,
            backends,
            metrics,
            tries: Arc::default(),
            channels: Channels::default(),
            runtime: Runtime::default(),
            requests: Requests::default(),
        });
        registry.register_collector(Box::new(collector::Depths::new(Arc::downgrade(&shared))));
        Ok(Self(shared))
    }

    /// Applies each published spec until `stop`; does not drain. During a drain what is deleted ends, and nothing begins.
    pub async fn run(&self, mut specs: watch::Receiver<Arc<Spec>>, stop: CancellationToken) {
        let mut works = Works::default();
        loop {
            let desired = specs.borrow_and_update().clone();
            // Generation 0 is what a store holds before it has read anything.
            if desired.generation > 0 {
                self.apply(&desired, &mut works).await;
                if works.is_done() {
                    self.0.runtime.applied.store(desired.generation, Ordering::Relaxed);
                    // The first observation dates the transitions.
                    let _ = self.observe();
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = specs.changed() => match changed {
                    Ok(()) => works.retry_now(),
                    Err(_store_ended) => {
                        stop.cancelled().await;
                        return;
                    }
                },
                () = works.changed() => {}
                () = self.0.runtime.ended.notified() => works.restart(),
            }
        }
    }

    /// Refuses new work with 503 from now on, and reports the process as not ready.
    pub fn refuse(&self) {
        self.0.ingress.drain();
    }

    /// Refuses, stops pulling, finishes what is in flight until `deadline`, releases the rest, closes the channels
    /// (CONTRACT OP-1). Returns when everything is closed.
    pub async fn drain(&self, deadline: Instant) {
        self.refuse();
        self.0.runtime.draining.cancel();
        self.0.runtime.tasks.close();
        if tokio::time::timeout_at(deadline, self.0.runtime.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("grace period is over, deliveries in flight are given back to their channels");
            self.0.runtime.abandoning.cancel();
            let _ = tokio::time::timeout(ABANDON_TIME, self.0.runtime.tasks.wait()).await;
        }
        let channels: Vec<_> = self
            .0
            .runtime
            .state
            .lock()
            .channels
            .values()
            .map(|open| open.channel.clone())
            .collect();
        futures_util::future::join_all(channels.iter().map(|channel| channel.close())).await;
    }

    /// The generation of the spec that was applied last, as far as it could be; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.0.runtime.applied.load(Ordering::Relaxed)
    }

    /// Whether a source runs, or is still removing what it created upstream.
    pub fn has(&self, source: &ObjectKey) -> bool {
        let state = self.0.runtime.state.lock();
        state.sources.contains_key(source) || state.leaving.contains_key(source)
    }

    /// The spec that is being applied, or was applied last.
    pub fn spec(&self) -> Arc<Spec> {
        self.0.runtime.state.lock().spec.clone()
    }

    /// The status of every object of the spec, now.
    pub fn observe(&self) -> Observed {
        let observed = observe::observe(&self.0);
        self.0.runtime.transitions.lock().carry(observed)
    }

    /// Publishes which paths other processes serve. `elsewhere` maps a path without its first slash to the base URL of the process,
    /// `None` while that process is down. Every process of `asked` is asked about other paths before they are answered 404; `None`
    /// stands for one that is down.
    pub fn publish_others(&self, elsewhere: HashMap<String, Option<Arc<str>>>, asked: Vec<Option<Arc<str>>>) {
        self.0.ingress.publish_others(Others { elsewhere, asked });
    }

    /// Returns an open channel.
    pub fn channel(&self, name: &ObjectName) -> Option<Arc<dyn Channel>> {
        self.0
            .runtime
            .state
            .lock()
            .channels
            .get(name)
            .map(|open| open.channel.clone())
    }

    /// All open channels, or the one of that name.
    pub(crate) fn open_channels(&self, only: Option<&ObjectName>) -> Vec<(ObjectName, Arc<dyn Channel>)> {
        let state = self.0.runtime.state.lock();
        let open = state
            .channels
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == *name));
        open.map(|(name, open)| (name.clone(), open.channel.clone())).collect()
    }

    /// Pauses a subscription, also across restarts.
    pub async fn pause(&self, subscription: &ObjectName) -> Result<(), SwitchError> {
        self.switch(subscription, true).await
    }

    /// Resumes a paused subscription, also across restarts.
    pub async fn resume(&self, subscription: &ObjectName) -> Result<(), SwitchError> {
        self.switch(subscription, false).await
    }

    async fn switch(&self, subscription: &ObjectName, paused: bool) -> Result<(), SwitchError> {
        if !self
            .0
            .runtime
            .state
            .lock()
            .spec
            .subscriptions
            .contains_key(subscription)
        {
            return Err(SwitchError::NotFound(subscription.clone()));
        }
        let (shared, name) = (self.0.clone(), subscription.clone());
        let written = tokio::task::spawn_blocking(move || shared.switches.set(&name, paused)).await;
        if let Some(running) = self.0.runtime.state.lock().subscriptions.get(subscription) {
            running.context.gate.changed.notify_one();
        }
        match written {
            Ok(written) => Ok(written?),
            Err(ended) => Err(SwitchError::NotPersisted(std::io::Error::other(ended))),
        }
    }

    pub(crate) fn ingress(&self) -> Arc<Ingress> {
        self.0.ingress.clone()
    }
}
