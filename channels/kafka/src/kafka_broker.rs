//! The channel itself: how it is opened, appended to and read.

mod cursors;
mod poll;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use channel::{
    AppendError, CursorName, CursorStatus, DeadLetterLog, Offset, Promises, ReadError, Record, SettlementState, Start,
    supervised,
};
use channel_broker::{Broker, BrokerChannel, ChannelState, OpenCursor, Page, unavailable, unreadable};
use event::Event;
use parking_lot::Mutex;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use self::cursors::in_time;
use crate::{
    Settings,
    cluster::Cluster,
    cursor::KafkaCursor,
    dead_letters::KafkaDeadLetters,
    error::{OpenError, is_too_large},
    group::group_id,
    offset::{channel_offset, split},
    producer::{GroupCommit, Outgoing, WriteError, Written},
    reader::Ends,
    record::incoming,
    registry::{self, Registry, Row},
    table::{Table, Values},
    topic::{self, TopicState},
};

/// Opening a channel takes this long at most: some ten requests that are answered, or three that are not.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// A channel on Kafka.
pub type KafkaChannel = BrokerChannel<KafkaBroker>;

/// A topic as a channel: the parts that are Kafka's own.
pub struct KafkaBroker {
    state: ChannelState<KafkaCursor>,
    cluster: Arc<Cluster>,
    topic: String,
    appends: GroupCommit,
    found: TopicState,
    dead_letters: Arc<KafkaDeadLetters>,
    registry: Registry,
    /// By partition; there may come more.
    ends: Mutex<Vec<Ends>>,
    /// Events that open transactions have held back for long.
    held_back: Mutex<Option<String>>,
    /// Keys of other producers' records become partition keys.
    keys: Arc<AtomicBool>,
}

impl KafkaBroker {
    /// Opens a channel: makes its topics or adopts them, and learns what they promise and which cursors there are. Takes
    /// [`OPEN_MAX`] at most.
    ///
    /// # Cancel safety
    /// Cancel safe: topics that were made are found by the next call.
    pub async fn open(cluster: Arc<Cluster>, settings: &Settings) -> Result<KafkaChannel, OpenError> {
        match tokio::time::timeout(OPEN_MAX, Self::opened(cluster.clone(), settings)).await {
            Ok(opened) => opened,
            Err(_) => Err(cluster.unreachable(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut))),
        }
    }

    async fn opened(cluster: Arc<Cluster>, settings: &Settings) -> Result<KafkaChannel, OpenError> {
        let found = topic::events(&cluster, settings).await?;
        let dead_letters = Arc::new(Table::new(topic::dead_letters(&settings.topic), Values::No));
        let values = Values::Newest {
            replaces: registry::replaces,
        };
        let cursors = Arc::new(Table::new(topic::cursors(&settings.topic), values));
        let follows = [&dead_letters, &cursors].map(|table| {
            let (cluster, topic) = (cluster.clone(), table.topic.clone());
            supervised::at_end(move || cluster.follower.close(&topic))
        });
        for table in [&dead_letters, &cursors] {
            topic::table(&cluster, settings, &table.topic, found.max_event_bytes).await?;
            let ends = ends(&cluster, &table.topic, 1).await?;
            let ends = ends.first().copied().unwrap_or_default();
            let opened = cluster.follower.open(table.clone(), ends).await;
            opened.map_err(|error| cluster.unreachable(error))?;
        }
        let registry = Registry::new(cluster.clone(), cursors);
        if found.made {
            let marked = registry.mark_made().await;
            marked.map_err(|error| OpenError::NotMade {
                topic: settings.topic.clone(),
                why: format!("its record of cursors cannot be written: {error}"),
            })?;
        }
        let ends = ends(&cluster, &settings.topic, found.partitions).await?;
        let broker = Self {
            state: ChannelState::new(0),
            dead_letters: Arc::new(KafkaDeadLetters::new(cluster.clone(), dead_letters, found.durability)),
            topic: settings.topic.clone(),
            appends: GroupCommit::new(&settings.topic, found.partitions, &cluster.producer),
            cluster,
            found,
            registry,
            ends: Mutex::new(ends),
            held_back: Mutex::default(),
            keys: Arc::default(),
        };
        broker.configure(settings.max_event_bytes, settings.key_as_partition_key);
        for follow in follows {
            follow.cancel();
        }
        Ok(BrokerChannel::new(broker)
            .with_loop("ends of a topic", poll::poll)
            .with_loop("retention of a topic", poll::trim))
    }

    /// Changes the largest event of a channel in use, where what the topic takes stays the limit, and whether the keys of other
    /// producers' records become partition keys.
    pub fn configure(&self, max_event_bytes: Option<usize>, key_as_partition_key: bool) {
        self.keys.store(key_as_partition_key, Ordering::Relaxed);
        let fits = self.found.max_event_bytes;
        let limit = max_event_bytes.map_or(fits, |asked| asked.min(fits));
        self.state.set_max_event_bytes(limit);
    }
}

/// Faults for tests.
#[cfg(test)]
impl KafkaBroker {
    pub(crate) fn panic_in_cursor(&self, name: &CursorName) {
        use channel_broker::BrokerCursor as _;

        let open = self.state.open_cursor(name).expect("an open cursor");
        open.cursor.panics.store(true, Ordering::SeqCst);
        open.cursor.core().room.notify_one();
    }

    pub(crate) fn panic_in_appends(&self) {
        self.appends.panic_once();
    }

    pub(crate) fn panic_in_tables(&self) {
        self.registry.panic_once();
    }
}

async fn ends(cluster: &Arc<Cluster>, topic: &str, partitions: i32) -> Result<Vec<Ends>, OpenError> {
    let name = topic.to_owned();
    let asked = cluster.reader.run(move |reader| reader.all_ends(&name, partitions));
    let found = asked.await.unwrap_or(Err(KafkaError::Canceled));
    found.map_err(|error| cluster.unreachable(error))
}

impl KafkaBroker {
    fn partitions(&self) -> i32 {
        i32::try_from(self.ends.lock().len()).unwrap_or(i32::MAX)
    }

    fn wrote(&self, written: Written) {
        let index = usize::try_from(written.partition).unwrap_or_default();
        if let Some(known) = self.ends.lock().get_mut(index) {
            known.high = known.high.max(written.offset + 1);
        }
        self.state.notify_grown();
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    type Cursor = KafkaCursor;

    fn state(&self) -> &ChannelState<KafkaCursor> {
        &self.state
    }

    fn name(&self) -> &str {
        &self.topic
    }

    fn promises(&self) -> Promises {
        Promises {
            durability: self.found.durability,
            survives_restart: true,
            total_order: self.partitions() == 1,
            replay: true,
            remembers_attempts: false,
            max_event_bytes: self.state.max_event_bytes(),
        }
    }

    async fn append(&self, events: &[Event]) -> Result<Offset, AppendError> {
        let records = events.iter().map(Outgoing::event).collect();
        match self.appends.write(records).await {
            Ok(written) => {
                self.wrote(written);
                Ok(channel_offset(written.partition, written.offset))
            }
            Err(WriteError::Failed(error)) if is_too_large(&error) => Err(AppendError::TooLarge {
                bytes: events.iter().map(Event::size).max().unwrap_or(0),
                limit: self.state.max_event_bytes(),
            }),
            Err(WriteError::Closed) => Err(AppendError::Closed),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn open(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
        current: Option<Arc<OpenCursor<KafkaCursor>>>,
    ) -> Result<Arc<OpenCursor<KafkaCursor>>, ReadError> {
        let registered = in_time(self.registered(name, owner, start)).await?;
        let is_same = |open: &OpenCursor<_>| open.id == registered.id;
        if let Some(open) = current.as_ref().filter(|open| is_same(open) && open.is_running()) {
            return Ok(open.clone());
        }
        let gaps = OpenCursor::retire(current, is_same).await;
        let open = self.consume(name, registered)?;
        open.inherit(gaps);
        Ok(open)
    }

    async fn delete(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        current: Option<Arc<OpenCursor<KafkaCursor>>>,
    ) -> Result<(), ReadError> {
        in_time(self.registry.catch_up()).await?;
        let owner = owner.or_else(|| current.as_ref()?.owner.as_deref());
        if owner.is_none() && current.is_none() && self.is_used(name).await? {
            return Ok(());
        }
        let removed = async { self.registry.remove(name, owner).await.map_err(unreadable) };
        let is_left = in_time(removed).await?;
        if let Some(open) = current.as_ref().filter(|open| open.owner.as_deref() == owner) {
            self.state.end_deleted(open).await;
            // Cursors of one name have one group; of what another committed there nothing is believed but by its id.
            if !is_left {
                self.cluster.delete_group(&group_id(&self.topic, name.as_str())).await;
            }
        }
        Ok(())
    }

    async fn read(&self, from: Offset, mut page: Page<Record>) -> Result<Page<Record>, ReadError> {
        let (first, offset) = split(from);
        let (ends, topic) = (self.ends.lock().clone(), self.topic.clone());
        let keys = self.keys.load(Ordering::Relaxed);
        let read = self.cluster.reader.run(move |reader| {
            for (partition, ends) in (0..).zip(&ends).filter(|(partition, _)| *partition >= first) {
                let start = if partition == first {
                    offset.max(ends.low)
                } else {
                    ends.low
                };
                if page.is_full() {
                    break;
                }
                reader.page(&topic, partition, start, ends.high, |message| {
                    let record = incoming(message, keys);
                    // A malformed record is among the dead letters of the cursors it was for.
                    let Ok(event) = record.content else { return true };
                    let bytes = event.size();
                    let record = Record {
                        offset: channel_offset(partition, record.offset),
                        stored_at: record.stored_at,
                        event,
                    };
                    page.push(record, bytes)
                })?;
            }
            Ok::<_, KafkaError>(page)
        });
        read.await.map_err(unreadable)?.map_err(unreadable)
    }

    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        let begins = self.start(start).await?;
        let ends = self.ends.lock().clone();
        let range = |(partition, begin): (i32, u64)| {
            let end = usize::try_from(partition).ok().and_then(|index| ends.get(index));
            channel_offset(partition, begin)..channel_offset(partition, end.map_or(begin, |end| end.high.max(begin)))
        };
        Ok(begins.into_iter().map(range).collect())
    }

    fn settlement_state(&self, cursor: &KafkaCursor, offset: Offset) -> Option<SettlementState> {
        cursor.settlement_state(offset)
    }

    fn reaches(&self, from: Offset) -> bool {
        let (first, offset) = split(from);
        let ends = self.ends.lock();
        let reaches = |(partition, ends): (i32, &Ends)| match partition.cmp(&first) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => ends.high > offset,
            std::cmp::Ordering::Greater => ends.high > ends.low,
        };
        (0..).zip(&*ends).any(reaches)
    }

    fn dead_letters(&self) -> &dyn DeadLetterLog {
        &*self.dead_letters
    }

    fn findings(&self) -> Vec<String> {
        self.found.findings.clone()
    }

    fn held_back(&self) -> Option<String> {
        self.held_back.lock().clone()
    }

    fn extent(&self) -> Range<Offset> {
        let ends = self.ends.lock();
        let last = i32::try_from(ends.len()).unwrap_or(1) - 1;
        let earliest = channel_offset(0, ends.first().map_or(0, |ends| ends.low));
        earliest..channel_offset(last.max(0), ends.last().map_or(0, |ends| ends.high))
    }

    fn refusing(&self) -> Option<String> {
        self.cluster.producer.outage()
    }

    fn cursors(&self) -> Vec<CursorStatus> {
        let (ends, open) = (self.ends.lock().clone(), self.state.open_cursors());
        let ours = open.iter().map(|open| open.cursor.status(open.owner.clone(), &ends));
        // Only its group knows what a cursor without a member in this process has settled: it counts from where it began.
        let registered = self.registry.cursors().into_iter();
        let elsewhere = registered
            .filter(|row| open.iter().all(|open| open.id != row.registered.id))
            .map(|Row { name, registered, .. }| {
                let cursor = KafkaCursor::new(name, registered.watermarks());
                cursor.status(registered.owner, &ends)
            });
        ours.chain(elsewhere).collect()
    }

    async fn finish(&self) {
        let cluster = self.cluster.clone();
        let flushed = tokio::task::spawn_blocking(move || cluster.producer.flush()).await;
        supervised::joined("flush of Kafka's producers", &self.topic, flushed);
    }

    fn release(&self) {
        self.dead_letters.close();
        self.registry.close();
    }
}
