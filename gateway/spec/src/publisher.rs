//! Publishes what differs from what was published before, and says what it was: the last step of every spec store.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;
use tracing::field::{DisplayValue, display};

use crate::{Spec, fault::DOUBTFUL, load::Loaded};

pub(crate) struct Publisher {
    out: watch::Sender<Arc<Spec>>,
    reported: BTreeSet<String>,
}

impl Publisher {
    pub(crate) fn new(out: watch::Sender<Arc<Spec>>) -> Self {
        Self {
            out,
            reported: BTreeSet::new(),
        }
    }

    /// The spec that was published last.
    pub(crate) fn published(&self) -> Arc<Spec> {
        self.out.borrow().clone()
    }

    /// Publishes what differs, and says what it was: one line for the change, one for each fault that is new.
    pub(crate) fn publish(&mut self, loaded: Loaded) {
        self.tell(&loaded);
        let before = self.out.borrow().clone();
        if before.generation > 0 && is_same(&before, &loaded.spec) {
            return;
        }
        let spec = Spec {
            generation: before.generation + 1,
            ..loaded.spec
        };
        let changes = Changes::between(&before, &spec);
        tracing::info!(
            generation = spec.generation,
            objects = spec.objects.len(),
            added = some(&changes.added),
            changed = some(&changes.changed),
            removed = some(&changes.removed),
            "documents loaded"
        );
        self.out.send_replace(Arc::new(spec));
    }

    fn tell(&mut self, loaded: &Loaded) {
        let before = std::mem::take(&mut self.reported);
        for fault in &loaded.faults {
            let (location, what) = (fault.location(), fault.what());
            let line = format!("{location}: {what}");
            if before.contains(&line) {
                // Said before, and still so.
            } else if fault.dangling {
                tracing::warn!(%location, reason = fault.reason.as_str(), fault = %what, "waiting for what a document refers to");
            } else {
                tracing::warn!(%location, reason = fault.reason.as_str(), fault = %what, "document is not valid, its last valid version stays");
            }
            self.reported.insert(line);
        }
        for warning in &loaded.warnings {
            let (location, what) = (warning.fault().location(), warning.fault().what());
            let line = format!("{location}: {what}");
            let reason = warning.fault().reason;
            if before.contains(&line) {
                // Said before, and still so.
            } else if reason == DOUBTFUL {
                tracing::warn!(%location, reason = reason.as_str(), warning = %what, "this is likely not what is meant");
            } else {
                tracing::warn!(%location, reason = reason.as_str(), warning = %what, "document is not used");
            }
            self.reported.insert(line);
        }
    }
}

/// Everything but the generation.
fn is_same(a: &Spec, b: &Spec) -> bool {
    a.provisioners == b.provisioners
        && a.channels == b.channels
        && a.subscriptions == b.subscriptions
        && a.sources == b.sources
        && a.objects == b.objects
        && a.incomplete == b.incomplete
        && a.unread == b.unread
}

/// Names of what differs between two specs. What only moved to another line did not change.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

impl Changes {
    fn between(before: &Spec, after: &Spec) -> Self {
        let mut changes = Self::default();
        for (key, object) in &after.objects {
            match before.objects.get(key) {
                None => changes.added.push(key.to_string()),
                Some(old) if old.document != object.document => changes.changed.push(key.to_string()),
                Some(_) => {}
            }
        }
        let gone = before.objects.keys().filter(|key| !after.objects.contains_key(*key));
        changes.removed.extend(gone.map(ToString::to_string));
        changes
    }
}

/// Names in one log line at most: who changed more knows what it was.
const NAMES_MAX: usize = 8;

fn some(names: &[String]) -> Option<DisplayValue<String>> {
    if names.is_empty() {
        return None;
    }
    let listed = names
        .iter()
        .take(NAMES_MAX)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    Some(display(match names.len().saturating_sub(NAMES_MAX) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }))
}
