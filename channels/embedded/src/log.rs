//! A log: appends form a batch while the disk is busy, a committer thread writes the batch with one sync, and every
//! caller is answered.
//!
//! The path of an append: [`Log::append`] (batch.rs) encodes the records into the pending batch and waits.
//! [`Log::commit`], on a committer thread, takes the batch, has the [`Writer`] write and sync it, makes it visible,
//! and answers. Appends that arrive during one sync form the next batch; an idle log writes at once. When many logs
//! write at the same time, a commit is split in two, and all of them share one group commit between the halves
//! (committers.rs, commit.rs).
//!
//! Reading is in read.rs, opening in open.rs. The log only wakes cursors; cursor.rs defines them.

mod batch;
mod commit;
mod committers;
mod dedup_window;
mod gaps;
mod open;
mod read;
mod seek;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use channel::AppendError;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use self::{
    batch::{AppendState, Batch},
    gaps::Gaps,
    writer::Writer,
};
pub(crate) use self::{
    committers::Committers,
    open::{LogError, OpenReport, Opening},
    read::Chunk,
};
use crate::{
    cursor_state::CursorState,
    dedup::Window,
    format::SEGMENT_HEADER,
    reserved_space::ReservedSpace,
    segment::Segment,
    state::Checkpoint,
    stats::{Counters, Stats},
    storage::{Storage, is_full},
    tail::Tail,
};

/// Bytes of a batch before further appends wait: large enough to keep a disk busy, small enough to hold twice (one
/// pending, one being written).
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Retry delay for a refused publisher. A person has to free space or repair the disk; one retry a second is cheap.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A log of events or dead letters, in one folder.
pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    salt: u32,
    segment_bytes: AtomicU64,
    append_state: Mutex<AppendState>,
    /// Wakes the committer thread that waits for expected appends.
    batch_ready: Condvar,
    /// Wakes appends that wait for the pending batch to be taken.
    batch_taken: Notify,
    writer: Mutex<Writer>,
    segments: Mutex<Vec<Arc<Segment>>>,
    /// Segments may have been unlinked, but not durably yet.
    unlinked: AtomicBool,
    /// Everything below this offset is durable and visible.
    committed: AtomicU64,
    tail: Mutex<Tail>,
    cursors: Mutex<Arc<[Arc<CursorState>]>>,
    /// Called after each commit that cursors can see.
    on_commit: OnceLock<Box<dyn Fn() + Send + Sync>>,
    grown: Notify,
    watching: AtomicUsize,
    gaps: Mutex<Gaps>,
    committers: Arc<Committers>,
    reserved_space: Arc<ReservedSpace>,
    purpose: Purpose,
    counters: Counters,
    refusing: Mutex<Option<Refusing>>,
}

/// Why the last write failed.
struct Refusing {
    reason: String,
    /// The disk was full or read-only. The upkeep thread notices its end without another write.
    is_disk_error: bool,
}

/// The contents of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Refused while the reserved space is incomplete.
    Events,
    /// May use the reserved space: an undeliverable event on a full disk has to become a dead letter.
    DeadLetters,
}

/// Why an append was not stored. Cloned to every caller of the batch.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    DiskFull,
    Unavailable(Arc<io::Error>),
    Closed,
}

impl From<Refusal> for AppendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DiskFull => Self::DiskFull {
                retry_after: RETRY_AFTER,
            },
            Refusal::Unavailable(error) => Self::Unavailable {
                retry_after: RETRY_AFTER,
                source: Box::new(error),
            },
            Refusal::Closed => Self::Closed,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        if is_full(&error) {
            Self::DiskFull
        } else {
            Self::Unavailable(Arc::new(error))
        }
    }
}

impl Log {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    #[cfg(test)]
    pub(crate) fn reserved_space(&self) -> &ReservedSpace {
        &self.reserved_space
    }

    pub(crate) fn salt(&self) -> u32 {
        self.salt
    }

    /// Every event below this offset is durable and readable.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(crate) fn set_segment_bytes(&self, bytes: u64) {
        self.segment_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Refuses further appends, and writes the pending batch. Blocks.
    pub(crate) fn close(&self) {
        self.append_state.lock().closed = true;
        self.batch_taken.notify_waiters();
        while self.commit() {}
        if let Err(error) = self.writer.lock().trim() {
            // The next opening finds the last record all the same.
            tracing::debug!(path = %self.dir.display(), %error, "preallocated space cannot be freed");
        }
        self.index_all();
        self.grown.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.append_state.lock().closed
    }

    /// Why the last write failed, while none has succeeded since.
    pub(crate) fn refusing(&self) -> Option<String> {
        self.refusing.lock().as_ref().map(|refusing| refusing.reason.clone())
    }

    /// Called when the disk has space again, or is writable again: clears a refusal for that reason.
    pub(crate) fn disk_recovered(&self) {
        self.refusing.lock().take_if(|refusing| refusing.is_disk_error);
    }

    /// Why the disk counts as slow, if it does.
    pub(crate) fn slow(&self) -> Option<String> {
        self.counters.slow()
    }

    /// Waits until there is an event at or after `from`, or the log is closed. Cancel safe.
    pub(crate) async fn grown(&self, from: u64) {
        let _watching = Watching::enter(&self.watching);
        loop {
            let grown = self.grown.notified();
            if self.committed() > from || self.is_closed() {
                return;
            }
            grown.await;
        }
    }

    pub(crate) fn cursors(&self) -> Arc<[Arc<CursorState>]> {
        self.cursors.lock().clone()
    }

    pub(crate) fn set_cursors(&self, cursors: Arc<[Arc<CursorState>]>) {
        *self.cursors.lock() = cursors;
    }

    /// Sets the callback of a commit. It saves the checkpoint within milliseconds: damage behind the checkpoint cannot be
    /// told from an unfinished write.
    pub(crate) fn notify_commits(&self, notify: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_commit.set(Box::new(notify));
    }

    /// The offset below which every cursor has settled; the end if there is no cursor.
    pub(crate) fn low(&self) -> u64 {
        let committed = self.committed();
        self.cursors
            .lock()
            .iter()
            .map(|cursor| cursor.settled_below().0)
            .min()
            .unwrap_or(committed)
            .min(committed)
    }

    /// Runs `find` on the most recent events.
    pub(crate) fn recent<T>(&self, find: impl FnOnce(&Tail) -> T) -> T {
        find(&self.tail.lock())
    }

    /// How far the log is durable, as of the last write. Before the first write it stores the salt, so that the header
    /// of the only segment is not the only copy.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        // A write in progress changes all of it at once, when it ends.
        let _writer = self.writer.lock();
        let segment = self.segments.lock().last().cloned();
        Checkpoint {
            // Without a segment it is the one that will be created next.
            segment: segment.as_ref().map_or(self.committed(), |segment| segment.base),
            position: segment
                .as_ref()
                .map_or(SEGMENT_HEADER as u64, |segment| segment.length()),
            next: self.committed(),
            last_ms: segment.and_then(|segment| segment.last_ms()).unwrap_or(0),
            salt: self.salt,
        }
    }

    /// Frees memory and files that a quiet log does not need. Blocks.
    pub(crate) fn rest(&self) {
        self.tail.lock().trim(self.low());
        self.trim_dedup_window();
        self.index_finished();
        self.load_backlog_ages(false);
        self.close_idle_writer();
    }

    /// Closes the writer's file if nothing was written since the last call.
    pub(crate) fn close_idle_writer(&self) {
        // If the lock is taken, the log is being written.
        if let Some(mut writer) = self.writer.try_lock() {
            writer.rest();
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let evicted = self
            .append_state
            .lock()
            .window
            .as_ref()
            .map_or(0, Window::evicted_early);
        Stats {
            repeats_evicted_early: evicted,
            ..self.counters.snapshot(self.segments.lock().len())
        }
    }
}

/// Counts a watcher while it waits, also if it is dropped.
struct Watching<'a>(&'a AtomicUsize);

impl<'a> Watching<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
