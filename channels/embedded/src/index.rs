//! The index of a segment: record positions, so that a seek reads a small range and not the whole segment.
//!
//! It is a file beside the segment, written without a sync when the segment is sealed or the log closed. It is only a
//! hint: if it is missing, torn or belongs to another segment, it is rebuilt from the log, and a position is used only
//! after comparing it with the record found there. docs/reference/embedded-format.md describes the bytes.

use std::{io, path::Path};

use bytes::{Buf, BufMut};

use crate::{
    format::checksum,
    segment::{Mark, Segment},
    storage::{Mode, Storage},
};

const MAGIC: &[u8; 8] = b"hglogidx";
const VERSION: u16 = 1;
/// Magic, version, two zero bytes, base, length.
const HEADER: usize = 28;
const MARK: usize = 24;
const CHECKSUM: usize = 4;
/// A segment of the largest size has a thousand marks. A much larger file is not an index.
const BYTES_MAX: u64 = 16 << 20;

/// The contents of an index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// Bytes of the segment that the index covers.
    pub(crate) length: u64,
    pub(crate) marks: Vec<Mark>,
}

impl Index {
    /// Reads a segment's index; `None` if there is no usable one. Blocks.
    pub(crate) fn read(storage: &dyn Storage, segment: &Segment, salt: u32) -> Option<Self> {
        let file = storage.open(&segment.index_path(), Mode::Existing).ok()?;
        let length = file.length().ok().filter(|length| *length <= BYTES_MAX)?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        let read = file.read_at(&mut bytes, 0).ok()?;
        let index = Self::decode(bytes.get(..read)?, segment.base, salt)?;
        (index.length <= segment.length()).then_some(index)
    }

    /// Writes the index, replacing an existing one. Blocks.
    pub(crate) fn write(&self, storage: &dyn Storage, path: &Path, base: u64, salt: u32) -> io::Result<()> {
        let file = storage.open(path, Mode::New)?;
        file.write_at(&self.encode(base, salt), 0)
    }

    fn encode(&self, base: u64, salt: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.marks.len() * MARK + CHECKSUM);
        bytes.put_slice(MAGIC);
        bytes.put_u16_le(VERSION);
        bytes.put_u16_le(0);
        bytes.put_u64_le(base);
        bytes.put_u64_le(self.length);
        for mark in &self.marks {
            bytes.put_u64_le(mark.offset);
            bytes.put_u64_le(mark.position);
            bytes.put_u64_le(mark.stored_ms);
        }
        let sum = checksum(salt, &bytes);
        bytes.put_u32_le(sum);
        bytes
    }

    fn decode(bytes: &[u8], base: u64, salt: u32) -> Option<Self> {
        let body = bytes.len().checked_sub(CHECKSUM).filter(|body| *body >= HEADER)?;
        let (body, mut sum) = bytes.split_at(body);
        if sum.get_u32_le() != checksum(salt, body) || !body.starts_with(MAGIC) {
            return None;
        }
        let mut fields = &body[MAGIC.len()..];
        let (version, _) = (fields.get_u16_le(), fields.get_u16_le());
        let (of, length) = (fields.get_u64_le(), fields.get_u64_le());
        if version != VERSION || of != base || fields.len() % MARK != 0 {
            return None;
        }
        let marks = std::iter::from_fn(|| {
            fields.has_remaining().then(|| Mark {
                offset: fields.get_u64_le(),
                position: fields.get_u64_le(),
                stored_ms: fields.get_u64_le(),
            })
        });
        let marks: Vec<Mark> = marks.collect();
        let rise = |pair: &[Mark]| pair[0].offset < pair[1].offset && pair[0].position < pair[1].position;
        marks.windows(2).all(rise).then_some(Self { length, marks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let mark = |n: u64| Mark {
            offset: 100 + n,
            position: 64 + n * 70_000,
            stored_ms: 5000 + n,
        };
        Index {
            length: 1 << 20,
            marks: (0..5).map(mark).collect(),
        }
    }

    #[test]
    fn what_was_written_is_read_and_a_flipped_bit_or_a_cut_is_noticed() {
        let bytes = index().encode(100, 7);
        assert_eq!(Index::decode(&bytes, 100, 7), Some(index()));
        assert_eq!(Index::decode(&bytes, 101, 7), None, "of another segment");
        assert_eq!(Index::decode(&bytes, 100, 8), None, "of another log");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(Index::decode(&flipped, 100, 7), None, "bit in byte {at}");
            assert_eq!(Index::decode(&bytes[..at], 100, 7), None, "cut at {at}");
        }
    }

    #[test]
    fn marks_that_do_not_rise_are_none() {
        let mut wrong = index();
        wrong.marks.swap(1, 2);
        assert_eq!(Index::decode(&wrong.encode(100, 7), 100, 7), None);
    }
}
