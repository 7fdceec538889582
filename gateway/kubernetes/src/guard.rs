//! Keeps sources that make something upstream (a webhook, a subscription) until it is taken away: by a finalizer, which goes
//! when the data plane has done what it can. Deleting never hangs: the data plane's own bound is half a minute, and after
//! [`GIVE_UP`] the finalizer goes whatever happened.
//!
//! What it is to take away must not be there before it: a source does not run until [`Guarded::kept`] returns.
//!
//! A gateway that starts while such a source is being deleted runs it once more and takes it away then: it knows nothing of
//! what the one before it had done.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::json;
use spec::{Kind, ObjectKey};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Cluster, Observe,
    collection::{self, Collection},
    events,
    follow::{Message, Told},
    known::{Facts, Known},
    refusal::{Refusal, Rule},
    request,
    status::Happening,
};

pub(crate) const FINALIZER: &str = "headgate.dev/upstream";

/// The data plane's half a minute, the end of a run before it, and some more for a busy machine.
const GIVE_UP: Duration = Duration::from_secs(90);

/// What the data plane does is seen by looking.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was refused is tried again after this.
const AGAIN: Duration = Duration::from_secs(15);

/// Whether sources of this kind make something upstream.
pub(crate) fn is_guarded(kind: Kind) -> bool {
    matches!(kind, Kind::GitHubSource | Kind::GcpPubSubSource)
}

pub(crate) fn has_finalizer(facts: &Facts) -> bool {
    facts.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

/// Knows which sources have their finalizer.
#[derive(Clone)]
pub struct Guarded(Known);

impl Guarded {
    pub(crate) fn new(known: Known) -> Self {
        Self(known)
    }

    /// Returns when a source has its finalizer, or is of a kind that gets none. While the API server refuses it, `refused` is
    /// told why, and what to do. Cancel safe.
    pub async fn kept(&self, source: &ObjectKey, uid: &str, mut refused: impl FnMut(&str)) {
        if !is_guarded(source.kind) {
            return;
        }
        // Marked as seen before looking: a change while looking is not missed.
        let mut changes = self.0.changes();
        loop {
            let (is_kept, trouble) = self.0.with(|known| {
                let facts = known.objects.get(source).filter(|facts| facts.uid == uid);
                let trouble = known.unguarded.get(source).cloned();
                (facts.is_some_and(|facts| has_finalizer(facts)), trouble)
            });
            if is_kept {
                return;
            }
            if let Some(trouble) = trouble {
                refused(&trouble);
            }
            // Its other end is in `Known`, too.
            let _ = changes.changed().await;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Guard,
    /// The first spec had it once more; now it may go.
    Leave,
    Release,
    GiveUp,
}

/// What is known of a guarded source at one moment.
struct Moment {
    was_resumed: bool,
    /// The data plane has applied all that was published.
    is_applied: bool,
    /// The data plane still has it.
    is_held: bool,
    leaving_for: Duration,
}

fn step(facts: &Facts, moment: &Moment) -> Step {
    match (facts.is_leaving, has_finalizer(facts)) {
        (false, false) => Step::Guard,
        (false, true) | (true, false) => Step::Nothing,
        (true, true) if moment.leaving_for >= GIVE_UP => Step::GiveUp,
        (true, true) if !moment.is_applied => Step::Nothing,
        (true, true) if moment.was_resumed => Step::Leave,
        (true, true) if moment.is_held => Step::Nothing,
        (true, true) => Step::Release,
    }
}

pub(crate) struct Guard<O> {
    pub(crate) cluster: Cluster,
    pub(crate) known: Known,
    pub(crate) observe: Arc<O>,
    pub(crate) inbox: mpsc::Sender<Message>,
}

impl<O: Observe> Guard<O> {
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.guard() => {}
        }
    }

    async fn guard(&self) {
        let mut changes = self.known.changes();
        let mut leaving: HashMap<String, Instant> = HashMap::new();
        let mut refused: HashMap<String, Instant> = HashMap::new();
        loop {
            let now = Instant::now();
            refused.retain(|_, at| now < *at + AGAIN);
            let steps = self.steps(&mut leaving, now);
            for (key, facts, step) in steps {
                if refused.contains_key(&facts.uid) {
                    continue;
                }
                if let Err(refusal) = self.take(&key, &facts, step).await {
                    let trouble = trouble(&key, &refusal);
                    tracing::warn!(source = %key, trouble, "cannot change a source's finalizer, trying again");
                    self.known.with(|known| known.unguarded.insert(key.clone(), trouble));
                    self.known.told();
                    refused.insert(facts.uid.clone(), now);
                }
            }
            // Either way it is time to look again.
            let _ = timeout(LOOK_EVERY, changes.changed()).await;
        }
    }

    fn steps(&self, leaving: &mut HashMap<String, Instant>, now: Instant) -> Vec<(ObjectKey, Arc<Facts>, Step)> {
        let applied = self.observe.applied();
        let mut steps = Vec::new();
        self.known.with(|known| {
            let guarded = || known.objects.iter().filter(|(key, _)| is_guarded(key.kind));
            leaving.retain(|uid, _| guarded().any(|(_, facts)| facts.uid == *uid && facts.is_leaving));
            for (key, facts) in guarded() {
                let since = facts
                    .is_leaving
                    .then(|| *leaving.entry(facts.uid.clone()).or_insert(now));
                let moment = Moment {
                    was_resumed: known.resumed.contains(key),
                    is_applied: applied > 0 && applied >= known.published,
                    is_held: self.observe.has(key),
                    leaving_for: since.map_or(Duration::ZERO, |since| now - since),
                };
                steps.push((key.clone(), facts.clone(), step(facts, &moment)));
            }
        });
        // What is said to the own store is nobody else's affair.
        steps.retain(|(key, _, step)| *step != Step::Nothing && (*step == Step::Leave || self.observe.may_write(key)));
        steps
    }

    async fn take(&self, key: &ObjectKey, facts: &Facts, step: Step) -> Result<(), Refusal> {
        match step {
            Step::Nothing => Ok(()),
            Step::Guard => self.put(key, facts, &[FINALIZER]).await,
            Step::Leave => {
                let of = Collection::Kind(key.kind);
                let told = Told::Left(key.clone());
                // The store ends with everything else; nobody waits then.
                let _ = self.inbox.send(Message { of, told }).await;
                Ok(())
            }
            Step::Release => self.put(key, facts, &[]).await,
            Step::GiveUp => {
                let note = format!(
                    "it is let go although what it made upstream may still be there, for taking that away took longer than {} s: look there",
                    GIVE_UP.as_secs()
                );
                tracing::warn!(source = %key, note, "deletion is not waited for any longer");
                let happening = Happening {
                    is_warning: true,
                    reason: "UpstreamLeft".to_owned(),
                    note,
                };
                // An Event is a courtesy; a namespace that is going takes none.
                let _ = events::post(&self.cluster.client, key, &facts.uid, &happening).await;
                self.put(key, facts, &[]).await
            }
        }
    }

    /// Our finalizer, or none; those of others stay.
    async fn put(&self, key: &ObjectKey, facts: &Facts, finalizers: &[&str]) -> Result<(), Refusal> {
        let path = collection::path(key.kind.api_version(), key.kind.plural(), &key.name);
        let body = json!({
            "apiVersion": key.kind.api_version(), "kind": key.kind.as_str(),
            // The uid: one that was made anew meanwhile is not meant, and none is to be made.
            "metadata": {
                "name": key.name.name, "namespace": key.name.namespace, "uid": facts.uid, "finalizers": finalizers,
            },
        });
        match request::apply(&self.cluster.client, &path, &body).await {
            Ok(object) => {
                let now = Facts::new(&object);
                self.known.with(|known| {
                    known.unguarded.remove(key);
                    if let Some(known) = known.objects.get_mut(key).filter(|known| known.uid == facts.uid) {
                        Arc::make_mut(known).finalizers = now.finalizers;
                    }
                });
                self.known.told();
                Ok(())
            }
            // Gone already.
            Err(Refusal::NotFound | Refusal::Conflict(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }
}

/// What is in the way of a finalizer, and what to do about it.
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

    fn facts(is_leaving: bool, finalizers: &[&str]) -> Facts {
        let mut metadata = json!({ "uid": "u", "finalizers": finalizers });
        if is_leaving {
            metadata["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
        }
        Facts::new(&json!({ "metadata": metadata }))
    }

    #[test]
    fn a_source_is_kept_until_the_data_plane_has_let_it_go_and_not_for_ever() {
        let moment = |is_applied, is_held, seconds| Moment {
            was_resumed: false,
            is_applied,
            is_held,
            leaving_for: Duration::from_secs(seconds),
        };
        let gone = moment(true, false, 1);
        let cases = [
            (facts(false, &[]), moment(true, true, 0), Step::Guard),
            (facts(false, &[FINALIZER]), moment(true, true, 0), Step::Nothing),
            (facts(true, &["others"]), gone, Step::Nothing),
            (facts(true, &[FINALIZER]), moment(true, true, 1), Step::Nothing),
            (facts(true, &[FINALIZER]), moment(false, false, 1), Step::Nothing),
            (facts(true, &[FINALIZER]), moment(true, false, 1), Step::Release),
            (facts(true, &[FINALIZER]), moment(true, true, 90), Step::GiveUp),
            (facts(true, &[FINALIZER]), moment(false, false, 90), Step::GiveUp),
        ];
        for (facts, moment, expected) in cases {
            assert_eq!(step(&facts, &moment), expected);
        }
        let resumed = Moment {
            was_resumed: true,
            ..moment(true, true, 1)
        };
        assert_eq!(step(&facts(true, &[FINALIZER]), &resumed), Step::Leave);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_waits_for_its_own_finalizer_and_hears_what_is_in_the_way() {
        let (known, source) = (
            Known::default(),
            ObjectKey::new(Kind::GitHubSource, spec::ObjectName::new("shop", "hello")),
        );
        let guarded = Guarded::new(known.clone());
        let heard = parking_lot::Mutex::new(Vec::new());
        let refused = |trouble: &str| heard.lock().push(trouble.to_owned());
        let put = |uid: &str, finalizers: &[&str]| {
            let facts = Facts {
                uid: uid.to_owned(),
                ..facts(false, finalizers)
            };
            known.with(|known| known.objects.insert(source.clone(), Arc::new(facts)));
            known.told();
        };
        let mut kept = std::pin::pin!(guarded.kept(&source, "u", refused));
        let mut still_waits = async || timeout(Duration::from_secs(60), kept.as_mut()).await.is_err();
        assert!(still_waits().await, "it is not known yet");
        // Of one that was there before.
        put("another", &[FINALIZER]);
        assert!(still_waits().await);
        put("u", &["others"]);
        known.with(|known| known.unguarded.insert(source.clone(), "may not patch".to_owned()));
        known.told();
        assert!(still_waits().await);
        assert_eq!(heard.lock().last().map(String::as_str), Some("may not patch"));
        put("u", &["others", FINALIZER]);
        assert!(!still_waits().await);
        let container = ObjectKey::new(Kind::ContainerSource, spec::ObjectName::new("shop", "beats"));
        guarded.kept(&container, "u", |_| {}).await;
    }
}
