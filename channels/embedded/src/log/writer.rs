//! The writing end of a log: one file, one write and one sync per batch, and what happens when they fail.

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
    format::{SEGMENT_HEADER, SegmentHeader},
    frames::Frames,
    headroom::{self, Need},
    segment::{Mark, Segment},
    storage::{File, Mode, RestingFile, is_full},
};

/// How much is read at once when a segment is verified.
const VERIFY_CHUNK: usize = 1 << 20;
/// Bytes between the marks offered while writing; the segment keeps those that are far enough apart.
const MARK_STRIDE: usize = 64 << 10;

/// Zeros written ahead of the records at most. A sync of overwritten bytes is one write to the disk; a sync of a file that
/// grew is two or three, for its length and its blocks: 35 us of CPU against 69 us, 0.14 ms against 0.25 ms for 13 kB on ext4.
/// With 1 MiB the one sync that carries the zeros takes back half of that.
const RESERVE_MAX: u64 = 256 << 10;
/// Less is not worth a write. A log never reserves more than it holds: there may be hundreds of them.
const RESERVE_MIN: u64 = 1 << 10;

/// A write waits for a crowd at most this fraction of what the last sync took: it may gain a whole sync.
const PATIENCE_FRACTION: u32 = 2;
/// And at most this long, where syncs are slow.
const PATIENCE_MAX: Duration = Duration::from_millis(1);

pub(super) struct Writer {
    active: Option<Active>,
    /// A write or sync failed: the file is opened anew and a new segment begun before anything else is written.
    poisoned: bool,
    /// The poisoned segment was verified already; only the new one is missing.
    verified: bool,
    /// Begin a new segment with the next write.
    roll: bool,
    spare: Batch,
    /// How many appends were answered or waiting when the last write ended.
    crowd: usize,
    last_sync: Duration,
}

struct Active {
    segment: Arc<Segment>,
    file: RestingFile,
    /// Its name in the folder is not durable yet.
    unsynced_name: bool,
    /// Length of the file: zeros behind the last record are room for the next.
    reserved: u64,
    /// The disk was too full for zeros.
    unreserved: bool,
}

impl Writer {
    /// `poisoned`: what lies behind the last good record could not be cut off, so that segment is not written again.
    pub(super) fn new(poisoned: bool) -> Self {
        Self {
            active: None,
            poisoned,
            verified: poisoned,
            roll: false,
            spare: Batch::default(),
            crowd: 0,
            last_sync: Duration::ZERO,
        }
    }

    pub(super) fn spare(&mut self) -> Batch {
        std::mem::take(&mut self.spare)
    }

    pub(super) fn keep(&mut self, spare: Batch) {
        self.spare = spare;
    }

    /// How many appends may come at a time, going by the last write.
    pub(super) fn crowd(&self) -> usize {
        self.crowd
    }

    pub(super) fn crowded(&mut self, appends: usize) {
        self.crowd = appends;
    }

    /// How long a write may wait for a crowd.
    pub(super) fn patience(&self) -> Duration {
        (self.last_sync / PATIENCE_FRACTION).min(PATIENCE_MAX)
    }

    pub(super) fn distrust(&mut self) {
        self.active = None;
        self.poisoned = true;
        self.verified = false;
    }

    /// Writes a batch; returns where in the segment. It is in the log once it is synced, and [`Self::synced`] was told. On an
    /// error nothing of it is in the log.
    ///
    /// Events are written while the headroom is whole, and never take from it; letters do.
    pub(super) fn write(&mut self, log: &Log, batch: &Batch) -> io::Result<u64> {
        match log.purpose {
            Purpose::Events if !log.headroom.is_whole() => Err(headroom::short()),
            Purpose::Events => self.write_once(log, batch),
            Purpose::Letters => {
                let bytes = batch.bytes.len() as u64 + SEGMENT_HEADER as u64;
                log.headroom.lend(bytes, Need::Letters, || self.write_once(log, batch))
            }
        }
    }

    fn write_once(&mut self, log: &Log, batch: &Batch) -> io::Result<u64> {
        if self.poisoned {
            self.reopen(log)?;
        }
        let length = batch.bytes.len() as u64;
        let limit = log.segment_bytes.load(Ordering::Relaxed);
        let active = self.active(log, length, limit)?;
        let at = active.segment.length();
        if let Err(error) = active.file.open()?.write_at(&batch.bytes, at) {
            // A full disk is no broken one: what was written is taken back, and the file is as before.
            return Err(match is_full(&error) && active.take_back().is_ok() {
                true => error,
                false => self.give_up(error),
            });
        }
        match active.reserve(at + length, limit) {
            Ok(()) => Ok(at),
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// Syncs what was written; returns how long it took.
    pub(super) fn sync(&mut self, log: &Log) -> io::Result<Duration> {
        let Some(active) = &mut self.active else {
            return Err(io::Error::other("no segment to sync"));
        };
        let started = Instant::now();
        let synced = active.file.open().and_then(|file| file.sync());
        let synced = synced.and_then(|()| match active.unsynced_name {
            true => log.storage.sync_dir(&log.dir),
            false => Ok(()),
        });
        match synced {
            Ok(()) => {
                let took = started.elapsed();
                log.committers.syncs().alone(took);
                Ok(took)
            }
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// The batch at this place of the segment is durable, and so is the segment's name.
    pub(super) fn synced(&mut self, log: &Log, batch: &Batch, at: u64, took: Duration) {
        log.counters.synced(took);
        self.last_sync = took;
        if let Some(active) = &mut self.active {
            active.unsynced_name = false;
            active.note(log.committed(), at, batch);
            active.segment.set_length(at + batch.bytes.len() as u64);
        }
    }

    /// Trusts the file no more. What was written may be there after a crash, so even a full disk is not the answer: that
    /// would say for sure that nothing was stored.
    fn give_up(&mut self, error: io::Error) -> io::Error {
        self.distrust();
        if is_full(&error) {
            io::Error::other(error)
        } else {
            error
        }
    }

    /// Begins a new segment now, so that the one before can be deleted.
    pub(super) fn roll(&mut self, log: &Log) -> io::Result<()> {
        if self.poisoned {
            return self.reopen(log);
        }
        self.begin(log)?;
        if let Some(active) = &mut self.active {
            let synced = active.file.open().and_then(|file| file.sync());
            let synced = synced.and_then(|()| log.storage.sync_dir(&log.dir));
            if let Err(error) = synced {
                return Err(self.give_up(error));
            }
            active.unsynced_name = false;
        }
        Ok(())
    }

    pub(super) fn roll_with_next_write(&mut self) {
        self.roll = true;
    }

    /// The file to write to: the last segment, or a new one when that is full.
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
                        reserved: file.length()?,
                        file: RestingFile::new(log.storage.clone(), segment.path.clone(), file),
                        segment,
                        // An earlier process may have been killed between making the file and syncing its name.
                        unsynced_name: true,
                        unreserved: false,
                    });
                }
            }
            _ => self.begin(log)?,
        }
        self.active
            .as_mut()
            .ok_or_else(|| io::Error::other("no segment to write to"))
    }

    /// Creates the segment that begins at the next place.
    fn begin(&mut self, log: &Log) -> io::Result<()> {
        if let Err(error) = self.trim() {
            return Err(self.give_up(error));
        }
        self.active = None;
        // Until it succeeds: a file of that name may be left behind, and then the segment before ends where it begins.
        self.roll = true;
        let base = log.committed();
        let segment = Arc::new(Segment::begun(&log.dir, base));
        log.storage.create_dir(&log.dir)?;
        let mut segments = log.segments.lock();
        if segments.last().is_some_and(|last| last.base == base) {
            // It never held a record, and its file is not trusted: a new file takes its name.
            segments.pop();
            log.storage.remove(&segment.path)?;
        }
        let file = log.storage.open(&segment.path, Mode::New)?;
        let header = SegmentHeader {
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
            file: RestingFile::new(log.storage.clone(), segment.path.clone(), file),
            segment,
            unsynced_name: true,
            reserved: SEGMENT_HEADER as u64,
            unreserved: false,
        });
        Ok(())
    }

    /// Gives back the room behind the last record: the segment is finished, or the log is closed.
    pub(super) fn trim(&mut self) -> io::Result<()> {
        match &mut self.active {
            Some(active) if active.reserved > active.segment.length() => active.take_back(),
            _ => Ok(()),
        }
    }

    /// Closes the file of a log that nothing is written to. Everything in it is durable: between a write and its sync nobody else
    /// has the writer.
    pub(super) fn rest(&mut self) {
        self.spare = Batch::default();
        if let Some(active) = &mut self.active {
            active.file.rest();
        }
    }

    /// After a failed write or sync: opens the segment anew, takes back what may have been written, reads all of it,
    /// and goes on in a new segment. The handle that failed is never used again.
    fn reopen(&mut self, log: &Log) -> io::Result<()> {
        self.active = None;
        let last = log.segments.lock().last().cloned();
        if let Some(segment) = last.filter(|segment| !segment.is_empty())
            && !self.verified
        {
            segment.distrust();
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
        self.poisoned = false;
        self.verified = false;
        Ok(())
    }
}

impl Active {
    /// Cuts off what is behind the last record, durably.
    fn take_back(&mut self) -> io::Result<()> {
        let file = self.file.open()?;
        file.truncate(self.segment.length())?;
        self.reserved = self.segment.length();
        file.sync()
    }

    /// Writes zeros behind `end`, where the file grew with the last write. A disk that is too full for them still has room for
    /// the records.
    fn reserve(&mut self, end: u64, limit: u64) -> io::Result<()> {
        if end <= self.reserved {
            return Ok(());
        }
        self.reserved = end;
        let room = end.min(RESERVE_MAX).min(limit.saturating_sub(end));
        if room < RESERVE_MIN || self.unreserved {
            return Ok(());
        }
        let (file, zeros) = (self.file.open()?, vec![0; usize::try_from(room).unwrap_or_default()]);
        match file.write_at(&zeros, end) {
            Ok(()) => {
                self.reserved = end + room;
                Ok(())
            }
            Err(error) if is_full(&error) => {
                self.unreserved = true;
                file.truncate(end)
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves marks for seeking.
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
    /// Reads a whole segment; what is not whole is recorded as a gap.
    fn verify(&self, segment: &Segment, file: Arc<dyn File>) -> io::Result<()> {
        let mut frames = Frames::new(file, self.salt, SEGMENT_HEADER as u64, segment.length(), VERIFY_CHUNK);
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
