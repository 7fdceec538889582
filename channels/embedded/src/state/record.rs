//! The records of a state file. docs/reference/embedded-format.md describes them in prose.

use std::{ops::Range, time::Duration};

use bytes::{Buf, BufMut};
use channel::{Attempts, Gap, GapReason, Offset, Watermark};

use super::{Checkpoint, Saved, SavedCursor};
use crate::{clock, format::OFFSETS_END};

/// Marks the beginning of a record.
const MARKER: [u8; 4] = [0xc5, b'h', b'g', 0x07];
/// Marker, length, checksum.
const HEADER: usize = 12;

const CREATED: u8 = 1;
const DELETED: u8 = 2;
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

/// A cursor exists, and has settled everything below `start`.
pub(crate) fn put_created(out: &mut Vec<u8>, id: u32, start: Offset, name: &str) {
    put(out, |out| {
        out.put_u8(CREATED);
        out.put_u32_le(id);
        out.put_u64_le(start.0);
        out.put_slice(name.as_bytes());
    });
}

/// The uid of the cursor's subscription. A cursor without this record has no owner.
pub(crate) fn put_owned(out: &mut Vec<u8>, id: u32, owner: &str) {
    put(out, |out| {
        out.put_u8(OWNED);
        out.put_u32_le(id);
        out.put_slice(owner.as_bytes());
    });
}

pub(crate) fn put_deleted(out: &mut Vec<u8>, id: u32) {
    put(out, |out| {
        out.put_u8(DELETED);
        out.put_u32_le(id);
    });
}

/// The cursor has settled everything below `below`, and these ranges.
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

pub(crate) fn put_tried(out: &mut Vec<u8>, id: u32, offset: Offset, attempts: &Attempts) {
    put(out, |out| {
        out.put_u8(TRIED);
        out.put_u32_le(id);
        out.put_u64_le(offset.0);
        out.put_u32_le(attempts.failed);
        out.put_u16_le(attempts.last_status.unwrap_or(0));
        out.put_u64_le(attempts.first_at.map_or(0, clock::to_ms));
        out.put_u64_le(attempts.next_at.map_or(0, clock::to_ms_up));
        let retry_after = attempts.retry_after.unwrap_or_default().as_millis();
        out.put_u64_le(u64::try_from(retry_after).unwrap_or(u64::MAX));
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

/// The result of reading a file's records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) saved: Saved,
    /// Where the last intact record ends.
    pub(super) end: usize,
    /// Bytes before `end` that belong to no intact record.
    pub(super) damaged: Vec<Range<usize>>,
}

/// Reads every intact record from `start` on.
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
                if is_possible(body) {
                    apply(&mut parsed.saved, body);
                } else {
                    parsed.damaged.push(parsed.end..at);
                }
                parsed.end = at;
            }
            None => at += 1,
        }
    }
    for cursor in parsed.saved.cursors.values_mut() {
        let settled = &cursor.settled;
        cursor.attempts.retain(|offset, _| !settled.is_settled(*offset));
    }
    parsed
}

fn body(bytes: &[u8]) -> Option<&[u8]> {
    let mut header = bytes.get(..HEADER)?.strip_prefix(&MARKER)?;
    let (length, checksum) = (header.get_u32_le(), header.get_u32_le());
    let body = bytes.get(HEADER..HEADER.checked_add(length as usize)?)?;
    (crc32fast::hash(body) ^ length == checksum).then_some(body)
}

/// Whether these bytes are the beginning of a longer record, or zeros.
pub(super) fn is_cut(bytes: &[u8]) -> bool {
    let marked = bytes.len().min(MARKER.len());
    let is_begun = bytes[..marked] == MARKER[..marked];
    let length = bytes
        .get(4..8)
        .and_then(|field| Some(u32::from_le_bytes(field.try_into().ok()?)));
    let is_longer = length.is_none_or(|length| HEADER + length as usize > bytes.len());
    (is_begun && is_longer) || bytes.iter().all(|byte| *byte == 0)
}

/// Whether all offsets in a record are possible. The checksum only proves that they were written like that.
fn is_possible(body: &[u8]) -> bool {
    let offset = |at: usize| {
        let bytes = body.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let offsets: Vec<usize> = match body.first() {
        Some(&CREATED | &TRIED) => vec![5],
        Some(&SETTLED) => (5..body.len()).step_by(8).collect(),
        Some(&GAP) => vec![1, 9],
        // The segment's base and the next offset; between them is a byte position.
        Some(&CHECKPOINT) => vec![1, 17],
        _ => Vec::new(),
    };
    offsets
        .into_iter()
        .filter_map(offset)
        .all(|offset| offset <= OFFSETS_END)
}

/// Applies a record. Ignores kinds and lengths that this version does not know.
fn apply(saved: &mut Saved, mut body: &[u8]) {
    let Ok(kind) = body.try_get_u8() else { return };
    let _ = match kind {
        CREATED => created(saved, body),
        DELETED => body.try_get_u32_le().ok().map(|id| {
            saved.cursors.remove(&id);
            saved.orphans.remove(&id);
            saved.deleted.insert(id);
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
        None if saved.deleted.contains(&id) => return None,
        None => saved.orphans.entry(id).or_default(),
    };
    settled.settle_range(Offset(0)..Offset(body.try_get_u64_le().ok()?));
    while body.remaining() >= 16 {
        settled.settle_range(Offset(body.get_u64_le())..Offset(body.get_u64_le()));
    }
    Some(())
}

fn tried(saved: &mut Saved, mut body: &[u8]) -> Option<()> {
    let (id, offset) = (body.try_get_u32_le().ok()?, Offset(body.try_get_u64_le().ok()?));
    let failed = body.try_get_u32_le().ok()?;
    let last_status = Some(body.try_get_u16_le().ok()?).filter(|status| *status > 0);
    let mut time = || {
        Some(body.try_get_u64_le().ok()?)
            .filter(|ms| *ms > 0)
            .map(clock::from_ms)
    };
    let (first_at, next_at) = (time(), time());
    // Missing in files of version 0.1.
    let retry_after = body
        .try_get_u64_le()
        .ok()
        .filter(|ms| *ms > 0)
        .map(Duration::from_millis);
    saved.cursors.get_mut(&id)?.attempts.insert(
        offset,
        Attempts {
            failed,
            last_status,
            first_at,
            next_at,
            retry_after,
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
mod tests;
