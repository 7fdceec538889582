//! Opening a log: what is there, how far it is good, and where the next event goes.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use channel::{Gap, GapReason};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::{Batch, Gaps, Gathering, Log, Purpose, writer::Writer};
use crate::{
    committers::Committers,
    format::{BadHeader, SEGMENT_HEADER, SegmentHeader},
    frames::Frames,
    headroom::Headroom,
    recovery::{Recovered, recover},
    segment::{Mark, Segment},
    state::Checkpoint,
    stats::Counters,
    storage::{File, Storage, is_read_only, write_again},
    tail::{Budget, Tail},
};

/// How much is read at once: recovery is bound by the checksums, not by the reads.
const RECOVERY_CHUNK: usize = 1 << 20;

/// How much of the room behind the records is read at once; there is little of it.
const BLANK_CHUNK: usize = 64 << 10;

/// What a log is opened with.
pub(crate) struct Opening {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) budget: Budget,
    pub(crate) committers: Arc<Committers>,
    pub(crate) headroom: Arc<Headroom>,
    pub(crate) purpose: Purpose,
    /// How far the log was known to be durable.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// No place below this one is given away again: something was settled there.
    pub(crate) floor: u64,
    pub(crate) gaps: Vec<Gap>,
    /// The salt of a log that has none yet; and of one whose every header is damaged, as far as anybody can tell.
    pub(crate) salt: Option<u32>,
}

/// What opening a log found, for the one line that is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Records read, and bytes behind the last of them that were cut off.
    pub(crate) records: u64,
    pub(crate) cut_bytes: u64,
    /// Events found missing now.
    pub(crate) missing: u64,
    /// Headers that never reached the disk, or are damaged.
    pub(crate) bad_headers: u64,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(
        "segment {path} has format version {version}, this program reads {}",
        crate::format::VERSION
    )]
    Version { path: PathBuf, version: u16 },
    #[error("segment {path} has features {features:#x}, which only a later version of this program can read")]
    Features { path: PathBuf, features: u16 },
}

impl Opening {
    /// Opens the log; blocks. A log that was closed cleanly costs one listing and one header, an empty one the listing.
    pub(crate) fn open(self) -> Result<(Log, Found), LogError> {
        let mut segments = self.segments()?;
        let salt = self.salt(&segments)?;
        let counters = Counters::default();
        let (mut poisoned, mut roll) = (false, false);
        let mut found = Recovered {
            // What was in the segments before the last known one was deleted with them, or is missed by whoever reads on there.
            next: self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.segment),
            ..Recovered::default()
        };
        let mut report = Found::default();
        let mut known = self
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.next)
            .max(self.floor);
        while let Some((segment, length)) = segments.last().cloned() {
            let sound;
            (found, sound) = self.recover(&segment, length, salt)?;
            report.bad_headers += u64::from(!sound);
            counters.recovered_records.fetch_add(found.records, Ordering::Relaxed);
            if found.length < SEGMENT_HEADER as u64 {
                // Its header never reached the disk, so it held nothing: its name is all there is to it, and the one
                // before it is the last.
                segments.pop();
                roll = true;
                known = known.max(segment.base);
                self.set_aside(&segment, length)?;
                continue;
            }
            segment.set_length(found.length);
            segment.saw(found.last_ms);
            // Zeros are room for the next records; anything else is a write that was never finished.
            let cut = match self.is_blank(&segment, found.length, length)? {
                true => 0,
                false => length - found.length,
            };
            (report.records, report.cut_bytes) = (found.records, cut);
            if cut > 0 {
                counters.cut_bytes.store(cut, Ordering::Relaxed);
                poisoned = !self.cut(&segment, found.length)?;
            }
            break;
        }
        let log = self.log(
            salt,
            segments,
            known.max(found.next),
            found.last_ms,
            Writer::new(poisoned),
            counters,
        );
        for places in found.missing {
            report.missing += log.note_gap(places, GapReason::Damage);
        }
        if known > found.next {
            roll = true;
            report.missing += log.note_gap(found.next..known, GapReason::Damage);
        }
        if roll {
            log.writer.lock().roll_with_next_write();
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
        for (name, _) in &listed {
            let is_kept = |base| {
                segments
                    .binary_search_by_key(&base, |(segment, _)| segment.base)
                    .is_ok()
            };
            if Segment::parse_index_name(name).is_some_and(|base| !is_kept(base)) {
                // Its segment was deleted and the process ended in between.
                let _ = self.storage.remove(&self.dir.join(name));
            }
        }
        Ok(segments)
    }

    /// The log's salt: in the checkpoint and in every segment. A new log makes one.
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
        // Half of a random number is one too.
        Ok(u32::try_from(RandomState::new().hash_one(&self.dir) >> 32).unwrap_or(u32::MAX))
    }

    /// `None`: damaged, or never finished.
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

    /// Scans the last segment from the checkpoint on; `false` when its header is not sound. A found length below the
    /// header's means: there is nothing in it.
    fn recover(&self, segment: &Segment, length: u64, salt: u32) -> Result<(Recovered, bool), LogError> {
        let sound = self.header(segment)?.is_some();
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
        let mut frames = Frames::new(file, salt, position, length, RECOVERY_CHUNK);
        let mut found = recover(&mut frames, next, |frame| {
            let (offset, stored_ms) = (frame.header.offset, frame.header.stored_ms);
            segment.mark(Mark {
                offset,
                position: frame.position,
                stored_ms,
            });
        })?;
        found.last_ms = found.last_ms.max(last_ms);
        if !sound && found.length <= start {
            found.length = 0;
        }
        // The header, too, where nothing behind it is known to be durable.
        let from = if position == start { 0 } else { position };
        self.write_again(segment, from, found.length);
        Ok((found, sound))
    }

    /// Takes a file out of the log that holds no record and whose header never reached the disk. What is not empty is
    /// renamed, not deleted: it may be more than this version can read.
    fn set_aside(&self, segment: &Segment, length: u64) -> io::Result<()> {
        let done = match self.is_blank(segment, SEGMENT_HEADER as u64, length) {
            Ok(false)
                if self
                    .checkpoint
                    .as_ref()
                    .is_none_or(|known| known.segment == segment.base) =>
            {
                let aside = segment.path.with_extension("damaged");
                tracing::error!(path = %aside.display(), "a segment holds nothing readable and is set aside");
                self.storage.rename(&segment.path, &aside)
            }
            _ => self.storage.remove(&segment.path),
        };
        match done.and_then(|()| self.storage.sync_dir(&self.dir)) {
            Err(error) if !is_read_only(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes what a scan found once more, and syncs it: it could be read, but only a sync that succeeds now is proof that a
    /// later power cut does not lose it.
    fn write_again(&self, segment: &Segment, position: u64, end: u64) {
        let again = || -> io::Result<()> {
            let file = segment.file(&*self.storage)?;
            if position >= end {
                return Ok(());
            }
            write_again(&*file, position..end)?;
            file.sync()?;
            // Whoever was killed may not have come as far as making its name durable.
            self.storage.sync_dir(&self.dir)
        };
        if let Err(error) = again() {
            tracing::warn!(path = %segment.path.display(), %error, "what was recovered cannot be synced again");
            segment.distrust();
        }
    }

    fn is_blank(&self, segment: &Segment, from: u64, to: u64) -> io::Result<bool> {
        let file = segment.file(&*self.storage)?;
        let (mut at, mut bytes) = (from, vec![0; BLANK_CHUNK]);
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(usize::MAX).min(bytes.len());
            let read = file.read_at(&mut bytes[..wanted], at)?;
            if read == 0 || bytes[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += read as u64;
        }
        Ok(true)
    }

    /// Cuts off what was never finished; `false` when the disk is read-only, and the segment must not be written again.
    fn cut(&self, segment: &Segment, length: u64) -> io::Result<bool> {
        let file = segment.file(&*self.storage)?;
        match file.truncate(length).and_then(|()| file.sync()) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(path = %segment.path.display(), %error, "unfinished end of a log cannot be cut off");
                segment.distrust();
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
            gathering: Mutex::new(Gathering {
                batch: Batch::default(),
                next,
                last_ms,
                submitted: false,
                crowd: usize::MAX,
                closed: false,
                window: None,
            }),
            crowded: Condvar::new(),
            room: Notify::new(),
            writer: Mutex::new(writer),
            unlinked: AtomicBool::new(true),
            segments: Mutex::new(segments.into_iter().map(|(segment, _)| segment).collect()),
            committed: AtomicU64::new(next),
            tail: Mutex::new(Tail::new(next, self.budget)),
            cursors: Mutex::new(Arc::new([])),
            grown: Notify::new(),
            watching: AtomicUsize::new(0),
            gaps: Mutex::new(Gaps {
                known: self.gaps,
                unsaved: Vec::new(),
            }),
            committers: self.committers,
            headroom: self.headroom,
            purpose: self.purpose,
            counters,
            refusing: Mutex::new(None),
        }
    }
}
