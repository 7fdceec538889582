//! Puts the journey together from a spec, and takes it apart again: `plan` decides, this acts.
//!
//! One task applies specs, one after the other; everybody else reads. A part that cannot run is a condition and is tried
//! again with backoff; it never takes another part along (CONTRACT OP-3).

mod apply;
mod observe;
mod sources;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adapter::{Adapter, Hook, SourceMetrics};
use async_trait::async_trait;
use channel::Channel;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{ObjectKey, ObjectName, Observed, Spec, model};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    collector,
    context::Context,
    dispatcher::{Stop, Switch},
    ingress::{Door, Ingress, Others},
    metrics::Metrics,
    plan::Running,
    remote::Remote,
    route::Channels,
    source_states::{Identity, SourceStates},
    switches::Switches,
    tries::Tries,
};
pub(crate) use apply::cursor_name;
use sources::RunningSource;

/// What could not be opened or started is tried again after this, doubling up to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Dispatchers that ended unexpectedly and wait to be started again: one place for each that a spec could hold would be
/// unbounded; a full queue is caught up with by the next plan.
const ENDED_QUEUE: usize = 64;

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
    /// Where all sources send, instead of their channels: for adapters that run alone.
    pub remote: Option<Url>,
}

/// What the composition provides: the only place where backends and adapters are named.
#[async_trait]
pub trait Backends: Send + Sync + 'static {
    /// Opens the channel, or applies changed settings to it when it is open already (the same instance is returned).
    async fn open(&self, channel: &model::Channel) -> Result<Arc<dyn Channel>, model::Unresolved>;

    /// Makes what a source is made of. Starts nothing, and waits for nothing; an error is tried again with the next spec.
    fn source(&self, source: &model::Source, given: adapter::Source) -> Result<Built, model::Unresolved>;

    /// Who a source is and where its state is kept, where that is not for the data folder to say.
    fn identity(&self, _source: &model::Source) -> Option<Identity> {
        None
    }

    /// Whether a subscription with this uid is certainly gone, by the newest documents there are. Asked before the cursor of one
    /// is forgotten that the spec does not name: where several processes have a channel, another may have made it for a
    /// subscription that this one has not heard of. False as long as nobody can say.
    async fn is_gone(&self, _subscription: &ObjectName, _uid: Option<&str>) -> bool {
        true
    }

    /// A spec is about to be applied. For what sources made upstream and can be found again there by the gateway's id: what
    /// this spec's sources did not make is left over from ones that were deleted while the gateway, or upstream, was down.
    /// Not so while documents cannot be read ([`Spec::incomplete`], and objects that are invalid). Waits for nothing.
    fn wanted(&self, _gateway: &str, _spec: &Spec) {}
}

/// What a source is made of.
#[derive(Default)]
pub struct Built {
    /// For a source that is called: its receiver.
    pub hook: Option<Arc<dyn Hook>>,
    /// Where the receiver is called.
    pub way: Way,
    /// For a source that pulls, or looks after what is upstream.
    pub adapter: Option<Arc<dyn Adapter>>,
}

/// Where a source is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// `/hooks/NAMESPACE/NAME`: with whatever its upstream sends.
    #[default]
    Hooks,
    /// `/sources/NAMESPACE/NAME`: with CloudEvents.
    Sources,
}

/// For `/readyz`.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error("subscription {0} not found")]
    NotFound(ObjectName),
    #[error("the switch is set, but could not be written to disk: {0}")]
    NotPersisted(#[from] std::io::Error),
}

/// A cheap handle on the data plane.
#[derive(Clone)]
pub struct Plane(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
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
    pub(crate) state: Mutex<State>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when draining begins: ends redrives and replays.
    pub(crate) draining: CancellationToken,
    pub(crate) redriving: Mutex<HashSet<(ObjectName, u64)>>,
    /// Subscriptions that a replay goes to.
    pub(crate) replaying: Mutex<HashSet<ObjectName>>,
    ended: (mpsc::Sender<ObjectName>, Mutex<Option<mpsc::Receiver<ObjectName>>>),
    /// The generation of the spec that was applied last; 0 before the first.
    applied: AtomicU64,
    transitions: Mutex<spec::observed::Transitions>,
}

/// What runs. Changed by the applying task alone; locked for moments.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) spec: Arc<Spec>,
    pub(crate) channels: BTreeMap<ObjectName, OpenChannel>,
    pub(crate) subscriptions: BTreeMap<ObjectName, RunningSubscription>,
    pub(crate) sources: BTreeMap<ObjectKey, RunningSource>,
    /// Cancelled when a source that was stopped has ended: one of the same name waits for it.
    pub(crate) leaving: BTreeMap<ObjectKey, CancellationToken>,
    /// Why a wanted channel is not open, or a wanted subscription not started.
    pub(crate) channel_failures: BTreeMap<ObjectName, model::Unresolved>,
    pub(crate) subscription_failures: BTreeMap<ObjectName, model::Unresolved>,
}

pub(crate) struct OpenChannel {
    pub(crate) model: Arc<model::Channel>,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) door: Arc<Door>,
}

pub(crate) struct RunningSubscription {
    pub(crate) model: Arc<model::Subscription>,
    pub(crate) context: Arc<Context>,
    pub(crate) switch: Arc<Switch>,
    pub(crate) stop: Stop,
    /// Cancelled by the dispatcher's task when it has ended.
    pub(crate) done: CancellationToken,
}

impl Plane {
    /// Fails when the state folder cannot be read, or nothing can be sent to `remote`.
    pub fn new(settings: Settings, backends: Arc<dyn Backends>, registry: &mut Registry) -> std::io::Result<Self> {
        let metrics = Metrics::new(registry);
        let remote = settings.remote.as_ref().map(Remote::new).transpose();
        let (sender, receiver) = mpsc::channel(ENDED_QUEUE);
        let shared = Arc::new(Shared {
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
            state: Mutex::default(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            redriving: Mutex::default(),
            replaying: Mutex::default(),
            ended: (sender, Mutex::new(Some(receiver))),
            applied: AtomicU64::new(0),
            transitions: Mutex::default(),
        });
        registry.register_collector(Box::new(collector::Depths::new(Arc::downgrade(&shared))));
        Ok(Self(shared))
    }

    /// Applies each published spec until `stop`; does not drain. Runs once.
    pub async fn run(&self, mut specs: watch::Receiver<Arc<Spec>>, stop: CancellationToken) {
        let Some(mut ended) = self.0.ended.1.lock().take() else {
            return;
        };
        let mut retry = RETRY_MIN;
        loop {
            let wanted = specs.borrow_and_update().clone();
            let mut whole = true;
            // Generation 0 is what a store holds before it has read anything.
            if wanted.generation > 0 {
                let generation = wanted.generation;
                whole = self.apply(wanted).await;
                self.0.applied.store(generation, Ordering::Relaxed);
                // Transitions are dated by whoever looks first.
                let _ = self.observe();
            }
            let again = async {
                match whole {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(retry).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = specs.changed() => match changed {
                    Ok(()) => retry = RETRY_MIN,
                    Err(_store_ended) => {
                        stop.cancelled().await;
                        return;
                    }
                },
                () = again => retry = (retry * 2).min(RETRY_MAX),
                Some(subscription) = ended.recv() => {
                    self.0.state.lock().subscriptions.remove(&subscription);
                    tokio::time::sleep(RETRY_MIN).await;
                }
            }
        }
    }

    /// From now on new work is refused with 503, and readiness says no.
    pub fn refuse(&self) {
        self.0.ingress.drain();
    }

    /// Refuses, stops pulling, finishes what is in flight until `deadline`, releases the rest, closes the channels
    /// (CONTRACT OP-1). Returns when everything is closed.
    pub async fn drain(&self, deadline: Instant) {
        self.refuse();
        self.0.draining.cancel();
        let stops: Vec<Stop> = self
            .0
            .state
            .lock()
            .subscriptions
            .values()
            .map(|running| running.stop.clone())
            .collect();
        stops.iter().for_each(|stop| stop.gently.cancel());
        for source in self.0.state.lock().sources.values() {
            source.run.iter().for_each(|run| run.stop.cancel());
        }
        self.0.tasks.close();
        if tokio::time::timeout_at(deadline, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("grace period is over, deliveries in flight are given back to their channels");
            stops.iter().for_each(|stop| stop.now.cancel());
            let _ = tokio::time::timeout(ABANDON_TIME, self.0.tasks.wait()).await;
        }
        let channels: Vec<_> = self
            .0
            .state
            .lock()
            .channels
            .values()
            .map(|open| open.channel.clone())
            .collect();
        futures_util::future::join_all(channels.iter().map(|channel| channel.close())).await;
    }

    /// Ready once a spec was applied: its channels are open or their conditions say why not.
    pub fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.applied() == 0 {
            reasons.push("documents are not loaded yet".to_owned());
        }
        if self.0.ingress.is_draining() {
            reasons.push("draining".to_owned());
        }
        Readiness {
            ready: reasons.is_empty(),
            reasons,
        }
    }

    /// The generation of the spec that was applied last, as far as it could be; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.0.applied.load(Ordering::Relaxed)
    }

    /// Whether a source runs, or is still taking away what it made upstream.
    pub fn has(&self, source: &ObjectKey) -> bool {
        let state = self.0.state.lock();
        state.sources.contains_key(source) || state.leaving.contains_key(source)
    }

    /// The spec that is being applied, or was applied last.
    pub fn spec(&self) -> Arc<Spec> {
        self.0.state.lock().spec.clone()
    }

    /// The status of every object of the spec, now.
    pub fn observe(&self) -> Observed {
        let observed = observe::observe(&self.0);
        self.0.transitions.lock().carry(observed)
    }

    /// Where requests go that this process has nothing for: `elsewhere` has by their path, without its first slash, the base URL
    /// of who has it, `None` while nobody does. Of other paths each of `asked` is asked before they are said to lead nowhere;
    /// `None` for one that is not there now.
    pub fn publish_others(&self, elsewhere: HashMap<String, Option<Arc<str>>>, asked: Vec<Option<Arc<str>>>) {
        self.0.ingress.publish_others(Others { elsewhere, asked });
    }

    /// An open channel.
    pub fn channel(&self, name: &ObjectName) -> Option<Arc<dyn Channel>> {
        self.0.state.lock().channels.get(name).map(|open| open.channel.clone())
    }

    /// All open channels, or the one of that name.
    pub(crate) fn open_channels(&self, only: Option<&ObjectName>) -> Vec<(ObjectName, Arc<dyn Channel>)> {
        let state = self.0.state.lock();
        let open = state
            .channels
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == *name));
        open.map(|(name, open)| (name.clone(), open.channel.clone())).collect()
    }

    /// The persisted switch of `headgate pause`.
    pub async fn pause(&self, subscription: &ObjectName) -> Result<(), SwitchError> {
        self.switch(subscription, true).await
    }

    pub async fn resume(&self, subscription: &ObjectName) -> Result<(), SwitchError> {
        self.switch(subscription, false).await
    }

    async fn switch(&self, subscription: &ObjectName, paused: bool) -> Result<(), SwitchError> {
        if !self.0.state.lock().spec.subscriptions.contains_key(subscription) {
            return Err(SwitchError::NotFound(subscription.clone()));
        }
        let (shared, name) = (self.0.clone(), subscription.clone());
        let written = tokio::task::spawn_blocking(move || shared.switches.set(&name, paused)).await;
        if let Some(running) = self.0.state.lock().subscriptions.get(subscription) {
            running.context.changed.notify_one();
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

impl State {
    pub(crate) fn running(&self) -> Running {
        Running {
            channels: self
                .channels
                .iter()
                .map(|(name, open)| (name.clone(), open.model.clone()))
                .collect(),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(name, run)| (name.clone(), run.model.clone()))
                .collect(),
            sources: self
                .sources
                .iter()
                .map(|(key, run)| (key.clone(), run.model.clone()))
                .collect(),
        }
    }
}
