//! A log: appends gather while the disk is busy, one thread writes them with one sync, and everyone is answered.
//!
//! The way of an append: [`Log::append`] (gather.rs) encodes the records into the gathering buffer and waits;
//! [`Log::commit`], on a committer's thread, takes the buffer, has the [`Writer`] write and sync it, makes it visible,
//! and answers. What arrives during one sync is the next batch; an idle log writes at once. Where many logs write at the same
//! time, the two halves of a commit are apart, and all of them share one sync (committers.rs).
//!
//! Reading is in read.rs, opening in open.rs. What cursors are is cursor.rs's business; a log wakes them.

mod gaps;
mod gather;
mod lately;
mod open;
mod read;
mod seek;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use channel::AppendError;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use self::{
    gaps::Gaps,
    gather::{Batch, Gathering},
    writer::Writer,
};
pub(crate) use self::{
    open::{Found, LogError, Opening},
    read::Chunk,
};
use crate::{
    committers::Committers,
    cursor::Shared,
    dedup::Window,
    format::SEGMENT_HEADER,
    headroom::Headroom,
    segment::Segment,
    state::Checkpoint,
    stats::{Counters, Stats},
    storage::{Storage, is_full},
    tail::{Recent, Tail},
};

/// Bytes gathered before appends wait their turn: large enough for a batch that keeps a disk busy, small enough to hold
/// twice (one gathering, one being written).
const GATHER_BYTES_MAX: usize = 4 << 20;
/// What a refused publisher is told. Space and disks come back by a person's hand or not at all; one look a second at
/// them is cheap.
const RETRY_AFTER: Duration = Duration::from_secs(1);
pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    salt: u32,
    segment_bytes: AtomicU64,
    gathering: Mutex<Gathering>,
    /// The committing thread, waiting for appends that are about to come.
    crowded: Condvar,
    /// Appends that wait for the gathering buffer.
    room: Notify,
    writer: Mutex<Writer>,
    segments: Mutex<Vec<Arc<Segment>>>,
    /// Some may have been unlinked, not durably yet.
    unlinked: AtomicBool,
    /// Everything below is durable and visible.
    committed: AtomicU64,
    tail: Mutex<Tail>,
    cursors: Mutex<Arc<[Arc<Shared>]>>,
    grown: Notify,
    watching: AtomicUsize,
    gaps: Mutex<Gaps>,
    committers: Arc<Committers>,
    headroom: Arc<Headroom>,
    purpose: Purpose,
    counters: Counters,
    refusing: Mutex<Option<String>>,
}

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Refused while the headroom is short.
    Events,
    /// Written with the headroom when there is no other space: an event of a full disk may have to become one.
    Letters,
}

/// Why an append was not stored. Cloned to everyone in a batch.
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
    pub(crate) fn headroom(&self) -> &Headroom {
        &self.headroom
    }

    pub(crate) fn salt(&self) -> u32 {
        self.salt
    }

    /// Everything below this place is durable and can be read.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(crate) fn set_segment_bytes(&self, bytes: u64) {
        self.segment_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Writes what has gathered, and syncs it; `true` when more has gathered meanwhile. Blocks; one thread at a time.
    pub(crate) fn commit(&self) -> bool {
        match self.begin(Company::Alone) {
            Begun::Written(written) => written.finish(None),
            Begun::Over(more) => more,
        }
    }

    /// The first half of [`Self::commit`]: writes. Blocks, and keeps others from writing until the second half.
    pub(crate) fn begin(&self, company: Company) -> Begun<'_> {
        let mut writer = self.writer.lock();
        let spare = writer.spare();
        let patience = match company {
            Company::Alone => writer.patience(),
            Company::Others => Duration::ZERO,
        };
        let batch = self.gathered(writer.crowd(), patience, spare);
        if batch.bytes.len() > GATHER_BYTES_MAX {
            self.room.notify_waiters();
        }
        if batch.bytes.is_empty() {
            // An append of no events asks only whether the log is open.
            return Begun::Over(self.end(writer, answer(batch, &Ok(()))));
        }
        match writer.write(self, &batch) {
            Ok(at) => Begun::Written(Written {
                log: self,
                writer,
                batch,
                at,
            }),
            Err(error) => Begun::Over(self.end(writer, self.refuse(batch, error))),
        }
    }

    /// Has more gathered meanwhile?
    fn end(&self, mut writer: MutexGuard<'_, Writer>, batch: Batch) -> bool {
        writer.keep(batch.reset());
        let mut gathering = self.gathering.lock();
        gathering.submitted = !gathering.batch.waiters.is_empty();
        gathering.submitted
    }

    /// After a write that panicked: nothing known about the file, so it is opened anew. Who waits is told that it was given up.
    pub(crate) fn distrust(&self) {
        self.writer.lock().distrust();
        let mut gathering = self.gathering.lock();
        gathering.batch = Batch::default();
        gathering.back_to(self.committed());
        gathering.submitted = false;
    }

    /// What was written is durable: lets cursors have it, and answers.
    fn publish(&self, mut batch: Batch) -> Batch {
        let cursors = self.cursors.lock().clone();
        let first = self.committed();
        let next = first + batch.entries.len() as u64;
        self.counters
            .appends
            .fetch_add(batch.entries.len() as u64, Ordering::Relaxed);
        self.counters
            .appended_bytes
            .fetch_add(batch.bytes.len() as u64, Ordering::Relaxed);
        if cursors.is_empty() {
            batch.entries.clear();
        } else {
            let low = cursors
                .iter()
                .map(|cursor| cursor.settled_below().0)
                .min()
                .unwrap_or(next);
            let recent = batch.entries.drain(..).map(|entry| Recent {
                event: entry.event,
                stored_ms: entry.stored_ms,
            });
            self.tail.lock().extend(first, recent, low);
        }
        self.committed.store(next, Ordering::Release);
        let batch = answer(batch, &Ok(()));
        for cursor in &*cursors {
            cursor.seat.wake();
        }
        if let Some(cursor) = cursors.first() {
            // So that how far the log is good is in the state file within milliseconds: damage behind that point is taken for
            // a write that was never finished.
            cursor.changed();
        }
        if self.watching.load(Ordering::SeqCst) > 0 {
            self.grown.notify_waiters();
        }
        if let Some(reason) = self.refusing.lock().take() {
            tracing::info!(path = %self.dir.display(), reason, "log takes events again");
        }
        batch
    }

    /// Nothing of it is stored, nor of what gathered behind it, whose places follow on.
    fn refuse(&self, batch: Batch, error: io::Error) -> Batch {
        self.counters.failed_writes.fetch_add(1, Ordering::Relaxed);
        let reason = error.to_string();
        let refused = Err(Refusal::from(error));
        let later = {
            let mut gathering = self.gathering.lock();
            gathering.back_to(self.committed());
            std::mem::take(&mut gathering.batch)
        };
        let mut refusing = self.refusing.lock();
        if refusing.as_ref() != Some(&reason) {
            tracing::error!(path = %self.dir.display(), error = reason, "log cannot be written, events are refused");
            *refusing = Some(reason);
        }
        drop(refusing);
        self.room.notify_waiters();
        answer(later, &refused);
        answer(batch, &refused)
    }

    /// Takes no more, and writes what was taken.
    pub(crate) fn close(&self) {
        self.gathering.lock().closed = true;
        self.room.notify_waiters();
        while self.commit() {}
        if let Err(error) = self.writer.lock().trim() {
            // The next opening finds the last record all the same.
            tracing::debug!(path = %self.dir.display(), %error, "log is closed untrimmed");
        }
        self.index_all();
        self.grown.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gathering.lock().closed
    }

    /// Why the last write failed, while none has succeeded since.
    pub(crate) fn refusing(&self) -> Option<String> {
        self.refusing.lock().clone()
    }

    /// Why its disk counts as slow.
    pub(crate) fn slow(&self) -> Option<String> {
        self.counters.slow()
    }

    /// Returns when there is something at or after a place, or the log is closed.
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

    pub(crate) fn cursors(&self) -> Arc<[Arc<Shared>]> {
        self.cursors.lock().clone()
    }

    pub(crate) fn set_cursors(&self, cursors: Arc<[Arc<Shared>]>) {
        *self.cursors.lock() = cursors;
    }

    /// The place below which every cursor is done; the end when there is none.
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

    /// Looks an event up among the recent ones.
    pub(crate) fn recent<T>(&self, look: impl FnOnce(&Tail) -> T) -> T {
        look(&self.tail.lock())
    }

    /// How far the log is durable, as of the last write. Before the first one it says what the salt is: the header of the
    /// only segment must not be the only place that knows.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        // A write in progress moves all of it at once, at its end.
        let _writer = self.writer.lock();
        let segment = self.segments.lock().last().cloned();
        Checkpoint {
            // With none left it is the one that will be begun.
            segment: segment.as_ref().map_or(self.committed(), |segment| segment.base),
            position: segment
                .as_ref()
                .map_or(SEGMENT_HEADER as u64, |segment| segment.length()),
            next: self.committed(),
            last_ms: segment.and_then(|segment| segment.last_ms()).unwrap_or(0),
            salt: self.salt,
        }
    }

    /// Gives memory back that a quiet log does not need.
    pub(crate) fn rest(&self) {
        self.tail.lock().trim(self.low());
        self.forget_lately();
        self.index_finished();
        self.date_backlogs(false);
        self.rest_writer();
    }

    /// As [`Self::rest`], of the writing end alone.
    pub(crate) fn rest_writer(&self) {
        // Whoever has it is writing.
        if let Some(mut writer) = self.writer.try_lock() {
            writer.rest();
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let forgotten = self.gathering.lock().window.as_ref().map_or(0, Window::forgotten_early);
        Stats {
            repeats_forgotten_early: forgotten,
            ..self.counters.snapshot(self.segments.lock().len())
        }
    }
}

/// Who shares the disk with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Nobody: it may wait a moment for appends that are about to come.
    Alone,
    /// Other logs, which wait for it.
    Others,
}

/// What became of a write so far.
pub(crate) enum Begun<'a> {
    Written(Written<'a>),
    /// There was nothing to write, or it failed; everyone is answered. `true`: more has gathered meanwhile.
    Over(bool),
}

/// A batch that is written and not synced.
pub(crate) struct Written<'a> {
    log: &'a Log,
    writer: MutexGuard<'a, Writer>,
    batch: Batch,
    /// Where it begins in its segment.
    at: u64,
}

impl Written<'_> {
    /// The second half of [`Log::commit`]: syncs, unless a sync of everything has done it in so much time, makes the batch
    /// visible, and answers. Blocks.
    pub(crate) fn finish(self, shared: Option<Duration>) -> bool {
        let Self {
            log,
            mut writer,
            batch,
            at,
        } = self;
        let synced = match shared {
            Some(took) => Ok(took),
            None => writer.sync(log),
        };
        let batch = match synced {
            Ok(took) => {
                writer.synced(log, &batch, at, took);
                // Before anyone is answered, who may be back at once and would be counted twice.
                writer.crowded(batch.waiters.len() + log.gathering.lock().batch.waiters.len());
                log.publish(batch)
            }
            Err(error) => log.refuse(batch, error),
        };
        log.end(writer, batch)
    }
}

fn answer(mut batch: Batch, result: &Result<(), Refusal>) -> Batch {
    for waiter in batch.waiters.drain(..) {
        let _ = waiter.send(result.clone());
    }
    batch
}

/// Counts a watcher for as long as it waits, also when it is dropped.
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
