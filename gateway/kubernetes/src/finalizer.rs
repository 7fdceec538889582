//! The finalizer of sources that create something upstream (a webhook, a subscription): it keeps the object until the
//! data plane has deleted the upstream resource. A deletion never hangs: the data plane stops after half a minute, and
//! after [`GIVE_UP`] the controller removes the finalizer in any case.
//!
//! The finalizer must be set before the source creates anything: a source does not run until [`FinalizerGate::wait`]
//! returns.
//!
//! A gateway that starts while such a source is being deleted runs it once more and then deletes it, because it cannot
//! know what the previous process had deleted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::json;
use spec::{Kind, ObjectKey, Reason};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Cluster, Observe,
    cache::{Cache, CachedObject},
    collection::{self, Collection},
    events,
    reflector::{Message, Update},
    refusal::{Refusal, Rule},
    request,
    status::Transition,
};

pub(crate) const FINALIZER: &str = "headgate.dev/upstream";

/// The data plane's half a minute, the end of the source's run before it, and a margin for a busy machine.
const GIVE_UP: Duration = Duration::from_secs(90);

/// The data plane sends no notification, so the controller polls it.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// Delay before a failed change is retried.
const RETRY_AFTER: Duration = Duration::from_secs(15);

/// Returns whether sources of this kind create something upstream.
pub(crate) fn is_guarded(kind: Kind) -> bool {
    matches!(kind, Kind::GitHubSource | Kind::GcpPubSubSource)
}

pub(crate) fn has_finalizer(cached: &CachedObject) -> bool {
    cached.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

/// Holds a source back until it has its finalizer.
#[derive(Clone)]
pub struct FinalizerGate(Cache);

impl FinalizerGate {
    pub(crate) fn new(cache: Cache) -> Self {
        Self(cache)
    }

    /// Waits until the source of this uid has its finalizer; returns at once for kinds that get none. While the API
    /// server refuses the finalizer, `refused` is called with the error and its fix.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait(&self, source: &ObjectKey, uid: &str, mut refused: impl FnMut(&str)) {
        if !is_guarded(source.kind) {
            return;
        }
        // Subscribes before it reads the cache: a change in between is not missed.
        let mut changes = self.0.changes();
        loop {
            let (has_it, trouble) = self.0.with(|cache| {
                let cached = cache.objects.get(source).filter(|cached| cached.uid == uid);
                let trouble = cache.unguarded.get(source).cloned();
                (cached.is_some_and(|cached| has_finalizer(cached)), trouble)
            });
            if has_it {
                return;
            }
            if let Some(trouble) = trouble {
                refused(&trouble);
            }
            // `self` holds the sender, so this cannot fail.
            let _ = changes.changed().await;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    FinalizerController,
    /// The first spec contained the source again; the next one does not.
    DropFromSpec,
    Release,
    GiveUp,
}

/// The state of a source at one moment.
struct Observation {
    was_resumed: bool,
    /// The data plane has applied the spec that was published last.
    is_applied: bool,
    /// The data plane still runs the source, or deletes its upstream resources.
    is_held: bool,
    leaving_for: Duration,
}

fn decide(cached: &CachedObject, observation: &Observation) -> Action {
    match (cached.is_leaving, has_finalizer(cached)) {
        (false, false) => Action::FinalizerController,
        (false, true) | (true, false) => Action::Nothing,
        (true, true) if observation.leaving_for >= GIVE_UP => Action::GiveUp,
        (true, true) if !observation.is_applied => Action::Nothing,
        (true, true) if observation.was_resumed => Action::DropFromSpec,
        (true, true) if observation.is_held => Action::Nothing,
        (true, true) => Action::Release,
    }
}

pub(crate) struct FinalizerController<O> {
    pub(crate) cluster: Cluster,
    pub(crate) cache: Cache,
    pub(crate) observe: Arc<O>,
    pub(crate) inbox: mpsc::Sender<Message>,
}

impl<O: Observe> FinalizerController<O> {
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.control()).await;
    }

    async fn control(&self) {
        let mut changes = self.cache.changes();
        let mut leaving: HashMap<String, Instant> = HashMap::new();
        let mut refused: HashMap<String, Instant> = HashMap::new();
        loop {
            let now = Instant::now();
            refused.retain(|_, at| now < *at + RETRY_AFTER);
            let actions = self.actions(&mut leaving, now);
            for (key, cached, action) in actions {
                if refused.contains_key(&cached.uid) {
                    continue;
                }
                if let Err(refusal) = self.carry_out(&key, &cached, action).await {
                    let trouble = trouble(&key, &refusal);
                    tracing::warn!(source = %key, trouble, "cannot change a source's finalizer, trying again");
                    self.cache.with(|cache| cache.unguarded.insert(key.clone(), trouble));
                    self.cache.notify();
                    refused.insert(cached.uid.clone(), now);
                }
            }
            // The actions are decided again, after a change or a timeout.
            let _ = timeout(POLL_EVERY, changes.changed()).await;
        }
    }

    fn actions(
        &self,
        leaving: &mut HashMap<String, Instant>,
        now: Instant,
    ) -> Vec<(ObjectKey, Arc<CachedObject>, Action)> {
        let applied = self.observe.applied();
        // The data plane is asked without the lock of the cache.
        let (guarded, published) = self.cache.with(|cache| {
            let guarded = cache.objects.iter().filter(|(key, _)| is_guarded(key.kind));
            let guarded = guarded.map(|(key, object)| (key.clone(), object.clone(), cache.resumed.contains(key)));
            (guarded.collect::<Vec<_>>(), cache.published)
        });
        leaving.retain(|uid, _| {
            guarded
                .iter()
                .any(|(_, object, _)| object.uid == *uid && object.is_leaving)
        });
        let mut actions = Vec::new();
        for (key, object, was_resumed) in guarded {
            let since = object
                .is_leaving
                .then(|| *leaving.entry(object.uid.clone()).or_insert(now));
            let observation = Observation {
                was_resumed,
                is_applied: applied > 0 && applied >= published,
                is_held: self.observe.has(&key),
                leaving_for: since.map_or(Duration::ZERO, |since| now - since),
            };
            let action = decide(&object, &observation);
            // `DropFromSpec` concerns this process alone: it needs no right to write.
            let is_due = match action {
                Action::Nothing => false,
                Action::DropFromSpec => true,
                _ => self.observe.may_write(&key),
            };
            if is_due {
                actions.push((key, object, action));
            }
        }
        actions
    }

    async fn carry_out(&self, key: &ObjectKey, cached: &CachedObject, action: Action) -> Result<(), Refusal> {
        match action {
            Action::Nothing => Ok(()),
            Action::FinalizerController => self.set_finalizers(key, cached, &[FINALIZER]).await,
            Action::DropFromSpec => {
                let collection = Collection::Kind(key.kind);
                let update = Update::DropFromSpec(key.clone());
                // A send fails only when the gateway stops.
                let _ = self.inbox.send(Message { collection, update }).await;
                Ok(())
            }
            Action::Release => self.set_finalizers(key, cached, &[]).await,
            Action::GiveUp => {
                let note = format!(
                    "its finalizer was removed although it may have resources upstream, because deleting them took longer than {} s: delete them by hand",
                    GIVE_UP.as_secs()
                );
                tracing::warn!(source = %key, note, "giving up on deleting a source's upstream resources");
                let transition = Transition {
                    is_warning: true,
                    reason: Reason::UpstreamLeft.as_str().to_owned(),
                    note,
                };
                // The Event is not retried: a namespace that is being deleted accepts none.
                let _ = events::post(&self.cluster.client, key, &cached.uid, &transition).await;
                self.set_finalizers(key, cached, &[]).await
            }
        }
    }

    /// Sets the finalizers of our field manager; those of others remain.
    async fn set_finalizers(&self, key: &ObjectKey, cached: &CachedObject, finalizers: &[&str]) -> Result<(), Refusal> {
        let path = collection::path(key.kind.api_version(), key.kind.plural(), &key.name);
        let body = json!({
            "apiVersion": key.kind.api_version(), "kind": key.kind.as_str(),
            // The uid keeps apply from changing or creating another object of the same name.
            "metadata": {
                "name": key.name.name, "namespace": key.name.namespace, "uid": cached.uid, "finalizers": finalizers,
            },
        });
        match request::apply(&self.cluster.client, &path, &body).await {
            Ok(object) => {
                let now = CachedObject::new(&object);
                self.cache.with(|cache| {
                    cache.unguarded.remove(key);
                    if let Some(cache) = cache.objects.get_mut(key).filter(|cache| cache.uid == cached.uid) {
                        Arc::make_mut(cache).finalizers = now.finalizers;
                    }
                });
                self.cache.notify();
                Ok(())
            }
            // It was deleted already.
            Err(Refusal::NotFound | Refusal::Conflict(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Returns why a finalizer could not be changed, and the fix.
fn trouble(key: &ObjectKey, refusal: &Refusal) -> String {
    match refusal {
        Refusal::Forbidden => Rule {
            group: collection::group(key.kind.api_version()).to_owned(),
            resource: key.kind.plural().to_owned(),
            name: None,
            namespace: None,
            verbs: &["patch"],
        }
        .to_string(),
        refusal => refusal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(is_leaving: bool, finalizers: &[&str]) -> CachedObject {
        let mut metadata = json!({ "uid": "u", "finalizers": finalizers });
        if is_leaving {
            metadata["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
        }
        CachedObject::new(&json!({ "metadata": metadata }))
    }

    #[test]
    fn a_source_is_kept_until_the_data_plane_has_let_it_go_and_not_for_ever() {
        let observation = |is_applied, is_held, seconds| Observation {
            was_resumed: false,
            is_applied,
            is_held,
            leaving_for: Duration::from_secs(seconds),
        };
        let gone = observation(true, false, 1);
        let cases = [
            (
                cached(false, &[]),
                observation(true, true, 0),
                Action::FinalizerController,
            ),
            (cached(false, &[FINALIZER]), observation(true, true, 0), Action::Nothing),
            (cached(true, &["others"]), gone, Action::Nothing),
            (cached(true, &[FINALIZER]), observation(true, true, 1), Action::Nothing),
            (
                cached(true, &[FINALIZER]),
                observation(false, false, 1),
                Action::Nothing,
            ),
            (cached(true, &[FINALIZER]), observation(true, false, 1), Action::Release),
            (cached(true, &[FINALIZER]), observation(true, true, 90), Action::GiveUp),
            (
                cached(true, &[FINALIZER]),
                observation(false, false, 90),
                Action::GiveUp,
            ),
        ];
        for (cached, observation, expected) in cases {
            assert_eq!(decide(&cached, &observation), expected);
        }
        let resumed = Observation {
            was_resumed: true,
            ..observation(true, true, 1)
        };
        assert_eq!(decide(&cached(true, &[FINALIZER]), &resumed), Action::DropFromSpec);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_waits_for_its_own_finalizer_and_hears_what_is_in_the_way() {
        let (cache, source) = (
            Cache::default(),
            ObjectKey::new(Kind::GitHubSource, spec::ObjectName::new("shop", "hello")),
        );
        let guarded = FinalizerGate::new(cache.clone());
        let heard = parking_lot::Mutex::new(Vec::new());
        let refused = |trouble: &str| heard.lock().push(trouble.to_owned());
        let set_finalizers = |uid: &str, finalizers: &[&str]| {
            let cached = CachedObject {
                uid: uid.to_owned(),
                ..cached(false, finalizers)
            };
            cache.with(|cache| cache.objects.insert(source.clone(), Arc::new(cached)));
            cache.notify();
        };
        let mut wait = std::pin::pin!(guarded.wait(&source, "u", refused));
        let mut still_waits = async || timeout(Duration::from_secs(60), wait.as_mut()).await.is_err();
        assert!(still_waits().await, "it is not known yet");
        // The object before it was recreated.
        set_finalizers("another", &[FINALIZER]);
        assert!(still_waits().await);
        set_finalizers("u", &["others"]);
        cache.with(|cache| cache.unguarded.insert(source.clone(), "may not patch".to_owned()));
        cache.notify();
        assert!(still_waits().await);
        assert_eq!(heard.lock().last().map(String::as_str), Some("may not patch"));
        set_finalizers("u", &["others", FINALIZER]);
        assert!(!still_waits().await);
        let container = ObjectKey::new(Kind::ContainerSource, spec::ObjectName::new("shop", "beats"));
        guarded.wait(&container, "u", |_| {}).await;
    }
}
