//! Looking at topics without a consumer group: what exists, where it begins and ends, and pages of records.
//!
//! Everything here blocks and is called through [`Reader::run`], on the runtime's threads for that.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};
use tokio::time::Instant;

use crate::{connection::Connection, error::NoAnswer, logging};

/// One question to the cluster: longer than a broker's restart is not waited for by anybody.
pub(crate) const ASK_MAX: Duration = Duration::from_secs(10);

/// A page's records are there already: this is waited for a broker, not for records.
const PAGE_MAX: Duration = Duration::from_secs(10);

/// Between questions about a partition that has no leader yet.
const LEADER_PAUSE: Duration = Duration::from_millis(50);

/// A partition that was just made, or whose leader just went, has one in a moment.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    // Every error that matters comes with the answer to a question.
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

pub(crate) struct Reader {
    consumer: BaseConsumer<Quiet>,
    /// A page is read by one at a time: the consumer has one assignment.
    paging: Mutex<()>,
}

/// Replicas of each partition, by partition.
pub(crate) struct Layout {
    pub(crate) replicas: Vec<usize>,
}

/// Where a partition begins and ends: its oldest record, and the one that will come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

impl Reader {
    pub(crate) fn new(connection: &Connection) -> KafkaResult<Self> {
        let mut config = connection.config();
        config
            // Needed for assigning partitions by hand; nothing is ever committed, so no group comes to be.
            .set("group.id", "headgate-reader")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "4096");
        Ok(Self {
            consumer: config.create_with_context(Quiet)?,
            paging: Mutex::default(),
        })
    }

    /// Asks on a thread that may block.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let reader = self.clone();
        tokio::task::spawn_blocking(move || ask(&reader))
            .await
            .map_err(|_| NoAnswer)
    }

    /// `None`: there is no such topic.
    pub(crate) fn layout(&self, topic: &str) -> KafkaResult<Option<Layout>> {
        let metadata = self.consumer.fetch_metadata(Some(topic), ASK_MAX)?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(code) => return Err(KafkaError::MetadataFetch(code)),
        }
        let mut replicas = vec![0; found.partitions().len()];
        for partition in found.partitions() {
            if let Some(slot) = usize::try_from(partition.id()).ok().and_then(|id| replicas.get_mut(id)) {
                *slot = partition.replicas().len();
            }
        }
        Ok(Some(Layout { replicas }))
    }

    #[expect(clippy::disallowed_methods, reason = "on a thread that may block")]
    pub(crate) fn ends(&self, topic: &str, partition: i32) -> KafkaResult<Ends> {
        let deadline = Instant::now() + ASK_MAX;
        let (low, high) = loop {
            match self.consumer.fetch_watermarks(topic, partition, ASK_MAX) {
                Ok(ends) => break ends,
                Err(error) if is_passing(&error) && Instant::now() < deadline => std::thread::sleep(LEADER_PAUSE),
                Err(error) => return Err(error),
            }
        };
        let whole = |offset: i64| u64::try_from(offset).unwrap_or_default();
        Ok(Ends {
            low: whole(low),
            high: whole(high),
        })
    }

    /// The first offset stored at or after that time (milliseconds since 1970) of each partition; `None` where all are older.
    pub(crate) fn offsets_at(&self, topic: &str, partitions: i32, millis: i64) -> KafkaResult<Vec<Option<u64>>> {
        let mut wanted = TopicPartitionList::new();
        for partition in 0..partitions {
            wanted.add_partition_offset(topic, partition, KafkaOffset::Offset(millis))?;
        }
        let found = self.consumer.offsets_for_times(wanted, ASK_MAX)?;
        let mut offsets = vec![None; usize::try_from(partitions).unwrap_or_default()];
        for element in found.elements() {
            element.error()?;
            if let KafkaOffset::Offset(offset) = element.offset()
                && let Some(slot) = usize::try_from(element.partition())
                    .ok()
                    .and_then(|id| offsets.get_mut(id))
            {
                *slot = u64::try_from(offset).ok();
            }
        }
        Ok(offsets)
    }

    /// Hands each record from `from` up to `until` to `each`, until it says stop.
    pub(crate) fn page(
        &self,
        topic: &str,
        partition: i32,
        from: u64,
        until: u64,
        mut each: impl FnMut(&BorrowedMessage<'_>) -> bool,
    ) -> KafkaResult<()> {
        if from >= until {
            return Ok(());
        }
        let _alone = self.paging.lock();
        let mut assignment = TopicPartitionList::new();
        let start = i64::try_from(from).unwrap_or(i64::MAX);
        assignment.add_partition_offset(topic, partition, KafkaOffset::Offset(start))?;
        self.consumer.assign(&assignment)?;
        let read = self.read(until, &mut each);
        self.consumer.unassign()?;
        read
    }

    fn read(&self, until: u64, each: &mut impl FnMut(&BorrowedMessage<'_>) -> bool) -> KafkaResult<()> {
        let deadline = Instant::now() + PAGE_MAX;
        while Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(200)) {
                None => {
                    // Records before the end may be gone: compacted away, or markers of transactions.
                    if self.at_end(until) {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok(message)) => {
                    let offset = crate::record::offset(&message);
                    if offset >= until || !each(&message) || offset + 1 >= until {
                        return Ok(());
                    }
                }
            }
        }
        Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))
    }

    fn at_end(&self, until: u64) -> bool {
        let Ok(position) = self.consumer.position() else {
            return false;
        };
        position
            .elements()
            .iter()
            .any(|element| matches!(element.offset(), KafkaOffset::Offset(at) if u64::try_from(at).is_ok_and(|at| at >= until)))
    }
}
