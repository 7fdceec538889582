//! The writer of a log: one file, one write and one sync per batch, and what happens when they fail.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use channel::GapReason;
use tokio::time::Instant;

use super::{Batch, Log, Purpose};
use crate::{
    clock,
    format::{SEGMENT_HEADER, SegmentHeader, VERSION},
    frames::Frames,
    reserved_space::Need,
    segment::{Mark, Segment},
    storage::{File, IdleFile, Mode, is_full},
};

/// Bytes read at once when a segment is verified.
const VERIFY_CHUNK: usize = 1 << 20;
/// Bytes between the marks offered while writing. The segment keeps those that are far enough apart.
const MARK_STRIDE: usize = 64 << 10;

/// Zeros preallocated behind the records at most. A sync of overwritten bytes is one disk write; a sync of a file that
/// grew is two or three, for its length and its blocks: 35 us of CPU against 69 us, 0.14 ms against 0.25 ms for 13 kB
/// on ext4. With 1 MiB the one sync that carries the zeros takes back half of that.
const PREALLOCATE_MAX: u64 = 256 << 10;
/// Less is not worth a write. A log never preallocates more than it holds: there may be hundreds of logs.
const PREALLOCATE_MIN: u64 = 1 << 10;

/// A commit waits for expected appends at most this fraction of the last sync's duration: it may save a whole sync.
const PATIENCE_FRACTION: u32 = 2;
/// And at most this long, where syncs are slow.
const PATIENCE_MAX: Duration = Duration::from_millis(1);

pub(super) struct Writer {
    active: Option<Active>,
    /// A write or sync failed: the file must be reopened and a new segment begun before the next write.
    is_broken: bool,
    /// The broken segment was verified already. Only the new one is missing.
    verified: bool,
    /// Begin a new segment with the next write.
    roll: bool,
    spare_batch: Batch,
    /// How many appends were answered or waiting when the last commit ended.
    expected_appends: usize,
    last_sync: Duration,
}

struct Active {
    segment: Arc<Segment>,
    file: IdleFile,
    /// The file's name in the folder is not durable yet.
    unsynced_name: bool,
    /// Length of the file. Zeros behind the last record are preallocated.
    allocated: u64,
    /// The disk was too full for zeros.
    preallocation_failed: bool,
}

impl Writer {
    /// `is_broken`: an unfinished write could not be cut off, so the last segment is not written again.
    pub(super) fn new(is_broken: bool) -> Self {
        Self {
            active: None,
            is_broken,
            verified: is_broken,
            roll: false,
            spare_batch: Batch::default(),
            expected_appends: 0,
            last_sync: Duration::ZERO,
        }
    }

    pub(super) fn take_spare_batch(&mut self) -> Batch {
        std::mem::take(&mut self.spare_batch)
    }

    pub(super) fn return_batch(&mut self, spare_batch: Batch) {
        self.spare_batch = spare_batch;
    }

    /// How many appends the next commit may expect.
    pub(super) fn expected_appends(&self) -> usize {
        self.expected_appends
    }

    pub(super) fn expect_appends(&mut self, appends: usize) {
        self.expected_appends = appends;
    }

    /// How long a commit may wait for expected appends.
    pub(super) fn patience(&self) -> Duration {
        (self.last_sync / PATIENCE_FRACTION).min(PATIENCE_MAX)
    }

    pub(super) fn invalidate(&mut self) {
        self.active = None;
        self.is_broken = true;
        self.verified = false;
    }

    /// Writes a batch; returns its position in the segment. The batch is stored after a sync and [`Self::synced`];
    /// after an error nothing of it is. Blocks.
    ///
    /// Events are written only while the reserved space is complete, and never use it. Dead letters do.
    pub(super) fn write(&mut self, log: &Log, batch: &Batch) -> io::Result<u64> {
        match log.purpose {
            Purpose::Events if !log.reserved_space.is_whole() => Err(log.reserved_space.short()),
            Purpose::Events => self.write_once(log, batch),
            Purpose::DeadLetters => {
                let bytes = batch.bytes.len() as u64 + SEGMENT_HEADER as u64;
                log.reserved_space
                    .lend(bytes, Need::DeadLetters, || self.write_once(log, batch))
            }
        }
    }

    fn write_once(&mut self, log: &Log, batch: &Batch) -> io::Result<u64> {
        if self.is_broken {
            self.reopen(log)?;
        }
        let length = batch.bytes.len() as u64;
        let limit = log.segment_bytes.load(Ordering::Relaxed);
        let active = self.active(log, length, limit)?;
        let at = active.segment.length();
        if let Err(error) = active.file.open()?.write_at(&batch.bytes, at) {
            // A full disk is not a broken one: the partial write is cut off, and the file is as before.
            return Err(if is_full(&error) && active.cut_to_length().is_ok() {
                error
            } else {
                self.mark_broken(error)
            });
        }
        match active.preallocate(at + length, limit) {
            Ok(()) => Ok(at),
            Err(error) => Err(self.mark_broken(error)),
        }
    }

    /// Syncs the batch; returns the duration. Blocks.
    pub(super) fn sync(&mut self, log: &Log) -> io::Result<Duration> {
        let Some(active) = &mut self.active else {
            return Err(io::Error::other("no segment to sync"));
        };
        let started = Instant::now();
        let synced = active.file.open().and_then(|file| file.sync());
        let synced = synced.and_then(|()| {
            if active.unsynced_name {
                log.storage.sync_dir(&log.dir)
            } else {
                Ok(())
            }
        });
        match synced {
            Ok(()) => {
                let took = started.elapsed();
                log.committers.syncs().record_file_sync(took);
                Ok(took)
            }
            Err(error) => Err(self.mark_broken(error)),
        }
    }

    /// Records that the batch at `at` and the segment's name are durable.
    pub(super) fn synced(&mut self, log: &Log, batch: &Batch, at: u64, took: Duration) {
        log.counters.synced(took);
        self.last_sync = took;
        if let Some(active) = &mut self.active {
            active.unsynced_name = false;
            active.note(log.committed(), at, batch);
            active.segment.set_length(at + batch.bytes.len() as u64);
        }
    }

    /// Marks the file as broken. The batch may be there after a crash, so not even a full disk is reported as such:
    /// that would say for sure that nothing was stored.
    fn mark_broken(&mut self, error: io::Error) -> io::Error {
        self.invalidate();
        if is_full(&error) {
            io::Error::other(error)
        } else {
            error
        }
    }

    /// Begins a new segment now, so that the previous one can be deleted.
    pub(super) fn roll(&mut self, log: &Log) -> io::Result<()> {
        if self.is_broken {
            return self.reopen(log);
        }
        self.begin(log)?;
        if let Some(active) = &mut self.active {
            let synced = active.file.open().and_then(|file| file.sync());
            let synced = synced.and_then(|()| log.storage.sync_dir(&log.dir));
            if let Err(error) = synced {
                return Err(self.mark_broken(error));
            }
            active.unsynced_name = false;
        }
        Ok(())
    }

    pub(super) fn start_segment_with_next_write(&mut self) {
        self.roll = true;
    }

    /// The file to write to: the last segment, or a new one if that is full.
    fn active(&mut self, log: &Log, length: u64, limit: u64) -> io::Result<&mut Active> {
        let last = log.segments.lock().last().cloned();
        match last {
            Some(segment) if segment.is_empty() || (!self.roll && segment.length() + length <= limit) => {
                if self
                    .active
                    .as_ref()
                    .is_none_or(|active| !Arc::ptr_eq(&active.segment, &segment))
                {
                    let file = log.storage.open(&segment.path, Mode::Existing)?;
                    self.active = Some(Active {
                        allocated: file.length()?,
                        file: IdleFile::new(log.storage.clone(), segment.path.clone(), file),
                        segment,
                        // An earlier process may have been killed between creating the file and syncing its name.
                        unsynced_name: true,
                        preallocation_failed: false,
                    });
                }
            }
            _ => self.begin(log)?,
        }
        self.active
            .as_mut()
            .ok_or_else(|| io::Error::other("no segment to write to"))
    }

    /// Creates the segment that begins at the next offset.
    fn begin(&mut self, log: &Log) -> io::Result<()> {
        if let Err(error) = self.trim() {
            return Err(self.mark_broken(error));
        }
        self.active = None;
        // Stays set until it succeeds: a file of that name may be left behind, and then the previous segment ends
        // where it begins.
        self.roll = true;
        let base = log.committed();
        let segment = Arc::new(Segment::begun(&log.dir, base));
        log.storage.create_dir(&log.dir)?;
        let mut segments = log.segments.lock();
        if segments.last().is_some_and(|last| last.base == base) {
            // It never held a record, and its file is not trusted: a new file replaces it.
            segments.pop();
            log.storage.remove(&segment.path)?;
        }
        let file = log.storage.open(&segment.path, Mode::New)?;
        let header = SegmentHeader {
            version: VERSION,
            base,
            created_ms: clock::to_ms(SystemTime::now()),
            salt: log.salt,
        };
        if let Err(error) = file.write_at(&header.encode(), 0) {
            let _ = log.storage.remove(&segment.path);
            return Err(error);
        }
        segments.push(segment.clone());
        self.roll = false;
        self.active = Some(Active {
            file: IdleFile::new(log.storage.clone(), segment.path.clone(), file),
            segment,
            unsynced_name: true,
            allocated: SEGMENT_HEADER as u64,
            preallocation_failed: false,
        });
        Ok(())
    }

    /// Frees the preallocated zeros: the segment is sealed, or the log closed.
    pub(super) fn trim(&mut self) -> io::Result<()> {
        match &mut self.active {
            Some(active) if active.allocated > active.segment.length() => active.cut_to_length(),
            _ => Ok(()),
        }
    }

    /// Closes the file of a quiet log. Everything in it is durable, because the writer is locked between a write and
    /// its sync.
    pub(super) fn rest(&mut self) {
        self.spare_batch = Batch::default();
        if let Some(active) = &mut self.active {
            active.file.rest();
        }
    }

    /// Recovers from a failed write or sync: reopens the segment, cuts off the partial write, verifies the rest, and
    /// begins a new segment. The handle that failed is never used again.
    fn reopen(&mut self, log: &Log) -> io::Result<()> {
        self.active = None;
        let last = log.segments.lock().last().cloned();
        if let Some(segment) = last.filter(|segment| !segment.is_empty())
            && !self.verified
        {
            segment.invalidate();
            let file = log.storage.open(&segment.path, Mode::Existing)?;
            if file.length()? > segment.length() {
                file.truncate(segment.length())?;
                file.sync()?;
            }
            log.verify(&segment, file)?;
            self.verified = true;
            tracing::info!(path = %segment.path.display(), "segment verified after a failed write");
        }
        self.begin(log)?;
        self.is_broken = false;
        self.verified = false;
        Ok(())
    }
}

impl Active {
    /// Cuts off everything behind the last record, durably.
    fn cut_to_length(&mut self) -> io::Result<()> {
        let file = self.file.open()?;
        file.truncate(self.segment.length())?;
        self.allocated = self.segment.length();
        file.sync()
    }

    /// Preallocates zeros behind `end` if the last write grew the file. A disk that is too full for them still has
    /// space for the records.
    fn preallocate(&mut self, end: u64, limit: u64) -> io::Result<()> {
        if end <= self.allocated {
            return Ok(());
        }
        self.allocated = end;
        let room = end.min(PREALLOCATE_MAX).min(limit.saturating_sub(end));
        if room < PREALLOCATE_MIN || self.preallocation_failed {
            return Ok(());
        }
        let (file, zeros) = (self.file.open()?, vec![0; usize::try_from(room).unwrap_or_default()]);
        match file.write_at(&zeros, end) {
            Ok(()) => {
                self.allocated = end + room;
                Ok(())
            }
            Err(error) if is_full(&error) => {
                self.preallocation_failed = true;
                file.truncate(end)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds marks for seeking.
    fn note(&self, first: u64, at: u64, batch: &Batch) {
        let mut due = 0;
        for (entry, offset) in batch.entries.iter().zip(first..) {
            if entry.at >= due {
                self.segment.mark(Mark {
                    offset,
                    position: at + entry.at as u64,
                    stored_ms: entry.stored_ms,
                });
                due = entry.at + MARK_STRIDE;
            }
        }
        if let Some(last) = batch.entries.last() {
            self.segment.saw(last.stored_ms);
        }
    }
}

impl Log {
    /// Reads a whole segment, and records what is not intact as gaps.
    fn verify(&self, segment: &Segment, file: Arc<dyn File>) -> io::Result<()> {
        let mut frames = Frames::new(
            file,
            self.salt,
            Mark::first(segment.base),
            segment.length(),
            VERIFY_CHUNK,
        );
        let mut expected = segment.base;
        while let Some(frame) = frames.next()? {
            if frame.header.offset > expected {
                self.add_gap(expected..frame.header.offset, GapReason::Damage);
            }
            expected = expected.max(frame.header.offset + 1);
        }
        if expected < self.committed() {
            self.add_gap(expected..self.committed(), GapReason::Damage);
        }
        Ok(())
    }
}
