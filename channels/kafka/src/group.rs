//! A cursor's consumer group: one member, which receives records for it and commits what it settled.
//!
//! The group's id is `TOPIC/CURSOR`, so several gateways with the same subscription share its partitions. A member is given
//! partitions in a callback that must not block: it only passes them on. The task looks up where each was settled, and then
//! tells the client to begin there. When partitions are taken away, what was settled is committed on the way out.
//!
//! Commits go every [`COMMIT_EVERY`] while something is settled, and once more at a clean end.

mod membership;
mod resume;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use channel_broker::{BrokerCursor, MalformedMessages, Stop, StopSignal, TRY_AGAIN, sleep_until};
use futures_util::FutureExt;
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::{KafkaError, KafkaResult},
};
use tokio::{sync::mpsc, time::Instant};

use self::resume::resume_points;
pub(crate) use self::{
    membership::{Membership, accept, commit_list},
    resume::partition_list,
};
use crate::{
    cluster::Cluster,
    cursor::{KafkaCursor, Received},
    dead_letters::KafkaDeadLetters,
    leave::Leaving,
    record::{Incoming, incoming},
    registry::Registered,
};

/// The delay of a commit: a crash repeats what was settled within it, beside what was in flight.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// A gateway that died is noticed after this, and its partitions go to others, or to itself when it is back (milliseconds).
/// The broker's default minimum is 6 s.
pub(crate) const SESSION_MS: &str = "10000";

/// Records taken in a row at most: then whether to end, to commit or to pause is looked at again.
const IN_A_ROW: usize = 64;

/// Assignments not answered yet: a group sends the next one when it got the answer.
const ASSIGNMENTS_MAX: usize = 16;

/// After an error that receiving reports.
pub(crate) const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// An event that a member's task handles.
enum Wake {
    Assigned(Vec<i32>),
    CommitDue,
    Unsaved,
    Room,
    Received(KafkaResult<Incoming>),
}

/// A cursor's member of its group.
pub(crate) struct Member {
    cluster: Arc<Cluster>,
    topic: String,
    registered: Registered,
    cursor: Arc<KafkaCursor>,
    dead_letters: Arc<KafkaDeadLetters>,
    malformed: MalformedMessages,
    /// Keys of other producers' records become partition keys.
    keys: Arc<AtomicBool>,
    consumer: Arc<StreamConsumer<Membership>>,
    assigned: mpsc::Receiver<Vec<i32>>,
    /// Partitions given to us that the client has no answer about yet.
    unanswered: Option<Vec<i32>>,
    stop: StopSignal,
}

impl Member {
    /// Joins the group; its task is [`Self::run`].
    pub(crate) fn join(
        cluster: Arc<Cluster>,
        topic: &str,
        registered: Registered,
        cursor: Arc<KafkaCursor>,
        dead_letters: Arc<KafkaDeadLetters>,
        keys: Arc<AtomicBool>,
        stop: StopSignal,
    ) -> KafkaResult<Self> {
        let mut config = cluster.connection.config();
        config
            .set("group.id", group_id(topic, cursor.core().name.as_str()))
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
            // 30 KiB are enough. A member that holds too much pauses its partitions, so it does not ask this often for long.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.message.max.bytes", "1048576");
        let (sender, assigned) = mpsc::channel(ASSIGNMENTS_MAX);
        let membership = Membership {
            topic: topic.to_owned(),
            id: registered.id.clone(),
            cursor: cursor.clone(),
            assigned: sender,
        };
        let consumer: StreamConsumer<Membership> = config.create_with_context(membership)?;
        consumer.subscribe(&[topic])?;
        Ok(Self {
            cluster,
            topic: topic.to_owned(),
            registered,
            malformed: MalformedMessages::new("kafka", topic, &cursor.core().name),
            cursor,
            dead_letters,
            keys,
            consumer: Arc::new(consumer),
            assigned,
            unanswered: None,
            stop,
        })
    }

    /// Partitions were given to us: looks up where each was settled, and begins there.
    async fn begin(&mut self, partitions: &[i32]) {
        let settled = loop {
            let (consumer, cluster) = (self.consumer.clone(), self.cluster.clone());
            let (topic, registered, desired) = (self.topic.clone(), self.registered.clone(), partitions.to_vec());
            let asked =
                tokio::task::spawn_blocking(move || resume_points(&consumer, &cluster, &topic, &registered, &desired));
            let answer = tokio::select! {
                biased;
                // The question ends by itself.
                () = self.stop.stopped() => return,
                answer = asked => answer,
            };
            match answer {
                Ok(Ok(settled)) => break settled,
                Ok(Err(error)) => {
                    tracing::warn!(topic = self.topic, cursor = %self.cursor.core().name, %error, "cannot look up what is settled, trying again");
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is at its end.
                Err(_) => return,
            }
            if self.stop.is_stopped_within(TRY_AGAIN).await {
                return;
            }
        };
        let mut list = TopicPartitionList::with_capacity(settled.partitions.len());
        let mut begun = BTreeMap::new();
        if settled.is_another {
            tracing::warn!(topic = self.topic, cursor = %self.cursor.core().name, "the topic was deleted and made anew: it is delivered from its beginning, what was not settled of the former one is gone");
        }
        for (partition, found) in settled.partitions {
            let (watermark, missing, reason) = found.within(partition);
            for offsets in missing {
                self.cursor.core().missed(offsets, reason);
            }
            let start = i64::try_from(watermark.settled_below().0).unwrap_or(i64::MAX);
            if let Err(error) = list.add_partition_offset(&self.topic, partition, KafkaOffset::Offset(start)) {
                tracing::error!(topic = self.topic, partition, %error, "a partition cannot be begun");
                continue;
            }
            begun.insert(partition, watermark);
        }
        tracing::debug!(topic = self.topic, cursor = %self.cursor.core().name, ?begun, "partitions are ours");
        self.cursor.assign(begun);
        self.unanswered = None;
        if let Err(error) = self.consumer.incremental_assign(&list) {
            tracing::error!(topic = self.topic, cursor = %self.cursor.core().name, %error, "partitions cannot be begun");
        }
    }

    /// Takes what is here, without looking at everything else in between.
    async fn received_already(&mut self) {
        for _ in 1..IN_A_ROW {
            let (next, keys) = (self.consumer.recv().now_or_never(), self.keys.load(Ordering::Relaxed));
            match next.map(|received| received.map(|message| incoming(&message, keys))) {
                Some(Ok(record)) => self.received(record).await,
                Some(Err(error)) => return self.failed(&error).await,
                None => return,
            }
        }
    }

    async fn failed(&self, error: &KafkaError) {
        tracing::debug!(topic = self.topic, cursor = %self.cursor.core().name, %error, "receiving");
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
            Err(malformed) => {
                let (position, why) = (format!("{partition}/{offset}"), malformed.why.to_string());
                let stored =
                    self.malformed
                        .store(&*self.dead_letters, &position, why, &malformed.value, &mut self.stop);
                if !stored.await {
                    return;
                }
                None
            }
        };
        if self.cursor.received(partition, offset, event) == Received::Full {
            self.pausing(true);
        }
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
}

impl channel_broker::Member for Member {
    async fn work(&mut self) {
        let consumer = self.consumer.clone();
        let mut commit_at: Option<Instant> = None;
        loop {
            #[cfg(test)]
            assert!(!self.cursor.panics.load(Ordering::SeqCst), "a test asks for it");
            let wake = tokio::select! {
                biased;
                () = self.stop.stopped() => break,
                Some(partitions) = self.assigned.recv() => Wake::Assigned(partitions),
                () = sleep_until(commit_at) => Wake::CommitDue,
                () = self.cursor.unsaved.notified(), if commit_at.is_none() => Wake::Unsaved,
                () = self.cursor.core().room.notified() => Wake::Room,
                received = consumer.recv() => Wake::Received(received.map(|message| incoming(&message, self.keys.load(Ordering::Relaxed)))),
            };
            match wake {
                Wake::Assigned(partitions) => {
                    self.unanswered = Some(partitions.clone());
                    self.begin(&partitions).await;
                }
                Wake::CommitDue => {
                    commit_at = None;
                    let unsaved = self.cursor.take_unsaved();
                    consumer.context().commit(&*consumer, &unsaved);
                }
                Wake::Unsaved => commit_at = Some(Instant::now() + COMMIT_EVERY),
                Wake::Room => self.pausing(false),
                Wake::Received(Ok(record)) => {
                    self.received(record).await;
                    self.received_already().await;
                }
                Wake::Received(Err(error)) => self.failed(&error).await,
            }
        }
    }

    /// Leaves the group; saves what is settled at a clean end.
    async fn leave(mut self, stop: Option<Stop>) {
        let saves = stop == Some(Stop::Cleanly);
        let settled = if saves { self.cursor.to_leave(None) } else { Vec::new() };
        // From now on callbacks find nothing to save: it could come too late, or after the cursor was deleted.
        self.cursor.over();
        let leaving = Leaving {
            topic: self.topic,
            id: self.registered.id,
            cursor: self.cursor.core().name.clone(),
            consumer: self.consumer,
            settled,
            unanswered: self.unanswered.take().or_else(|| self.assigned.try_recv().ok()),
        };
        leaving.run().await;
    }
}

pub(crate) fn group_id(topic: &str, cursor: &str) -> String {
    format!("{topic}/{cursor}")
}
