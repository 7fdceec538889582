//! Positions a read: at the last mark before the requested offset or time.
//!
//! Marks are made when a segment is written or read, stored beside it by index.rs, and rebuilt by reading the segment
//! if they are missing. A mark is used only after the record was found where it says.

use std::io;

use super::Log;
use crate::{
    format::{RECORD_HEADER, RecordHeader},
    frames::Frames,
    index::Index,
    segment::{Mark, Segment},
};

/// Bytes read at once when marks are rebuilt.
const MARK_CHUNK: usize = 1 << 20;

impl Log {
    /// Returns frames from the mark that `find` chooses. Blocks; reads the whole segment once if it has no marks.
    pub(super) fn seek(
        &self,
        segment: &Segment,
        find: impl Fn(&Segment) -> Mark,
        chunk: usize,
    ) -> io::Result<(Mark, Frames)> {
        if !segment.is_marked() && find(segment).is_first() {
            self.ensure_marks(segment);
        }
        let mark = find(segment);
        if mark.is_first() || self.holds(segment, mark)? {
            return Ok((mark, self.frames(segment, mark, chunk)?));
        }
        // The mark is wrong, or its record is damaged. In both cases the segment itself decides.
        tracing::debug!(path = %segment.path.display(), offset = mark.offset, "mark does not match its record, the segment is scanned");
        segment.clear_marks();
        self.scan_marks(segment)?;
        let mark = find(segment);
        Ok((mark, self.frames(segment, mark, chunk)?))
    }

    fn holds(&self, segment: &Segment, mark: Mark) -> io::Result<bool> {
        let mut header = [0; RECORD_HEADER];
        let read = segment.file(&*self.storage)?.read_at(&mut header, mark.position)?;
        let header = RecordHeader::decode(&header[..read], self.salt);
        Ok(header.is_some_and(|header| header.offset == mark.offset && header.stored_ms == mark.stored_ms))
    }

    fn ensure_marks(&self, segment: &Segment) {
        if !self.read_index(segment)
            && let Err(error) = self.scan_marks(segment)
        {
            tracing::debug!(path = %segment.path.display(), %error, "segment cannot be scanned for marks");
        }
    }

    fn read_index(&self, segment: &Segment) -> bool {
        let Some(index) = Index::read(&*self.storage, segment, self.salt) else {
            return false;
        };
        index.marks.into_iter().for_each(|mark| segment.mark(mark));
        segment.set_indexed(index.length);
        segment.set_marked();
        true
    }

    fn scan_marks(&self, segment: &Segment) -> io::Result<()> {
        let mut frames = self.frames(segment, Mark::first(segment.base), MARK_CHUNK)?;
        while let Some(frame) = frames.next()? {
            segment.mark(frame.mark());
        }
        segment.set_marked();
        Ok(())
    }

    /// Finds the age of each cursor's oldest unsettled event: from indexes alone when the log is opened, later also
    /// from segments. Blocks.
    pub(crate) fn load_backlog_ages(&self, opening: bool) {
        let committed = self.committed();
        for cursor in &*self.cursors() {
            let offset = cursor.settled_below().0;
            if offset >= committed || self.approximate_stored_at(offset).is_some() {
                continue;
            }
            match self.segment_of(offset) {
                Some((segment, _)) if segment.is_marked() => {}
                Some((segment, _)) if opening => {
                    self.read_index(&segment);
                }
                Some((segment, _)) => self.ensure_marks(&segment),
                None => {}
            }
        }
    }

    /// Writes the indexes of sealed segments. A failed one is rebuilt by the next search. Blocks.
    pub(super) fn index_finished(&self) {
        for (segment, _) in self.sealed() {
            self.index(&segment);
        }
    }

    /// Like [`Self::index_finished`], including the active segment, which is about to be closed.
    pub(super) fn index_all(&self) {
        self.index_finished();
        if let Some(active) = self.active() {
            self.index(&active);
        }
    }

    fn index(&self, segment: &Segment) {
        if !segment.is_marked() || segment.is_indexed() {
            return;
        }
        let length = segment.length();
        let marks = segment
            .marks()
            .into_iter()
            .filter(|mark| mark.position < length)
            .collect();
        let (index, path) = (Index { length, marks }, segment.index_path());
        match index.write(&*self.storage, &path, segment.base, self.salt) {
            Ok(()) => segment.set_indexed(length),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "index cannot be written");
                let _ = self.storage.remove(&path);
            }
        }
    }
}
