//! Runs sources in pods: applies their Deployments when they differ from the desired ones, watches them, and reports
//! them in the sources' conditions.
//!
//! Each object has its source as owner, so Kubernetes deletes it with the source, whether or not a gateway runs. One
//! watch covers all Deployments with our label, and one their pods. Nothing is written while they are as desired;
//! changes by others are reverted.

mod adapter;
mod apply;
mod desired;
mod live;
mod observe;
mod overlay;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use serde_json::Value;
use spec::{Cause, Reason};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

pub use adapter::{ADMIN_PORT, AdapterWorkload, Mounted, adapter_objects};
pub use desired::{CONTAINER, MANAGED_BY, Owner, SOURCE_UID, Workload, deployment};
use live::Live;
pub use observe::observe;

/// Delays of retries after a failed write: the first one, doubling up to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How often the objects beside a Deployment are compared. The gateway has no right to watch them, because a right to
/// watch some ConfigMaps is a right to read all. Each comparison costs five small requests for each source with an
/// account of its own.
const COMPANIONS_EVERY: Duration = Duration::from_secs(60);

/// How often the pods of a deleted Deployment are checked, besides after each change.
const DELETION_POLL: Duration = Duration::from_secs(5);

/// The desired objects of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredWorkload {
    /// The source.
    pub owner: Owner,
    /// The Deployment, as it is applied.
    pub deployment: Value,
    /// The objects that the Deployment's pods need; applied before it.
    pub companions: Vec<Value>,
}

/// The workloads of all sources. A handle: clones share the state.
#[derive(Clone)]
pub struct Workloads {
    client: Client,
    /// The API server's URL, for messages.
    server: Arc<str>,
    live: Arc<Live>,
    companions_every: Duration,
}

impl Workloads {
    /// Creates a handle for the workloads in `namespace`, or in all. States are unknown until [`Workloads::run`] has
    /// listed them.
    pub fn new(client: Client, server: &str, namespace: Option<&str>) -> Self {
        Self {
            live: Arc::new(Live::new(client.clone(), namespace)),
            client,
            server: server.into(),
            companions_every: COMPANIONS_EVERY,
        }
    }

    /// Watches until `stop`. Errors of the watches are reported by [`Workloads::reconcile`].
    pub async fn run(&self, stop: CancellationToken) {
        // The future is large, and there is only one.
        stop.run_until_cancelled(Box::pin(self.live.watch(&self.server))).await;
    }

    /// Keeps one source's workload as desired until `stop`, and calls `report` when its state changes. A stop leaves
    /// the objects as they are. `may_write` is called before each write: without the right to write it only observes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call applies what is missing.
    pub async fn reconcile(
        &self,
        desired: &DesiredWorkload,
        may_write: impl Fn() -> bool,
        report: impl Fn(&Result<(), Cause>, Option<Value>),
        stop: CancellationToken,
    ) {
        let changed = self.live.changed(&desired.owner.uid);
        let keeping = self.reconcile_until_dropped(desired, may_write, report, &changed);
        stop.run_until_cancelled(keeping).await;
    }

    async fn reconcile_until_dropped(
        &self,
        desired: &DesiredWorkload,
        may_write: impl Fn() -> bool,
        report: impl Fn(&Result<(), Cause>, Option<Value>),
        changed: &Notify,
    ) {
        let mut reconciler = Reconciler {
            workloads: self,
            desired,
            normalized: None,
            companions_due: None,
            wait: RETRY_MIN,
        };
        let mut reported = None;
        loop {
            let (now, again) = reconciler.reconcile_once(&may_write).await;
            if reported.as_ref() != Some(&now) {
                report(&now.0, now.1.clone());
                reported = Some(now);
            }
            let later = async {
                match again {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                () = later => {}
            }
        }
    }

    /// Returns the address of the source's pod, once it has one.
    pub fn pod_address(&self, owner: &Owner) -> Option<String> {
        let (_, pods) = self.live.state(owner).ok()?;
        let living = pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none())?;
        living.status.as_ref()?.pod_ip.clone()
    }

    /// Deletes the objects of a source and waits until none of its pods is left, before an adapter in this process
    /// replaces it. Returns at once if this process may not list workloads: then it has created none.
    ///
    /// # Errors
    ///
    /// The API server refused a deletion. Call it again later.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn remove(&self, owner: &Owner) -> Result<(), Cause> {
        let changed = self.live.changed(&owner.uid);
        loop {
            match self.live.state(owner) {
                Err(unknown) if unknown.reason == Reason::Forbidden => return Ok(()),
                Ok((None, pods)) if pods.is_empty() => return Ok(()),
                Ok((Some(found), _)) if found.metadata.deletion_timestamp.is_none() => {
                    for (api_version, kind) in adapter::COMPANIONS.iter().chain(&[DEPLOYMENT]) {
                        let what = (*api_version, *kind);
                        apply::delete(&self.client, &self.server, what, &owner.namespace, &owner.child()).await?;
                    }
                }
                // It is being deleted, or its state is unknown.
                Ok(_) | Err(_) => {}
            }
            let _ = tokio::time::timeout(DELETION_POLL, changed.notified()).await;
        }
    }
}

const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");

/// The reconciliation of one source.
struct Reconciler<'a> {
    workloads: &'a Workloads,
    desired: &'a DesiredWorkload,
    /// How the API server normalized our fields when we last applied them: `0.5` CPUs become `500m`.
    normalized: Option<Value>,
    /// When the companions are compared next; `None`: at once.
    companions_due: Option<Instant>,
    wait: Duration,
}

impl Reconciler<'_> {
    /// Compares and writes once. Returns the state, the field of the status, and the delay after which to try again
    /// without a change.
    async fn reconcile_once(
        &mut self,
        may_write: impl Fn() -> bool,
    ) -> ((Result<(), Cause>, Option<Value>), Option<Duration>) {
        let live = &self.workloads.live;
        let (found, _) = match live.state(&self.desired.owner) {
            Ok(state) => state,
            Err(unknown) => return ((Err(unknown), None), None),
        };
        if self.has_drifted(found.as_deref()) || self.companions_wait().is_some_and(|wait| wait.is_zero()) {
            if !may_write() {
                let waits = observe::waiting("another replica of the gateway is about to manage the source");
                return ((Err(waits), None), Some(RETRY_MAX));
            }
            if let Err(refused) = self.write(found.as_deref()).await {
                let wait = self.wait;
                self.wait = (wait * 2).min(RETRY_MAX);
                return ((Err(refused), None), Some(wait));
            }
            self.wait = RETRY_MIN;
        }
        match live.state(&self.desired.owner) {
            Ok((Some(deployment), pods)) => {
                let status_field = observe::status_field(&deployment, &pods);
                (
                    (observe(&deployment, &pods), Some(status_field)),
                    self.companions_wait(),
                )
            }
            Ok((None, _)) => {
                let waits = observe::waiting("the source's Deployment is being created");
                ((Err(waits), None), self.companions_wait())
            }
            Err(unknown) => ((Err(unknown), None), None),
        }
    }

    /// Returns the time until the companions are compared; `None` if there are none.
    fn companions_wait(&self) -> Option<Duration> {
        let due = self.companions_due.unwrap_or_else(Instant::now);
        (!self.desired.companions.is_empty()).then(|| due.saturating_duration_since(Instant::now()))
    }

    fn has_drifted(&self, found: Option<&Deployment>) -> bool {
        let Some(found) = found else { return true };
        if found.metadata.deletion_timestamp.is_some() {
            // It is recreated after its deletion.
            return false;
        }
        let desired = &self.desired.deployment;
        let reads = serde_json::to_value(found).unwrap_or_default();
        !overlay::holds(&reads, desired) && self.normalized != Some(overlay::part(&reads, desired))
    }

    async fn write(&mut self, found: Option<&Deployment>) -> Result<(), Cause> {
        let Workloads {
            client, server, live, ..
        } = self.workloads;
        for companion in &self.desired.companions {
            apply::apply_if_different(client, server, companion).await?;
        }
        // Jitter spreads the sources.
        let every = self.workloads.companions_every;
        self.companions_due = Some(Instant::now() + every.mul_f64(rand::random_range(0.8..1.0)));
        if !self.has_drifted(found) {
            return Ok(());
        }
        let applied = apply::deployment(client, server, &self.desired.deployment).await?;
        let reads = serde_json::to_value(&applied).unwrap_or_default();
        self.normalized = Some(overlay::part(&reads, &self.desired.deployment));
        tracing::info!(
            source = format!("{}/{}", self.desired.owner.namespace, self.desired.owner.name),
            deployment = applied.metadata.name,
            generation = applied.metadata.generation,
            "deployment of a source is applied"
        );
        live.put(applied);
        Ok(())
    }
}
