//! The work on one channel, in a task of its own: a channel that cannot be opened or reached delays no other (CONTRACT CH-2).
//!
//! A round of `apply` groups its plan by channel. One task a channel does its part in order: stop subscriptions, close, open,
//! start subscriptions. While it runs further changes of that channel wait, and only those. When it ends the next round compares
//! again, so nothing has to be remembered but which channels are busy and which wait for another try.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use spec::{ObjectName, Spec, model};
use tokio::{
    sync::Semaphore,
    task::{Id, JoinSet},
    time::Instant,
};

use super::plan::Plan;
use super::{OPENING_PATIENCE, OpenChannel, Plane, RETRY_MAX, RETRY_MIN, RunningSubscription, State, apply::AT_ONCE};
use crate::metrics::Metrics;

/// The changes to make to one channel, in this order.
pub(super) struct Work {
    pub(super) channel: ObjectName,
    /// Taken out of `State`; true where what only the subscription held is freed (CH-4).
    pub(super) stop: Vec<(RunningSubscription, bool)>,
    pub(super) close: Option<OpenChannel>,
    pub(super) open: Option<Arc<model::Channel>>,
    pub(super) start: Vec<Arc<model::Subscription>>,
}

/// When what failed is tried again, and how long it waited before.
#[derive(Clone, Copy)]
struct Retry {
    at: Instant,
    wait: Duration,
}

impl Retry {
    fn after(before: Option<Self>) -> Self {
        let wait = before.map_or(RETRY_MIN, |before| (before.wait * 2).min(RETRY_MAX));
        Self {
            at: Instant::now() + wait,
            wait,
        }
    }
}

/// The tasks that work, and what waits for its time.
#[derive(Default)]
pub(super) struct Works {
    tasks: JoinSet<bool>,
    /// The channel of each task. A channel has one task at most.
    channels: HashMap<Id, ObjectName>,
    busy: BTreeSet<ObjectName>,
    /// Tasks that ended since the last round, and whether all went well.
    finished: Vec<(ObjectName, bool)>,
    /// Channels that failed.
    retries: BTreeMap<ObjectName, Retry>,
    /// Sources whose state could not be read, and how long they waited for the try that is made now.
    source_retry: Option<Retry>,
    source_waited: Option<Retry>,
    /// Dispatchers that ended are started again at this time.
    restart_at: Option<Instant>,
    /// Turns to open channels, by provisioner: a broker that does not answer must not take the turns of others.
    turns: HashMap<String, Arc<Semaphore>>,
    /// The newest generation seen, and since when.
    generation: Option<(u64, Instant)>,
}

impl Works {
    /// Returns when a round may have something to do: a task ended, or a wait is over. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let now = Instant::now();
        let patience = self.generation.map(|(_, since)| since + OPENING_PATIENCE);
        let waits = self.retries.iter().filter(|(name, _)| !self.busy.contains(*name));
        let due = waits
            .map(|(_, retry)| retry.at)
            .chain(self.source_retry.map(|retry| retry.at))
            .chain(self.restart_at)
            .chain(patience.filter(|at| *at > now && !self.busy.is_empty()))
            .min();
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            Some(ended) = self.tasks.join_next_with_id() => {
                self.ended(ended);
                // Many that end at once are one round.
                while let Some(ended) = self.tasks.try_join_next_with_id() {
                    self.ended(ended);
                }
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, bool), tokio::task::JoinError>) {
        let (id, all_well) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let channel = self.channels.get(&error.id()).map(ToString::to_string);
                tracing::error!(channel, %error, "work on a channel ended unexpectedly, trying again");
                (error.id(), false)
            }
        };
        if let Some(channel) = self.channels.remove(&id) {
            self.busy.remove(&channel);
            self.finished.push((channel, all_well));
        }
    }

    /// Lets events into the channels whose work is done, and takes sources out of `state` that are to be started again now.
    pub(super) fn take_finished(&mut self, state: &mut State) {
        for (name, all_well) in self.finished.drain(..) {
            if let Some(open) = state.channels.get_mut(&name) {
                open.has_cursors = true;
            }
            if all_well {
                self.retries.remove(&name);
            } else {
                let retry = Retry::after(self.retries.get(&name).copied());
                self.retries.insert(name, retry);
            }
        }
        let now = Instant::now();
        self.restart_at.take_if(|at| *at <= now);
        if let Some(retry) = self.source_retry.take_if(|retry| retry.at <= now) {
            self.source_waited = Some(retry);
            state.sources.retain(|_, source| !source.is_worth_retry);
        }
    }

    /// The part of the plan whose channels are neither busy nor waiting for another try. What is stopped or closed is taken out
    /// of `state`, so that it is not found there while it ends.
    pub(super) fn due(&mut self, plan: &Plan, state: &mut State, metrics: &Metrics) -> Vec<Work> {
        let now = Instant::now();
        let is_idle = |channel: &ObjectName| {
            !self.busy.contains(channel) && self.retries.get(channel).is_none_or(|retry| retry.at <= now)
        };
        let mut works = BTreeMap::new();
        for (name, delete) in &plan.stop {
            let running = state.subscriptions.get(name);
            let is_busy = running.is_none_or(|running| self.busy.contains(&running.model.channel));
            if !is_busy && let Some(running) = state.subscriptions.remove(name) {
                if *delete {
                    metrics.remove_subscription(name);
                }
                let work = work_on(&mut works, &running.model.channel);
                work.stop.push((running, *delete));
            }
        }
        for name in plan.close.iter().filter(|name| !self.busy.contains(*name)) {
            if let Some(open) = state.channels.remove(name) {
                metrics.remove_channel(name);
                work_on(&mut works, name).close = Some(open);
            }
        }
        for model in plan.open.iter().filter(|model| is_idle(&model.name)) {
            if !state.channels.contains_key(&model.name) {
                state.opening.entry(model.name.clone()).or_insert(now);
            }
            work_on(&mut works, &model.name).open = Some(model.clone());
        }
        for model in plan.start.iter().filter(|model| is_idle(&model.channel)) {
            // One that still runs on another channel, or that ended and waits, is started in a later round.
            let waits = self.restart_at.is_some();
            let running = state.subscriptions.get(&model.name);
            let still_runs = running.is_some_and(|running| waits || !running.has_ended());
            let opens = works.get(&model.channel).is_some_and(|work: &Work| work.open.is_some());
            if !still_runs && (opens || state.channels.contains_key(&model.channel)) {
                work_on(&mut works, &model.channel).start.push(model.clone());
            }
        }
        // A channel whose wait is over and that has nothing to do is done with it.
        self.retries
            .retain(|name, retry| retry.at > now || self.busy.contains(name) || works.contains_key(name));
        works.into_values().collect()
    }

    pub(super) fn spawn(&mut self, plane: &Plane, work: Work, desired: &Arc<Spec>) {
        let channel = work.channel.clone();
        // Those that no task waits for or holds: provisioners come and go.
        self.turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        let provisioner = work.open.as_ref().and_then(|model| model.provisioner.as_ref().ok());
        let turns = provisioner.map(|provisioner| {
            let turns = self.turns.entry(provisioner.name.clone());
            turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
        });
        let (plane, desired, tracker) = (plane.clone(), desired.clone(), plane.0.runtime.tasks.clone());
        let task = self.tasks.spawn(tracker.track_future(async move {
            let _turn = match &turns {
                // Never closed.
                Some(turns) => turns.acquire().await.ok(),
                None => None,
            };
            plane.work(work, &desired).await
        }));
        self.busy.insert(channel.clone());
        self.channels.insert(task.id(), channel);
    }

    pub(super) fn is_busy(&self, channel: &ObjectName) -> bool {
        self.busy.contains(channel)
    }

    pub(super) fn sources_started(&mut self, all_well: bool) {
        let waited = self.source_waited.take();
        self.source_retry = (!all_well).then(|| Retry::after(waited));
    }

    /// A new spec: what failed may not fail with it.
    pub(super) fn retry_now(&mut self) {
        self.retries.clear();
        self.source_waited = None;
        if let Some(retry) = &mut self.source_retry {
            retry.at = Instant::now();
        }
    }

    /// A dispatcher ended by itself. One that ends at once, again and again, must not spin.
    pub(super) fn restart(&mut self) {
        self.restart_at.get_or_insert(Instant::now() + RETRY_MIN);
    }

    /// Takes note of the generation that is applied; true for a new one.
    pub(super) fn see(&mut self, generation: u64) -> bool {
        let is_new = self.generation.is_none_or(|(seen, _)| seen != generation);
        if is_new {
            self.generation = Some((generation, Instant::now()));
        }
        is_new
    }

    /// Whether the generation counts as applied: no work is left, or what is left takes longer than anybody waits for.
    pub(super) fn is_done(&self) -> bool {
        let is_late = self
            .generation
            .is_some_and(|(_, since)| since.elapsed() >= OPENING_PATIENCE);
        self.busy.is_empty() || is_late
    }
}

fn work_on<'a>(works: &'a mut BTreeMap<ObjectName, Work>, channel: &ObjectName) -> &'a mut Work {
    works.entry(channel.clone()).or_insert_with(|| Work {
        channel: channel.clone(),
        stop: Vec::new(),
        close: None,
        open: None,
        start: Vec::new(),
    })
}
