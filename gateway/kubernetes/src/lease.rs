//! One at a time, across replicas: a Lease (coordination.k8s.io) says whose turn it is.
//!
//! Times are on the API server's terms: nobody compares its clock with another's. A challenger takes a lease that it has not
//! seen change for [`DURATION`], by its own clock, from when it first saw it so. A holder believes in its lease for
//! [`HOLDS`] from *before* it asked for the last renewal that was granted, by its own clock, and then has stopped what it
//! did before [`DURATION`] is over. Clocks have to run at the same speed, give or take a fifth; what they show is of no
//! account. A process that was frozen finds [`Turn::is_mine`] false the moment it wakes, for that looks at the clock.
//!
//! Each turn has an epoch, larger than all before it (`leaseTransitions`): what a holder of the past still writes can be
//! told by it and refused (checkpoints.rs).

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    known::Known,
    refusal::{Refusal, Rule},
};

/// How long a holder that is not heard of keeps its lease: the usual 15 s of Kubernetes' own components. Shorter would cost
/// more requests and give a busy API server less time; longer is how long nothing runs after a crash.
pub(crate) const DURATION: Duration = Duration::from_secs(15);

/// How long a holder believes in a renewal. What it does has to have ended when [`DURATION`] is over: adapters end within
/// seconds ([`DURATION`] - [`HOLDS`] is 5 s), and clocks that differ in speed by a fifth are allowed for.
pub(crate) const HOLDS: Duration = Duration::from_secs(10);

/// Three tries in the time a holder believes in its lease.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// One try: a request that takes longer does not help any more.
const TRY_MAX: Duration = Duration::from_secs(3);

/// A lease is written by its contenders; a person who annotates it is not faster than this many tries.
const CONFLICTS_MAX: u32 = 3;

/// How often others look: a lease that was given back is taken within this.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Where whoever holds the lease is reached, as it said itself; this process included.
    pub url: Option<String>,
    epoch: Option<u64>,
}

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This process's own and no other's, unless the one before is certainly dead.
    pub name: String,
    /// By which others reach this process.
    pub url: Option<String>,
    /// Otherwise it only looks on.
    pub contends: bool,
}

/// What a lease that cannot be had is the cause of.
const WITHOUT: &str = "without it nothing is done that is to be done once";

/// Where the holder is reached, on the lease.
const URL: &str = "headgate.dev/url";

/// What is asked before each write: cheap, and true only while the last renewal is believed in.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<Mutex<Option<(u64, Instant)>>>);

impl Fence {
    /// The epoch of the turn this process has right now.
    pub fn epoch(&self) -> Option<u64> {
        let granted = *self.0.lock();
        granted
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(epoch, _)| epoch)
    }

    pub fn is_mine(&self) -> bool {
        self.epoch().is_some()
    }

    pub(crate) fn grant(&self, epoch: u64, asked: Instant) {
        *self.0.lock() = Some((epoch, asked + HOLDS));
    }

    /// Returns when the turn is over, by our own clock; at once when there is none.
    pub async fn lost(&self) {
        while let Some(until) = self.until().filter(|until| Instant::now() < *until) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Returns when it is this process's turn.
    pub async fn gained(&self) {
        while !self.is_mine() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Does `work` while it is this process's turn: it is told to end when the turn is over, by our own clock, and begun again
    /// when the turn comes back. Gives what it came to when it ended by itself or by `stop`; `None`: it was stopped while it
    /// was somebody else's turn.
    pub async fn during<F: Future>(
        &self,
        stop: &CancellationToken,
        work: impl Fn(CancellationToken) -> F,
    ) -> Option<F::Output> {
        loop {
            stop.run_until_cancelled(self.gained()).await?;
            let end = stop.child_token();
            let mut working = std::pin::pin!(work(end.clone()));
            tokio::select! {
                done = &mut working => return Some(done),
                () = self.lost() => {}
            }
            end.cancel();
            working.await;
        }
    }

    fn revoke(&self) {
        *self.0.lock() = None;
    }

    fn until(&self) -> Option<Instant> {
        self.0.lock().map(|(_, until)| until)
    }
}

impl Turn {
    /// The epoch of this process's turn when it was published; ask the [`Fence`] before writing.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }
}

/// Takes part in one lease.
pub struct Contender {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: Identity,
    fence: Fence,
    /// The record of somebody else, and since when it has not changed, by our clock.
    seen: Option<(String, Instant)>,
    /// What was in the way last: logged once, and shown by `/readyz` while it is.
    told: Option<String>,
    known: Known,
}

/// What a look at the lease leads to. Pure.
#[derive(Debug, PartialEq)]
enum Step {
    Create,
    /// It is ours, or free, or its holder was not heard of for too long.
    Take {
        epoch: u64,
    },
    Renew {
        epoch: u64,
    },
    Wait,
}

impl Contender {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: Identity, known: Known) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            fence: Fence::default(),
            seen: None,
            told: None,
            known,
        }
    }

    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Takes the lease when it can, keeps it, and publishes whose turn it is, until `stop`; then gives it back. Whoever
    /// stops this has ended before what needed the lease.
    pub async fn run(mut self, turns: &watch::Sender<Turn>, stop: CancellationToken) {
        loop {
            let begun = Instant::now();
            let looked = tokio::select! {
                () = stop.cancelled() => break,
                looked = tokio::time::timeout(TRY_MAX, self.look()) => looked,
            };
            match looked {
                Ok(Ok(turn)) => {
                    self.heard();
                    // Of a process that was frozen, say.
                    if turn.epoch.is_none() && turns.borrow().epoch.is_some() {
                        tracing::warn!(
                            lease = self.name,
                            identity = self.identity.name,
                            "lease is somebody else's by now: what needs it stops"
                        );
                    }
                    publish(turns, turn);
                }
                Ok(Err(error)) => self.unheard(turns, &error.into()),
                Err(_elapsed) => self.unheard(turns, &Refusal::Unreachable("no answer in time".to_owned())),
            }
            let next = begun + if self.fence.is_mine() { RENEW_EVERY } else { LOOK_EVERY };
            loop {
                // A belief that ends is told at once, whatever else is waited for.
                let ends = self.fence.until().filter(|until| *until < next);
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep_until(ends.unwrap_or(next)) => {}
                }
                if ends.is_none() {
                    break;
                }
                self.lost(turns);
            }
            if stop.is_cancelled() {
                break;
            }
        }
        self.give_back().await;
        publish(turns, Turn::default());
    }

    /// Whoever touches a lease besides (`kubectl annotate`) makes a write fail that would have been right: read and tried again.
    async fn look(&mut self) -> kube::Result<Turn> {
        let mut tries = CONFLICTS_MAX;
        loop {
            tries -= 1;
            match self.look_once().await {
                Err(kube::Error::Api(status)) if status.code == 409 && tries > 0 => {}
                looked => return looked,
            }
        }
    }

    async fn look_once(&mut self) -> kube::Result<Turn> {
        let asked = Instant::now();
        let found = self.api.get_opt(&self.name).await?;
        let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let step = match spec {
            _ if !self.identity.contends => Step::Wait,
            None if found.is_none() => Step::Create,
            None => Step::Take { epoch: 1 },
            Some(spec) => self.step(spec, asked),
        };
        let since = spec.and_then(|spec| spec.acquire_time.clone());
        let metadata = found.as_ref().map(|lease| lease.metadata.clone()).unwrap_or_default();
        let params = PostParams::default();
        let epoch = match step {
            Step::Wait => {
                self.fence.revoke();
                return Ok(Turn {
                    url: found.as_ref().and_then(url),
                    epoch: None,
                });
            }
            Step::Create => {
                self.api.create(&params, &self.lease(metadata, 1, None)).await?;
                1
            }
            // With the version that was read: whoever was faster wins.
            Step::Take { epoch } => {
                let lease = self.lease(metadata, epoch, None);
                self.api.replace(&self.name, &params, &lease).await?;
                epoch
            }
            Step::Renew { epoch } => {
                let lease = self.lease(metadata, epoch, since);
                self.api.replace(&self.name, &params, &lease).await?;
                epoch
            }
        };
        if self.fence.epoch() != Some(epoch) {
            tracing::info!(lease = self.name, identity = self.identity.name, epoch, "lease is held");
        }
        self.seen = None;
        self.fence.grant(epoch, asked);
        Ok(Turn {
            url: self.identity.url.clone(),
            epoch: Some(epoch),
        })
    }

    fn step(&mut self, spec: &LeaseSpec, now: Instant) -> Step {
        let epoch = u64::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0);
        let next = Step::Take { epoch: epoch + 1 };
        match spec.holder_identity.as_deref().filter(|holder| !holder.is_empty()) {
            None => next,
            Some(holder) if holder == self.identity.name => match self.fence.epoch() == Some(epoch) {
                true => Step::Renew { epoch },
                // Of a process before this one, or of a turn we stopped believing in.
                false => next,
            },
            Some(holder) => {
                let renewed = spec
                    .renew_time
                    .as_ref()
                    .map(|time| time.0.to_string())
                    .unwrap_or_default();
                let record = format!("{holder} {epoch} {renewed}");
                let since = match &self.seen {
                    Some((seen, since)) if *seen == record => *since,
                    _ => now,
                };
                self.seen = Some((record, since));
                match now.duration_since(since) >= DURATION {
                    true => next,
                    false => Step::Wait,
                }
            }
        }
    }

    fn lease(&self, metadata: ObjectMeta, epoch: u64, since: Option<MicroTime>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut annotations = metadata.annotations.unwrap_or_default();
        match &self.identity.url {
            Some(url) => drop(annotations.insert(URL.to_owned(), url.clone())),
            None => drop(annotations.remove(URL)),
        }
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                managed_fields: None,
                annotations: Some(annotations),
                ..metadata
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.name.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: since.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: i32::try_from(epoch).ok(),
                ..LeaseSpec::default()
            }),
        }
    }

    fn heard(&mut self) {
        if self.told.take().is_some() {
            tracing::info!(lease = self.name, "lease can be looked at again");
        }
        let trouble = self.trouble();
        self.known.with(|known| known.troubles.remove(&trouble));
    }

    fn unheard(&mut self, turns: &watch::Sender<Turn>, refusal: &Refusal) {
        let is_held = self.fence.is_mine();
        let error = match refusal {
            Refusal::Forbidden => self.rule().to_string(),
            refusal => refusal.to_string(),
        };
        // A single request that fails is nobody's business as long as the lease is held; a right that is gone does not come back.
        if !is_held || refusal.is_final() {
            let (trouble, text) = (
                self.trouble(),
                format!("lease {}/{}: {error}; {WITHOUT}", self.namespace, self.name),
            );
            self.known.with(|known| known.troubles.insert(trouble, text));
        }
        if self.told.as_ref() != Some(&error) {
            tracing::warn!(
                lease = self.name,
                error,
                is_held,
                "lease cannot be looked at, trying again: {WITHOUT}"
            );
            self.told = Some(error);
        }
        if !is_held {
            self.lost(turns);
        }
    }

    /// By which `/readyz` knows what is in the way.
    fn trouble(&self) -> String {
        format!("lease {}", self.name)
    }

    fn rule(&self) -> Rule {
        Rule {
            group: "coordination.k8s.io".to_owned(),
            resource: "leases".to_owned(),
            name: None,
            namespace: Some(self.namespace.clone()),
            verbs: &["get", "create", "update"],
        }
    }

    fn lost(&mut self, turns: &watch::Sender<Turn>) {
        self.fence.revoke();
        if turns.borrow().epoch.is_some() {
            tracing::warn!(
                lease = self.name,
                identity = self.identity.name,
                "lease could not be renewed in time: what needs it stops"
            );
        }
        publish(turns, Turn::default());
    }

    /// So that another need not wait. The epoch stays: the next one is larger.
    async fn give_back(&self) {
        let Some(epoch) = self.fence.epoch() else { return };
        self.fence.revoke();
        let back = async {
            let Some(found) = self.api.get_opt(&self.name).await? else {
                return Ok(());
            };
            let is_ours = found.spec.as_ref().is_some_and(|spec| {
                spec.holder_identity.as_ref() == Some(&self.identity.name)
                    && spec.lease_transitions == i32::try_from(epoch).ok()
            });
            if !is_ours {
                return Ok(());
            }
            let mut lease = self.lease(found.metadata, epoch, None);
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = Some(String::new());
            }
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await
                .map(drop)
        };
        match tokio::time::timeout(TRY_MAX, back).await {
            Ok(Ok(())) => tracing::info!(lease = self.name, "lease is given back"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, %error, "lease cannot be given back, it ends by itself");
            }
            Err(_elapsed) => tracing::warn!(
                lease = self.name,
                "lease cannot be given back in time, it ends by itself"
            ),
        }
    }
}

/// Wakes nobody when nothing has changed.
fn publish(turns: &watch::Sender<Turn>, turn: Turn) {
    turns.send_if_modified(|known| {
        let changed = *known != turn;
        *known = turn;
        changed
    });
}

/// Of a lease that somebody holds.
fn url(lease: &Lease) -> Option<String> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(URL).filter(|_| !holder.is_empty()).cloned()
}
