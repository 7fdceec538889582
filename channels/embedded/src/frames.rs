//! Reads a segment's records one after the other, and finds the next whole one after damage.
//!
//! Nothing is believed that its checksum does not cover. A record with a sound header and a damaged body is stepped over
//! by its length; where no sound header is, the bytes are searched for the next record that is whole.

use std::{io, ops::Range, sync::Arc};

use crate::{
    format::{MARKER, RECORD_HEADER, RecordHeader, checksum},
    storage::File,
};

/// One whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) header: RecordHeader,
    /// Where it begins in the segment.
    pub(crate) position: u64,
    /// Its body, in [`Frames::body`]'s buffer until the next call.
    body: Range<usize>,
}

impl Frame {
    /// Where the next record begins.
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.total() as u64
    }
}

/// A reader over `[position, limit)` of a segment.
pub(crate) struct Frames {
    file: Arc<dyn File>,
    salt: u32,
    /// Where `buffer` begins in the segment.
    start: u64,
    buffer: Vec<u8>,
    /// The next byte to look at, in `buffer`.
    at: usize,
    limit: u64,
    chunk: usize,
}

impl Frames {
    /// `chunk`: how much is read at once; a larger record is read whole nevertheless.
    pub(crate) fn new(file: Arc<dyn File>, salt: u32, position: u64, limit: u64, chunk: usize) -> Self {
        Self {
            file,
            salt,
            start: position,
            buffer: Vec::new(),
            at: 0,
            limit,
            chunk,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    pub(crate) fn body(&self, frame: &Frame) -> &[u8] {
        &self.buffer[frame.body.clone()]
    }

    /// Would the next record come from what was read already?
    pub(crate) fn is_buffered(&self) -> bool {
        match RecordHeader::decode(&self.buffer[self.at..], self.salt) {
            Some(header) => self.buffer.len() - self.at >= header.total(),
            None => false,
        }
    }

    /// The next whole record; `None` when there is none before the limit.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
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
                // Its end was never written: nothing of this record, but something small may follow a damaged length.
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
            return Ok(Some(frame));
        }
    }

    fn search(&mut self) {
        self.at += 1;
        self.search_here();
    }

    /// Moves on to the next place in the buffer that may begin a record; short of the buffer's end, where one may be
    /// cut in two.
    fn search_here(&mut self) {
        let rest = &self.buffer[self.at..];
        self.at += match rest.windows(MARKER.len()).position(|window| window == MARKER) {
            Some(found) => found,
            None => rest.len().saturating_sub(MARKER.len() - 1),
        };
    }

    /// Reads on until `wanted` bytes lie ahead, or the limit; returns how many do.
    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        let ahead = self.buffer.len() - self.at;
        if ahead >= wanted {
            return Ok(ahead);
        }
        self.buffer.drain(..self.at);
        self.start += self.at as u64;
        self.at = 0;
        let left = self.limit.saturating_sub(self.start + ahead as u64);
        let more = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.chunk.max(wanted - ahead));
        self.buffer.resize(ahead + more, 0);
        let read = self
            .file
            .read_at(&mut self.buffer[ahead..], self.start + ahead as u64)?;
        self.buffer.truncate(ahead + read);
        Ok(self.buffer.len())
    }
}
