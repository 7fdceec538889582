//! Scans the last segment of a log after a crash: how far it is good, and what is missing before that.
//!
//! The scan begins at the last checkpoint. Three rules:
//! * An append is stored completely or not at all: without its last record its records are dropped.
//! * A write begins after the previous one was synced, so an intact first record of a write proves everything before
//!   it: what is missing there is damage, and the rest of a damaged append is kept.
//! * Everything behind the last complete append is cut off.
//!
//! The result is a pure function of the bytes, and a scan after the cut finds nothing to do.

use std::{io, ops::Range};

use crate::{
    format::{FIRST_OF_BATCH, FIRST_OF_COMMIT, LAST_OF_BATCH},
    frames::{Frame, Frames},
};

/// The result of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The offset after the last good record.
    pub(crate) next: u64,
    /// Where the last good record ends.
    pub(crate) length: u64,
    /// Offsets below `next` that hold nothing readable, or a part of an append that was never finished.
    pub(crate) missing: Vec<Range<u64>>,
    /// Intact records seen.
    pub(crate) records: u64,
    /// Records with sound checksums and an impossible offset. They are damage, not part of the log.
    pub(crate) misplaced: u64,
    /// When the last good record was stored.
    pub(crate) last_ms: u64,
}

/// Scans the rest of a segment; `next` is the first offset expected. Blocks.
pub(crate) fn recover(frames: &mut Frames, next: u64, mut seen: impl FnMut(&Frame)) -> io::Result<Recovered> {
    let length = frames.position();
    let mut scan = Scan {
        good: Recovered {
            next,
            length,
            ..Recovered::default()
        },
        expected: next,
        ..Scan::default()
    };
    while let Some(frame) = frames.next()? {
        // A record with an earlier offset is not part of the log.
        if frame.header.offset >= scan.expected {
            seen(&frame);
            scan.take(&frame);
        } else {
            scan.good.misplaced += 1;
        }
    }
    scan.good.misplaced += frames.misplaced();
    Ok(scan.finish())
}

#[derive(Default)]
struct Scan {
    /// The result up to the last complete append.
    good: Recovered,
    expected: u64,
    /// The offset where the append being read began.
    open: Option<u64>,
    holes: Vec<Range<u64>>,
    /// Intact records of incomplete appends. Dropped unless a later write proves them.
    doubtful: Vec<Range<u64>>,
    last_ms: u64,
}

impl Scan {
    fn take(&mut self, frame: &Frame) {
        let (offset, flags) = (frame.header.offset, frame.header.flags);
        let hole = offset > self.expected;
        if flags & FIRST_OF_COMMIT != 0 {
            self.doubtful.clear();
            self.open = None;
            (self.good.next, self.good.length) = (offset, frame.position);
            self.good.last_ms = self.last_ms;
        }
        if hole {
            self.holes.push(self.expected..offset);
        }
        if (hole || flags & FIRST_OF_BATCH != 0)
            && let Some(begun) = self.open.take()
        {
            self.doubtful.push(begun..self.expected);
        }
        if flags & FIRST_OF_BATCH != 0 {
            self.open = Some(offset);
        }
        self.expected = offset + 1;
        self.last_ms = frame.header.stored_ms;
        self.good.records += 1;
        match self.open {
            None => self.doubtful.push(offset..offset + 1),
            Some(_) if flags & LAST_OF_BATCH != 0 => {
                self.open = None;
                (self.good.next, self.good.length) = (self.expected, frame.end());
                self.good.last_ms = self.last_ms;
            }
            Some(_) => {}
        }
    }

    fn finish(mut self) -> Recovered {
        let next = self.good.next;
        let mut missing: Vec<_> = self
            .holes
            .into_iter()
            .chain(self.doubtful)
            .filter(|range| range.start < next)
            .collect();
        missing.sort_by_key(|range| range.start);
        for range in missing {
            match self.good.missing.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end.min(next)),
                _ => self.good.missing.push(range.start..range.end.min(next)),
            }
        }
        self.good
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use super::*;
    use crate::{format::put_record, segment::Mark, storage::File};

    struct Bytes(Vec<u8>);

    impl File for Bytes {
        fn length(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
            let from = usize::try_from(at).unwrap().min(self.0.len());
            let count = buffer.len().min(self.0.len() - from);
            buffer[..count].copy_from_slice(&self.0[from..from + count]);
            Ok(count)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::Error::other("read only"))
        }
        fn truncate(&self, _: u64) -> io::Result<()> {
            Err(io::Error::other("read only"))
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    const SALT: u32 = 99;

    /// Builds commits, each a list of batches, each a number of records; also returns where each record begins.
    fn log(commits: &[&[u64]]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts, mut offset) = (Vec::new(), Vec::new(), 0);
        for commit in commits {
            for (batch, &records) in commit.iter().enumerate() {
                for record in 0..records {
                    let mut flags = 0;
                    flags |= if record == 0 { FIRST_OF_BATCH } else { 0 };
                    flags |= if record + 1 == records { LAST_OF_BATCH } else { 0 };
                    flags |= if batch == 0 && record == 0 { FIRST_OF_COMMIT } else { 0 };
                    starts.push(bytes.len());
                    put_record(&mut bytes, SALT, offset, 5, flags, |out| {
                        out.extend_from_slice(&[7; 50]);
                    });
                    offset += 1;
                }
            }
        }
        (bytes, starts)
    }

    fn scan(bytes: Vec<u8>) -> (u64, Vec<(u64, u64)>) {
        let limit = bytes.len() as u64;
        let from = Mark {
            offset: 0,
            position: 0,
            stored_ms: 0,
        };
        let found = recover(
            &mut Frames::new(Arc::new(Bytes(bytes)), SALT, from, limit, 64),
            0,
            |_| {},
        )
        .unwrap();
        (
            found.next,
            found
                .missing
                .iter()
                .map(|offsets| (offsets.start, offsets.end))
                .collect(),
        )
    }

    /// Proves: OP-2
    #[test]
    fn an_append_cut_anywhere_is_dropped_whole_and_what_was_before_it_is_kept() {
        let (bytes, starts) = log(&[&[2, 1], &[3]]);
        for cut in starts[3]..bytes.len() {
            assert_eq!(scan(bytes[..cut].to_vec()), (3, vec![]), "cut at {cut}");
        }
        assert_eq!(scan(bytes), (6, vec![]));
    }

    /// Proves: OP-2, CH-9
    #[test]
    fn a_record_damaged_before_a_later_write_is_a_gap_of_one() {
        let (bytes, starts) = log(&[&[3], &[1]]);
        for at in starts[1]..starts[2] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(scan(damaged), (4, vec![(1, 2)]), "byte {at}");
        }
    }

    /// Proves: OP-2
    #[test]
    fn a_hole_in_the_last_write_drops_the_append_it_hit_and_keeps_the_whole_ones() {
        let (bytes, starts) = log(&[&[1], &[1, 3, 2]]);
        for hit in 2..5 {
            let mut torn = bytes.clone();
            torn[starts[hit]..starts[hit + 1]].fill(0);
            assert_eq!(scan(torn), (7, vec![(2, 5)]), "record {hit}");
        }
    }

    /// Proves: OP-2, CH-9
    #[test]
    fn a_record_at_a_place_it_cannot_have_is_damage_whatever_its_checksums_say() {
        for offset in [u64::MAX, u64::MAX - 1, 1 << 62, 1 << 40, 4, 2, 0] {
            let (mut bytes, starts) = log(&[&[1], &[1], &[1]]);
            let flags = FIRST_OF_BATCH | LAST_OF_BATCH | FIRST_OF_COMMIT;
            put_record(&mut bytes, SALT, offset, 5, flags, |out| {
                out.extend_from_slice(b"forged");
            });
            assert_eq!(
                scan(bytes.clone()),
                (3, vec![]),
                "place {offset} behind the last record"
            );
            let mut overwritten = bytes[..starts[1]].to_vec();
            put_record(&mut overwritten, SALT, offset, 5, flags, |out| {
                out.extend_from_slice(&[7; 50]);
            });
            overwritten.extend_from_slice(&bytes[starts[2]..]);
            assert_eq!(scan(overwritten), (3, vec![(1, 2)]), "place {offset} in the middle");
        }
    }

    #[test]
    fn damage_behind_the_last_whole_append_is_cut_and_no_gap() {
        let (mut bytes, starts) = log(&[&[2], &[2]]);
        bytes[starts[2]] ^= 1;
        assert_eq!(scan(bytes), (2, vec![]));
    }

    #[test]
    fn a_record_a_sender_put_into_an_event_is_not_taken_for_one() {
        let mut forged = Vec::new();
        put_record(&mut forged, SALT + 1, 1, 5, 7, |out| out.extend_from_slice(b"forged"));
        let mut bytes = Vec::new();
        put_record(&mut bytes, SALT, 0, 5, 7, |out| out.extend_from_slice(&forged));
        bytes[4] ^= 1;
        assert_eq!(scan(bytes), (0, vec![]));
    }
}
