//! One file of a log: where it is, how long it is, and marks that make a seek short.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    format::SEGMENT_HEADER,
    storage::{File, Mode, Storage},
};

/// A mark every so many bytes: a seek reads at most this much for nothing, and 10 GB of log cost 2.5 MB of marks.
const MARK_EVERY: u64 = 64 << 10;

/// A place in a segment that is known without searching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) stored_ms: u64,
}

pub(crate) struct Segment {
    /// The place of its first record, and its name.
    pub(crate) base: u64,
    pub(crate) path: PathBuf,
    /// Bytes that hold durable records, header included. Nothing behind it is ever read.
    length: AtomicU64,
    /// When its last record was stored; 0 while unknown.
    last_ms: AtomicU64,
    marks: Mutex<Vec<Mark>>,
    /// Shared by whoever reads it now; closed when nobody does.
    open: Mutex<Option<Weak<dyn File>>>,
}

impl Segment {
    pub(crate) fn new(dir: &Path, base: u64, length: u64) -> Self {
        Self {
            base,
            path: dir.join(Self::name(base)),
            length: AtomicU64::new(length),
            last_ms: AtomicU64::new(0),
            marks: Mutex::new(Vec::new()),
            open: Mutex::new(None),
        }
    }

    pub(crate) fn name(base: u64) -> String {
        format!("{base:020}.log")
    }

    /// The base in a segment's name; `None` for any other file.
    pub(crate) fn parse_name(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
        digits.parse().ok()
    }

    pub(crate) fn file(&self, storage: &dyn Storage) -> io::Result<Arc<dyn File>> {
        let mut open = self.open.lock();
        if let Some(file) = open.as_ref().and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = storage.open(&self.path, Mode::Existing)?;
        *open = Some(Arc::downgrade(&file));
        Ok(file)
    }

    /// Forgets a handle that failed, so that the next reader opens the file anew.
    pub(crate) fn distrust(&self) {
        *self.open.lock() = None;
    }

    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    pub(crate) fn set_length(&self, length: u64) {
        self.length.store(length, Ordering::Release);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length() <= SEGMENT_HEADER as u64
    }

    /// When its last record was stored, if that is known.
    pub(crate) fn last_ms(&self) -> Option<u64> {
        Some(self.last_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    pub(crate) fn saw(&self, stored_ms: u64) {
        self.last_ms.fetch_max(stored_ms, Ordering::Relaxed);
    }

    /// Offers a place; kept when the last mark is far enough behind.
    pub(crate) fn mark(&self, mark: Mark) {
        let mut marks = self.marks.lock();
        if marks
            .last()
            .is_none_or(|last| mark.position >= last.position + MARK_EVERY)
        {
            marks.push(mark);
        }
    }

    /// The last known place at or before `offset`.
    pub(crate) fn seek(&self, offset: u64) -> Mark {
        self.last_mark(|mark| mark.offset <= offset)
    }

    /// The last known place stored before `time_ms`.
    pub(crate) fn seek_time(&self, time_ms: u64) -> Mark {
        self.last_mark(|mark| mark.stored_ms < time_ms)
    }

    /// When its first record was stored, if that is known.
    pub(crate) fn first_ms(&self) -> Option<u64> {
        self.marks
            .lock()
            .first()
            .filter(|mark| mark.offset == self.base)
            .map(|mark| mark.stored_ms)
    }

    fn last_mark(&self, matches: impl Fn(&Mark) -> bool) -> Mark {
        let marks = self.marks.lock();
        match marks.partition_point(matches) {
            0 => Mark {
                offset: self.base,
                position: SEGMENT_HEADER as u64,
                stored_ms: 0,
            },
            after => marks[after - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_base_and_nothing_else_is_a_name() {
        assert_eq!(Segment::parse_name(&Segment::name(42)), Some(42));
        for name in [
            "cursors.log",
            "42.log",
            "00000000000000000042.tmp",
            "0000000000000000004x.log",
        ] {
            assert_eq!(Segment::parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_seek_begins_at_the_last_mark_before_the_place() {
        let segment = Segment::new(Path::new("x"), 100, 0);
        for (offset, position) in [(100, 64), (110, 1000), (200, 70_000), (300, 140_000)] {
            segment.mark(Mark {
                offset,
                position,
                stored_ms: offset * 10,
            });
        }
        let at = |offset| segment.seek(offset).position;
        assert_eq!(
            [at(100), at(199), at(200), at(299), at(1000)],
            [64, 64, 70_000, 70_000, 140_000]
        );
        assert_eq!(segment.seek_time(2001).offset, 200);
        assert_eq!(segment.seek_time(2000).offset, 100);
    }
}
