//! The adapters of sources in a cluster: one keeps a Deployment, the other wraps an adapter of this process.

use std::{sync::Arc, time::Duration};

use adapter::Adapter;
use async_trait::async_trait;
use kubernetes::{
    Fence, FinalizerGate,
    workloads::{DesiredWorkload, Owner, Workloads},
};
use serde_json::Value;
use spec::{Cause, ObjectKey, Reason, Severity, Truth, model};
use tokio_util::sync::CancellationToken;

use super::pod_status;

/// The condition about the workload of a source.
const DEPLOYED: &str = "Deployed";

/// Delay before another try to delete a Deployment that must end first.
const REMOVE_RETRY: Duration = Duration::from_secs(5);

/// Waits until the source has its finalizer. Meanwhile its condition shows the error.
async fn wait_for_finalizer(
    finalizer_gate: &FinalizerGate,
    source: &ObjectKey,
    owner: &Owner,
    report: &adapter::Report,
) {
    let mut was_refused = false;
    let refused = |trouble: &str| {
        was_refused = true;
        report.unmet(DEPLOYED, Reason::FinalizerRefused, trouble);
    };
    finalizer_gate.wait(source, &owner.uid, refused).await;
    if was_refused {
        report.withdraw(DEPLOYED);
    }
}

/// Keeps a source's Deployment and reports its state. A stop leaves the Deployment: its pods run while the gateway
/// restarts, and Kubernetes deletes it with the source.
pub(super) struct InPods {
    pub(super) workloads: Workloads,
    pub(super) desired: DesiredWorkload,
    pub(super) turn: Fence,
    pub(super) source: ObjectKey,
    pub(super) finalizer_gate: FinalizerGate,
    pub(super) given: adapter::Source,
    pub(super) restarts: model::RestartPolicy,
    /// The pod runs one of our adapters, which serves its status.
    pub(super) runs_adapter: bool,
}

impl InPods {
    fn report_status(&self, deployed: &Result<(), Cause>, shown: Option<Value>) {
        let report = &self.given.report;
        report.field("deployment", shown.unwrap_or(Value::Null));
        match deployed {
            Ok(()) => report.met(DEPLOYED),
            Err(Cause { reason, message }) if *reason == Reason::Deploying => {
                report.unknown(DEPLOYED, *reason, message);
            }
            Err(Cause { reason, message }) => report.unmet(DEPLOYED, *reason, message),
        }
    }
}

#[async_trait]
impl Adapter for InPods {
    async fn run(&self, stop: CancellationToken) -> Result<(), Cause> {
        if self.restarts != model::RestartPolicy::Always {
            self.given.report.note(
                "RestartPolicyKept",
                (Truth::False, Severity::Warning),
                Cause::new(
                    Reason::AlwaysRestarted,
                    "pods of a Deployment are always restarted, regardless of restartPolicy: let the program wait when it is done",
                ),
            );
        }
        let wait_for_finalizer = wait_for_finalizer(
            &self.finalizer_gate,
            &self.source,
            &self.desired.owner,
            &self.given.report,
        );
        if stop.run_until_cancelled(wait_for_finalizer).await.is_none() {
            return Ok(());
        }
        let may_write = || self.turn.is_mine();
        let report_status = |deployed: &Result<(), Cause>, shown| self.report_status(deployed, shown);
        let reconciling = self
            .workloads
            .reconcile(&self.desired, may_write, report_status, stop.clone());
        if self.runs_adapter {
            let polling = pod_status::poll(&self.workloads, &self.desired.owner, &self.given.report);
            let _ = tokio::join!(reconciling, stop.run_until_cancelled(polling));
        } else {
            reconciling.await;
        }
        Ok(())
    }
}

/// An adapter in this process. It stops by the clock when the lease is lost, however busy the data plane is.
pub(super) struct InProcess {
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) source: ObjectKey,
    pub(super) finalizer_gate: FinalizerGate,
    pub(super) report: adapter::Report,
    pub(super) owner: Owner,
    pub(super) workloads: Workloads,
    pub(super) turn: Fence,
}

#[async_trait]
impl Adapter for InProcess {
    async fn run(&self, stop: CancellationToken) -> Result<(), Cause> {
        let wait_for_finalizer = wait_for_finalizer(&self.finalizer_gate, &self.source, &self.owner, &self.report);
        if stop.run_until_cancelled(wait_for_finalizer).await.is_none() {
            return Ok(());
        }
        // A pod may be left from when the source named an account: both would send every event twice.
        while let Err(trouble) = stop
            .run_until_cancelled(self.workloads.remove(&self.owner))
            .await
            .unwrap_or(Ok(()))
        {
            tracing::warn!(
                source = %self.source.name,
                reason = trouble.reason.as_str(),
                detail = trouble.message,
                "cannot delete a source's pod, which must end before the source runs in the gateway"
            );
            if stop
                .run_until_cancelled(tokio::time::sleep(REMOVE_RETRY))
                .await
                .is_none()
            {
                break;
            }
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        let run = |end| self.adapter.run(end);
        self.turn.during(&stop, run).await.unwrap_or(Ok(()))
    }

    async fn delete(&self) -> Result<(), Cause> {
        self.adapter.delete().await
    }
}
