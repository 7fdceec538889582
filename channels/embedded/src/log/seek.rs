//! Where reading begins: at the last known place before the one that is wanted.
//!
//! Marks are left by whoever writes or reads a segment, kept beside it by index.rs, and made by reading it once where they
//! are not there. A mark is believed only when the record it names is found where it says.

use std::io;

use super::Log;
use crate::{
    format::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER},
    frames::Frames,
    index::Index,
    segment::{Mark, Segment},
};

/// How much is read at once when a segment's marks are made.
const MARK_CHUNK: usize = 1 << 20;

impl Log {
    /// Frames from the mark that `find` chooses. Blocks; reads the segment once when nothing is known of it.
    pub(super) fn seek(
        &self,
        segment: &Segment,
        find: impl Fn(&Segment) -> Mark,
        chunk: usize,
    ) -> io::Result<(Mark, Frames)> {
        if !segment.is_marked() && find(segment).is_start() {
            self.know_marks(segment);
        }
        let mark = find(segment);
        if mark.is_start() || self.holds(segment, mark)? {
            return Ok((mark, self.frames(segment, mark, chunk)?));
        }
        // It is wrong, or its record is damaged: in both cases the segment itself has the word.
        tracing::debug!(path = %segment.path.display(), offset = mark.offset, "mark does not hold, the segment is read");
        segment.forget_marks();
        self.make_marks(segment)?;
        let mark = find(segment);
        Ok((mark, self.frames(segment, mark, chunk)?))
    }

    fn holds(&self, segment: &Segment, mark: Mark) -> io::Result<bool> {
        let mut header = [0; RECORD_HEADER];
        let read = segment.file(&*self.storage)?.read_at(&mut header, mark.position)?;
        let header = RecordHeader::decode(&header[..read], self.salt);
        Ok(header.is_some_and(|header| header.offset == mark.offset && header.stored_ms == mark.stored_ms))
    }

    fn know_marks(&self, segment: &Segment) {
        if !self.read_index(segment)
            && let Err(error) = self.make_marks(segment)
        {
            tracing::debug!(path = %segment.path.display(), %error, "segment cannot be read for its marks");
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

    fn make_marks(&self, segment: &Segment) -> io::Result<()> {
        let mut frames = self.frames(segment, Mark::start(segment), MARK_CHUNK)?;
        while let Some(frame) = frames.next()? {
            segment.mark(Mark {
                offset: frame.header.offset,
                position: frame.position,
                stored_ms: frame.header.stored_ms,
            });
        }
        segment.set_marked();
        Ok(())
    }

    /// Learns how old the oldest event is that each cursor has not settled: from indexes alone when the log is opened, else
    /// also from segments. Blocks.
    pub(crate) fn date_backlogs(&self, opening: bool) {
        let committed = self.committed();
        for cursor in &*self.cursors() {
            let place = cursor.settled_below().0;
            if place >= committed || self.stored_about(place).is_some() {
                continue;
            }
            match self.segment_of(place) {
                Some((segment, _)) if segment.is_marked() => {}
                Some((segment, _)) if opening => {
                    self.read_index(&segment);
                }
                Some((segment, _)) => self.know_marks(&segment),
                None => {}
            }
        }
    }

    /// Writes the indexes of segments that are finished. What fails is made again when somebody searches. Blocks.
    pub(super) fn index_finished(&self) {
        for (segment, _) in self.sealed() {
            self.index(&segment);
        }
    }

    /// As [`Self::index_finished`], and of the one being written, which is as good as finished.
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

impl Mark {
    /// Where every segment's records begin, whatever is known of it.
    fn start(segment: &Segment) -> Self {
        Self {
            offset: segment.base,
            position: SEGMENT_HEADER as u64,
            stored_ms: 0,
        }
    }

    fn is_start(self) -> bool {
        self.position == SEGMENT_HEADER as u64
    }
}
