//! Reads the records of a segment in order, and finds the next intact one after damage.
//!
//! Only checksummed data is used. A record with a sound header and a damaged body is skipped by its length; without a
//! sound header, the bytes are searched for the next intact record.
//!
//! Checksums do not prove an offset: a process that can write the folder can compute them. The offsets of a segment
//! are consecutive, so a record whose offset leaves out more records than fit into the bytes before it counts as
//! damage, whatever its checksums say.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use event::Event;

use crate::{
    format::{MARKER, OFFSETS_END, RECORD_HEADER, RecordHeader, checksum, split_facts},
    segment::Mark,
    storage::File,
};

/// One intact record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) header: RecordHeader,
    /// Where it begins in the segment.
    pub(crate) position: u64,
    /// Its body in the buffer of [`Frames`]. Valid until the next read.
    body: Range<usize>,
}

impl Frame {
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            offset: self.header.offset,
            position: self.position,
            stored_ms: self.header.stored_ms,
        }
    }

    /// Where the next record begins.
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.total() as u64
    }
}

/// A result of [`Frames::next_any`].
#[derive(Debug)]
pub(crate) enum Scanned {
    Record(Frame),
    /// A record with sound checksums and an impossible offset. Counts as damage.
    Misplaced(Frame),
}

/// A reader over `[position, limit)` of a segment.
pub(crate) struct Frames {
    file: Arc<dyn File>,
    salt: u32,
    /// Where `buffer` begins in the segment.
    start: u64,
    buffer: Vec<u8>,
    /// The next byte to examine, in `buffer`.
    at: usize,
    limit: u64,
    chunk: usize,
    /// The offset of the next record, and where the last record ends.
    expected: u64,
    last_end: u64,
    misplaced: u64,
}

impl Frames {
    /// Creates a reader that begins at the mark `from`. `chunk`: bytes read at once; a larger record is still read
    /// whole.
    pub(crate) fn new(file: Arc<dyn File>, salt: u32, from: Mark, limit: u64, chunk: usize) -> Self {
        Self {
            file,
            salt,
            start: from.position,
            buffer: Vec::new(),
            at: 0,
            limit,
            chunk,
            expected: from.offset,
            last_end: from.position,
            misplaced: 0,
        }
    }

    /// How many records were skipped so far because of an impossible offset.
    pub(crate) fn misplaced(&self) -> u64 {
        self.misplaced
    }

    pub(crate) fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Decodes the event and the facts of the last frame; `None` if the body is none. Copies them, so that a long-lived
    /// event does not keep the whole buffer in memory.
    pub(crate) fn event(&self, frame: &Frame) -> Option<(Event, Bytes)> {
        let (facts, event) = split_facts(frame.header.flags, &self.buffer[frame.body.clone()])?;
        let event = Event::decode(Bytes::copy_from_slice(event)).ok()?;
        Some((event, Bytes::copy_from_slice(facts)))
    }

    /// Whether the next record lies in the buffer already.
    pub(crate) fn is_buffered(&self) -> bool {
        match RecordHeader::decode(&self.buffer[self.at..], self.salt) {
            Some(header) => self.buffer.len() - self.at >= header.total(),
            None => false,
        }
    }

    /// Reads the next intact record with a possible offset; `None` if there is none before the limit. Blocks.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.next_any()? {
                Some(Scanned::Record(frame)) => return Ok(Some(frame)),
                Some(Scanned::Misplaced(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads the next record with sound checksums; `None` if there is none before the limit. Blocks.
    pub(crate) fn next_any(&mut self) -> io::Result<Option<Scanned>> {
        loop {
            if self.fill(RECORD_HEADER)? < RECORD_HEADER {
                return Ok(None);
            }
            let Some(header) = RecordHeader::decode(&self.buffer[self.at..], self.salt) else {
                self.search();
                continue;
            };
            let total = header.total();
            if self.fill(total)? < total {
                // The end of this record was never written. A smaller record may still follow a damaged length.
                self.at += 1;
                self.search_here();
                continue;
            }
            let body = self.at + RECORD_HEADER..self.at + total;
            if checksum(self.salt, &self.buffer[body.clone()]) != header.body_checksum {
                self.at += total;
                continue;
            }
            let frame = Frame {
                header,
                position: self.position(),
                body: body.start + usize::from(header.extra)..body.end,
            };
            self.at += total;
            return Ok(Some(self.placed(frame)));
        }
    }

    fn placed(&mut self, frame: Frame) -> Scanned {
        let offset = frame.header.offset;
        let left_out = offset.saturating_sub(self.expected);
        let room = frame.position.saturating_sub(self.last_end) / RECORD_HEADER as u64;
        if offset >= OFFSETS_END || left_out > room {
            self.misplaced += 1;
            return Scanned::Misplaced(frame);
        }
        if offset >= self.expected {
            (self.expected, self.last_end) = (offset + 1, frame.end());
        }
        Scanned::Record(frame)
    }

    fn search(&mut self) {
        self.at += 1;
        self.search_here();
    }

    /// Advances to the next marker in the buffer. Stops short of the buffer's end, where a marker may be split.
    fn search_here(&mut self) {
        let rest = &self.buffer[self.at..];
        self.at += match rest.windows(MARKER.len()).position(|window| window == MARKER) {
            Some(found) => found,
            None => rest.len().saturating_sub(MARKER.len() - 1),
        };
    }

    /// Reads until `needed` bytes lie ahead, or to the limit; returns how many do.
    fn fill(&mut self, needed: usize) -> io::Result<usize> {
        let ahead = self.buffer.len() - self.at;
        if ahead >= needed {
            return Ok(ahead);
        }
        self.buffer.drain(..self.at);
        self.start += self.at as u64;
        self.at = 0;
        let left = self.limit.saturating_sub(self.start + ahead as u64);
        let more = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.chunk.max(needed - ahead));
        self.buffer.resize(ahead + more, 0);
        let read = self
            .file
            .read_at(&mut self.buffer[ahead..], self.start + ahead as u64)?;
        self.buffer.truncate(ahead + read);
        Ok(self.buffer.len())
    }
}
