//! Reads a log: a range from an offset on, the offset of a time, and the list of segments.

use std::{
    io,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use bytes::Bytes;
use channel::GapReason;
use event::Event;

use super::Log;
use crate::{
    clock,
    format::{BadHeader, SEGMENT_HEADER, SegmentHeader},
    frames::Frames,
    segment::{Mark, Segment},
    storage::File,
};

/// An event read back, with its offset.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) offset: u64,
    pub(crate) stored_ms: u64,
    pub(crate) event: Event,
    /// Empty except for dead letters.
    pub(crate) facts: Bytes,
}

/// A range of a log. Every offset in `covers` is among the records, or holds nothing readable.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) covers: Range<u64>,
    pub(crate) records: Vec<Read>,
}

impl Chunk {
    pub(crate) fn get(&self, offset: u64) -> Option<&Read> {
        let index = self.records.binary_search_by_key(&offset, |read| read.offset).ok()?;
        self.records.get(index)
    }
}

impl Log {
    /// The offset of the oldest event kept, or of the next one if there is none.
    pub(crate) fn earliest(&self) -> u64 {
        self.segments
            .lock()
            .first()
            .map_or(self.committed(), |first| first.base)
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.lock().iter().map(|segment| segment.length()).sum()
    }

    /// When the event at `offset` was stored: exactly, or a little too early. `None` if that was never read.
    pub(crate) fn approximate_stored_at(&self, offset: u64) -> Option<SystemTime> {
        if let Some(ms) = self.recent(|tail| tail.get(offset).map(|recent| recent.stored_ms)) {
            return Some(clock::from_ms(ms));
        }
        let mark = self.segment_of(offset).map(|(segment, _)| segment.seek(offset))?;
        (mark.stored_ms > 0).then(|| clock::from_ms(mark.stored_ms))
    }

    /// Reads a range from `offset` on: about `bytes` bytes, at least one event. Blocks.
    ///
    /// Verifies every checksum. Records that fail are recorded as gaps and left out.
    pub(crate) fn load(&self, offset: u64, bytes: usize) -> io::Result<Chunk> {
        let committed = self.committed();
        let earliest = self.earliest();
        if offset >= committed {
            return Ok(Chunk {
                covers: offset..offset,
                records: Vec::new(),
            });
        }
        if offset < earliest {
            return Ok(Chunk {
                covers: offset..earliest,
                records: Vec::new(),
            });
        }
        let Some((segment, end)) = self.segment_of(offset) else {
            return Ok(Chunk {
                covers: offset..committed,
                records: Vec::new(),
            });
        };
        let chunk = self.load_from(&segment, end.min(committed), offset, bytes);
        if chunk.is_err() {
            segment.invalidate();
        }
        chunk
    }

    fn load_from(&self, segment: &Segment, end: u64, offset: u64, bytes: usize) -> io::Result<Chunk> {
        let (mark, mut frames) = self.seek(segment, |segment| segment.seek(offset), bytes)?;
        let mut chunk = Chunk {
            covers: offset..end,
            records: Vec::new(),
        };
        let (mut expected, mut taken) = (offset.max(mark.offset), 0);
        while let Some(frame) = frames.next()? {
            let (offset, stored_ms) = (frame.header.offset, frame.header.stored_ms);
            if offset >= end {
                break;
            }
            segment.mark(frame.mark());
            if offset < expected {
                continue;
            }
            if let Some((event, facts)) = frames.event(&frame) {
                if expected < offset {
                    self.missing(expected..offset);
                }
                expected = offset + 1;
                taken += frame.header.total();
                if !self.is_missing(offset) {
                    chunk.records.push(Read {
                        offset,
                        stored_ms,
                        event,
                        facts,
                    });
                }
            }
            if taken >= bytes || (taken > 0 && !frames.is_buffered()) {
                chunk.covers.end = expected;
                return Ok(chunk);
            }
        }
        if expected < end {
            self.missing(expected..end);
        }
        Ok(chunk)
    }

    /// The first offset stored at or after `time`. Blocks.
    pub(crate) fn offset_at(&self, time: SystemTime) -> io::Result<u64> {
        let time_ms = clock::to_ms_up(time);
        let segments: Vec<_> = self.segments.lock().iter().cloned().collect();
        let Some(segment) = self.last_before(&segments, time_ms)? else {
            return Ok(self.earliest());
        };
        let (_, mut frames) = self.seek(&segment, |segment| segment.seek_time(time_ms), SCAN_CHUNK)?;
        let end = self.end_of(&segment);
        while let Some(frame) = frames.next()? {
            let (offset, stored_ms) = (frame.header.offset, frame.header.stored_ms);
            segment.mark(frame.mark());
            if stored_ms >= time_ms && offset < end {
                return Ok(offset);
            }
        }
        Ok(end)
    }

    /// The last segment whose first record was stored before `time_ms`: the only one that can contain that time.
    fn last_before(&self, segments: &[Arc<Segment>], time_ms: u64) -> io::Result<Option<Arc<Segment>>> {
        let (mut low, mut high, mut found) = (0, segments.len(), None);
        while low < high {
            let middle = low.midpoint(high);
            // A segment without a readable record gives no answer; ask the previous one.
            let mut asked = middle;
            let first = loop {
                match self.first_ms(&segments[asked])? {
                    None if asked > low => asked -= 1,
                    first => break first,
                }
            };
            match first {
                Some(first) if first >= time_ms => high = asked,
                Some(_) => {
                    found = Some(segments[asked].clone());
                    low = middle + 1;
                }
                None => low = middle + 1,
            }
        }
        Ok(found)
    }

    fn first_ms(&self, segment: &Segment) -> io::Result<Option<u64>> {
        if let Some(known) = segment.first_ms() {
            return Ok(Some(known));
        }
        let start = Mark::first(segment.base);
        let first = self.frames(segment, start, FIRST_CHUNK)?.next()?;
        Ok(first.map(|frame| {
            segment.mark(frame.mark());
            frame.header.stored_ms
        }))
    }

    /// When a segment begins: the time of its first event, or of its creation if it has none. Blocks.
    pub(crate) fn start_ms(&self, segment: &Segment) -> io::Result<Option<u64>> {
        if let Some(first) = self.first_ms(segment)? {
            return Ok(Some(first));
        }
        let mut header = [0; SEGMENT_HEADER];
        let read = segment.file(&*self.storage)?.read_at(&mut header, 0)?;
        Ok(SegmentHeader::decode(&header[..read])
            .ok()
            .map(|header| header.created_ms))
    }

    /// When the active segment begins. Blocks.
    pub(crate) fn active_start_ms(&self) -> io::Result<Option<u64>> {
        let last = self.segments.lock().last().cloned();
        last.map_or(Ok(None), |segment| self.start_ms(&segment))
    }

    pub(super) fn frames(&self, segment: &Segment, from: Mark, chunk: usize) -> io::Result<Frames> {
        let file = segment.file(&*self.storage)?;
        if segment.is_unread() {
            check_header(segment, &*file)?;
        }
        Ok(Frames::new(file, self.salt, from, segment.length(), chunk))
    }

    /// The segment that contains `offset`, and the offset where the next segment begins.
    pub(super) fn segment_of(&self, offset: u64) -> Option<(Arc<Segment>, u64)> {
        let segments = self.segments.lock();
        let after = segments.partition_point(|segment| segment.base <= offset);
        let segment = segments.get(after.checked_sub(1)?)?.clone();
        Some((segment, segments.get(after).map_or(u64::MAX, |next| next.base)))
    }

    fn end_of(&self, segment: &Segment) -> u64 {
        self.segment_of(segment.base)
            .map_or(u64::MAX, |(_, end)| end)
            .min(self.committed())
    }

    /// Sealed segments, oldest first, each with the offset after its last record.
    pub(crate) fn sealed(&self) -> Vec<(Arc<Segment>, u64)> {
        let segments = self.segments.lock();
        segments
            .iter()
            .zip(segments.iter().skip(1))
            .map(|(segment, next)| (segment.clone(), next.base))
            .collect()
    }

    /// The active segment, if it holds anything.
    pub(crate) fn active(&self) -> Option<Arc<Segment>> {
        self.segments
            .lock()
            .last()
            .filter(|segment| !segment.is_empty())
            .cloned()
    }

    /// Seals the active segment. Blocks.
    pub(crate) fn seal(&self) -> io::Result<()> {
        self.writer.lock().roll(self)
    }

    /// Deletes the oldest segments, never the active one; stops at the first that cannot be deleted. Each deletion is
    /// durable before the next one: a segment that comes back after a crash while a later one does not would look like
    /// a gap. Blocks.
    pub(crate) fn unlink(&self, doomed: &[Arc<Segment>]) -> io::Result<()> {
        for segment in doomed {
            self.unlinked_durably()?;
            // Removed from the list first: current readers have it open, and no new one begins.
            self.segments.lock().retain(|kept| kept.base != segment.base);
            let _ = self.storage.remove(&segment.index_path());
            if let Err(error) = self.storage.remove(&segment.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                // It still exists, so it is still the oldest: deleting a later one first would look like a gap.
                self.segments.lock().insert(0, segment.clone());
                return Err(error);
            }
            self.unlinked.store(true, Ordering::Relaxed);
        }
        self.unlinked_durably()
    }

    /// Makes deletions durable, of this process and possibly of an earlier one.
    fn unlinked_durably(&self) -> io::Result<()> {
        if self.unlinked.load(Ordering::Relaxed) {
            match self.storage.sync_dir(&self.dir) {
                // A log that never held anything has no folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.segments.lock().is_empty() => {}
                synced => synced?,
            }
            self.unlinked.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Records those of the offsets as missing that are not recorded yet.
    pub(crate) fn missing(&self, offsets: Range<u64>) {
        let mut from = offsets.start;
        for gap in self.gaps() {
            if gap.from.0 > from && from < offsets.end {
                self.add_gap(from..gap.from.0.min(offsets.end), GapReason::Damage);
            }
            from = from.max(gap.to.0);
        }
        if from < offsets.end {
            self.add_gap(from..offsets.end, GapReason::Damage);
        }
    }

    fn is_missing(&self, offset: u64) -> bool {
        let gaps = self.gaps.lock();
        gaps.known.iter().any(|gap| gap.from.0 <= offset && offset < gap.to.0)
    }
}

/// Bytes read at once when searching for a time.
const SCAN_CHUNK: usize = 64 << 10;
/// Bytes read to find when a segment begins.
const FIRST_CHUNK: usize = 8 << 10;

/// Refuses a segment of a later version. A damaged header is logged once; the records behind it are verified one by
/// one.
fn check_header(segment: &Segment, file: &dyn File) -> io::Result<()> {
    let mut bytes = [0; SEGMENT_HEADER];
    let read = file.read_at(&mut bytes, 0)?;
    let later = |what: String| {
        let message = format!(
            "segment {} has {what}, which only a later version of this program can read",
            segment.path.display()
        );
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    };
    match SegmentHeader::decode(&bytes[..read]) {
        Ok(_) => {}
        Err(BadHeader::Damaged) => {
            tracing::warn!(path = %segment.path.display(), "segment header is damaged, its records are still read");
        }
        Err(BadHeader::Version(version)) => return later(format!("format version {version}")),
        Err(BadHeader::Features(features)) => return later(format!("features {features:#x}")),
    }
    segment.was_read();
    Ok(())
}
