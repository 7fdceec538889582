//! All documents together: what is wanted now, given what was wanted before. Pure: start and reload are the same call.
//!
//! Nothing that was running stops because a new version of its document is invalid, or because another document is
//! (API.md 1): the last valid version of a document stays until a valid one replaces it or the document is really gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use status::Reason;

use crate::{
    Kind, ObjectKey, ObjectName,
    defaults::AssignedProvisioners,
    document::{Contents, Document},
    fault::{Fault, Warning},
    provisioners::{Provisioners, canonical},
    resource::{BACKEND_FIXED, CHANNEL_FIXED, PROVISIONER_FIXED, Reference, Resource},
};

/// A document in force.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) document: Arc<Document>,
    /// Faults of a newer version, which is not in force.
    pub(crate) faults: Vec<String>,
    /// Warnings about the newest version, in force or not.
    pub(crate) generation: Option<i64>,
}

#[derive(Clone, Default)]
pub(crate) struct Set {
    pub(crate) valid: BTreeMap<ObjectKey, Entry>,
    /// Never valid so far.
    pub(crate) invalid: BTreeMap<ObjectKey, Entry>,
    /// Some document could not be read at all.
    pub(crate) incomplete: bool,
}

/// The result of a merge.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Warning>,
}

/// Merges documents that were read again into the set before. `unread` are files whose content could not be read.
pub(crate) fn merge(
    before: &Set,
    contents: Contents,
    unread: &BTreeSet<Arc<str>>,
    assigned: &AssignedProvisioners,
) -> (Set, Findings) {
    let mut findings = Findings {
        faults: contents.faults,
        warnings: contents.warnings,
    };
    // A document without a readable header may be any of its file.
    let mut broken: BTreeSet<Arc<str>> = unread.clone();
    broken.extend(findings.faults.iter().map(|fault| fault.file.clone()));

    let mut by_key: BTreeMap<ObjectKey, Vec<Arc<Document>>> = BTreeMap::new();
    for document in contents.documents {
        by_key.entry(document.key.clone()).or_default().push(document);
    }
    let mut set = Set {
        incomplete: !broken.is_empty(),
        ..Set::default()
    };
    // Provisioners first: a channel's arguments are checked for its backend.
    let (first, rest): (Vec<_>, Vec<_>) = by_key
        .into_iter()
        .partition(|(key, _)| key.kind == Kind::ClusterChannelProvisioner);
    for (key, documents) in first {
        let chosen = choose(before, &key, &documents);
        let faults = before
            .valid
            .get(&key)
            .and_then(|entry| immutable(&entry.document, chosen, assigned));
        settle(
            before,
            key,
            &documents,
            faults.into_iter().collect(),
            &mut set,
            &mut findings,
        );
    }
    for (key, entry) in &before.valid {
        if key.kind == Kind::ClusterChannelProvisioner && keeps(&set, key, entry, &broken) {
            set.valid.insert(key.clone(), entry.clone());
        }
    }
    let provisioners = set.provisioners();
    for (key, documents) in rest {
        let chosen = choose(before, &key, &documents);
        let mut faults = arguments(chosen, &provisioners, assigned);
        faults.extend(
            before
                .valid
                .get(&key)
                .and_then(|entry| immutable(&entry.document, chosen, assigned)),
        );
        settle(before, key, &documents, faults, &mut set, &mut findings);
    }
    for (key, entry) in &before.valid {
        if keeps(&set, key, entry, &broken) {
            set.valid.insert(key.clone(), entry.clone());
        }
    }
    findings
        .faults
        .sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    (set, findings)
}

/// A document that is missing from a file that could be read is deleted; one whose file could not be read may still be there.
fn keeps(set: &Set, key: &ObjectKey, entry: &Entry, broken: &BTreeSet<Arc<str>>) -> bool {
    !set.valid.contains_key(key) && !set.invalid.contains_key(key) && broken.contains(&entry.document.file.path)
}

/// Chooses among several documents of one name: the one that runs already, else the first.
fn choose<'a>(before: &Set, key: &ObjectKey, documents: &'a [Arc<Document>]) -> &'a Arc<Document> {
    let running = before.valid.get(key).map(|entry| &entry.document.file.path);
    let same_file = documents.iter().find(|document| Some(&document.file.path) == running);
    same_file.unwrap_or(&documents[0])
}

/// Puts the document of one name in force, or leaves the former one there.
fn settle(
    before: &Set,
    key: ObjectKey,
    documents: &[Arc<Document>],
    mut faults: Vec<Fault>,
    set: &mut Set,
    findings: &mut Findings,
) {
    let chosen = choose(before, &key, documents).clone();
    for other in documents.iter().filter(|other| !Arc::ptr_eq(other, &chosen)) {
        let message = format!(
            "{key} is written twice: this one is not used, the one at {} is",
            chosen.origin()
        );
        findings
            .faults
            .push(other.fault_at("metadata.name", Reason::Duplicate, message));
        findings.faults.extend(other.faults.iter().cloned());
    }
    faults.extend(chosen.faults.iter().cloned());
    let messages: Vec<String> = faults.iter().map(Fault::one_line).collect();
    let generation = chosen.of_object.as_ref().and_then(|object| object.generation);
    let valid = faults.is_empty();
    findings.faults.extend(faults);
    if valid {
        set.valid.insert(
            key,
            Entry {
                document: chosen,
                faults: messages,
                generation,
            },
        );
        return;
    }
    match before.valid.get(&key) {
        Some(former) => drop(set.valid.insert(
            key,
            Entry {
                document: former.document.clone(),
                faults: messages,
                generation,
            },
        )),
        None => drop(set.invalid.insert(
            key,
            Entry {
                document: chosen,
                faults: messages,
                generation,
            },
        )),
    }
}

/// Checks a channel's arguments against the backend of its provisioner. Without a provisioner they cannot be checked.
fn arguments(document: &Document, provisioners: &Provisioners, assigned: &AssignedProvisioners) -> Vec<Fault> {
    let Some(Resource::Channel(channel)) = &document.resource else {
        return Vec::new();
    };
    let name = assigned.name(&document.key, channel.provisioner.as_ref());
    let Some(provisioner) = name.ok().and_then(|name| provisioners.find(name).ok()) else {
        return Vec::new();
    };
    document
        .arguments(provisioner.config.backend())
        .err()
        .unwrap_or_default()
}

/// A reference in the namespace of the document that makes it, unless it names another one.
pub(crate) fn named(reference: &Reference, from: &ObjectKey) -> ObjectName {
    let namespace = reference.namespace.as_ref().unwrap_or(&from.name.namespace);
    ObjectName::new(namespace, &reference.name)
}

/// Finds changes of immutable fields (API.md 2.3, 2.4), and of a provisioner's backend for the same reason. Here the
/// default is known, so more is found than the API server can (`schema::rules::Fixed`).
fn immutable(before: &Document, after: &Document, assigned: &AssignedProvisioners) -> Option<Fault> {
    match (before.resource.as_ref()?, after.resource.as_ref()?) {
        (Resource::Subscription(old), Resource::Subscription(new)) => {
            let (old, new) = (named(&old.channel, &before.key), named(&new.channel, &after.key));
            let message = format!("{CHANNEL_FIXED}; it was {old}");
            (old != new).then(|| after.fault_at("spec.channel.name", Reason::Immutable, message))
        }
        (Resource::Channel(old), Resource::Channel(new)) => {
            let name = |written| assigned.name(&after.key, written).ok().map(canonical);
            // A channel that waits for a default has no provisioner yet that could change.
            let (old, new) = (name(old.provisioner.as_ref())?, name(new.provisioner.as_ref())?);
            let message = format!("{PROVISIONER_FIXED}; it was {old}");
            (old != new).then(|| after.fault_at("spec.provisioner.name", Reason::Immutable, message))
        }
        (Resource::ClusterChannelProvisioner(old), Resource::ClusterChannelProvisioner(new)) => (old.config.backend()
            != new.config.backend())
        .then(|| after.fault_at("spec.backend", Reason::Immutable, BACKEND_FIXED)),
        _ => None,
    }
}

impl Set {
    pub(crate) fn provisioners(&self) -> Provisioners {
        let documents = self
            .valid
            .iter()
            .filter_map(|(key, entry)| match &entry.document.resource {
                Some(Resource::ClusterChannelProvisioner(written)) => Some((key.name.name.as_str(), written)),
                _ => None,
            });
        Provisioners::new(documents)
    }

    pub(crate) fn get(&self, kind: Kind, name: &ObjectName) -> Option<&Resource> {
        let key = ObjectKey::new(kind, name.clone());
        self.valid.get(&key).and_then(|entry| entry.document.resource.as_ref())
    }
}

#[cfg(test)]
mod tests;
