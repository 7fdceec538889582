//! Runs sources: one task each that runs its adapter, again after an error, until the source is edited, deleted or the
//! gateway drains. A source that cannot run is a condition and takes nothing else along (CONTRACT OP-3).

#[cfg(test)]
mod tests;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use adapter::{Adapter, Checkpoint, Counters, Outlet, Report, chain};
use futures_util::FutureExt;
use parking_lot::Mutex;
use spec::{Cause, Kind, ObjectKey, Reason, Spec, model};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::may_return;
use super::{Plane, PlaneInner, RouteKind, SourceParts};
use crate::ingress::{SourceEndpoint, SourceOutlet};

/// An adapter that ended is run again after this, doubling up to the second.
const RESTART_MIN: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(60);

/// After a run of this length the next failure counts as the first.
const HEALTHY: Duration = Duration::from_secs(300);

/// For taking away what a deleted source made upstream: a few requests. More would hold up who creates it again.
const DELETE_TIME: Duration = Duration::from_secs(30);

/// A source that was built, as far as it could be.
pub(crate) struct RunningSource {
    pub(crate) model: Arc<model::Source>,
    /// `None`: it is not called. An error answers 503, so that upstream records a failed delivery.
    pub(crate) hook: Option<Result<Arc<SourceEndpoint>, Cause>>,
    pub(crate) route_kind: RouteKind,
    /// Why it could not be built.
    pub(crate) failure: Option<Cause>,
    /// Whether what it failed for may pass by itself.
    pub(crate) is_worth_retry: bool,
    pub(crate) report: Report,
    /// Its series are shown as long as it is wanted.
    _counters: Arc<Counters>,
    pub(crate) run: Option<Run>,
}

/// An adapter in its task.
pub(crate) struct Run {
    adapter: Arc<dyn Adapter>,
    /// Written out when the run has ended.
    checkpoint: Arc<dyn Checkpoint>,
    pub(crate) stop: CancellationToken,
    done: CancellationToken,
    /// Why it is not running right now.
    pub(crate) ended: Arc<Mutex<Option<Cause>>>,
}

impl Plane {
    /// Builds and starts the source; one of the same key that runs is replaced. False when it is worth another try.
    pub(super) async fn start_source(&self, model: Arc<model::Source>) -> bool {
        let key = model.key.clone();
        let shared = self.0.clone();
        let opened = match shared.backends.identity(&model) {
            Some(identity) => Ok(Ok(identity)),
            None => {
                let (shared, key) = (shared.clone(), key.clone());
                tokio::task::spawn_blocking(move || shared.source_states.of(&key)).await
            }
        };
        let report = Report::new(&key.name.to_string());
        let counters = shared
            .source_metrics
            .counters(key.kind.as_str(), &key.name.namespace, &key.name.name);
        let identity = match opened.map_err(std::io::Error::other).and_then(|opened| opened) {
            Ok(identity) => identity,
            Err(error) => {
                let why = Cause {
                    reason: Reason::DataFolderUnusable,
                    message: format!("the source's state: {error}: check the folder given by --data"),
                };
                tracing::error!(source = %key.name, detail = why.message, "source cannot start, trying again");
                self.replace(RunningSource {
                    is_worth_retry: true,
                    ..unbuilt(model, report, counters, why)
                });
                return false;
            }
        };
        let outlet: Outlet = match &shared.remote {
            Some(remote) => remote.clone(),
            None => Arc::new(SourceOutlet {
                ingress: shared.ingress.clone(),
                channel: model.sink.as_ref().ok().map(ToString::to_string),
            }),
        };
        let given = adapter::Source {
            name: key.name.to_string(),
            uid: identity.uid,
            gateway: identity.gateway,
            outlet,
            checkpoint: identity.checkpoint.clone(),
            report: report.clone(),
            counters: counters.clone(),
        };
        let running = match shared.backends.source(&model, given) {
            Ok(SourceParts {
                hook,
                route_kind,
                adapter,
            }) => RunningSource {
                hook: hook.map(|hook| Ok(Arc::new(SourceEndpoint::new(hook)))),
                route_kind,
                failure: None,
                is_worth_retry: false,
                run: adapter
                    .map(|adapter| Run::new(adapter, identity.checkpoint, shared.runtime.draining.child_token())),
                model,
                report,
                _counters: counters,
            },
            Err(why) => unbuilt(model, report, counters, why),
        };
        self.replace(running);
        true
    }

    fn replace(&self, running: RunningSource) {
        let key = running.model.key.clone();
        let starting = running.run.as_ref().map(|run| {
            (
                run.adapter.clone(),
                run.checkpoint.clone(),
                run.stop.clone(),
                run.done.clone(),
                run.ended.clone(),
            )
        });
        let mut state = self.0.runtime.state.lock();
        let before = state.sources.insert(key.clone(), running);
        let mut before = before.and_then(|before| before.run).map(|run| {
            run.stop.cancel();
            run.done
        });
        if before.is_none() {
            before = state.leaving.remove(&key);
        }
        let Some((adapter, checkpoint, stop, done, ended)) = starting else {
            if let Some(before) = before {
                // The next one of this name waits for the one that is still ending.
                state.leaving.insert(key.clone(), before.clone());
                drop(state);
                let shared = self.0.clone();
                self.0.runtime.tasks.spawn(async move {
                    before.cancelled().await;
                    shared.left(&key);
                });
            }
            return;
        };
        drop(state);
        self.0.runtime.tasks.spawn(async move {
            // One at a time: two would do everything twice.
            if let Some(before) = before {
                before.cancelled().await;
            }
            supervise(&key, &*adapter, &stop, &ended).await;
            if let Err(error) = checkpoint.flush().await {
                tracing::warn!(source = %key.name, error = %chain(&error), "how far a source was read is not saved, some of its events will be repeated");
            }
            done.cancel();
        });
    }

    /// `delete`: the source is gone, and what it made upstream is taken away.
    pub(super) fn stop_source(&self, key: &ObjectKey, is_deleted: bool) {
        let mut state = self.0.runtime.state.lock();
        let Some(source) = state.sources.remove(key) else {
            return;
        };
        let run = source.run;
        if let Some(run) = &run {
            run.stop.cancel();
        }
        let ended = run
            .as_ref()
            .map(|run| run.done.clone())
            .or_else(|| state.leaving.remove(key));
        let left = CancellationToken::new();
        state.leaving.insert(key.clone(), left.clone());
        drop(state);
        let (shared, key) = (self.0.clone(), key.clone());
        self.0.runtime.tasks.spawn(async move {
            if let Some(ended) = ended {
                ended.cancelled().await;
            }
            if is_deleted {
                if let Some(run) = run {
                    delete(&key, &*run.adapter).await;
                }
                shared.source_states.delete(&key).await;
                tracing::info!(source = %key.name, kind = key.kind.as_str(), "source is deleted");
            }
            left.cancel();
            shared.left(&key);
        });
    }

    /// States of sources that were deleted while the gateway was down.
    pub(super) async fn delete_orphan_sources(&self, desired: &Spec) {
        let shared = self.0.clone();
        let stored = tokio::task::spawn_blocking(move || shared.source_states.stored()).await;
        for key in stored.unwrap_or_default() {
            let running = self.0.runtime.state.lock().sources.contains_key(&key);
            let leaving = self.0.runtime.state.lock().leaving.contains_key(&key);
            if running || leaving || desired.sources.contains_key(&key) || may_return(desired, &key) {
                continue;
            }
            // A container is found by its labels and removed (`Backends::desired`).
            if key.kind != Kind::ContainerSource {
                tracing::warn!(
                    source = %key.name, kind = key.kind.as_str(),
                    "source was deleted while the gateway was down: what it made upstream, such as a webhook or a subscription, may still be there"
                );
            }
            self.0.source_states.delete(&key).await;
        }
    }
}

impl PlaneInner {
    /// Forgets a source that has left, unless another of its name is leaving already.
    fn left(&self, key: &ObjectKey) {
        let mut state = self.runtime.state.lock();
        if state.leaving.get(key).is_some_and(CancellationToken::is_cancelled) {
            state.leaving.remove(key);
        }
    }
}

impl Run {
    fn new(adapter: Arc<dyn Adapter>, checkpoint: Arc<dyn Checkpoint>, stop: CancellationToken) -> Self {
        Self {
            adapter,
            checkpoint,
            stop,
            done: CancellationToken::new(),
            ended: Arc::default(),
        }
    }
}

fn unbuilt(model: Arc<model::Source>, report: Report, counters: Arc<Counters>, why: Cause) -> RunningSource {
    let route_kind = RouteKind::of(&model.config);
    RunningSource {
        hook: route_kind.map(|_| Err(why.clone())),
        route_kind: route_kind.unwrap_or_default(),
        failure: Some(why),
        is_worth_retry: false,
        run: None,
        model,
        report,
        _counters: counters,
    }
}

async fn supervise(key: &ObjectKey, adapter: &dyn Adapter, stop: &CancellationToken, ended: &Mutex<Option<Cause>>) {
    let mut wait = RESTART_MIN;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let run = AssertUnwindSafe(adapter.run(stop.clone())).catch_unwind().await;
        if stop.is_cancelled() {
            return;
        }
        let error = match run {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Cause {
                reason: Reason::AdapterEnded,
                message: "the adapter ended although nobody asked it to".to_owned(),
            },
            Err(_) => Cause {
                reason: Reason::AdapterEnded,
                message: "the adapter panicked: please report it with the log's last lines".to_owned(),
            },
        };
        if began.elapsed() >= HEALTHY {
            wait = RESTART_MIN;
        }
        let (reason, detail) = (error.reason.as_str(), &error.message);
        tracing::error!(source = %key.name, kind = key.kind.as_str(), reason, detail, again_in_s = wait.as_secs(), "adapter ended");
        *ended.lock() = Some(error);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RESTART_MAX);
        *ended.lock() = None;
    }
}

async fn delete(key: &ObjectKey, adapter: &dyn Adapter) {
    let deletion = AssertUnwindSafe(adapter.delete()).catch_unwind();
    let problem = match tokio::time::timeout(DELETE_TIME, deletion).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => chain(&error),
        Ok(Err(_)) => "it panicked".to_owned(),
        Err(_) => format!("no answer within {} s", DELETE_TIME.as_secs()),
    };
    tracing::warn!(source = %key.name, kind = key.kind.as_str(), problem, "what a deleted source made upstream could not be taken away");
}
