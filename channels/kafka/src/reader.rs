//! Looking at topics without a consumer group: what exists, where it begins and ends, and pages of records.
//!
//! Everything here blocks and is called through [`Reader::run`], on the runtime's threads for that.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use channel::supervised;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{connection::Connection, error::NoAnswer, logging, registry::Before};

/// One question to the cluster: longer than a broker's restart is not waited for by anybody.
pub(crate) const ASK_MAX: Duration = Duration::from_secs(10);

/// A page's records are there already: this is waited for a broker, not for records.
const PAGE_MAX: Duration = Duration::from_secs(10);

/// Questions at a time, of one cluster: each takes a thread that the channels of other clusters and the disk need, too, and takes it
/// for [`ASK_MAX`] where no broker answers.
const ASKING_MAX: usize = 8;

/// The last record before an offset is looked for so far back: what lies between are markers of transactions.
const BEFORE_MAX: u64 = 16;

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
    asking: Arc<Semaphore>,
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
            // A page's last records may be none: markers of transactions.
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "4096");
        Ok(Self {
            consumer: config.create_with_context(Quiet)?,
            paging: Mutex::default(),
            asking: Arc::new(Semaphore::new(ASKING_MAX)),
        })
    }

    /// Asks on a thread that may block.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        // Kept until the answer is here, also when its caller is gone.
        let permit = self.asking.clone().acquire_owned().await.map_err(|_| NoAnswer)?;
        let reader = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask(&reader);
            drop(permit);
            answer
        });
        supervised::joined("question to Kafka", "", asked.await).ok_or(NoAnswer)
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

    pub(crate) fn ends(&self, topic: &str, partition: i32) -> KafkaResult<Ends> {
        self.ends_until(topic, partition, Instant::now() + ASK_MAX)
    }

    /// The ends of all partitions, by partition.
    pub(crate) fn all_ends(&self, topic: &str, partitions: i32) -> KafkaResult<Vec<Ends>> {
        // One bound for all: brokers that are away are not waited for once for each partition.
        let deadline = Instant::now() + ASK_MAX;
        (0..partitions)
            .map(|partition| self.ends_until(topic, partition, deadline))
            .collect()
    }

    #[expect(clippy::disallowed_methods, reason = "on a thread that may block")]
    fn ends_until(&self, topic: &str, partition: i32, deadline: Instant) -> KafkaResult<Ends> {
        let (low, high) = loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(LEADER_PAUSE);
            match self.consumer.fetch_watermarks(topic, partition, left) {
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
        let mut desired = TopicPartitionList::new();
        for partition in 0..partitions {
            desired.add_partition_offset(topic, partition, KafkaOffset::Offset(millis))?;
        }
        let found = self.consumer.offsets_for_times(desired, ASK_MAX)?;
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

    /// Returns what a partition holds before an offset, which distinguishes a topic that was deleted and recreated.
    pub(crate) fn before(&self, topic: &str, partition: i32, ends: Ends, offset: u64) -> KafkaResult<Before> {
        let mut last = None;
        let from = ends.low.max(offset.saturating_sub(BEFORE_MAX));
        self.page(topic, partition, from, offset.min(ends.high), |message| {
            last = message
                .timestamp()
                .to_millis()
                .map(|millis| (crate::record::offset(message), millis));
            true
        })?;
        Ok(Before { low: ends.low, last })
    }

    /// Whether a topic is another one than the one that held this: it was deleted and recreated. `false` where nothing of it is
    /// left to tell by.
    pub(crate) fn is_another(&self, topic: &str, before: &BTreeMap<i32, Before>) -> KafkaResult<bool> {
        for (partition, before) in before {
            let ends = self.ends(topic, *partition)?;
            // Records go at the beginning of a partition and come at its end: neither goes back.
            if ends.low < before.low {
                return Ok(true);
            }
            let Some((offset, stored)) = before.last else { continue };
            if offset >= ends.high {
                return Ok(true);
            }
            if offset >= ends.low {
                let mut found = None;
                self.page(topic, *partition, offset, offset + 1, |message| {
                    found = message.timestamp().to_millis();
                    false
                })?;
                return Ok(found != Some(stored));
            }
        }
        Ok(false)
    }

    /// Whether there is nothing for anybody from `from` up to `until`, which is no further than the partition reached: markers of
    /// transactions, or what was aborted.
    pub(crate) fn is_void(&self, topic: &str, partition: i32, from: u64, until: u64) -> KafkaResult<bool> {
        let mut is_void = true;
        self.page(topic, partition, from, until, |message| {
            is_void = crate::record::offset(message) >= until;
            false
        })?;
        Ok(is_void)
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
