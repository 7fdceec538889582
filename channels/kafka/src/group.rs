//! A cursor's consumer group: one member, which receives records for it and commits what it settled.
//!
//! The group's id is `TOPIC/CURSOR`, so several gateways with the same subscription share its partitions. A member is given
//! partitions in a callback that must not block: it only passes them on. The task looks up where each was settled, and then
//! tells the client to begin there. When partitions are taken away, what was settled is committed on the way out.
//!
//! Commits go every [`COMMIT_EVERY`] while something is settled, and once more at a clean end.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use channel::{Gap, GapReason, Letters, Offset, Watermark};
use event::Event;
use futures_util::FutureExt;
use rdkafka::{
    ClientContext, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, StreamConsumer},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    bookmark,
    cluster::Cluster,
    cursor::{Received, Shared},
    leave::Leaving,
    letters::KafkaLetters,
    logging,
    place::place,
    reader::{ASK_MAX, Ends},
    record::{Incoming, incoming},
    registry::Registered,
};

/// What is settled is committed this long after: what a crash repeats at most, beside what was in flight.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// A gateway that died is noticed after this, and its partitions go to others, or to itself when it is back (milliseconds).
/// The broker's default minimum is 6 s.
pub(crate) const SESSION_MS: &str = "10000";

/// Records taken in a row at most: then whether to end, to commit or to pause is looked at again.
const TOGETHER_MAX: usize = 64;

/// Assignments not answered yet: a group sends the next one when it got the answer.
const ASSIGNMENTS_MAX: usize = 16;

/// Between tries to reach a cluster that does not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// After an error that receiving reports.
pub(crate) const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of a record that is no event, kept in its letter at most.
const POISON_BYTES_MAX: usize = 256 << 10;

/// How a member's task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Runs,
    /// Saves what is settled.
    Cleanly,
    /// Saves nothing: the cursor is forgotten, or the process plays dead.
    AtOnce,
}

/// What a member's task is woken for.
enum Now {
    Assigned(Vec<i32>),
    CommitDue,
    Unsaved,
    Room,
    Received(KafkaResult<Incoming>),
}

/// Returns when the task is to end. Cancel safe.
async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // Whoever would stop it is gone: that ends it, too.
    let _ = stop.wait_for(|stop| *stop != Stop::Runs).await;
}

/// What the client calls back, while it is polled.
pub(crate) struct Membership {
    topic: String,
    id: String,
    shared: Arc<Shared>,
    assigned: mpsc::Sender<Vec<i32>>,
}

impl ClientContext for Membership {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    // What matters comes from `recv`.
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if self.shared.is_over() {
                // Nothing of them will be delivered. Without an answer the client would not leave.
                accept(consumer, list);
                return;
            }
            // The group waits for our answer, which the task gives. Without room or a task nobody answers, and the group
            // takes the partitions back.
            let _ = self.assigned.try_send(partitions);
            return;
        }
        tracing::debug!(topic = self.topic, cursor = %self.shared.name, ?partitions, "partitions are revoked");
        if !consumer.assignment_lost() {
            let settled = self.shared.to_leave(Some(&partitions));
            self.commit(consumer, &settled);
        }
        self.shared.revoke(&partitions);
        if let Err(error) = consumer.incremental_unassign(list) {
            tracing::warn!(topic = self.topic, cursor = %self.shared.name, %error, "partitions were not given back");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(topic = self.topic, cursor = %self.shared.name, %error, "a commit failed, it is tried again");
            self.shared.save_again();
        }
    }
}

impl Membership {
    fn commit<C: ConsumerContext>(&self, consumer: &impl Consumer<C>, unsaved: &[(i32, Watermark)]) {
        if unsaved.is_empty() {
            return;
        }
        let commit = commit_list(&self.topic, &self.id, unsaved);
        if let Err(error) = commit.and_then(|list| consumer.commit(&list, CommitMode::Async)) {
            tracing::debug!(topic = self.topic, %error, "a commit was not begun, it is tried again");
            self.shared.save_again();
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

/// A cursor's member of its group.
pub(crate) struct Member {
    cluster: Arc<Cluster>,
    topic: String,
    registered: Registered,
    shared: Arc<Shared>,
    letters: Arc<KafkaLetters>,
    consumer: Arc<StreamConsumer<Membership>>,
    assigned: mpsc::Receiver<Vec<i32>>,
    /// Partitions given to us that the client has no answer about yet.
    unanswered: Option<Vec<i32>>,
    stop: watch::Receiver<Stop>,
}

impl Member {
    /// Joins the group; its task is [`Self::run`].
    pub(crate) fn join(
        cluster: Arc<Cluster>,
        topic: &str,
        registered: Registered,
        shared: Arc<Shared>,
        letters: Arc<KafkaLetters>,
        stop: watch::Receiver<Stop>,
    ) -> KafkaResult<Self> {
        let mut config = cluster.connection.config();
        config
            .set("group.id", group_id(topic, shared.name.as_str()))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            // Whatever is not known begins with the oldest record: rather twice than never.
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", SESSION_MS)
            .set("heartbeat.interval.ms", "3000")
            // A fetch is answered when there is something: with nothing to do, each of many subscriptions asks this seldom. Not
            // longer, because a partition that was just given to us waits for the fetch that is under way.
            .set("fetch.wait.max.ms", "2000")
            // Each of many subscriptions has this much ahead of what it holds.
            .set("queued.max.messages.kbytes", "1024")
            // After a fetch that filled that the next one waits this long (milliseconds), a second by default: some events of
            // 30 KiB are enough. Who holds too much pauses its partitions, so nobody asks this often for long.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.message.max.bytes", "1048576");
        let (sender, assigned) = mpsc::channel(ASSIGNMENTS_MAX);
        let membership = Membership {
            topic: topic.to_owned(),
            id: registered.id.clone(),
            shared: shared.clone(),
            assigned: sender,
        };
        let consumer: StreamConsumer<Membership> = config.create_with_context(membership)?;
        consumer.subscribe(&[topic])?;
        Ok(Self {
            cluster,
            topic: topic.to_owned(),
            registered,
            shared,
            letters,
            consumer: Arc::new(consumer),
            assigned,
            unanswered: None,
            stop,
        })
    }

    pub(crate) async fn run(mut self) {
        let consumer = self.consumer.clone();
        let mut commit_at: Option<Instant> = None;
        loop {
            let commit_due = async {
                match commit_at {
                    Some(time) => tokio::time::sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            let now = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break,
                Some(partitions) = self.assigned.recv() => Now::Assigned(partitions),
                () = commit_due => Now::CommitDue,
                () = self.shared.unsaved.notified(), if commit_at.is_none() => Now::Unsaved,
                () = self.shared.room.notified() => Now::Room,
                received = consumer.recv() => Now::Received(received.map(|message| incoming(&message))),
            };
            match now {
                Now::Assigned(partitions) => {
                    self.unanswered = Some(partitions.clone());
                    self.begin(&partitions).await;
                }
                Now::CommitDue => {
                    commit_at = None;
                    let unsaved = self.shared.take_unsaved();
                    consumer.context().commit(&*consumer, &unsaved);
                }
                Now::Unsaved => commit_at = Some(Instant::now() + COMMIT_EVERY),
                Now::Room => self.pausing(false),
                Now::Received(Ok(record)) => {
                    self.received(record).await;
                    self.received_already().await;
                }
                Now::Received(Err(error)) => self.failed(&error).await,
            }
        }
        drop(consumer);
        self.leave().await;
    }

    /// Partitions were given to us: looks up where each was settled, and begins there.
    async fn begin(&mut self, partitions: &[i32]) {
        let settled = loop {
            let (consumer, cluster) = (self.consumer.clone(), self.cluster.clone());
            let (topic, registered, wanted) = (self.topic.clone(), self.registered.clone(), partitions.to_vec());
            let asked = tokio::task::spawn_blocking(move || look_up(&consumer, &cluster, &topic, &registered, &wanted));
            match asked.await {
                Ok(Ok(settled)) => break settled,
                Ok(Err(error)) => {
                    tracing::warn!(topic = self.topic, cursor = %self.shared.name, %error, "cannot look up what is settled, trying again");
                }
                Err(_) => return,
            }
            if tokio::time::timeout(TRY_AGAIN, stopped(&mut self.stop)).await.is_ok() {
                return;
            }
        };
        let mut list = TopicPartitionList::with_capacity(settled.len());
        let mut begun = BTreeMap::new();
        for (partition, found) in settled {
            let (watermark, gap) = found.within(partition);
            if let Some(gap) = gap {
                self.shared.missed(gap);
            }
            let start = i64::try_from(watermark.settled_below().0).unwrap_or(i64::MAX);
            if let Err(error) = list.add_partition_offset(&self.topic, partition, KafkaOffset::Offset(start)) {
                tracing::error!(topic = self.topic, partition, %error, "a partition cannot be begun");
                continue;
            }
            begun.insert(partition, watermark);
        }
        tracing::debug!(topic = self.topic, cursor = %self.shared.name, ?begun, "partitions are ours");
        self.shared.assign(begun);
        self.unanswered = None;
        if let Err(error) = self.consumer.incremental_assign(&list) {
            tracing::error!(topic = self.topic, cursor = %self.shared.name, %error, "partitions cannot be begun");
        }
    }

    /// Takes what is here, without looking at everything else in between.
    async fn received_already(&mut self) {
        for _ in 1..TOGETHER_MAX {
            let next = self.consumer.recv().now_or_never();
            match next.map(|received| received.map(|message| incoming(&message))) {
                Some(Ok(record)) => self.received(record).await,
                Some(Err(error)) => return self.failed(&error).await,
                None => return,
            }
        }
    }

    async fn failed(&self, error: &KafkaError) {
        tracing::debug!(topic = self.topic, cursor = %self.shared.name, %error, "receiving");
        // One that repeats itself must not turn the task into a loop.
        tokio::time::sleep(ERROR_PAUSE).await;
    }

    async fn received(&mut self, record: Incoming) {
        let Incoming {
            partition,
            offset,
            stored_at,
            content,
        } = record;
        let event = match content {
            Ok(event) => Some((event, stored_at)),
            Err(poison) => {
                let why = poison.why.to_string();
                tracing::warn!(topic = self.topic, partition, offset, cursor = %self.shared.name, why, "a record is no CloudEvent, it goes to the dead letters");
                let value = poison.value.slice(..poison.value.len().min(POISON_BYTES_MAX));
                let letter = self.letter(partition, offset, &why, value);
                if !self.store(letter).await {
                    return;
                }
                None
            }
        };
        if self.shared.received(partition, offset, event) == Received::Full {
            self.pausing(true);
        }
    }

    /// Keeps trying: what is no event is not settled before it lies where a person finds it. `false`: stopped before.
    async fn store(&mut self, letter: Option<Event>) -> bool {
        let Some(letter) = letter else { return true };
        loop {
            match self.letters.store(&letter).await {
                Ok(_) => return true,
                Err(error) => tracing::warn!(topic = self.topic, %error, "a letter is not stored, trying again"),
            }
            if tokio::time::timeout(TRY_AGAIN, stopped(&mut self.stop)).await.is_ok() {
                return false;
            }
        }
    }

    /// A letter about a record that is no event: an event that carries its bytes and says where they were.
    fn letter(&self, partition: i32, offset: u64, why: &str, value: bytes::Bytes) -> Option<Event> {
        let letter = Event::builder(
            &format!("{}/{partition}/{offset}", self.topic),
            &format!("kafka:{}", self.topic),
            "dev.headgate.notanevent",
        );
        let letter = letter
            .set("headgatesubscription", self.shared.name.as_str())
            .set("headgatereason", "NotAnEvent")
            .set("headgateattempts", "0")
            .set("headgatedetail", why)
            .data("application/octet-stream", value);
        letter
            .finish()
            .inspect_err(|error| tracing::error!(%error, "no letter can be made of a record"))
            .ok()
    }

    fn pausing(&self, pause: bool) {
        let Ok(list) = self.consumer.assignment() else { return };
        let done = if pause {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        if let Err(error) = done {
            tracing::debug!(topic = self.topic, %error, pause, "partitions were not paused or resumed");
        }
    }

    /// Saves what is settled, if that is wanted, and leaves the group.
    async fn leave(mut self) {
        let settled = if *self.stop.borrow() == Stop::Cleanly {
            self.shared.to_leave(None)
        } else {
            Vec::new()
        };
        // What is settled from now on has nobody to save it, and what was forgotten must not be saved: callbacks find nothing.
        self.shared.over();
        let leaving = Leaving {
            topic: self.topic,
            id: self.registered.id,
            cursor: self.shared.name.clone(),
            consumer: self.consumer,
            settled,
            unanswered: self.unanswered.take().or_else(|| self.assigned.try_recv().ok()),
        };
        leaving.run().await;
    }
}

pub(crate) fn partition_list(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

pub(crate) fn group_id(topic: &str, cursor: &str) -> String {
    format!("{topic}/{cursor}")
}

/// What is known of a partition when it is given to us.
struct Found {
    settled: Watermark,
    ends: Ends,
}

impl Found {
    /// What is settled as far as the partition reaches: records that went before they were settled are a gap.
    fn within(self, partition: i32) -> (Watermark, Option<Gap>) {
        let below = self.settled.settled_below().0;
        let gap = |from, to, reason| Gap {
            from: place(partition, from),
            to: place(partition, to),
            found_at: SystemTime::now(),
            reason,
        };
        if below < self.ends.low {
            let missed = self.settled.unsettled(Offset(self.ends.low).max(self.settled.top()));
            let mut settled = self.settled;
            settled.settle_range(Offset(0)..Offset(self.ends.low));
            return (
                settled,
                (missed > 0).then(|| gap(below, self.ends.low, GapReason::Limit)),
            );
        }
        if below > self.ends.high {
            // The topic was deleted and made anew: what it holds now was never handed out.
            let anew = Watermark::new(Offset(self.ends.low));
            return (anew, Some(gap(self.ends.high, below, GapReason::Damage)));
        }
        (self.settled, None)
    }
}

/// Blocks. Where each partition was settled: by the group's commits, or else where the cursor began.
fn look_up(
    consumer: &StreamConsumer<Membership>,
    cluster: &Cluster,
    topic: &str,
    registered: &Registered,
    partitions: &[i32],
) -> KafkaResult<BTreeMap<i32, Found>> {
    let committed = consumer.committed_offsets(partition_list(topic, partitions), ASK_MAX)?;
    let mut found = BTreeMap::new();
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
        let settled = settled.unwrap_or_else(|| Watermark::new(Offset(registered.start_of(partition))));
        let ends = cluster.reader.ends(topic, partition)?;
        found.insert(partition, Found { settled, ends });
    }
    Ok(found)
}
