//! Where a partition resumes when it is assigned to a member.

use std::{collections::BTreeMap, ops::Range};

use channel::{GapReason, Offset, Watermark};
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaResult,
};

use super::membership::Membership;
use crate::{
    bookmark,
    cluster::Cluster,
    cursor::missing,
    reader::{ASK_MAX, Ends},
    registry::Registered,
};

pub(crate) fn partition_list(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

/// Where a partition resumes.
pub(super) struct ResumePoint {
    settled: Watermark,
    ends: Ends,
}

impl ResumePoint {
    /// Returns what is settled within the partition, and the offsets that are gone before they were settled, with the reason.
    pub(super) fn within(self, partition: i32) -> (Watermark, Vec<Range<Offset>>, GapReason) {
        let (low, settled) = (Offset(self.ends.low), self.settled);
        if settled.settled_below() < low {
            let missing = missing(partition, &settled, low);
            let mut settled = settled;
            settled.settle_range(Offset(0)..low);
            return (settled, missing, GapReason::Limit);
        }
        if settled.settled_below().0 > self.ends.high {
            // The topic was deleted and recreated: what it holds now was never handed out. Of the former one everything below was
            // settled; that it had more is not known.
            tracing::warn!(
                partition,
                settled_below = settled.settled_below().0,
                end = self.ends.high,
                "the topic ends before what was settled: it was deleted and made anew, it is delivered from its beginning"
            );
            let missing = missing(partition, &settled, settled.top());
            return (Watermark::new(low), missing, GapReason::Damage);
        }
        (settled, Vec::new(), GapReason::Limit)
    }
}

/// Facts about the partitions that are assigned to this member.
pub(super) struct ResumePoints {
    pub(super) partitions: BTreeMap<i32, ResumePoint>,
    /// The topic is not the one in which the cursor began.
    pub(super) is_another: bool,
}

/// Blocks. Where each partition was settled: by the group's commits, or else where the cursor began.
pub(super) fn resume_points(
    consumer: &StreamConsumer<Membership>,
    cluster: &Cluster,
    topic: &str,
    registered: &Registered,
    partitions: &[i32],
) -> KafkaResult<ResumePoints> {
    let committed = consumer.committed_offsets(partition_list(topic, partitions), ASK_MAX)?;
    let mut points = ResumePoints {
        partitions: BTreeMap::new(),
        is_another: false,
    };
    let mut is_another = None;
    for element in committed.elements() {
        element.error()?;
        let partition = element.partition();
        let settled = match element.offset() {
            KafkaOffset::Offset(offset) => {
                let offset = u64::try_from(offset).unwrap_or_default();
                bookmark::read(&registered.id, offset, element.metadata())
            }
            _ => None,
        };
        let ends = cluster.reader.ends(topic, partition)?;
        let settled = match (settled, registered.start_of(partition)) {
            (Some(settled), _) => settled,
            (None, 0) => Watermark::new(Offset(0)),
            // Brokers delete a topic with the commits of its groups: then the cursor's beginning means nothing in the one that
            // has its name now.
            (None, start) => {
                let known = match is_another {
                    Some(known) => known,
                    None => cluster.reader.is_another(topic, registered.before())?,
                };
                is_another = Some(known);
                points.is_another |= known;
                Watermark::new(Offset(if known { ends.low } else { start }))
            }
        };
        points.partitions.insert(partition, ResumePoint { settled, ends });
    }
    Ok(points)
}
