//! Writes back to the API server: the status of each object, Events about it, and the Service of each channel.
//!
//! One loop compares the observed state with the cache and sends the difference: soon after a change, rarely when
//! nothing changes. An idle gateway writes nothing. A write that fails is retried with growing delays, and never delays
//! another object.

mod definitions;
mod history;
mod services;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use spec::{Cause, Kind, ObjectKey, ObjectName, Observed, Reason, Spec};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Cluster, Observe, Settings,
    cache::{Cache, CachedObject},
    collection, events,
    refusal::{Refusal, Rule},
    request,
    status::{self, Need, UNHURRIED},
};
pub(crate) use definitions::Definitions;
use definitions::dropped;
use history::digest;
pub(crate) use history::{Backoff, WriteHistory};
use services::{ServiceState, addressed};

/// Concurrent requests: the API server answers one in some milliseconds, and has other clients.
const AT_ONCE: usize = 8;

/// Pause between two rounds: one takes some milliseconds for thousands of objects. It starts short after a change and
/// doubles up to [`POLL_MAX`].
const POLL_MIN: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_secs(2);

/// How long the reporter waits for the data plane to apply a spec that was just published. Most take milliseconds, and
/// a status in between would be wrong.
const APPLY_TIME: Duration = Duration::from_secs(2);

pub(crate) struct Reporter<O> {
    pub(crate) cluster: Cluster,
    pub(crate) settings: Settings,
    pub(crate) cache: Cache,
    pub(crate) observe: Arc<O>,
    pub(crate) history: Mutex<BTreeMap<ObjectKey, WriteHistory>>,
    /// Retries of deleting Services whose channel was deleted.
    pub(crate) removal_backoff: Mutex<BTreeMap<ObjectName, Backoff>>,
    pub(crate) event_errors: events::EventErrors,
    pub(crate) definitions: Definitions,
}

/// A status to write.
struct Write {
    key: ObjectKey,
    cached: Arc<CachedObject>,
    desired: Value,
}

impl<O: Observe> Reporter<O> {
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.report()).await;
    }

    async fn report(&self) {
        let mut changes = self.cache.changes();
        let mut pause = POLL_MIN;
        loop {
            self.wait_until_applied().await;
            let did = self.round().await;
            pause = if did { POLL_MIN } else { (pause * 2).min(POLL_MAX) };
            if let Ok(Ok(())) = timeout(pause, changes.changed()).await {
                pause = POLL_MIN;
                // Changes within this time are one round.
                sleep(POLL_MIN).await;
            }
        }
    }

    /// Waits until the data plane has applied the published spec, for [`APPLY_TIME`] at most.
    async fn wait_until_applied(&self) {
        let deadline = Instant::now() + APPLY_TIME;
        loop {
            let (applied, published) = (self.observe.applied(), self.cache.with(|cache| cache.published));
            let patience = applied == 0 || Instant::now() < deadline;
            if applied > 0 && (applied >= published || !patience) {
                return;
            }
            sleep(POLL_MIN / 5).await;
        }
    }

    /// Sends all differences. Returns whether there were any.
    async fn round(&self) -> bool {
        let (spec, observed) = self.observe.observe();
        let channels = self.services(&spec);
        let applied = each(channels.apply, |(name, uid)| self.apply_service(name, uid)).await;
        let removed = each(channels.remove, |left| self.remove_service(left)).await;
        let writes = self.writes(&spec, observed, &channels.states);
        let written = each(writes, |write| self.write(write)).await;
        applied + removed + written > 0
    }

    fn writes(&self, spec: &Spec, observed: Observed, services: &BTreeMap<ObjectName, ServiceState>) -> Vec<Write> {
        let mut history = self.history.lock();
        history.retain(|key, _| observed.objects.contains_key(key));
        let mut writes = Vec::new();
        for (key, mut status) in observed.objects {
            let Some(cached) = self.cache.with(|cache| cache.objects.get(&key).cloned()) else {
                continue;
            };
            if let Some(state) = services.get(&key.name).filter(|_| key.kind == Kind::Channel) {
                addressed(&mut status, &key.name, state, &self.settings);
            }
            let generation = spec.objects.get(&key).and_then(|object| object.generation);
            let desired = status::desired(&status, generation, &cached.status);
            let history = history.get(&key);
            let is_needed = match status::need(&cached.status, &desired) {
                Need::Nothing => false,
                Need::Now => true,
                Need::Unhurried => history
                    .and_then(|history| history.at)
                    .is_none_or(|at| at.elapsed() >= UNHURRIED),
            };
            let is_new =
                || history.is_none_or(|history| history.written != Some((digest(&desired), digest(&cached.status))));
            if !is_needed || !history.is_none_or(|history| history.status.is_due()) {
                continue;
            }
            let is_cut = history.is_some_and(|history| history.is_cut);
            let is_held_back = self.definitions.take_no_status(key.kind) || is_cut && !is_new();
            if is_held_back && self.definitions.may_try(key.kind) || !is_held_back && is_new() {
                writes.push(Write { key, cached, desired });
            }
        }
        writes
    }

    async fn write(&self, Write { key, cached, desired }: Write) {
        if !self.observe.may_write(&key) {
            return;
        }
        let path = collection::path(key.kind.api_version(), key.kind.plural(), &key.name);
        let mut body = json!({
            "apiVersion": key.kind.api_version(), "kind": key.kind.as_str(), "status": desired,
            // The uid keeps apply from changing another object of the same name.
            "metadata": { "name": key.name.name, "uid": cached.uid },
        });
        if !key.name.namespace.is_empty() {
            body["metadata"]["namespace"] = json!(key.name.namespace);
        }
        let path = format!("{path}/status");
        let mut written = request::apply(&self.cluster.client, &path, &body).await;
        if written.as_ref().is_err_and(Refusal::is_unknown_field) {
            written = request::merge(&self.cluster.client, &path, &body).await;
        }
        let mut is_missing = false;
        let transition = {
            let mut history = self.history.lock();
            let history = history.entry(key.clone()).or_default();
            history.at = Some(Instant::now());
            match &written {
                Ok(object) => {
                    let actual = object.get("status").cloned().unwrap_or_default();
                    let dropped = dropped(&desired, &actual);
                    self.definitions.wrote(&self.cache, key.kind, &dropped);
                    history.is_cut = !dropped.is_empty();
                    history.written = Some((digest(&desired), digest(&actual)));
                    history.status.ended(true);
                    self.cache.with(|cache| {
                        if let Some(now) = cache.objects.get_mut(&key).filter(|now| now.uid == cached.uid) {
                            Arc::make_mut(now).status = actual;
                        }
                    });
                    status::transition(&cached.status, &desired).filter(|transition| history.may_post(transition))
                }
                // It was deleted or recreated, which the watch will report; or it exists and has no status subresource.
                Err(Refusal::NotFound | Refusal::Conflict(_)) => {
                    is_missing = history.status.has_failed() && written == Err(Refusal::NotFound);
                    history.status.ended(false);
                    None
                }
                Err(refusal) => {
                    if !history.status.has_failed() {
                        let trouble = refused(refusal, &status_rule(&key)).message;
                        tracing::warn!(object = %key, trouble, "cannot write the status, trying again");
                    }
                    history.status.ended(false);
                    None
                }
            }
        };
        if is_missing && self.definitions.may_try(key.kind) {
            self.definitions
                .missed(&self.cluster.client, &self.cache, key.kind)
                .await;
        }
        if let Some(transition) = transition {
            let posted = events::post(&self.cluster.client, &key, &cached.uid, &transition).await;
            self.event_errors.note_outcome(&key, posted.err());
        }
    }
}

/// Runs `send` for each item, some concurrently. Returns their number.
async fn each<T, F: Future<Output = ()>>(items: Vec<T>, send: impl FnMut(T) -> F) -> usize {
    stream::iter(items).map(send).buffer_unordered(AT_ONCE).count().await
}

fn refused(refusal: &Refusal, rule: &Rule) -> Cause {
    match refusal {
        Refusal::Forbidden => Cause::new(Reason::Forbidden, rule.to_string()),
        refusal => Cause::new(Reason::ApiServerError, format!("the API server rejects it: {refusal}")),
    }
}

fn status_rule(key: &ObjectKey) -> Rule {
    Rule {
        group: collection::group(key.kind.api_version()).to_owned(),
        resource: format!("{}/status", key.kind.plural()),
        name: None,
        namespace: None,
        verbs: &["patch"],
    }
}
