//! Places of a channel and offsets of a topic's partitions.
//!
//! A place is the partition in the high 16 bits and the record's offset in the low 48: with one partition, a place *is*
//! the offset that Kafka's own tools show. 2^48 records last 89 years at 100 000 a second.

use channel::Offset;

const OFFSET_BITS: u32 = 48;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// Partitions of a topic at most: what a place has room for, and what one broker should not exceed by far.
pub(crate) const PARTITIONS_MAX: i32 = 1 << 15;

pub(crate) fn channel_offset(partition: i32, offset: u64) -> Offset {
    Offset(u64::from(partition.unsigned_abs()) << OFFSET_BITS | (offset & OFFSET_MASK))
}

/// Partition and offset; a partition beyond [`PARTITIONS_MAX`] is one that no topic has.
pub(crate) fn split(channel_offset: Offset) -> (i32, u64) {
    // 16 bits always fit.
    let partition = i32::try_from(channel_offset.0 >> OFFSET_BITS).unwrap_or(i32::MAX);
    (partition, channel_offset.0 & OFFSET_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_by_partition_and_offset_and_lead_back() {
        assert_eq!(channel_offset(0, 7), Offset(7));
        for (partition, offset) in [(0, 0), (0, OFFSET_MASK), (1, 0), (PARTITIONS_MAX, 12)] {
            assert_eq!(split(channel_offset(partition, offset)), (partition, offset));
        }
        assert!(channel_offset(0, OFFSET_MASK) < channel_offset(1, 0));
        assert!(split(Offset(u64::MAX)).0 > PARTITIONS_MAX);
    }
}
