//! Opens a log: lists its segments, recovers the last one, and determines the next offset.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use channel::{Gap, GapReason};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::{AppendState, Batch, Committers, Gaps, Log, Purpose, writer::Writer};
use crate::{
    format::{BadHeader, SEGMENT_HEADER, SegmentHeader, VERSION},
    frames::Frames,
    recovery::{Recovered, recover},
    reserved_space::ReservedSpace,
    segment::{Mark, Segment},
    state::Checkpoint,
    stats::Counters,
    storage::{File, Storage, is_blank, is_read_only, rewrite},
    tail::{Budget, Tail},
};

/// Bytes read at once. Checksums limit a recovery, not reads.
const RECOVERY_CHUNK: usize = 1 << 20;

/// The arguments of opening a log.
pub(crate) struct Opening {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) budget: Budget,
    pub(crate) committers: Arc<Committers>,
    pub(crate) reserved_space: Arc<ReservedSpace>,
    pub(crate) purpose: Purpose,
    /// How far the log was known to be durable.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// No offset below this one is used again: a cursor has settled there.
    pub(crate) floor: u64,
    pub(crate) gaps: Vec<Gap>,
    /// The salt of a log that has none yet, or whose headers are all damaged.
    pub(crate) salt: Option<u32>,
}

/// The result of opening a log, for one log line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenReport {
    /// Records read, and bytes cut off behind the last of them.
    pub(crate) records: u64,
    pub(crate) cut_bytes: u64,
    /// Events newly found missing.
    pub(crate) missing: u64,
    /// Headers that never reached the disk, or are damaged.
    pub(crate) bad_headers: u64,
    /// Records with sound checksums and an impossible offset.
    pub(crate) misplaced: u64,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(
        "segment {path} has format version {version}, this program reads up to {}",
        crate::format::VERSION
    )]
    Version { path: PathBuf, version: u16 },
    #[error("segment {path} has features {features:#x}, which only a later version of this program can read")]
    Features { path: PathBuf, features: u16 },
}

impl Opening {
    /// Opens the log. Blocks. A log that was closed cleanly costs one listing and one header, an empty one the
    /// listing.
    pub(crate) fn open(self) -> Result<(Log, OpenReport), LogError> {
        let mut segments = self.segments()?;
        let salt = self.salt(&segments)?;
        let counters = Counters::default();
        let (mut is_broken, mut roll) = (false, false);
        let mut found = Recovered {
            // Earlier segments were deleted; if not, the next read there finds them missing.
            next: self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.segment),
            ..Recovered::default()
        };
        let mut report = OpenReport::default();
        let mut known = self
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.next)
            .max(self.floor);
        while let Some((segment, length)) = segments.last().cloned() {
            let sound;
            (found, sound) = self.recover(&segment, length, salt)?;
            report.bad_headers += u64::from(sound.is_none());
            report.misplaced += found.misplaced;
            // The active segment must not mix versions: readers of an older header do not know the records of this
            // version.
            roll |= sound.is_some_and(|header| header.version < VERSION);
            counters.recovered_records.fetch_add(found.records, Ordering::Relaxed);
            if found.length < SEGMENT_HEADER as u64 {
                // The header never reached the disk, so the segment held nothing: the one before it is the last.
                segments.pop();
                roll = true;
                known = known.max(segment.base);
                self.set_aside(&segment, length)?;
                continue;
            }
            segment.set_length(found.length);
            segment.saw(found.last_ms);
            // Zeros are preallocated. Anything else is an unfinished write.
            let cut = if self.is_blank(&segment, found.length, length)? {
                0
            } else {
                length - found.length
            };
            (report.records, report.cut_bytes) = (found.records, cut);
            if cut > 0 {
                counters.cut_bytes.store(cut, Ordering::Relaxed);
                is_broken = !self.cut(&segment, found.length)?;
            }
            break;
        }
        let log = self.log(
            salt,
            segments,
            known.max(found.next),
            found.last_ms,
            Writer::new(is_broken),
            counters,
        );
        for offsets in found.missing {
            report.missing += log.note_gap(offsets, GapReason::Damage);
        }
        if known > found.next {
            roll = true;
            report.missing += log.note_gap(found.next..known, GapReason::Damage);
        }
        if roll {
            log.writer.lock().start_segment_with_next_write();
        }
        Ok((log, report))
    }

    fn segments(&self) -> io::Result<Vec<(Arc<Segment>, u64)>> {
        let listed = self.storage.list(&self.dir)?;
        let mut segments: Vec<_> = listed
            .iter()
            .filter_map(|(name, length)| Some((Segment::parse_name(name)?, *length)))
            .map(|(base, length)| (Arc::new(Segment::new(&self.dir, base, length)), length))
            .collect();
        segments.sort_by_key(|(segment, _)| segment.base);
        for (name, _) in listed.iter().filter(|(name, _)| Segment::is_impossible(name)) {
            let path = self.dir.join(name);
            tracing::error!(path = %path.display(), "segment has an impossible offset in its name and is ignored");
        }
        for (name, _) in &listed {
            let is_kept = |base| {
                segments
                    .binary_search_by_key(&base, |(segment, _)| segment.base)
                    .is_ok()
            };
            if Segment::parse_index_name(name).is_some_and(|base| !is_kept(base)) {
                // The process ended between deleting the segment and its index.
                let _ = self.storage.remove(&self.dir.join(name));
            }
        }
        Ok(segments)
    }

    /// The log's salt: from the checkpoint or any segment. A new log creates one.
    fn salt(&self, segments: &[(Arc<Segment>, u64)]) -> Result<u32, LogError> {
        if let Some(checkpoint) = &self.checkpoint {
            return Ok(checkpoint.salt);
        }
        for (segment, _) in segments.iter().rev() {
            if let Some(header) = self.header(segment)? {
                return Ok(header.salt);
            }
        }
        for (segment, _) in segments.iter().rev() {
            let mut bytes = [0; SEGMENT_HEADER];
            let read = segment.file(&*self.storage)?.read_at(&mut bytes, 0)?;
            if let Some(header) = SegmentHeader::repaired(&bytes[..read]) {
                return Ok(header.salt);
            }
        }
        if let Some(salt) = self.salt {
            return Ok(salt);
        }
        // Half of a random number is random, too.
        Ok(u32::try_from(RandomState::new().hash_one(&self.dir) >> 32).unwrap_or(u32::MAX))
    }

    /// Returns `None` if the header is damaged, or was never finished.
    fn header(&self, segment: &Segment) -> Result<Option<SegmentHeader>, LogError> {
        let mut bytes = [0; SEGMENT_HEADER];
        let read = segment.file(&*self.storage)?.read_at(&mut bytes, 0)?;
        match SegmentHeader::decode(&bytes[..read]) {
            Ok(header) => Ok(Some(header)),
            Err(BadHeader::Damaged) => Ok(None),
            Err(BadHeader::Version(version)) => Err(LogError::Version {
                path: segment.path.clone(),
                version,
            }),
            Err(BadHeader::Features(features)) => Err(LogError::Features {
                path: segment.path.clone(),
                features,
            }),
        }
    }

    /// Scans the last segment from the checkpoint on; returns no header if it is not sound. A length below the
    /// header's means that the segment holds nothing.
    fn recover(
        &self,
        segment: &Segment,
        length: u64,
        salt: u32,
    ) -> Result<(Recovered, Option<SegmentHeader>), LogError> {
        let sound = self.header(segment)?;
        let start = SEGMENT_HEADER as u64;
        let (mut position, mut next, mut last_ms) = (start, segment.base, 0);
        if let Some(checkpoint) = &self.checkpoint
            && checkpoint.segment == segment.base
            && checkpoint.position <= length
        {
            (position, next, last_ms) = (checkpoint.position, checkpoint.next, checkpoint.last_ms);
        }
        if position == length && position > start {
            let nothing_new = Recovered {
                next,
                length,
                last_ms,
                ..Recovered::default()
            };
            return Ok((nothing_new, sound));
        }
        let file: Arc<dyn File> = segment.file(&*self.storage)?;
        let from = Mark {
            offset: next,
            position,
            stored_ms: last_ms,
        };
        let mut frames = Frames::new(file, salt, from, length, RECOVERY_CHUNK);
        let mut found = recover(&mut frames, next, |frame| segment.mark(frame.mark()))?;
        found.last_ms = found.last_ms.max(last_ms);
        if sound.is_none() && found.length <= start {
            found.length = 0;
        }
        // Includes the header if nothing behind it is known to be durable.
        let from = if position == start { 0 } else { position };
        self.rewrite(segment, from, found.length);
        Ok((found, sound))
    }

    /// Removes a segment that holds no record and whose header never reached the disk. If it is not blank, it is
    /// renamed instead: it may be more than this version can read.
    fn set_aside(&self, segment: &Segment, length: u64) -> io::Result<()> {
        let done = match self.is_blank(segment, SEGMENT_HEADER as u64, length) {
            Ok(false)
                if self
                    .checkpoint
                    .as_ref()
                    .is_none_or(|known| known.segment == segment.base) =>
            {
                let aside = segment.path.with_extension("damaged");
                tracing::error!(path = %aside.display(), "segment holds nothing readable and was renamed");
                self.storage.rename(&segment.path, &aside)
            }
            _ => self.storage.remove(&segment.path),
        };
        match done.and_then(|()| self.storage.sync_dir(&self.dir)) {
            Err(error) if !is_read_only(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Rewrites and syncs what a scan found. It could be read, but only a sync that succeeds now proves that it
    /// survives a power cut.
    fn rewrite(&self, segment: &Segment, position: u64, end: u64) {
        let again = || -> io::Result<()> {
            let file = segment.file(&*self.storage)?;
            if position >= end {
                return Ok(());
            }
            rewrite(&*file, position..end)?;
            file.sync()?;
            // A killed process may not have made the file's name durable.
            self.storage.sync_dir(&self.dir)
        };
        if let Err(error) = again() {
            tracing::warn!(path = %segment.path.display(), %error, "recovered segment cannot be synced");
            segment.invalidate();
        }
    }

    fn is_blank(&self, segment: &Segment, from: u64, to: u64) -> io::Result<bool> {
        is_blank(&*segment.file(&*self.storage)?, from..to)
    }

    /// Cuts off an unfinished write; `false` if the disk is read-only, and the segment must not be written again.
    fn cut(&self, segment: &Segment, length: u64) -> io::Result<bool> {
        let file = segment.file(&*self.storage)?;
        match file.truncate(length).and_then(|()| file.sync()) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(path = %segment.path.display(), %error, "unfinished write at the end of the log cannot be cut off");
                segment.invalidate();
                Ok(false)
            }
        }
    }

    fn log(
        self,
        salt: u32,
        segments: Vec<(Arc<Segment>, u64)>,
        next: u64,
        last_ms: u64,
        writer: Writer,
        counters: Counters,
    ) -> Log {
        Log {
            storage: self.storage,
            dir: self.dir,
            salt,
            segment_bytes: AtomicU64::new(self.segment_bytes),
            append_state: Mutex::new(AppendState {
                batch: Batch::default(),
                next,
                last_ms,
                submitted: false,
                expected_appends: usize::MAX,
                closed: false,
                window: None,
            }),
            batch_ready: Condvar::new(),
            batch_taken: Notify::new(),
            writer: Mutex::new(writer),
            unlinked: AtomicBool::new(true),
            segments: Mutex::new(segments.into_iter().map(|(segment, _)| segment).collect()),
            committed: AtomicU64::new(next),
            tail: Mutex::new(Tail::new(next, self.budget)),
            cursors: Mutex::new(Arc::new([])),
            on_commit: OnceLock::new(),
            grown: Notify::new(),
            watching: AtomicUsize::new(0),
            gaps: Mutex::new(Gaps {
                known: self.gaps,
                unsaved: Vec::new(),
            }),
            committers: self.committers,
            reserved_space: self.reserved_space,
            purpose: self.purpose,
            counters,
            refusing: Mutex::new(None),
        }
    }
}
