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
use status::Cause;
use tokio::sync::watch;

pub use crate::resolver::{Reference, References, ResolvedReferences};
use crate::{
    Kind, ObjectKey, ObjectName, Spec,
    build::{BuiltSpec, build},
    defaults::{AssignedProvisioners, Defaults},
    document::{Contents, Document, OfObject, of_object},
    load::{Loaded, dedupe},
    publisher::Publisher,
    resolver::Resolver,
    set::{Findings, Set, merge},
    tree::Node,
};
use references::{Referenced, referenced};

/// Written by kubectl: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All objects, as the API server has them now.
pub struct Objects {
    assigned: AssignedProvisioners,
    publisher: Publisher,
    current: BTreeMap<ObjectKey, Current>,
    /// The documents that were in force when the last spec was published.
    set: Set,
}

struct Current {
    document: Arc<Document>,
    referenced: Referenced,
}

impl Objects {
    /// `default_provisioner` is of channels that name none, where [`Objects::set_defaults`] says nothing else.
    pub fn new(default_provisioner: impl Into<String>, out: watch::Sender<Arc<Spec>>) -> Self {
        Self {
            assigned: AssignedProvisioners::new(default_provisioner),
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

    /// Adds or replaces an object. One that was deleted and recreated keeps nothing of its predecessor.
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
        let referenced = referenced(&document);
        let document = Arc::new(document);
        self.current.insert(key, Current { document, referenced });
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.current.remove(key);
        self.assigned.delete(key);
    }

    /// Sets the provisioners of channels that name none, or why they cannot be read.
    pub fn set_defaults(&mut self, defaults: Result<Defaults, Cause>) {
        self.assigned.set(defaults);
    }

    /// Restores the default that a channel was given, from its status. A channel without one that ran before has the fallback.
    fn remember(&mut self, channel: &ObjectKey, status: &Value, is_known: bool) {
        if !is_known {
            self.assigned.delete(channel);
        }
        match status["provisioner"]["name"].as_str() {
            Some(name) => self.assigned.remember(channel.clone(), name),
            None if self.assigned.knows(channel) => {}
            None if status["address"].is_object() => self.assigned.remember_fallback(channel.clone()),
            None => {}
        }
    }

    /// Gives channels what the defaults say now that have nothing yet, and says which.
    fn assign(&mut self) -> Vec<ObjectKey> {
        let channels = self.current.keys().filter(|key| key.kind == Kind::Channel);
        let new: Vec<ObjectKey> = channels.filter(|key| !self.assigned.knows(key)).cloned().collect();
        new.iter().for_each(|key| self.assigned.assign(key));
        new
    }

    /// Returns the references of all documents, including those versions that stay in force because a newer one is invalid.
    pub fn references(&self) -> References {
        let mut all = References::default();
        let mut add = |more: &Referenced| {
            all.targets.extend(more.targets.iter().cloned());
            all.secrets.extend(more.secrets.iter().cloned());
        };
        for (key, current) in &self.current {
            add(&current.referenced);
            let running = self.set.valid.get(key).map(|entry| &entry.document);
            if let Some(running) = running.filter(|running| !Arc::ptr_eq(running, &current.document)) {
                add(&referenced(running));
            }
        }
        all
    }

    /// Publishes what is wanted now, unless that is published already. `unread` are kinds that we may not read: objects of them
    /// may be there.
    pub fn publish(&mut self, found: &ResolvedReferences, unread: BTreeSet<Kind>) {
        let mut loaded = self.round(found);
        loaded.spec.unread = unread;
        self.publisher.publish(loaded);
    }

    fn round(&mut self, found: &ResolvedReferences) -> Loaded {
        let documents = self.current.values().map(|current| current.document.clone()).collect();
        let contents = Contents {
            documents,
            ..Contents::default()
        };
        let new = self.assign();
        let (set, Findings { mut faults, warnings }) = merge(&self.set, contents, &BTreeSet::new(), &self.assigned);
        let resolver = Resolver::Cluster(found);
        let before = self.publisher.published();
        let BuiltSpec { spec, dangling } = build(&set, resolver, &self.assigned, &before, Timestamp::now());
        // A default that nothing can be made of has kept nothing: a corrected one is for these channels, too.
        for key in new {
            let made = spec.channels.get(&key.name);
            if made.is_none_or(|channel| channel.provisioner.is_err()) {
                self.assigned.delete(&key);
            }
        }
        faults.extend(dangling);
        dedupe(&mut faults);
        self.set = set;
        Loaded { spec, faults, warnings }
    }
}

/// Returns the document as its author wrote it, without what the API server or the gateway added.
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
