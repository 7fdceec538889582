//! A commit in two halves: writing the pending batch, then syncing it, making it visible and answering its callers.
//! Between the halves several logs can share one group commit.

use std::{io, sync::atomic::Ordering, time::Duration};

use parking_lot::MutexGuard;

use super::{BATCH_BYTES_MAX, Log, Refusal, Refusing, batch::Batch, writer::Writer};
use crate::{
    disk::explain_read_only,
    storage::{is_full, is_read_only},
    tail::Recent,
};

/// Whether a write shares its sync with other logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitMode {
    /// It does not: the write may wait a moment for expected appends.
    Single,
    /// It does: other logs wait for this write.
    Group,
}

/// The outcome of the first half of a commit.
pub(crate) enum CommitStep<'a> {
    Unsynced(UnsyncedBatch<'a>),
    /// There was nothing to write, or the write failed; every caller is answered. `true`: there is a new batch.
    Done(bool),
}

/// A batch that is written and not synced.
pub(crate) struct UnsyncedBatch<'a> {
    log: &'a Log,
    writer: MutexGuard<'a, Writer>,
    batch: Batch,
    /// Where the batch begins in its segment.
    at: u64,
}

impl UnsyncedBatch<'_> {
    /// The second half of [`Log::commit`]: syncs, unless a group commit did so in time `shared`; makes the batch
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
                // Counted before the callers are answered: they may append again at once, and would count twice.
                writer.expect_appends(batch.waiters.len() + log.append_state.lock().batch.waiters.len());
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

impl Log {
    /// Writes and syncs the pending batch; returns `true` if there is a new one. Blocks; one thread at a time.
    pub(crate) fn commit(&self) -> bool {
        match self.begin(CommitMode::Single) {
            CommitStep::Unsynced(written) => written.finish(None),
            CommitStep::Done(more) => more,
        }
    }

    /// The first half of [`Self::commit`]: writes. Blocks, and holds the writer until the second half.
    pub(crate) fn begin(&self, mode: CommitMode) -> CommitStep<'_> {
        let mut writer = self.writer.lock();
        let spare = writer.take_spare_batch();
        let patience = match mode {
            CommitMode::Single => writer.patience(),
            CommitMode::Group => Duration::ZERO,
        };
        let batch = self.take_batch(writer.expected_appends(), patience, spare);
        if batch.bytes.len() > BATCH_BYTES_MAX {
            self.batch_taken.notify_waiters();
        }
        if batch.bytes.is_empty() {
            // An append of no events only asks whether the log is open.
            return CommitStep::Done(self.end(writer, answer(batch, &Ok(()))));
        }
        match writer.write(self, &batch) {
            Ok(at) => CommitStep::Unsynced(UnsyncedBatch {
                log: self,
                writer,
                batch,
                at,
            }),
            Err(error) => CommitStep::Done(self.end(writer, self.refuse(batch, error))),
        }
    }

    /// Returns the batch for reuse; `true` if there is a new one to commit.
    fn end(&self, mut writer: MutexGuard<'_, Writer>, batch: Batch) -> bool {
        writer.return_batch(batch.reset());
        let mut append_state = self.append_state.lock();
        append_state.submitted = !append_state.batch.waiters.is_empty();
        append_state.submitted
    }

    /// After a commit that panicked: the state of the file is unknown, so it is reopened. Waiting callers receive an
    /// error.
    pub(crate) fn invalidate(&self) {
        self.writer.lock().invalidate();
        let mut append_state = self.append_state.lock();
        append_state.batch = Batch::default();
        append_state.roll_back_to(self.committed());
        append_state.submitted = false;
    }

    /// Makes a durable batch visible to cursors, and answers its callers.
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
            cursor.lease.wake();
        }
        if !cursors.is_empty()
            && let Some(notify) = self.on_commit.get()
        {
            notify();
        }
        if self.watching.load(Ordering::SeqCst) > 0 {
            self.grown.notify_waiters();
        }
        if let Some(Refusing { reason, .. }) = self.refusing.lock().take() {
            tracing::info!(path = %self.dir.display(), reason, "log accepts events again");
        }
        batch
    }

    /// Refuses the batch, and the pending batch behind it, whose offsets follow on.
    fn refuse(&self, batch: Batch, error: io::Error) -> Batch {
        self.counters.failed_writes.fetch_add(1, Ordering::Relaxed);
        let is_disk_error = is_full(&error) || is_read_only(&error);
        let error = explain_read_only(error);
        let reason = error.to_string();
        let refused = Err(Refusal::from(error));
        let later = {
            let mut append_state = self.append_state.lock();
            append_state.roll_back_to(self.committed());
            std::mem::take(&mut append_state.batch)
        };
        let mut refusing = self.refusing.lock();
        if refusing.as_ref().is_none_or(|known| known.reason != reason) {
            tracing::error!(path = %self.dir.display(), error = reason, "log cannot be written, events are refused");
            *refusing = Some(Refusing { reason, is_disk_error });
        }
        drop(refusing);
        self.batch_taken.notify_waiters();
        answer(later, &refused);
        answer(batch, &refused)
    }
}
