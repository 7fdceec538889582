//! Reading a log: a stretch from a place on, the place of a time, and which segments there are.

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

/// An event read back, with its place.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) place: u64,
    pub(crate) stored_ms: u64,
    pub(crate) event: Event,
}

/// A stretch of a log: every place of `covers` is among the records or holds nothing any more.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) covers: Range<u64>,
    pub(crate) records: Vec<Read>,
}

impl Chunk {
    pub(crate) fn get(&self, place: u64) -> Option<&Read> {
        let index = self.records.binary_search_by_key(&place, |read| read.place).ok()?;
        self.records.get(index)
    }
}

impl Log {
    /// The place of the oldest event kept, or of the next one when there is none.
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

    /// About when the event at a place was stored: exactly, or a little earlier; `None` when that was never read.
    pub(crate) fn stored_about(&self, place: u64) -> Option<SystemTime> {
        if let Some(ms) = self.recent(|tail| tail.get(place).map(|recent| recent.stored_ms)) {
            return Some(clock::from_ms(ms));
        }
        let mark = self.segment_of(place).map(|(segment, _)| segment.seek(place))?;
        (mark.stored_ms > 0).then(|| clock::from_ms(mark.stored_ms))
    }

    /// Reads a stretch from `place` on, about `bytes` long, at least one event. Blocks.
    ///
    /// Checks every checksum; what does not hold is recorded as a gap and left out.
    pub(crate) fn load(&self, place: u64, bytes: usize) -> io::Result<Chunk> {
        let committed = self.committed();
        let earliest = self.earliest();
        if place >= committed {
            return Ok(Chunk {
                covers: place..place,
                records: Vec::new(),
            });
        }
        if place < earliest {
            return Ok(Chunk {
                covers: place..earliest,
                records: Vec::new(),
            });
        }
        let Some((segment, end)) = self.segment_of(place) else {
            return Ok(Chunk {
                covers: place..committed,
                records: Vec::new(),
            });
        };
        let chunk = self.load_from(&segment, end.min(committed), place, bytes);
        if chunk.is_err() {
            segment.distrust();
        }
        chunk
    }

    fn load_from(&self, segment: &Segment, end: u64, place: u64, bytes: usize) -> io::Result<Chunk> {
        let (mark, mut frames) = self.seek(segment, |segment| segment.seek(place), bytes)?;
        let mut chunk = Chunk {
            covers: place..end,
            records: Vec::new(),
        };
        let (mut expected, mut taken) = (place.max(mark.offset), 0);
        while let Some(frame) = frames.next()? {
            let (offset, stored_ms) = (frame.header.offset, frame.header.stored_ms);
            if offset >= end {
                break;
            }
            segment.mark(Mark {
                offset,
                position: frame.position,
                stored_ms,
            });
            if offset < expected {
                continue;
            }
            if let Some(event) = decode(frames.body(&frame)) {
                if expected < offset {
                    self.missing(expected..offset);
                }
                expected = offset + 1;
                taken += frame.header.total();
                if !self.is_missing(offset) {
                    chunk.records.push(Read {
                        place: offset,
                        stored_ms,
                        event,
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

    /// The first place stored at or after a time. Blocks.
    pub(crate) fn place_of(&self, time: SystemTime) -> io::Result<u64> {
        let time_ms = clock::to_ms_up(time);
        let segments: Vec<_> = self.segments.lock().iter().cloned().collect();
        let Some(segment) = self.last_before(&segments, time_ms)? else {
            return Ok(self.earliest());
        };
        let (_, mut frames) = self.seek(&segment, |segment| segment.seek_time(time_ms), SCAN_CHUNK)?;
        let end = self.end_of(&segment);
        while let Some(frame) = frames.next()? {
            let (offset, stored_ms) = (frame.header.offset, frame.header.stored_ms);
            segment.mark(Mark {
                offset,
                position: frame.position,
                stored_ms,
            });
            if stored_ms >= time_ms && offset < end {
                return Ok(offset);
            }
        }
        Ok(end)
    }

    /// The last segment whose first record was stored before a time: the only one that time can lie in.
    fn last_before(&self, segments: &[Arc<Segment>], time_ms: u64) -> io::Result<Option<Arc<Segment>>> {
        let (mut low, mut high, mut found) = (0, segments.len(), None);
        while low < high {
            let middle = low.midpoint(high);
            // One without a readable record says nothing: ask the one before it.
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
        let start = Mark {
            offset: segment.base,
            position: SEGMENT_HEADER as u64,
            stored_ms: 0,
        };
        let first = self.frames(segment, start, FIRST_CHUNK)?.next()?;
        Ok(first.map(|frame| {
            let (offset, stored_ms) = (frame.header.offset, frame.header.stored_ms);
            segment.mark(Mark {
                offset,
                position: frame.position,
                stored_ms,
            });
            stored_ms
        }))
    }

    /// When a segment begins: its first event, or its own making while it has none. Blocks.
    pub(crate) fn begun_ms(&self, segment: &Segment) -> io::Result<Option<u64>> {
        if let Some(first) = self.first_ms(segment)? {
            return Ok(Some(first));
        }
        let mut header = [0; SEGMENT_HEADER];
        let read = segment.file(&*self.storage)?.read_at(&mut header, 0)?;
        Ok(SegmentHeader::decode(&header[..read])
            .ok()
            .map(|header| header.created_ms))
    }

    /// When the segment being written begins. Blocks.
    pub(crate) fn last_begun_ms(&self) -> io::Result<Option<u64>> {
        let last = self.segments.lock().last().cloned();
        last.map_or(Ok(None), |segment| self.begun_ms(&segment))
    }

    pub(super) fn frames(&self, segment: &Segment, from: Mark, chunk: usize) -> io::Result<Frames> {
        let file = segment.file(&*self.storage)?;
        if segment.is_unread() {
            check_header(segment, &*file)?;
        }
        Ok(Frames::new(file, self.salt, from.position, segment.length(), chunk))
    }

    /// The segment a place lies in, and the place where the next one begins.
    pub(super) fn segment_of(&self, place: u64) -> Option<(Arc<Segment>, u64)> {
        let segments = self.segments.lock();
        let after = segments.partition_point(|segment| segment.base <= place);
        let segment = segments.get(after.checked_sub(1)?)?.clone();
        Some((segment, segments.get(after).map_or(u64::MAX, |next| next.base)))
    }

    fn end_of(&self, segment: &Segment) -> u64 {
        self.segment_of(segment.base)
            .map_or(u64::MAX, |(_, end)| end)
            .min(self.committed())
    }

    /// Segments that are complete, oldest first, each with the place after its last.
    pub(crate) fn sealed(&self) -> Vec<(Arc<Segment>, u64)> {
        let segments = self.segments.lock();
        segments
            .iter()
            .zip(segments.iter().skip(1))
            .map(|(segment, next)| (segment.clone(), next.base))
            .collect()
    }

    /// The segment being written, if it holds anything.
    pub(crate) fn active(&self) -> Option<Arc<Segment>> {
        self.segments
            .lock()
            .last()
            .filter(|segment| !segment.is_empty())
            .cloned()
    }

    /// Seals the segment being written. Blocks.
    pub(crate) fn seal(&self) -> io::Result<()> {
        self.writer.lock().roll(self)
    }

    /// Unlinks the oldest segments, the one being written never; stops at the first that stays. Each is gone durably before
    /// the next one goes: one that is back after a crash while a later one is not would look like a gap. Blocks.
    pub(crate) fn unlink(&self, doomed: &[Arc<Segment>]) -> io::Result<()> {
        for segment in doomed {
            self.unlinked_durably()?;
            // First out of the list: whoever reads it now has it open, and nobody begins.
            self.segments.lock().retain(|kept| kept.base != segment.base);
            let _ = self.storage.remove(&segment.index_path());
            if let Err(error) = self.storage.remove(&segment.path) {
                // It is still there, so it is still the oldest: a later one deleted before it would look like a gap.
                self.segments.lock().insert(0, segment.clone());
                return Err(error);
            }
            self.unlinked.store(true, Ordering::Relaxed);
        }
        self.unlinked_durably()
    }

    /// What this process unlinked, or one before it may have, is gone for good.
    fn unlinked_durably(&self) -> io::Result<()> {
        if self.unlinked.load(Ordering::Relaxed) {
            self.storage.sync_dir(&self.dir)?;
            self.unlinked.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Records what of these places is not known to be missing yet.
    pub(crate) fn missing(&self, places: Range<u64>) {
        let mut from = places.start;
        for gap in self.gaps() {
            if gap.from.0 > from && from < places.end {
                self.add_gap(from..gap.from.0.min(places.end), GapReason::Damage);
            }
            from = from.max(gap.to.0);
        }
        if from < places.end {
            self.add_gap(from..places.end, GapReason::Damage);
        }
    }

    fn is_missing(&self, place: u64) -> bool {
        let gaps = self.gaps.lock();
        gaps.known.iter().any(|gap| gap.from.0 <= place && place < gap.to.0)
    }
}

/// Read at once when searching for a time.
const SCAN_CHUNK: usize = 64 << 10;
/// Read to see when a segment begins.
const FIRST_CHUNK: usize = 8 << 10;

/// A later version's segment is not read; a damaged header is said once, the records behind it are good or bad by themselves.
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
            tracing::warn!(path = %segment.path.display(), "segment header is damaged, its records are read all the same");
        }
        Err(BadHeader::Version(version)) => return later(format!("format version {version}")),
        Err(BadHeader::Features(features)) => return later(format!("features {features:#x}")),
    }
    segment.was_read();
    Ok(())
}

/// Each event gets its own bytes: one that is kept for long must not keep the chunk it was read with.
fn decode(body: &[u8]) -> Option<Event> {
    Event::decode(Bytes::copy_from_slice(body)).ok()
}
