//! Callbacks of the client of a group, and commits.

use std::sync::Arc;

use channel::Watermark;
use channel_broker::BrokerCursor;
use rdkafka::{
    ClientContext, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use tokio::sync::mpsc;

use crate::{bookmark, cursor::KafkaCursor, logging};

/// Receives the client's callbacks while it is polled.
pub(crate) struct Membership {
    pub(super) topic: String,
    pub(super) id: String,
    pub(super) cursor: Arc<KafkaCursor>,
    pub(super) assigned: mpsc::Sender<Vec<i32>>,
}

impl ClientContext for Membership {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    // Errors that matter come from `recv`.
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if self.cursor.is_over() {
                // Nothing of them will be delivered. Without an answer the client would not leave.
                accept(consumer, list);
                return;
            }
            // The group waits for our answer, which the task gives. Without room or a task there is no answer, and the group
            // takes the partitions back.
            let _ = self.assigned.try_send(partitions);
            return;
        }
        tracing::debug!(topic = self.topic, cursor = %self.cursor.core().name, ?partitions, "partitions are revoked");
        if !consumer.assignment_lost() {
            let settled = self.cursor.to_leave(Some(&partitions));
            self.commit(consumer, &settled);
        }
        self.cursor.revoke(&partitions);
        if let Err(error) = consumer.incremental_unassign(list) {
            tracing::warn!(topic = self.topic, cursor = %self.cursor.core().name, %error, "partitions were not given back");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(topic = self.topic, cursor = %self.cursor.core().name, %error, "a commit failed, it is tried again");
            self.cursor.save_again();
        }
    }
}

impl Membership {
    pub(super) fn commit<C: ConsumerContext>(&self, consumer: &impl Consumer<C>, unsaved: &[(i32, Watermark)]) {
        if unsaved.is_empty() {
            return;
        }
        let commit = commit_list(&self.topic, &self.id, unsaved);
        if let Err(error) = commit.and_then(|list| consumer.commit(&list, CommitMode::Async)) {
            tracing::debug!(topic = self.topic, %error, "a commit was not begun, it is tried again");
            self.cursor.save_again();
        }
    }
}

/// Takes partitions only to give them back.
pub(crate) fn accept<C: ConsumerContext>(consumer: &impl Consumer<C>, list: &TopicPartitionList) {
    if let Err(error) = consumer.incremental_assign(list) {
        tracing::debug!(%error, "partitions on the way out");
    }
}

pub(crate) fn commit_list(topic: &str, id: &str, unsaved: &[(i32, Watermark)]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(unsaved.len());
    for (partition, settled) in unsaved {
        let offset = i64::try_from(settled.settled_below().0).unwrap_or(i64::MAX);
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(KafkaOffset::Offset(offset))?;
        element.set_metadata(bookmark::write(id, settled));
    }
    Ok(list)
}
