//! The actual Deployments of sources and their pods, as the watches report them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spec::Cause;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    apply,
    desired::{MANAGED_BY, Owner, SOURCE_UID},
    observe,
};
use crate::{
    collection::Collection,
    reflector::{Message, Reflector, Update},
};

/// `NAMESPACE`, `NAME`.
type Key = (String, String);

/// Updates that wait to be applied, which takes microseconds.
const INBOX: usize = 64;

pub(super) struct Live {
    client: Client,
    namespace: Option<String>,
    known: Mutex<LiveObjects>,
    /// By the uid of the source.
    waiting: Mutex<HashMap<String, Weak<Notify>>>,
}

#[derive(Default)]
struct LiveObjects {
    deployments: Listed<Deployment>,
    pods: Listed<Pod>,
}

/// The objects of one kind.
struct Listed<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// Why the objects are unknown; `None` once they were listed.
    unknown: Option<Cause>,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            unknown: Some(observe::waiting("the workloads in the cluster are being listed")),
        }
    }
}

/// The sources whose workload has changed.
enum Touched {
    None,
    Source(String),
    All,
}

impl Live {
    pub(super) fn new(client: Client, namespace: Option<&str>) -> Self {
        Self {
            client,
            namespace: namespace.map(str::to_owned),
            known: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Watches Deployments and pods. Never returns.
    pub(super) async fn watch(&self, server: &str) {
        tokio::join!(
            self.reflector(("apps/v1", "Deployment"), server, |known| &mut known.deployments),
            self.reflector(("v1", "Pod"), server, |known| &mut known.pods),
        );
    }

    async fn reflector<K: Resource + DeserializeOwned>(
        &self,
        (api_version, kind): (&str, &str),
        server: &str,
        of: impl Fn(&mut LiveObjects) -> &mut Listed<K>,
    ) {
        let (out, mut updates) = mpsc::channel(INBOX);
        let follower = Reflector {
            client: self.client.clone(),
            collection: Collection::Targets {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            },
            namespace: self.namespace.clone(),
            labels: Some(format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)),
            out,
        };
        let taking = async {
            while let Some(Message { update, .. }) = updates.recv().await {
                let touched = apply_update(of(&mut self.known.lock()), update, (server, kind));
                self.notify(&touched);
            }
        };
        // Both are dropped with this future.
        tokio::join!(follower.run(CancellationToken::new()), taking);
    }

    fn notify(&self, touched: &Touched) {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, notify| notify.strong_count() > 0);
        let ring = |notify: &Weak<Notify>| notify.upgrade().iter().for_each(|notify| notify.notify_one());
        match touched {
            Touched::None => {}
            Touched::Source(uid) => waiting.get(uid).into_iter().for_each(ring),
            Touched::All => waiting.values().for_each(ring),
        }
    }

    /// Returns a handle that is notified when a workload object of this source changes.
    pub(super) fn changed(&self, uid: &str) -> Arc<Notify> {
        let mut waiting = self.waiting.lock();
        if let Some(notify) = waiting.get(uid).and_then(Weak::upgrade) {
            return notify;
        }
        let notify = Arc::new(Notify::new());
        waiting.insert(uid.to_owned(), Arc::downgrade(&notify));
        notify
    }

    /// Returns the Deployment and the pods of a source.
    ///
    /// # Errors
    ///
    /// They are unknown: not listed yet, or refused.
    pub(super) fn state(&self, owner: &Owner) -> Result<(Option<Arc<Deployment>>, Vec<Pod>), Cause> {
        let known = self.known.lock();
        if let Some(unknown) = known.deployments.unknown.as_ref().or(known.pods.unknown.as_ref()) {
            return Err(unknown.clone());
        }
        let key = (owner.namespace.clone(), owner.child());
        let deployment = known.deployments.objects.get(&key).cloned();
        let first = (owner.namespace.clone(), String::new());
        let pods = known.pods.objects.range(first..);
        let pods = pods
            .take_while(|((namespace, _), _)| *namespace == owner.namespace)
            .filter(|(_, pod)| source_of(pod.as_ref()) == Some(&*owner.uid))
            .map(|(_, pod)| Pod::clone(pod));
        Ok((deployment, pods.collect()))
    }

    /// Stores a Deployment that was just applied; the watch reports it a moment later.
    pub(super) fn put(&self, deployment: Deployment) {
        insert(&mut self.known.lock().deployments.objects, deployment);
    }
}

fn apply_update<K: Resource + DeserializeOwned>(
    listed: &mut Listed<K>,
    update: Update,
    (server, kind): (&str, &str),
) -> Touched {
    match update {
        Update::Listed(objects) => {
            let objects = objects.into_iter().filter_map(read::<K>);
            let before = std::mem::take(&mut listed.objects);
            listed.objects = objects.map(|object| (key(&object), Arc::new(object))).collect();
            // Keeps objects that were applied while the list was on its way.
            for (key, object) in before {
                let known = listed.objects.get(&key);
                if known.is_some_and(|known| is_older(known.as_ref(), object.as_ref())) {
                    listed.objects.insert(key, object);
                }
            }
            listed.unknown = None;
            Touched::All
        }
        Update::Changed(object) => match read::<K>(*object) {
            Some(object) => {
                let touched = touched(&object);
                insert(&mut listed.objects, object);
                touched
            }
            None => Touched::None,
        },
        Update::Deleted(object) => match read::<K>(*object) {
            Some(object) => {
                listed.objects.remove(&key(&object));
                touched(&object)
            }
            None => Touched::None,
        },
        Update::Refused(refusal, rule) => {
            let refused = apply::watch_refused(&refusal, rule.as_ref(), server);
            tracing::debug!(
                kind,
                reason = refused.reason.as_str(),
                detail = refused.message,
                "workloads cannot be watched, trying again"
            );
            // Objects that were listed stay known: a watch ends often.
            match &mut listed.unknown {
                Some(unknown) if *unknown != refused => {
                    tracing::warn!(
                        kind,
                        reason = refused.reason.as_str(),
                        detail = refused.message,
                        "workloads cannot be watched"
                    );
                    *unknown = refused;
                    Touched::All
                }
                _ => Touched::None,
            }
        }
        Update::Resumed | Update::DropFromSpec(_) => Touched::None,
    }
}

/// An object that cannot be parsed comes from a newer API server; it is ignored.
fn read<K: DeserializeOwned>(object: Value) -> Option<K> {
    serde_json::from_value(object).ok()
}

/// After we applied an object, the watch may still report an older version: that one is ignored.
fn insert<K: Resource>(objects: &mut BTreeMap<Key, Arc<K>>, object: K) {
    let key = key(&object);
    if !objects.get(&key).is_some_and(|known| is_older(&object, known.as_ref())) {
        objects.insert(key, Arc::new(object));
    }
}

fn is_older<K: Resource>(one: &K, other: &K) -> bool {
    let (one, other) = (one.meta(), other.meta());
    one.uid == other.uid && one.generation < other.generation
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

fn touched<K: Resource>(object: &K) -> Touched {
    source_of(object).map_or(Touched::None, |uid| Touched::Source(uid.to_owned()))
}

fn source_of<K: Resource>(object: &K) -> Option<&str> {
    object.meta().labels.as_ref()?.get(SOURCE_UID).map(String::as_str)
}
