//! Standalone's spec store: watches files and folders and publishes whole specs. The only part of this package that waits.
//!
//! A change is believed when it has been quiet for a moment, because an editor's save is several of them; one that makes a
//! document disappear is believed only when it is still so a second later, because a save may delete and create. What is
//! told by the file system is a hint to look: every couple of seconds it is looked anyway, for network mounts tell nothing.

mod watching;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Spec,
    listing::{Listing, listing},
    load::{FilesSettings, PathUnreadable, Reader, Round},
    publisher::Publisher,
};
use watching::{Fingerprint, Watching, fingerprint};

/// Longer than the gaps within one save; short enough that a person does not notice.
const QUIET: Duration = Duration::from_millis(150);

/// Someone who writes without a pause is still heard.
const QUIET_WITHIN: Duration = Duration::from_secs(1);

/// A file that vanished may come back within this time: a save, a `git checkout`, a ConfigMap swap.
const GONE_AFTER: Duration = Duration::from_secs(1);

/// How often files are polled without a hint. A few hundred `stat` calls cost well under a millisecond.
const POLL_EVERY: Duration = Duration::from_secs(2);

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

/// A request to read all documents again, and the report that it was done.
#[derive(Debug, Default)]
pub struct Reload {
    asked: Notify,
    done: Notify,
}

impl Reload {
    /// Asks. Requests that come during a reload are served by one more.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits until a reload that was asked for is done: what changed is published. For one task alone. Cancel safe.
    pub async fn done(&self) {
        self.done.notified().await;
    }
}

/// The same in two steps, for who must know at once whether the paths are there.
#[must_use = "changes are seen while `run` is"]
pub struct Files {
    reader: Reader,
    publisher: Publisher,
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
        let publisher = Publisher::new(out);
        let round = reader.round(&files, &publisher.published());
        let loaded = reader.believe(round);
        let mut this = Self {
            reader,
            publisher,
            seen,
            files,
        };
        this.publisher.publish(loaded);
        Ok(this)
    }

    /// Watches until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        self.run_asked(Arc::default(), stop).await
    }

    /// Watches until `stop`, and reads everything again when `reload` is asked for.
    pub async fn run_asked(mut self, reload: Arc<Reload>, stop: CancellationToken) -> Result<(), Error> {
        let (hint, mut hints) = mpsc::channel(1);
        let mut watching = Watching::start(self.reader.settings(), hint);
        let mut poll = interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // The watcher holds the other end; while there is none, only looking is left.
                Some(()) = hints.recv() => Wake::Hint,
                () = reload.asked.notified() => Wake::Asked,
                _ = poll.tick() => Wake::Poll,
            };
            let is_asked = matches!(wake, Wake::Asked);
            match wake {
                Wake::Hint => quiet(&mut hints).await,
                Wake::Poll if self.unchanged().await? => continue,
                Wake::Poll | Wake::Asked => {}
            }
            self = self.reload(&stop).await?;
            watching.again(self.reader.settings());
            if is_asked {
                reload.done.notify_one();
            }
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
        this.publisher.publish(loaded);
        Ok(this)
    }

    /// Reads on a thread of its own: a slow disk delays no events.
    async fn read(mut self) -> Result<(Self, Round), Error> {
        let read = move || {
            self.seen = fingerprint(self.reader.settings());
            let Listing { mut files, lost } = listing(self.reader.settings());
            // Whether a path that is lost as a whole was deleted on purpose is unknown: its files count as unreadable, which
            // keeps their documents.
            let below = |file: &&PathBuf| lost.iter().any(|lost| file.starts_with(&lost.path)) && !files.contains(file);
            let kept: Vec<PathBuf> = self.files.iter().filter(below).cloned().collect();
            files.extend(kept);
            let before = self.publisher.published();
            let round = self.reader.round(&files, &before);
            self.files = files;
            (self, round)
        };
        Ok(tokio::task::spawn_blocking(read).await?)
    }
}

/// Why documents may have to be read again.
enum Wake {
    Hint,
    Asked,
    Poll,
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
