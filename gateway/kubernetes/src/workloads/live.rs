//! The Deployments that were made for sources, and their pods, as the API server says they are now.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    apply,
    desired::{MANAGED_BY, Owner, SOURCE_UID},
    observe::Deployed,
};
use crate::{
    collection::Collection,
    follow::{Follower, Message, Told},
};

/// `NAMESPACE`, `NAME`.
type Key = (String, String);

/// Messages that wait to be taken, which takes microseconds.
const INBOX: usize = 64;

pub(super) struct Live {
    client: Client,
    namespace: Option<String>,
    known: Mutex<Known>,
    /// By the uid of the source.
    waiting: Mutex<HashMap<String, Weak<Notify>>>,
}

#[derive(Default)]
struct Known {
    deployments: Listed<Deployment>,
    pods: Listed<Pod>,
}

/// Objects of one kind, and whether they are all.
struct Listed<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// Why they are not known; `None` once they are.
    unknown: Option<Deployed>,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            unknown: Some(Deployed::waiting("what runs in the cluster is being listed")),
        }
    }
}

/// Whose workload has changed.
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

    /// Never ends.
    pub(super) async fn watch(&self, server: &str) {
        tokio::join!(
            self.follow(("apps/v1", "Deployment"), server, |known| &mut known.deployments),
            self.follow(("v1", "Pod"), server, |known| &mut known.pods),
        );
    }

    async fn follow<K: Resource + DeserializeOwned>(
        &self,
        (api_version, kind): (&str, &str),
        server: &str,
        of: impl Fn(&mut Known) -> &mut Listed<K>,
    ) {
        let (out, mut told) = mpsc::channel(INBOX);
        let follower = Follower {
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
            while let Some(Message { told, .. }) = told.recv().await {
                let touched = take(of(&mut self.known.lock()), told, (server, kind));
                self.notify(&touched);
            }
        };
        // Dropped together: whoever follows ends with whoever listens.
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

    /// Rung when something of this source has changed.
    pub(super) fn changed(&self, uid: &str) -> Arc<Notify> {
        let mut waiting = self.waiting.lock();
        if let Some(notify) = waiting.get(uid).and_then(Weak::upgrade) {
            return notify;
        }
        let notify = Arc::new(Notify::new());
        waiting.insert(uid.to_owned(), Arc::downgrade(&notify));
        notify
    }

    /// The Deployment and the pods of a source; an error while they are not known.
    pub(super) fn state(&self, owner: &Owner) -> Result<(Option<Arc<Deployment>>, Vec<Pod>), Deployed> {
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

    /// What was just written; the watch tells of it a moment later.
    pub(super) fn put(&self, deployment: Deployment) {
        insert(&mut self.known.lock().deployments.objects, deployment);
    }
}

fn take<K: Resource + DeserializeOwned>(listed: &mut Listed<K>, told: Told, (server, kind): (&str, &str)) -> Touched {
    match told {
        Told::Listed(objects) => {
            let objects = objects.into_iter().filter_map(read::<K>);
            let before = std::mem::take(&mut listed.objects);
            listed.objects = objects.map(|object| (key(&object), Arc::new(object))).collect();
            // What was written while they were listed.
            for (key, object) in before {
                let known = listed.objects.get(&key);
                if known.is_some_and(|known| is_older(known.as_ref(), object.as_ref())) {
                    listed.objects.insert(key, object);
                }
            }
            listed.unknown = None;
            Touched::All
        }
        Told::Changed(object) => match read::<K>(*object) {
            Some(object) => {
                let touched = touched(&object);
                insert(&mut listed.objects, object);
                touched
            }
            None => Touched::None,
        },
        Told::Deleted(object) => match read::<K>(*object) {
            Some(object) => {
                listed.objects.remove(&key(&object));
                touched(&object)
            }
            None => Touched::None,
        },
        Told::Refused(refusal, rule) => {
            let refused = apply::watch_refused(&refusal, rule.as_ref(), server);
            tracing::debug!(
                kind,
                reason = refused.reason,
                detail = refused.message,
                "workloads cannot be watched, trying again"
            );
            // What was listed before is looked at on: a watch ends often.
            match &mut listed.unknown {
                Some(unknown) if *unknown != refused => {
                    tracing::warn!(
                        kind,
                        reason = refused.reason,
                        detail = refused.message,
                        "workloads cannot be watched"
                    );
                    *unknown = refused;
                    Touched::All
                }
                _ => Touched::None,
            }
        }
        Told::Resumed | Told::Left(_) => Touched::None,
    }
}

/// What is none of its kind is of a server that speaks another language; nothing is known of it.
fn read<K: DeserializeOwned>(object: Value) -> Option<K> {
    serde_json::from_value(object).ok()
}

/// A watch tells of what we wrote a moment later, and of what was before it in between: that is not taken.
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
