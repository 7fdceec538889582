//! Leader election by a Lease (coordination.k8s.io): at most one replica holds it.
//!
//! No replica compares its clock with another's. A candidate takes a lease that it has seen unchanged for
//! [`LEASE_DURATION`] of its own clock. A holder trusts its lease for [`RENEW_DEADLINE`], counted by its own clock from
//! *before* it sent the last renewal that succeeded, and has stopped its work before [`LEASE_DURATION`] is over. Clocks
//! must run at the same speed within a fifth; what they show does not matter. A process that was frozen finds
//! [`Fence::is_mine`] false when it wakes, because that reads the clock.
//!
//! Each term has an epoch, larger than all before it (`leaseTransitions`). Writes of a former holder are recognized by
//! it and refused (checkpoints.rs).

mod decision;
mod fence;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    cache::Cache,
    refusal::{Refusal, Rule},
};
use decision::{Step, Unchanged, decide};
pub use fence::Fence;

/// How long a silent holder keeps its lease: 15 s, as in Kubernetes' own components. A shorter time costs more
/// requests; a longer one extends the outage after a crash.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How long a holder trusts a renewal. Its work must have ended when [`LEASE_DURATION`] is over: adapters stop within
/// seconds (the difference is 5 s), and clocks may differ in speed by a fifth.
pub(crate) const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Three tries before the renew deadline.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Timeout of one try: a later answer no longer helps.
const TRY_MAX: Duration = Duration::from_secs(3);

/// A person who annotates the lease causes fewer conflicts than this.
const CONFLICTS_MAX: u32 = 3;

/// How often candidates poll the lease. A lease that was released is taken within this time.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// The state of the lease, as the candidate publishes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// The URL of the holder, as it wrote it itself; also if this process is the holder.
    pub url: Option<String>,
    /// The key that requests of other replicas carry. Only readers of the lease know it.
    pub key: Option<String>,
    epoch: Option<u64>,
}

/// The identity of a candidate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Unique to this process, unless its predecessor is certainly dead.
    pub name: String,
    /// The URL by which other replicas reach this process.
    pub url: Option<String>,
    /// The key by which this process recognizes requests of other replicas.
    pub key: Option<String>,
    /// False for a process that watches the lease and never takes it.
    pub contends: bool,
}

/// Ends each message about a lease that cannot be read or written.
const WITHOUT: &str = "without it this replica does no work that only one replica may do";

/// Annotation with the holder's URL.
const URL: &str = "headgate.dev/url";

/// Annotation with the holder's key for other replicas.
const KEY: &str = "headgate.dev/key";

impl Turn {
    /// Returns the epoch of this process's term at the time of publication. Check the [`Fence`] before writing.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }
}

/// A candidate for one lease.
pub struct Contender {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: Identity,
    fence: Fence,
    unchanged: Option<Unchanged>,
    /// The last error: logged once, and shown by `/readyz` while it lasts.
    last_error: Option<String>,
    cache: Cache,
}

impl Contender {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: Identity, cache: Cache) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            fence: Fence::default(),
            unchanged: None,
            last_error: None,
            cache,
        }
    }

    /// Returns the fence to check before each write.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Takes the lease when it can, renews it, and publishes its state to `turns` until `stop`; then releases it. Stop
    /// it only after the work that needs the lease has ended.
    pub async fn run(mut self, turns: &watch::Sender<Turn>, stop: CancellationToken) {
        loop {
            let begun = Instant::now();
            let polled = tokio::select! {
                () = stop.cancelled() => break,
                polled = tokio::time::timeout(TRY_MAX, self.poll()) => polled,
            };
            match polled {
                Ok(Ok(turn)) => {
                    self.on_success();
                    // For example after the process was frozen.
                    if turn.epoch.is_none() && turns.borrow().epoch.is_some() {
                        tracing::warn!(
                            lease = self.name,
                            identity = self.identity.name,
                            "another process holds the lease now: work that needs it stops"
                        );
                    }
                    publish(turns, turn);
                }
                Ok(Err(error)) => self.on_failure(turns, &error.into()),
                Err(_elapsed) => self.on_failure(turns, &Refusal::Unreachable("no answer in time".to_owned())),
            }
            let next = begun
                + if self.fence.is_mine() {
                    RENEW_EVERY
                } else {
                    RETRY_PERIOD
                };
            loop {
                // The end of the lease is published at once, before the next poll.
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
        self.release().await;
        publish(turns, Turn::default());
    }

    /// Another writer (`kubectl annotate`) makes a correct write conflict: read the lease and try again.
    async fn poll(&mut self) -> kube::Result<Turn> {
        let mut tries = CONFLICTS_MAX;
        loop {
            tries -= 1;
            match self.poll_once().await {
                Err(kube::Error::Api(status)) if status.code == 409 && tries > 0 => {}
                polled => return polled,
            }
        }
    }

    async fn poll_once(&mut self) -> kube::Result<Turn> {
        let asked = Instant::now();
        let found = self.api.get_opt(&self.name).await?;
        let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let step = match spec {
            _ if !self.identity.contends => Step::Wait,
            None if found.is_none() => Step::Create,
            None => Step::Take { epoch: 1 },
            Some(spec) => {
                let (unchanged, step) = decide(
                    &self.identity.name,
                    self.fence.epoch(),
                    self.unchanged.take(),
                    spec,
                    asked,
                );
                self.unchanged = unchanged;
                step
            }
        };
        let since = spec.and_then(|spec| spec.acquire_time.clone());
        let metadata = found.as_ref().map(|lease| lease.metadata.clone()).unwrap_or_default();
        let params = PostParams::default();
        let epoch = match step {
            Step::Wait => {
                self.fence.revoke();
                return Ok(Turn {
                    url: found.as_ref().and_then(|lease| annotation(lease, URL)),
                    key: found.as_ref().and_then(|lease| annotation(lease, KEY)),
                    epoch: None,
                });
            }
            Step::Create => {
                self.api.create(&params, &self.lease(metadata, 1, None)).await?;
                1
            }
            // The resourceVersion that was read lets the fastest candidate win.
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
            tracing::info!(
                lease = self.name,
                identity = self.identity.name,
                epoch,
                "this replica holds the lease"
            );
        }
        self.unchanged = None;
        self.fence.grant(epoch, asked);
        Ok(Turn {
            url: self.identity.url.clone(),
            key: self.identity.key.clone(),
            epoch: Some(epoch),
        })
    }

    fn lease(&self, metadata: ObjectMeta, epoch: u64, since: Option<MicroTime>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut annotations = metadata.annotations.unwrap_or_default();
        for (name, value) in [(URL, &self.identity.url), (KEY, &self.identity.key)] {
            match value {
                Some(value) => drop(annotations.insert(name.to_owned(), value.clone())),
                None => drop(annotations.remove(name)),
            }
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
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                acquire_time: since.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: i32::try_from(epoch).ok(),
                ..LeaseSpec::default()
            }),
        }
    }

    fn on_success(&mut self) {
        if self.last_error.take().is_some() {
            tracing::info!(lease = self.name, "the lease can be read again");
        }
        let trouble = self.trouble();
        self.cache.with(|cache| cache.troubles.remove(&trouble));
    }

    fn on_failure(&mut self, turns: &watch::Sender<Turn>, refusal: &Refusal) {
        let is_held = self.fence.is_mine();
        let error = match refusal {
            Refusal::Forbidden => self.rule().to_string(),
            refusal => refusal.to_string(),
        };
        // A single failed request does not matter while the lease is held; a missing right does not come back.
        if !is_held || refusal.is_final() {
            let (trouble, text) = (
                self.trouble(),
                format!("lease {}/{}: {error}; {WITHOUT}", self.namespace, self.name),
            );
            self.cache.with(|cache| cache.troubles.insert(trouble, text));
        }
        if self.last_error.as_ref() != Some(&error) {
            tracing::warn!(
                lease = self.name,
                error,
                is_held,
                "cannot read or renew the lease, trying again: {WITHOUT}"
            );
            self.last_error = Some(error);
        }
        if !is_held {
            self.lost(turns);
        }
    }

    /// Returns the key of this error in `/readyz`.
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
                "the lease could not be renewed in time: work that needs it stops"
            );
        }
        publish(turns, Turn::default());
    }

    /// Releases the lease, so that another candidate need not wait. The epoch stays: the next one is larger.
    async fn release(&self) {
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
            Ok(Ok(())) => tracing::info!(lease = self.name, "the lease is released"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, %error, "cannot release the lease, it expires by itself");
            }
            Err(_elapsed) => tracing::warn!(
                lease = self.name,
                "cannot release the lease in time, it expires by itself"
            ),
        }
    }
}

/// Wakes the receivers only if the state has changed.
fn publish(turns: &watch::Sender<Turn>, turn: Turn) {
    turns.send_if_modified(|cache| {
        let changed = *cache != turn;
        *cache = turn;
        changed
    });
}

/// Returns an annotation of a lease that has a holder.
fn annotation(lease: &Lease, name: &str) -> Option<String> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(name).filter(|_| !holder.is_empty()).cloned()
}
