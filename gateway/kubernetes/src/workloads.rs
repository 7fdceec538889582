//! What runs in pods for sources: applied when it drifted from what is wanted, watched, and told in the sources' conditions.
//!
//! Everything made for a source belongs to it by an owner reference, so that deleting the source takes it along whether or
//! not a gateway runs. One watch for all Deployments that carry our label, and one for their pods; nothing is written while
//! the two say what is wanted, however often it is looked at. What somebody else changed is put right.

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
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

pub use adapter::{ADMIN_PORT, AdapterWorkload, Mounted, adapter_objects};
pub use desired::{CONTAINER, MANAGED_BY, Owner, SOURCE_UID, Workload, deployment};
use live::Live;
pub use observe::{Deployed, observe};

/// What could not be written is tried again after this, doubling up to the second.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// What stands beside a Deployment is compared this often with what is wanted: the gateway has no right to watch it, for a right to
/// watch some ConfigMaps is one to read all of them. Five small requests each time, for each source with an account of its own.
const COMPANIONS_EVERY: Duration = Duration::from_secs(60);

/// While a Deployment that has to go is going, its pods are looked at this often, besides whenever one changes.
const GONE_LOOK: Duration = Duration::from_secs(5);

/// What is to be there for one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub owner: Owner,
    pub deployment: Value,
    /// What the Deployment's pods need, applied before it.
    pub companions: Vec<Value>,
}

/// What is known of all workloads. A handle: clones are the same.
#[derive(Clone)]
pub struct Workloads {
    client: Client,
    /// The API server's address, for messages.
    server: Arc<str>,
    live: Arc<Live>,
    companions_every: Duration,
}

impl Workloads {
    /// `namespace`: of this one alone. Nothing is known before [`Workloads::run`].
    pub fn new(client: Client, server: &str, namespace: Option<&str>) -> Self {
        Self {
            live: Arc::new(Live::new(client.clone(), namespace)),
            client,
            server: server.into(),
            companions_every: COMPANIONS_EVERY,
        }
    }

    /// Watches until `stop`. What the watches refuse is told by whoever keeps a workload.
    pub async fn run(&self, stop: CancellationToken) {
        // Large, and there is one of it.
        stop.run_until_cancelled(Box::pin(self.live.watch(&self.server))).await;
    }

    /// Keeps one source's workload as it is wanted until `stop`, and says how it is whenever that changes. A stop leaves
    /// everything as it is. `may_write` is asked before each write: who lost the right to write only looks on.
    pub async fn keep(
        &self,
        wanted: &Wanted,
        may_write: impl Fn() -> bool,
        say: impl Fn(&Deployed, Option<Value>),
        stop: CancellationToken,
    ) {
        let changed = self.live.changed(&wanted.owner.uid);
        let keeping = self.keep_for_ever(wanted, may_write, say, &changed);
        stop.run_until_cancelled(keeping).await;
    }

    async fn keep_for_ever(
        &self,
        wanted: &Wanted,
        may_write: impl Fn() -> bool,
        say: impl Fn(&Deployed, Option<Value>),
        changed: &Notify,
    ) {
        let mut keeper = Keeper {
            workloads: self,
            wanted,
            settled: None,
            companions_due: None,
            wait: AGAIN_MIN,
        };
        let mut said = None;
        loop {
            let (now, again) = keeper.look(&may_write).await;
            if said.as_ref() != Some(&now) {
                say(&now.0, now.1.clone());
                said = Some(now);
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

    /// Where the source's pod is, once it has an address.
    pub fn pod_address(&self, owner: &Owner) -> Option<String> {
        let (_, pods) = self.live.state(owner).ok()?;
        let living = pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none())?;
        living.status.as_ref()?.pod_ip.clone()
    }

    /// Takes away what was made for a source and returns once none of its pods is left: for an adapter that takes its place.
    /// Whoever may not look has made nothing.
    pub async fn remove(&self, owner: &Owner) -> Result<(), Deployed> {
        let changed = self.live.changed(&owner.uid);
        loop {
            match self.live.state(owner) {
                Err(unknown) if unknown.reason == apply::FORBIDDEN => return Ok(()),
                Ok((None, pods)) if pods.is_empty() => return Ok(()),
                Ok((Some(found), _)) if found.metadata.deletion_timestamp.is_none() => {
                    for (api_version, kind) in adapter::COMPANIONS.iter().chain(&[DEPLOYMENT]) {
                        let what = (*api_version, *kind);
                        apply::delete(&self.client, &self.server, what, &owner.namespace, &owner.child()).await?;
                    }
                }
                // It is going, or nobody knows yet.
                Ok(_) | Err(_) => {}
            }
            let _ = tokio::time::timeout(GONE_LOOK, changed.notified()).await;
        }
    }
}

const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");

/// One source's, as long as it is kept.
struct Keeper<'a> {
    workloads: &'a Workloads,
    wanted: &'a Wanted,
    /// How our fields read after we wrote them, where that is otherwise than they were written: `0.5` CPUs read `500m`.
    settled: Option<Value>,
    /// When they are compared next; `None`: at once.
    companions_due: Option<Instant>,
    wait: Duration,
}

impl Keeper<'_> {
    /// How it is now, what status shows of it, and when to look again by oneself.
    async fn look(&mut self, may_write: impl Fn() -> bool) -> ((Deployed, Option<Value>), Option<Duration>) {
        let live = &self.workloads.live;
        let (found, _) = match live.state(&self.wanted.owner) {
            Ok(state) => state,
            Err(unknown) => return ((unknown, None), None),
        };
        if self.has_drifted(found.as_deref()) || self.companions_wait().is_some_and(|wait| wait.is_zero()) {
            if !may_write() {
                let waits = Deployed::waiting("another replica of the gateway is about to look after the source");
                return ((waits, None), Some(AGAIN_MAX));
            }
            if let Err(refused) = self.write(found.as_deref()).await {
                let wait = self.wait;
                self.wait = (wait * 2).min(AGAIN_MAX);
                return ((refused, None), Some(wait));
            }
            self.wait = AGAIN_MIN;
        }
        match live.state(&self.wanted.owner) {
            Ok((Some(deployment), pods)) => {
                let shown = observe::shown(&deployment, &pods);
                ((observe(&deployment, &pods), Some(shown)), self.companions_wait())
            }
            Ok((None, _)) => {
                let waits = Deployed::waiting("the source's Deployment is being made");
                ((waits, None), self.companions_wait())
            }
            Err(unknown) => ((unknown, None), None),
        }
    }

    /// Until they are compared; `None`: there are none.
    fn companions_wait(&self) -> Option<Duration> {
        let due = self.companions_due.unwrap_or_else(Instant::now);
        (!self.wanted.companions.is_empty()).then(|| due.saturating_duration_since(Instant::now()))
    }

    fn has_drifted(&self, found: Option<&Deployment>) -> bool {
        let Some(found) = found else { return true };
        if found.metadata.deletion_timestamp.is_some() {
            // Made again once it is gone.
            return false;
        }
        let wanted = &self.wanted.deployment;
        let reads = serde_json::to_value(found).unwrap_or_default();
        !overlay::holds(&reads, wanted) && self.settled != Some(overlay::part(&reads, wanted))
    }

    async fn write(&mut self, found: Option<&Deployment>) -> Result<(), Deployed> {
        let Workloads {
            client, server, live, ..
        } = self.workloads;
        for companion in &self.wanted.companions {
            apply::where_it_differs(client, server, companion).await?;
        }
        // Not all sources at the same moment.
        let every = self.workloads.companions_every;
        self.companions_due = Some(Instant::now() + every.mul_f64(rand::random_range(0.8..1.0)));
        if !self.has_drifted(found) {
            return Ok(());
        }
        let applied = apply::deployment(client, server, &self.wanted.deployment).await?;
        let reads = serde_json::to_value(&applied).unwrap_or_default();
        self.settled = Some(overlay::part(&reads, &self.wanted.deployment));
        tracing::info!(
            source = format!("{}/{}", self.wanted.owner.namespace, self.wanted.owner.name),
            deployment = applied.metadata.name,
            generation = applied.metadata.generation,
            "deployment of a source is applied"
        );
        live.put(applied);
        Ok(())
    }
}
