//! Standalone's spec store: watches files and folders and publishes whole specs. The only part of this package that waits.
//!
//! A change is believed when it has been quiet for a moment, because an editor's save is several of them; one that makes a
//! document disappear is believed only when it is still so a second later, because a save may delete and create. What is
//! told by the file system is a hint to look: every couple of seconds it is looked anyway, for network mounts tell nothing.

mod watching;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::field::{DisplayValue, display};

use crate::{
    Spec,
    listing::{Listing, listing},
    load::{FilesSettings, Loaded, PathUnreadable, Reader, Round},
};
use watching::{Fingerprint, Watching, fingerprint};

/// Longer than the gaps within one save; short enough that a person does not notice.
const QUIET: Duration = Duration::from_millis(150);

/// Someone who writes without a pause is still heard.
const QUIET_WITHIN: Duration = Duration::from_secs(1);

/// What vanished may come back within this time: a save, a `git checkout`, a ConfigMap swap.
const GONE_AFTER: Duration = Duration::from_secs(1);

/// How often it is looked without a hint. A few hundred `stat` calls cost well under a millisecond.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Path(#[from] PathUnreadable),
    #[error("reading the documents failed")]
    Reading(#[from] tokio::task::JoinError),
}

/// Loads, publishes generation 1, then publishes again whenever something changed, until `stop`. A path that does not
/// exist is an error before anything is published; later it is a warning, and what ran goes on.
///
/// Not cancel safe in the middle of a change; stop it by `stop`.
pub async fn files(
    settings: FilesSettings,
    out: watch::Sender<Arc<Spec>>,
    stop: CancellationToken,
) -> Result<(), Error> {
    Files::open(settings, out)?.run(stop).await
}

/// The same in two steps, for who must know at once whether the paths are there.
#[must_use = "changes are seen while `run` is"]
pub struct Files {
    reader: Reader,
    out: watch::Sender<Arc<Spec>>,
    told: BTreeSet<String>,
    seen: Fingerprint,
    /// As the last reading had them.
    files: Vec<PathBuf>,
}

impl Files {
    /// Reads all documents and publishes generation 1. Blocks for as long as that takes, milliseconds for hundreds.
    pub fn open(settings: FilesSettings, out: watch::Sender<Arc<Spec>>) -> Result<Self, PathUnreadable> {
        // Before the reading, so that what changes during it is seen as changed.
        let seen = fingerprint(&settings);
        let Listing { files, lost } = listing(&settings);
        if let Some(lost) = lost.into_iter().next() {
            return Err(lost);
        }
        let mut reader = Reader::new(settings);
        let round = reader.round(&files, &out.borrow());
        let loaded = reader.believe(round);
        let mut this = Self {
            reader,
            out,
            told: BTreeSet::new(),
            seen,
            files,
        };
        this.publish(loaded);
        Ok(this)
    }

    /// Watches until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let (hint, mut hints) = mpsc::channel(1);
        let mut watching = Watching::start(self.reader.settings(), hint);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let hinted = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // The watcher holds the other end; while there is none, only looking is left.
                Some(()) = hints.recv() => true,
                _ = look.tick() => false,
            };
            if hinted {
                quiet(&mut hints).await;
            } else if self.unchanged().await? {
                continue;
            }
            self = self.reload(&stop).await?;
            watching.again(self.reader.settings());
        }
    }

    async fn unchanged(&self) -> Result<bool, Error> {
        let settings = self.reader.settings().clone();
        let now = tokio::task::spawn_blocking(move || fingerprint(&settings)).await?;
        Ok(now == self.seen)
    }

    async fn reload(self, stop: &CancellationToken) -> Result<Self, Error> {
        let (this, mut round) = self.read().await?;
        let mut this = this;
        if this.reader.loses(&round) {
            tokio::select! {
                () = stop.cancelled() => return Ok(this),
                () = sleep(GONE_AFTER) => {}
            }
            (this, round) = this.read().await?;
        }
        let loaded = this.reader.believe(round);
        this.publish(loaded);
        Ok(this)
    }

    /// On a thread of its own: a slow disk holds up nobody's events.
    async fn read(mut self) -> Result<(Self, Round), Error> {
        let read = move || {
            self.seen = fingerprint(self.reader.settings());
            let Listing { mut files, lost } = listing(self.reader.settings());
            // Of a path that is lost as a whole nobody knows whether it was meant to go: its files count as unreadable,
            // which keeps what they held.
            let below = |file: &&PathBuf| lost.iter().any(|lost| file.starts_with(&lost.path)) && !files.contains(file);
            let kept: Vec<PathBuf> = self.files.iter().filter(below).cloned().collect();
            files.extend(kept);
            let before = self.out.borrow().clone();
            let round = self.reader.round(&files, &before);
            self.files = files;
            (self, round)
        };
        Ok(tokio::task::spawn_blocking(read).await?)
    }

    /// Publishes what differs, and says what it was: one line for the change, one for each fault that is new.
    fn publish(&mut self, loaded: Loaded) {
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
        let before = std::mem::take(&mut self.told);
        for fault in &loaded.faults {
            let line = fault.one_line();
            let (place, what) = (format!("{}:{}:{}", fault.file, fault.line, fault.column), fault.what());
            if before.contains(&line) {
                // Said before, and still so.
            } else if fault.dangling {
                tracing::warn!(%place, reason = fault.reason, fault = %what, "waiting for what a document refers to");
            } else {
                tracing::warn!(%place, reason = fault.reason, fault = %what, "document is not valid, its last valid version stays");
            }
            self.told.insert(line);
        }
        for warning in &loaded.warnings {
            let line = warning.fault().one_line();
            if !before.contains(&line) {
                tracing::warn!(place = %format!("{}:{}", warning.fault().file, warning.fault().line), reason = warning.fault().reason, warning = %warning.fault().what(), "document is not used");
            }
            self.told.insert(line);
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

/// Waits for a pause between hints, but not for ever. Cancel safe: a hint is only a reason to look.
async fn quiet(hints: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + QUIET_WITHIN;
    while let Ok(Some(())) = timeout_at((Instant::now() + QUIET).min(end), hints.recv()).await {
        if Instant::now() >= end {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
