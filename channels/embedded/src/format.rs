//! The bytes of a segment: its header, a record's header, and the checksums over them. docs/embedded-format.md is the
//! prose.
//!
//! All numbers are little-endian. Checksums are CRC-32 started from the log's salt, a random number in every segment's
//! header: bytes a sender put into an event can not pass for a record when a damaged log is searched for the next one.

use bytes::{Buf, BufMut};

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 64;
/// Bytes before a record's body.
pub(crate) const RECORD_HEADER: usize = 36;
/// Largest body read back: twice the largest event, because letters carry more than events. A length above it is damage.
pub(crate) const BODY_MAX: usize = 64 << 20;
/// Where a record may begin, when a damaged segment is searched.
pub(crate) const MARKER: [u8; 4] = [0xa7, b'h', b'g', 0x1e];

/// [`SEGMENT_HEADER`] as it is written.
const HEADER_LENGTH: u16 = 64;
const _: () = assert!(SEGMENT_HEADER == HEADER_LENGTH as usize);

const MAGIC: &[u8; 8] = b"hglogseg";
/// The version written, and the only one read.
pub(crate) const VERSION: u16 = 1;

/// The first record of an append.
pub(crate) const FIRST_OF_BATCH: u16 = 1;
/// The last record of an append: without it the append did not finish.
pub(crate) const LAST_OF_BATCH: u16 = 2;
/// The first record of a write. A write begins after the one before it was synced, so this record, when it is whole,
/// proves that everything before it was durable once.
pub(crate) const FIRST_OF_COMMIT: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) base: u64,
    pub(crate) created_ms: u64,
    pub(crate) salt: u32,
}

/// Why a segment's header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Never finished, or damaged.
    Damaged,
    /// Written by a later version of the program.
    Version(u16),
    /// Written by a later version of the program, which says that only who knows these features can read it.
    Features(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        let mut out = &mut bytes[..];
        out.put_slice(MAGIC);
        out.put_u16_le(VERSION);
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
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        // Its length, which this version does not need, and flags that it need not know.
        fields.advance(4);
        let features = fields.get_u16_le();
        if features != 0 {
            return Err(BadHeader::Features(features));
        }
        Ok(Self {
            base: fields.get_u64_le(),
            created_ms: fields.get_u64_le(),
            salt: fields.get_u32_le(),
        })
    }

    /// A header in which one byte is wrong, put right: where the salt is known from nowhere else, the whole log hangs on it.
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
    /// Bytes of the body before the event: fields of a later version, which this one steps over.
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

    /// `None`: there is no whole record header here.
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

/// Appends one record; `body` writes the body into the same buffer, so that nothing is copied twice.
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
