//! The spec store of a cluster: objects of an API server instead of documents in files, and the same way from there on.
//!
//! Pure but for its last step, which publishes: who watches the API server tells what it sees, and asks for a new spec when
//! enough has come. An object is read when it changes and not again; two thousand that did not change cost a walk over a map.

mod references;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use crate::surroundings::{Found, Reference, References};
use crate::{
    Kind, ObjectKey, ObjectName, Spec,
    build::{Built, build},
    defaults::{Defaults, Given},
    document::{Contents, Document, OfObject, of_object},
    load::{Loaded, dedupe},
    model::Unresolved,
    publisher::Publisher,
    set::{Findings, Set, merge},
    surroundings::Surroundings,
    tree::Node,
};
use references::{Wanted, wanted};

/// Written by kubectl: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All objects, as the API server has them now.
pub struct Objects {
    given: Given,
    publisher: Publisher,
    current: BTreeMap<ObjectKey, Current>,
    /// What was in force when the last spec was published.
    set: Set,
}

struct Current {
    document: Arc<Document>,
    wanted: Wanted,
}

impl Objects {
    /// `default_provisioner` is of channels that name none, where [`Objects::set_defaults`] says nothing else.
    pub fn new(default_provisioner: impl Into<String>, out: watch::Sender<Arc<Spec>>) -> Self {
        Self {
            given: Given::new(default_provisioner),
            publisher: Publisher::new(out),
            current: BTreeMap::new(),
            set: Set::default(),
        }
    }

    /// Which of our documents an object is.
    pub fn key(kind: Kind, object: &Value) -> ObjectKey {
        let mut name = Self::name(object);
        if kind.is_cluster_scoped() {
            name.namespace.clear();
        }
        ObjectKey::new(kind, name)
    }

    /// Any object's name.
    pub fn name(object: &Value) -> ObjectName {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        ObjectName::new(text("namespace"), text("name"))
    }

    /// An object is there, or is another now. One that was deleted and made anew has nothing of the former one.
    pub fn put(&mut self, kind: Kind, object: &Value) {
        let known = OfObject::new(&object["metadata"]);
        let key = Self::key(kind, object);
        let former = self
            .current
            .get(&key)
            .and_then(|current| current.document.of_object.as_ref())
            .map(|former| former.uid.clone());
        if former.as_ref().is_some_and(|uid| *uid != known.uid) {
            self.set.valid.remove(&key);
            self.set.invalid.remove(&key);
        }
        if kind == Kind::Channel {
            self.remember(&key, &object["status"], former.is_some_and(|uid| uid == known.uid));
        }
        let document = of_object(key.clone(), Node::from_json(&written(kind, object)), known);
        let wanted = wanted(&document);
        let document = Arc::new(document);
        self.current.insert(key, Current { document, wanted });
    }

    pub fn remove(&mut self, key: &ObjectKey) {
        self.current.remove(key);
        self.given.forget(key);
    }

    /// What channels are given that name no provisioner, from now on; or why nobody knows.
    pub fn set_defaults(&mut self, defaults: Result<Defaults, Unresolved>) {
        self.given.set(defaults);
    }

    /// What a channel was given is written in its status. One that a gateway without defaults had taken has the fallback.
    fn remember(&mut self, channel: &ObjectKey, status: &Value, is_known: bool) {
        if !is_known {
            self.given.forget(channel);
        }
        match status["provisioner"]["name"].as_str() {
            Some(name) => self.given.remember(channel.clone(), name),
            None if self.given.knows(channel) => {}
            None if status["address"].is_object() => self.given.remember_fallback(channel.clone()),
            None => {}
        }
    }

    /// Gives channels what the defaults say now that have nothing yet, and says which.
    fn give(&mut self) -> Vec<ObjectKey> {
        let channels = self.current.keys().filter(|key| key.kind == Kind::Channel);
        let new: Vec<ObjectKey> = channels.filter(|key| !self.given.knows(key)).cloned().collect();
        new.iter().for_each(|key| self.given.give(key));
        new
    }

    /// What all of them refer to, those versions included that go on because a newer one is invalid.
    pub fn references(&self) -> References {
        let mut all = References::default();
        let mut add = |more: &Wanted| {
            all.targets.extend(more.targets.iter().cloned());
            all.secrets.extend(more.secrets.iter().cloned());
        };
        for (key, current) in &self.current {
            add(&current.wanted);
            let running = self.set.valid.get(key).map(|entry| &entry.document);
            if let Some(running) = running.filter(|running| !Arc::ptr_eq(running, &current.document)) {
                add(&wanted(running));
            }
        }
        all
    }

    /// Publishes what is wanted now, unless that is published already. `unread` are kinds that we may not read: objects of them
    /// may be there.
    pub fn publish(&mut self, found: &Found, unread: BTreeSet<Kind>) {
        let mut loaded = self.round(found);
        loaded.spec.unread = unread;
        self.publisher.publish(loaded);
    }

    fn round(&mut self, found: &Found) -> Loaded {
        let documents = self.current.values().map(|current| current.document.clone()).collect();
        let contents = Contents {
            documents,
            ..Contents::default()
        };
        let new = self.give();
        let (set, Findings { mut faults, warnings }) = merge(&self.set, contents, &BTreeSet::new(), &self.given);
        let surroundings = Surroundings::Cluster(found);
        let before = self.publisher.published();
        let Built { spec, dangling } = build(&set, surroundings, &self.given, &before, Timestamp::now());
        // A default that nothing can be made of has kept nothing: a corrected one is for these channels, too.
        for key in new {
            let made = spec.channels.get(&key.name);
            if made.is_none_or(|channel| channel.provisioner.is_err()) {
                self.given.forget(&key);
            }
        }
        faults.extend(dangling);
        dedupe(&mut faults);
        self.set = set;
        Loaded { spec, faults, warnings }
    }
}

/// What a person wrote, and nothing that the API server or we added.
fn written(kind: Kind, object: &Value) -> Value {
    let mut metadata = json!({});
    for name in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = object["metadata"].get(name) {
            metadata[name] = value.clone();
        }
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            metadata
                .as_object_mut()
                .and_then(|metadata| metadata.remove("annotations"));
        }
    }
    let mut written = json!({ "apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata });
    for name in ["spec", "data", "type"] {
        if let Some(value) = object.get(name) {
            written[name] = value.clone();
        }
    }
    written
}

#[cfg(test)]
mod tests;
