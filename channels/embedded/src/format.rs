//! The bytes of a segment: its header, a record's header, and the checksums over them. docs/reference/embedded-format.md
//! describes them in prose.
//!
//! All numbers are little-endian. Checksums are CRC-32 started from the log's salt, a random number in every segment
//! header. The salt keeps bytes that a sender put into an event from passing for a record when a damaged log is
//! searched.

use bytes::{Buf, BufMut};

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 64;
/// Bytes before a record's body.
pub(crate) const RECORD_HEADER: usize = 36;
/// Largest body read back, in bytes: twice the largest event, because dead letters carry more than events. A larger
/// length is damage.
pub(crate) const BODY_MAX: usize = 64 << 20;
/// Marks the beginning of a record, for the search through a damaged segment.
pub(crate) const MARKER: [u8; 4] = [0xa7, b'h', b'g', 0x1e];

/// [`SEGMENT_HEADER`] as it is written.
const HEADER_LENGTH: u16 = 64;
const _: () = assert!(SEGMENT_HEADER == HEADER_LENGTH as usize);

const MAGIC: &[u8; 8] = b"hglogseg";
/// The version written. Since version 2 a record may hold facts beside its event ([`WITH_FACTS`]).
pub(crate) const VERSION: u16 = 2;
/// The oldest version read. Everything it allows means the same in the current one.
const VERSION_MIN: u16 = 1;

/// Every offset is below this. A log that stores a million events a second reaches it after 146 000 years, so a larger
/// number is damage or forgery, and arithmetic on a checked offset cannot wrap.
pub(crate) const OFFSETS_END: u64 = 1 << 62;

/// The first record of an append.
pub(crate) const FIRST_OF_BATCH: u16 = 1;
/// The last record of an append. Without it the append did not finish.
pub(crate) const LAST_OF_BATCH: u16 = 2;
/// The first record of a write. A write begins after the previous one was synced, so this record, if intact, proves
/// that everything before it was durable once.
pub(crate) const FIRST_OF_COMMIT: u16 = 4;
/// The facts of a dead letter precede the event: their length (4 bytes), then the facts.
pub(crate) const WITH_FACTS: u16 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) version: u16,
    pub(crate) base: u64,
    pub(crate) created_ms: u64,
    pub(crate) salt: u32,
}

/// Why a segment's header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Incomplete, or damaged.
    Damaged,
    /// Written by a later version of the program.
    Version(u16),
    /// Written by a later version of the program that requires readers to support these features.
    Features(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        let mut out = &mut bytes[..];
        out.put_slice(MAGIC);
        out.put_u16_le(self.version);
        out.put_u16_le(HEADER_LENGTH);
        out.put_u32_le(0);
        out.put_u64_le(self.base);
        out.put_u64_le(self.created_ms);
        out.put_u32_le(self.salt);
        let checksum = crc32fast::hash(&bytes[..SEGMENT_HEADER - 4]);
        bytes[SEGMENT_HEADER - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        if bytes.len() < SEGMENT_HEADER || &bytes[..8] != MAGIC {
            return Err(BadHeader::Damaged);
        }
        let (head, mut checksum) = bytes[..SEGMENT_HEADER].split_at(SEGMENT_HEADER - 4);
        if checksum.get_u32_le() != crc32fast::hash(head) {
            return Err(BadHeader::Damaged);
        }
        let mut fields = &head[8..];
        let version = fields.get_u16_le();
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(BadHeader::Version(version));
        }
        // Skips the header length, which this version does not need, and flags that it may ignore.
        fields.advance(4);
        let features = fields.get_u16_le();
        if features != 0 {
            return Err(BadHeader::Features(features));
        }
        Ok(Self {
            version,
            base: fields.get_u64_le(),
            created_ms: fields.get_u64_le(),
            salt: fields.get_u32_le(),
        })
    }

    /// Repairs a header with one wrong byte. Without it a log whose salt is known from nowhere else would be lost.
    pub(crate) fn repaired(bytes: &[u8]) -> Option<Self> {
        let mut tried: [u8; SEGMENT_HEADER] = bytes.get(..SEGMENT_HEADER)?.try_into().ok()?;
        for at in 0..SEGMENT_HEADER {
            for flip in 1..=u8::MAX {
                tried[at] ^= flip;
                if let Ok(header) = Self::decode(&tried) {
                    return Some(header);
                }
                tried[at] ^= flip;
            }
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) length: u32,
    pub(crate) offset: u64,
    pub(crate) stored_ms: u64,
    pub(crate) flags: u16,
    /// Bytes of the body before the event: fields of a later version, which this one skips.
    pub(crate) extra: u16,
    pub(crate) body_checksum: u32,
}

impl RecordHeader {
    fn encode(&self, salt: u32) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        let mut out = &mut bytes[..];
        out.put_slice(&MARKER);
        out.put_u32_le(self.length);
        out.put_u64_le(self.offset);
        out.put_u64_le(self.stored_ms);
        out.put_u16_le(self.flags);
        out.put_u16_le(self.extra);
        out.put_u32_le(self.body_checksum);
        let checksum = checksum(salt, &bytes[..RECORD_HEADER - 4]);
        bytes[RECORD_HEADER - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Returns `None` if there is no intact record header here.
    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER)?;
        if bytes[..4] != MARKER {
            return None;
        }
        let (head, mut expected) = bytes.split_at(RECORD_HEADER - 4);
        if expected.get_u32_le() != checksum(salt, head) {
            return None;
        }
        let mut fields = &head[4..];
        let (length, offset, stored_ms, flags, extra) = (
            fields.get_u32_le(),
            fields.get_u64_le(),
            fields.get_u64_le(),
            fields.get_u16_le(),
            fields.get_u16_le(),
        );
        (length as usize <= BODY_MAX && u32::from(extra) <= length).then(|| Self {
            length,
            offset,
            stored_ms,
            flags,
            extra,
            body_checksum: fields.get_u32_le(),
        })
    }

    /// Bytes of the whole record.
    pub(crate) fn total(&self) -> usize {
        RECORD_HEADER + self.length as usize
    }
}

pub(crate) fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// Writes the facts of a record with [`WITH_FACTS`]; nothing if `facts` is empty.
pub(crate) fn put_facts(out: &mut Vec<u8>, facts: &[u8]) {
    if !facts.is_empty() {
        out.put_u32_le(u32::try_from(facts.len()).unwrap_or(u32::MAX));
        out.put_slice(facts);
    }
}

/// Splits a body into its facts, which may be empty, and its event.
pub(crate) fn split_facts(flags: u16, body: &[u8]) -> Option<(&[u8], &[u8])> {
    if flags & WITH_FACTS == 0 {
        return Some((&[], body));
    }
    let (length, rest) = body.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Appends one record. `body` writes into the same buffer, so that nothing is copied twice.
pub(crate) fn put_record(
    out: &mut Vec<u8>,
    salt: u32,
    offset: u64,
    stored_ms: u64,
    flags: u16,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.resize(start + RECORD_HEADER, 0);
    body(out);
    let encoded = &out[start + RECORD_HEADER..];
    let length = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
    let header = RecordHeader {
        length,
        offset,
        stored_ms,
        flags,
        extra: 0,
        body_checksum: checksum(salt, encoded),
    };
    out[start..start + RECORD_HEADER].copy_from_slice(&header.encode(salt));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_segment_header_comes_back_and_any_flipped_bit_is_seen() {
        let header = SegmentHeader {
            version: VERSION,
            base: 7,
            created_ms: 1_700_000_000_000,
            salt: 0xdead_beef,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..SEGMENT_HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Err(BadHeader::Damaged), "bit {bit}");
        }
    }

    const HEADER: SegmentHeader = SegmentHeader {
        version: VERSION,
        base: 7,
        created_ms: 1,
        salt: 2,
    };

    /// A header as a later version may write it.
    fn later(change: impl FnOnce(&mut [u8; SEGMENT_HEADER])) -> Result<SegmentHeader, BadHeader> {
        let mut bytes = HEADER.encode();
        change(&mut bytes);
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        SegmentHeader::decode(&bytes)
    }

    #[test]
    fn a_later_version_and_features_nobody_knows_are_told_from_damage_and_what_may_be_ignored_is() {
        assert_eq!(later(|bytes| bytes[8] = 9), Err(BadHeader::Version(9)));
        assert_eq!(later(|bytes| bytes[14] = 4), Err(BadHeader::Features(4)));
        assert_eq!(
            later(|bytes| bytes[12] = 0xff),
            Ok(HEADER),
            "flags that need not be known"
        );
        assert_eq!(later(|bytes| bytes[36..60].fill(7)), Ok(HEADER), "fields to come");
    }

    #[test]
    fn a_segment_of_the_first_version_is_read() {
        let old = SegmentHeader { version: 1, ..HEADER };
        assert_eq!(SegmentHeader::decode(&old.encode()), Ok(old));
        assert_eq!(later(|bytes| bytes[8] = 0), Err(BadHeader::Version(0)));
    }

    #[test]
    fn facts_come_back_beside_their_event_and_a_false_length_is_seen() {
        for facts in [&b""[..], b"why"] {
            let mut body = Vec::new();
            put_facts(&mut body, facts);
            body.extend_from_slice(b"event");
            let flags = if facts.is_empty() { 7 } else { 7 | WITH_FACTS };
            assert_eq!(split_facts(flags, &body), Some((facts, &b"event"[..])));
        }
        assert_eq!(split_facts(WITH_FACTS, b"\x09\0\0\0event"), None);
        assert_eq!(split_facts(WITH_FACTS, b"\x09"), None);
    }

    #[test]
    fn one_wrong_byte_of_a_segment_header_is_put_right_and_more_are_not() {
        let bytes = HEADER.encode();
        for at in 0..SEGMENT_HEADER {
            let mut wrong = bytes;
            wrong[at] ^= 0x81;
            assert_eq!(SegmentHeader::repaired(&wrong), Some(HEADER), "byte {at}");
        }
        assert_eq!(SegmentHeader::repaired(&[0; SEGMENT_HEADER]), None);
        assert_eq!(SegmentHeader::repaired(&bytes[..63]), None);
    }

    proptest! {
        #[test]
        fn a_record_comes_back_under_its_own_salt_only(
            salt: u32, offset: u64, stored_ms: u64, flags in 0u16..8, body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = Vec::new();
            put_record(&mut bytes, salt, offset, stored_ms, flags, |out| out.extend_from_slice(&body));
            let header = RecordHeader::decode(&bytes, salt).unwrap();
            prop_assert_eq!((header.offset, header.stored_ms, header.flags), (offset, stored_ms, flags));
            prop_assert_eq!(&bytes[RECORD_HEADER..], &body[..]);
            prop_assert_eq!(header.body_checksum, checksum(salt, &body));
            prop_assert_eq!(RecordHeader::decode(&bytes, salt.wrapping_add(1)), None);
        }
    }
}
