//! Writes back: the status of each object, Events about it, and the Service of each channel.
//!
//! One loop looks at what the data plane observes and at what the API server has, and sends the difference. Soon after a
//! change, rarely when nothing changes; nothing is written that is there already, so an idle gateway writes nothing. A write
//! that fails is tried again with growing waits, and never holds up another object's.

mod definitions;
mod memory;
mod services;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use spec::{Kind, ObjectKey, ObjectName, Observed, Spec};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Cluster, Observe, Settings, collection, events,
    known::{Facts, Known},
    refusal::{Refusal, Rule},
    request,
    status::{self, Need, UNHURRIED},
};
pub(crate) use definitions::Definitions;
use definitions::dropped;
use memory::digest;
pub(crate) use memory::{Memory, Tries};
use services::{ServiceState, addressed};

/// Requests at once: the API server answers one in some milliseconds, and others need it, too.
const AT_ONCE: usize = 8;

/// Looking costs some milliseconds for thousands of objects: soon after something changed, then less and less often.
const LOOK_SOON: Duration = Duration::from_millis(100);
const LOOK_RARELY: Duration = Duration::from_secs(2);

/// A spec that was just published is given this long to be applied before anything is written of it: most are in
/// milliseconds, and half-way states are nobody's business.
const APPLY_TIME: Duration = Duration::from_secs(2);

pub(crate) struct Reporter<O> {
    pub(crate) cluster: Cluster,
    pub(crate) settings: Settings,
    pub(crate) known: Known,
    pub(crate) observe: Arc<O>,
    pub(crate) memory: Mutex<BTreeMap<ObjectKey, Memory>>,
    /// Of Services whose channel is gone.
    pub(crate) removals: Mutex<BTreeMap<ObjectName, Tries>>,
    pub(crate) events: events::Trouble,
    pub(crate) definitions: Definitions,
}

/// A status to write.
struct Write {
    key: ObjectKey,
    facts: Arc<Facts>,
    wanted: Value,
}

impl<O: Observe> Reporter<O> {
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.report() => {}
        }
    }

    async fn report(&self) {
        let mut changes = self.known.changes();
        let mut pause = LOOK_SOON;
        loop {
            self.settled().await;
            let did = self.round().await;
            pause = if did { LOOK_SOON } else { (pause * 2).min(LOOK_RARELY) };
            if let Ok(Ok(())) = timeout(pause, changes.changed()).await {
                pause = LOOK_SOON;
                // What comes together is one change.
                sleep(LOOK_SOON).await;
            }
        }
    }

    /// Waits for the data plane to have applied what was published, within reason.
    async fn settled(&self) {
        let deadline = Instant::now() + APPLY_TIME;
        loop {
            let (applied, published) = (self.observe.applied(), self.known.with(|known| known.published));
            let patience = applied == 0 || Instant::now() < deadline;
            if applied > 0 && (applied >= published || !patience) {
                return;
            }
            sleep(LOOK_SOON / 5).await;
        }
    }

    /// True when something was sent.
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
        let mut memory = self.memory.lock();
        memory.retain(|key, _| observed.objects.contains_key(key));
        let mut writes = Vec::new();
        for (key, mut status) in observed.objects {
            let Some(facts) = self.known.with(|known| known.objects.get(&key).cloned()) else {
                continue;
            };
            if let Some(state) = services.get(&key.name).filter(|_| key.kind == Kind::Channel) {
                addressed(&mut status, &key.name, state, &self.settings.cluster_domain);
            }
            let generation = spec.objects.get(&key).and_then(|object| object.generation);
            let wanted = status::wanted(&status, generation, &facts.status);
            let memory = memory.get(&key);
            let is_wanted = match status::need(&facts.status, &wanted) {
                Need::Nothing => false,
                Need::Now => true,
                Need::Unhurried => memory
                    .and_then(|memory| memory.at)
                    .is_none_or(|at| at.elapsed() >= UNHURRIED),
            };
            let is_new =
                || memory.is_none_or(|memory| memory.written != Some((digest(&wanted), digest(&facts.status))));
            if !is_wanted || !memory.is_none_or(|memory| memory.status.is_due()) {
                continue;
            }
            let is_cut = memory.is_some_and(|memory| memory.is_cut);
            let is_odd = self.definitions.take_no_status(key.kind) || is_cut && !is_new();
            if is_odd && self.definitions.may_try(key.kind) || !is_odd && is_new() {
                writes.push(Write { key, facts, wanted });
            }
        }
        writes
    }

    async fn write(&self, Write { key, facts, wanted }: Write) {
        if !self.observe.may_write(&key) {
            return;
        }
        let path = collection::path(key.kind.api_version(), key.kind.plural(), &key.name);
        let mut body = json!({
            "apiVersion": key.kind.api_version(), "kind": key.kind.as_str(), "status": wanted,
            // Of this object, and not of one of its name that is made meanwhile.
            "metadata": { "name": key.name.name, "uid": facts.uid },
        });
        if !key.name.namespace.is_empty() {
            body["metadata"]["namespace"] = json!(key.name.namespace);
        }
        let path = format!("{path}/status");
        let mut written = request::apply(&self.cluster.client, &path, &body).await;
        if written.as_ref().is_err_and(Refusal::is_unknown_field) {
            written = request::merge(&self.cluster.client, &path, &body).await;
        }
        let mut is_missed = false;
        let happening = {
            let mut memory = self.memory.lock();
            let memory = memory.entry(key.clone()).or_default();
            memory.at = Some(Instant::now());
            match &written {
                Ok(object) => {
                    let there = object.get("status").cloned().unwrap_or_default();
                    let dropped = dropped(&wanted, &there);
                    self.definitions.wrote(&self.known, key.kind, &dropped);
                    memory.is_cut = !dropped.is_empty();
                    memory.written = Some((digest(&wanted), digest(&there)));
                    memory.status.ended(true);
                    self.known.with(|known| {
                        if let Some(now) = known.objects.get_mut(&key).filter(|now| now.uid == facts.uid) {
                            Arc::make_mut(now).status = there;
                        }
                    });
                    status::happening(&facts.status, &wanted).filter(|happening| memory.may_tell(happening))
                }
                // It was deleted, or made anew: the watch will say so. Or it is there, and its status is not.
                Err(Refusal::NotFound | Refusal::Conflict(_)) => {
                    is_missed = memory.status.has_failed() && written == Err(Refusal::NotFound);
                    memory.status.ended(false);
                    None
                }
                Err(refusal) => {
                    if !memory.status.has_failed() {
                        let (_, trouble) = refused(refusal, &status_rule(&key));
                        tracing::warn!(object = %key, trouble, "cannot write the status, trying again");
                    }
                    memory.status.ended(false);
                    None
                }
            }
        };
        if is_missed && self.definitions.may_try(key.kind) {
            self.definitions
                .missed(&self.cluster.client, &self.known, key.kind)
                .await;
        }
        if let Some(happening) = happening {
            let posted = events::post(&self.cluster.client, &key, &facts.uid, &happening).await;
            self.events.told(&key, posted.err());
        }
    }
}

/// Does this with each, some at once; how many there were.
async fn each<T, F: Future<Output = ()>>(items: Vec<T>, send: impl FnMut(T) -> F) -> usize {
    stream::iter(items).map(send).buffer_unordered(AT_ONCE).count().await
}

fn refused(refusal: &Refusal, rule: &Rule) -> (&'static str, String) {
    match refusal {
        Refusal::Forbidden => ("Forbidden", rule.to_string()),
        refusal => ("ApiServerError", format!("the API server does not take it: {refusal}")),
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
