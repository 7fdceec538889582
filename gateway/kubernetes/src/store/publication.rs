//! Publishes a spec built from the index, once everything that documents refer to is watched.

use std::collections::BTreeSet;

use spec::{Kind, ObjectKey};

use super::{State, Store, Watched, advice::name};
use crate::{
    collection::Collection,
    refusal::{Refusal, Rule},
};

impl Store {
    /// Watches the objects that documents refer to, and stops watching the others.
    pub(super) fn watch_references(&mut self) {
        let references = self.objects.references();
        if references == self.references {
            return;
        }
        let targets = references
            .targets
            .iter()
            .map(|target| match (&*target.api_version, &*target.kind) {
                ("v1", "Service") => Collection::Services,
                (api_version, kind) => Collection::Targets {
                    api_version: api_version.to_owned(),
                    kind: kind.to_owned(),
                },
            });
        let secrets = references.secrets.iter().cloned().map(Collection::Secret);
        let desired: BTreeSet<Collection> = targets.chain(secrets).collect();
        self.references = references;
        let is_optional =
            |collection: &Collection| matches!(collection, Collection::Targets { .. } | Collection::Secret(_));
        let obsolete = |collection: &&Collection| is_optional(collection) && !desired.contains(*collection);
        let obsolete: Vec<Collection> = self.watched.keys().filter(obsolete).cloned().collect();
        for collection in obsolete {
            if let Some(watched) = self.watched.remove(&collection) {
                watched.stop.cancel();
            }
            self.cache.with(|cache| cache.troubles.remove(&name(&collection)));
            match collection {
                Collection::Secret(name) => self.objects.remove(&ObjectKey::new(Kind::Secret, name)),
                Collection::Targets { api_version, kind } => self.targets.delete(&api_version, &kind),
                Collection::Kind(_) | Collection::Services | Collection::Defaults(_) => {}
            }
        }
        for collection in desired {
            if !self.watched.contains_key(&collection) {
                self.watch_collection(collection);
            }
        }
    }

    /// Only the first spec waits for all collections.
    pub(super) fn may_publish(&self) -> bool {
        if self.specs.borrow().generation > 0 {
            return true;
        }
        self.watched
            .iter()
            .all(|(collection, watched)| match (&watched.state, collection) {
                (State::Listed, _) => true,
                (State::Pending, _) => false,
                // A missing kind has no objects; a forbidden one is reported.
                (State::Refused(refusal), Collection::Kind(_) | Collection::Defaults(_)) => refusal.is_final(),
                (State::Refused(_), _) => true,
            })
    }

    pub(super) fn publish(&mut self) {
        // Only now are both ConfigMaps known, of which the first one counts.
        if std::mem::take(&mut self.defaults_are_new) {
            self.apply_defaults();
        }
        let refused = |collection: &Collection| self.refused(collection);
        let found = self.targets.found(&self.references, refused);
        // The objects of a forbidden kind are unknown; a missing kind has none.
        let unread = self
            .watched
            .iter()
            .filter_map(|(collection, watched)| match (&watched.state, collection) {
                (State::Refused(refusal), Collection::Kind(kind)) if *refusal != Refusal::NotFound => Some(*kind),
                _ => None,
            });
        let unread = unread.collect();
        self.objects.publish(&found, unread);
        let generation = self.specs.borrow().generation;
        let is_unserved = |(collection, watched): (&Collection, &Watched)| match (&watched.state, collection) {
            (State::Refused(_), Collection::Kind(kind)) => !kind.is_source(),
            _ => false,
        };
        let is_served = !self.watched.iter().any(is_unserved);
        self.cache.with(|cache| {
            cache.published = generation;
            cache.is_served = is_served;
        });
    }

    /// Returns why a referenced collection cannot be read.
    fn refused(&self, collection: &Collection) -> Option<(Refusal, Option<Rule>)> {
        let watched = self.watched.get(collection)?;
        match &watched.state {
            State::Refused(refusal) => Some((refusal.clone(), watched.rule.clone())),
            State::Pending | State::Listed => None,
        }
    }
}
