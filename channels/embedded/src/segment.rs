//! One segment file of a log: its path, its length, and marks that make a seek short.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    format::{OFFSETS_END, SEGMENT_HEADER},
    storage::{File, Mode, Storage},
};

/// Bytes between two marks: a seek reads at most this much in vain, and 10 GB of log cost 2.5 MB of marks.
const MARK_EVERY: u64 = 64 << 10;

/// A record whose position in the segment is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) stored_ms: u64,
}

impl Mark {
    /// The position where the records of a segment begin.
    pub(crate) fn first(base: u64) -> Self {
        Self {
            offset: base,
            position: SEGMENT_HEADER as u64,
            stored_ms: 0,
        }
    }

    /// Whether this is the position of [`Self::first`], which is known without a search.
    pub(crate) fn is_first(self) -> bool {
        self.position == SEGMENT_HEADER as u64
    }
}

pub(crate) struct Segment {
    /// The offset of its first record, and its file name.
    pub(crate) base: u64,
    pub(crate) path: PathBuf,
    /// Bytes of durable records, header included. Nothing behind them is ever read.
    length: AtomicU64,
    /// When its last record was stored; 0 if unknown.
    last_ms: AtomicU64,
    marks: Mutex<Vec<Mark>>,
    /// The marks cover the whole segment, as far as is known.
    marked: AtomicBool,
    /// Bytes covered by the index beside it, if this process wrote or read one.
    indexed: AtomicU64,
    /// The header was checked.
    was_read: AtomicBool,
    /// The handle shared by current readers. Closed with the last of them.
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
            marked: AtomicBool::new(false),
            indexed: AtomicU64::new(0),
            was_read: AtomicBool::new(false),
            open: Mutex::new(None),
        }
    }

    /// Creates a segment that is about to be written, whose marks are complete from the start.
    pub(crate) fn begun(dir: &Path, base: u64) -> Self {
        let segment = Self::new(dir, base, SEGMENT_HEADER as u64);
        segment.marked.store(true, Ordering::Relaxed);
        segment
    }

    pub(crate) fn name(base: u64) -> String {
        format!("{base:020}.log")
    }

    /// Returns the base in a segment's name; `None` for any other file.
    pub(crate) fn parse_name(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
        digits.parse().ok().filter(|base| *base < OFFSETS_END)
    }

    /// Whether this is the name of a segment at an impossible offset.
    pub(crate) fn is_impossible(name: &str) -> bool {
        let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20);
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            && Self::parse_name(name).is_none()
    }

    /// Returns the base in the name of an index.
    pub(crate) fn parse_index_name(name: &str) -> Option<u64> {
        Self::parse_name(&format!("{}.log", name.strip_suffix(".idx")?))
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.path.with_extension("idx")
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

    /// Drops the shared handle after a failure, so that the next reader reopens the file.
    pub(crate) fn invalidate(&self) {
        *self.open.lock() = None;
    }

    pub(crate) fn is_unread(&self) -> bool {
        !self.was_read.load(Ordering::Relaxed)
    }

    pub(crate) fn was_read(&self) {
        self.was_read.store(true, Ordering::Relaxed);
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

    /// Offers a mark. It is kept if it is far enough behind the previous one.
    pub(crate) fn mark(&self, mark: Mark) {
        let mut marks = self.marks.lock();
        let at = match marks.last() {
            Some(last) if last.position > mark.position => {
                marks.partition_point(|known| known.position <= mark.position)
            }
            _ => marks.len(),
        };
        if at == 0 || mark.position >= marks[at - 1].position + MARK_EVERY {
            marks.insert(at, mark);
        }
    }

    pub(crate) fn marks(&self) -> Vec<Mark> {
        self.marks.lock().clone()
    }

    /// Whether the marks are complete. If not, they are read or made before a search.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked.load(Ordering::Acquire)
    }

    pub(crate) fn set_marked(&self) {
        self.marked.store(true, Ordering::Release);
    }

    /// Drops all marks after one of them was wrong.
    pub(crate) fn clear_marks(&self) {
        self.marked.store(false, Ordering::Release);
        self.indexed.store(0, Ordering::Relaxed);
        self.marks.lock().clear();
    }

    /// Whether the index beside it covers all its marks.
    pub(crate) fn is_indexed(&self) -> bool {
        self.indexed.load(Ordering::Relaxed) == self.length()
    }

    pub(crate) fn set_indexed(&self, length: u64) {
        self.indexed.store(length, Ordering::Relaxed);
    }

    /// The last mark at or before `offset`.
    pub(crate) fn seek(&self, offset: u64) -> Mark {
        self.last_mark(|mark| mark.offset <= offset)
    }

    /// The last mark stored before `time_ms`.
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
            0 => Mark::first(self.base),
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

    #[test]
    fn a_mark_found_later_goes_where_it_belongs() {
        let segment = Segment::new(Path::new("x"), 0, 0);
        for position in [200_000, 64, 100, 70_000, 199_999, 300_000] {
            segment.mark(Mark {
                offset: position,
                position,
                stored_ms: 0,
            });
        }
        let positions: Vec<u64> = segment.marks().iter().map(|mark| mark.position).collect();
        assert_eq!(positions, [64, 70_000, 199_999, 200_000, 300_000]);
    }

    #[test]
    fn an_index_is_named_as_its_segment() {
        let segment = Segment::new(Path::new("x"), 42, 0);
        let name = segment
            .index_path()
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        assert_eq!(name.as_deref().and_then(Segment::parse_index_name), Some(42));
        assert_eq!(Segment::parse_index_name(&Segment::name(42)), None);
    }
}
