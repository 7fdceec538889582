//! The records of a state file. docs/embedded-format.md is the prose.

use std::ops::Range;

use bytes::{Buf, BufMut};
use channel::{Attempts, Gap, GapReason, Offset, Watermark};

use super::{Checkpoint, Saved, SavedCursor};
use crate::clock;

/// Where a record may begin.
const MARKER: [u8; 4] = [0xc5, b'h', b'g', 0x07];
/// Marker, length, checksum.
const HEADER: usize = 12;

const CREATED: u8 = 1;
const FORGOTTEN: u8 = 2;
const SETTLED: u8 = 3;
const TRIED: u8 = 4;
const GAP: u8 = 5;
const CHECKPOINT: u8 = 6;
const OWNED: u8 = 7;

const LIMIT: u8 = 1;
const DAMAGE: u8 = 2;

fn put(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_slice(&MARKER);
    out.put_u64_le(0);
    body(out);
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX);
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&out[start + HEADER..]) ^ length;
    out[start + 8..start + HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// A cursor exists; everything below `start` is settled for it.
pub(crate) fn put_created(out: &mut Vec<u8>, id: u32, start: Offset, name: &str) {
    put(out, |out| {
        out.put_u8(CREATED);
        out.put_u32_le(id);
        out.put_u64_le(start.0);
        out.put_slice(name.as_bytes());
    });
}

/// Whose a cursor is; one without such a record is nobody's.
pub(crate) fn put_owned(out: &mut Vec<u8>, id: u32, owner: &str) {
    put(out, |out| {
        out.put_u8(OWNED);
        out.put_u32_le(id);
        out.put_slice(owner.as_bytes());
    });
}

pub(crate) fn put_forgotten(out: &mut Vec<u8>, id: u32) {
    put(out, |out| {
        out.put_u8(FORGOTTEN);
        out.put_u32_le(id);
    });
}

/// Everything below `below` is settled, and these ranges.
pub(crate) fn put_settled(out: &mut Vec<u8>, id: u32, below: Offset, ranges: impl Iterator<Item = Range<Offset>>) {
    put(out, |out| {
        out.put_u8(SETTLED);
        out.put_u32_le(id);
        out.put_u64_le(below.0);
        for range in ranges {
            out.put_u64_le(range.start.0);
            out.put_u64_le(range.end.0);
        }
    });
}

pub(crate) fn put_tried(out: &mut Vec<u8>, id: u32, place: Offset, attempts: &Attempts) {
    put(out, |out| {
        out.put_u8(TRIED);
        out.put_u32_le(id);
        out.put_u64_le(place.0);
        out.put_u32_le(attempts.failed);
        out.put_u16_le(attempts.last_status.unwrap_or(0));
        out.put_u64_le(attempts.first_at.map_or(0, clock::to_ms));
        out.put_u64_le(attempts.next_at.map_or(0, clock::to_ms_up));
    });
}

pub(crate) fn put_gap(out: &mut Vec<u8>, gap: &Gap) {
    put(out, |out| {
        out.put_u8(GAP);
        out.put_u64_le(gap.from.0);
        out.put_u64_le(gap.to.0);
        out.put_u64_le(clock::to_ms(gap.found_at));
        out.put_u8(match gap.reason {
            GapReason::Limit => LIMIT,
            GapReason::Damage => DAMAGE,
        });
    });
}

pub(crate) fn put_checkpoint(out: &mut Vec<u8>, checkpoint: &Checkpoint) {
    put(out, |out| {
        out.put_u8(CHECKPOINT);
        out.put_u64_le(checkpoint.segment);
        out.put_u64_le(checkpoint.position);
        out.put_u64_le(checkpoint.next);
        out.put_u64_le(checkpoint.last_ms);
        out.put_u32_le(checkpoint.salt);
    });
}

/// What reading a file's records came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) saved: Saved,
    /// Where the last whole record ends.
    pub(super) end: usize,
    /// Bytes before `end` that belong to no whole record.
    pub(super) damaged: Vec<Range<usize>>,
}

/// Reads every whole record from `start` on.
pub(super) fn parse(bytes: &[u8], start: usize) -> Parsed {
    let mut parsed = Parsed {
        end: start,
        ..Parsed::default()
    };
    let mut at = start;
    while at < bytes.len() {
        match body(&bytes[at..]) {
            Some(body) => {
                if parsed.end < at {
                    parsed.damaged.push(parsed.end..at);
                }
                at += HEADER + body.len();
                parsed.end = at;
                apply(&mut parsed.saved, body);
            }
            None => at += 1,
        }
    }
    for cursor in parsed.saved.cursors.values_mut() {
        let settled = &cursor.settled;
        cursor.attempts.retain(|place, _| !settled.is_settled(*place));
    }
    parsed
}

fn body(bytes: &[u8]) -> Option<&[u8]> {
    let mut header = bytes.get(..HEADER)?.strip_prefix(&MARKER)?;
    let (length, checksum) = (header.get_u32_le(), header.get_u32_le());
    let body = bytes.get(HEADER..HEADER.checked_add(length as usize)?)?;
    (crc32fast::hash(body) ^ length == checksum).then_some(body)
}

/// Are these bytes the beginning of a record that is longer, or nothing at all?
pub(super) fn is_cut(bytes: &[u8]) -> bool {
    let marked = bytes.len().min(MARKER.len());
    let is_begun = bytes[..marked] == MARKER[..marked];
    let length = bytes
        .get(4..8)
        .and_then(|field| Some(u32::from_le_bytes(field.try_into().ok()?)));
    let is_longer = length.is_none_or(|length| HEADER + length as usize > bytes.len());
    (is_begun && is_longer) || bytes.iter().all(|byte| *byte == 0)
}

/// A record of a kind or length this version does not know adds nothing it could understand.
fn apply(saved: &mut Saved, mut body: &[u8]) {
    let Ok(kind) = body.try_get_u8() else { return };
    let _ = match kind {
        CREATED => created(saved, body),
        FORGOTTEN => body.try_get_u32_le().ok().map(|id| {
            saved.cursors.remove(&id);
            saved.orphans.remove(&id);
            saved.forgotten.insert(id);
        }),
        SETTLED => settled(saved, body),
        TRIED => tried(saved, body),
        GAP => gap(saved, body),
        CHECKPOINT => checkpoint(saved, body),
        OWNED => owned(saved, body),
        _ => None,
    };
}

fn created(saved: &mut Saved, mut body: &[u8]) -> Option<()> {
    let (id, start) = (body.try_get_u32_le().ok()?, Offset(body.try_get_u64_le().ok()?));
    let name = String::from_utf8(body.to_vec()).ok()?;
    saved.cursors.insert(
        id,
        SavedCursor {
            name,
            owner: None,
            settled: Watermark::new(start),
            attempts: Default::default(),
        },
    );
    Some(())
}

fn owned(saved: &mut Saved, mut body: &[u8]) -> Option<()> {
    let id = body.try_get_u32_le().ok()?;
    let owner = String::from_utf8(body.to_vec()).ok()?;
    saved.cursors.get_mut(&id)?.owner = Some(owner);
    Some(())
}

fn settled(saved: &mut Saved, mut body: &[u8]) -> Option<()> {
    let id = body.try_get_u32_le().ok()?;
    let settled = match saved.cursors.get_mut(&id) {
        Some(cursor) => &mut cursor.settled,
        None if saved.forgotten.contains(&id) => return None,
        None => saved.orphans.entry(id).or_default(),
    };
    settled.settle_range(Offset(0)..Offset(body.try_get_u64_le().ok()?));
    while body.remaining() >= 16 {
        settled.settle_range(Offset(body.get_u64_le())..Offset(body.get_u64_le()));
    }
    Some(())
}

fn tried(saved: &mut Saved, mut body: &[u8]) -> Option<()> {
    let (id, place) = (body.try_get_u32_le().ok()?, Offset(body.try_get_u64_le().ok()?));
    let failed = body.try_get_u32_le().ok()?;
    let last_status = Some(body.try_get_u16_le().ok()?).filter(|status| *status > 0);
    let mut time = || {
        Some(body.try_get_u64_le().ok()?)
            .filter(|ms| *ms > 0)
            .map(clock::from_ms)
    };
    let (first_at, next_at) = (time(), time());
    saved.cursors.get_mut(&id)?.attempts.insert(
        place,
        Attempts {
            failed,
            last_status,
            first_at,
            next_at,
        },
    );
    Some(())
}

fn gap(saved: &mut Saved, mut body: &[u8]) -> Option<()> {
    let (from, to) = (Offset(body.try_get_u64_le().ok()?), Offset(body.try_get_u64_le().ok()?));
    let found_at = clock::from_ms(body.try_get_u64_le().ok()?);
    let reason = if body.try_get_u8().ok()? == LIMIT {
        GapReason::Limit
    } else {
        GapReason::Damage
    };
    let at = saved.gaps.partition_point(|known| known.from < from);
    saved.gaps.insert(
        at,
        Gap {
            from,
            to,
            found_at,
            reason,
        },
    );
    Some(())
}

fn checkpoint(saved: &mut Saved, mut body: &[u8]) -> Option<()> {
    let mut field = || body.try_get_u64_le().ok();
    let (segment, position, next, last_ms) = (field()?, field()?, field()?, field()?);
    let salt = body.try_get_u32_le().ok()?;
    saved.checkpoint = Some(Checkpoint {
        segment,
        position,
        next,
        last_ms,
        salt,
    });
    Some(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn sample() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        let time = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let tried = Attempts {
            failed: 3,
            last_status: Some(503),
            first_at: time(5),
            next_at: time(9),
        };
        put_created(&mut bytes, 0, Offset(10), "team/a");
        ends.push(bytes.len());
        put_created(&mut bytes, 1, Offset(0), "team/b");
        ends.push(bytes.len());
        put_settled(&mut bytes, 0, Offset(12), [Offset(14)..Offset(16)].into_iter());
        ends.push(bytes.len());
        put_tried(&mut bytes, 0, Offset(13), &tried);
        ends.push(bytes.len());
        put_forgotten(&mut bytes, 1);
        ends.push(bytes.len());
        put_owned(&mut bytes, 0, "uid-1");
        ends.push(bytes.len());
        (bytes, ends)
    }

    /// Proves: DL-4
    #[test]
    fn what_was_written_is_read_back() {
        let (bytes, _) = sample();
        let parsed = parse(&bytes, 0);
        let cursor = &parsed.saved.cursors[&0];
        assert_eq!(
            (parsed.end, parsed.damaged, parsed.saved.cursors.len()),
            (bytes.len(), vec![], 1)
        );
        assert_eq!(
            (cursor.settled.settled_below(), cursor.settled.top()),
            (Offset(12), Offset(16))
        );
        assert_eq!((&*cursor.name, cursor.owner.as_deref()), ("team/a", Some("uid-1")));
        let attempts = cursor.attempts[&Offset(13)];
        assert_eq!((attempts.failed, attempts.last_status), (3, Some(503)));
        assert_eq!(attempts.next_at, Some(UNIX_EPOCH + Duration::from_secs(9)));
    }

    #[test]
    fn a_record_of_a_later_version_and_fields_it_added_are_stepped_over() {
        let (mut bytes, _) = sample();
        put(&mut bytes, |out| out.extend_from_slice(b"\xeesomething new"));
        put(&mut bytes, |out| {
            out.put_u8(GAP);
            for number in [3, 5, 9] {
                out.put_u64_le(number);
            }
            out.put_u8(DAMAGE);
            out.put_slice(b"and who found it");
        });
        let parsed = parse(&bytes, 0);
        assert_eq!((parsed.end, parsed.damaged), (bytes.len(), vec![]));
        assert_eq!(
            (parsed.saved.gaps[0].from, parsed.saved.gaps[0].to),
            (Offset(3), Offset(5))
        );
        assert_eq!(parsed.saved.cursors.len(), 1);
    }

    /// Proves: OP-2
    #[test]
    fn a_torn_end_is_no_damage_and_a_flipped_bit_costs_one_record() {
        let (bytes, ends) = sample();
        for cut in 0..bytes.len() {
            let parsed = parse(&bytes[..cut], 0);
            assert_eq!(
                (parsed.end, parsed.damaged),
                (ends.iter().rev().find(|end| **end <= cut).copied().unwrap_or(0), vec![])
            );
        }
        for byte in ends[1]..ends[2] {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 4;
            let parsed = parse(&flipped, 0);
            let damaged: Vec<_> = parsed.damaged.iter().map(|range| (range.start, range.end)).collect();
            assert_eq!(
                (parsed.end, damaged),
                (bytes.len(), vec![(ends[1], ends[2])]),
                "byte {byte}"
            );
            assert_eq!(parsed.saved.cursors[&0].settled.settled_below(), Offset(10));
        }
    }
}
