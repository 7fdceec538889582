//! Group commit: appends to one topic that come while others are under way are handed to the client as one group, when those are done.
//!
//! The client's own queue does the same, but while a request is under way its broker thread asks again and again whether
//! the next may go: with records waiting there it took a third of a core (rd_kafka_toppar_producer_serve, librdkafka 2.12).
//! Here little waits in that queue: a group is what a request to each partition takes. With
//! `bench --only "kafka: 16 connections, 30 KiB"`, where eight events fill a request, an event took 0.54 of the CPU that it took
//! without that bound, and 1.3 times as many got through.
//!
//! A request costs both sides as much as some dozens of records. So while many publish, an append also joins a group that lingers
//! in the client, and the first append after a large group lingers for others: with `bench --only "kafka: 64"`,
//! in pairs of runs, both together took 0.91 of the CPU for an event and let 1.17 times as many through.
//!
//! Reports come on a thread of the client, which only records them: a task on the runtime reports to the callers, in a row, and
//! hands over the appends that came meanwhile.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use channel::supervised;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Producer,
    batch::{Batch, Group},
    clients::BATCH_BYTES,
    record::{Outgoing, WriteError, Written},
    sends::Sends,
};

/// A partition without a leader holds up those on other partitions for this long at most: longer than a request to a broker
/// that is well takes.
const GROUP_MAX: Duration = Duration::from_millis(100);

/// How long a lingering group accepts further appends. Shorter than it lingers in the client ([`Sends::Lingering`]): a late append
/// would wait in the client's queue.
const JOIN_MAX: Duration = Duration::from_micros(500);

/// For so long after a large group the next one is expected to be large, too: twice the time that its publishers, who all got
/// their answers at once, take until they append again.
const BURST: Duration = Duration::from_millis(8);

struct Append {
    records: Vec<Outgoing>,
    bytes: usize,
    batch: Batch,
}

/// Commits the appends to one topic in groups.
pub(crate) struct GroupCommit(Arc<TopicAppends>);

struct TopicAppends {
    topic: String,
    /// Bytes of a group while the one before is done in time: of a full request to each partition.
    room: usize,
    producer: Arc<Producer>,
    queue: Mutex<Queue>,
    /// Makes the topic's task panic once.
    #[cfg(test)]
    panics: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Queue {
    /// The group under way; the topic's task hands over the next one.
    under_way: Option<Arc<Group>>,
    /// Bounded by the producer, which admits only so many bytes.
    waiting: VecDeque<Append>,
    /// The group under way, while further appends may join it.
    open: Option<(Arc<Group>, Instant)>,
    /// Until then, many publishers are expected.
    burst_until: Option<Instant>,
}

/// How many of those that wait, oldest first, go in one group with room for so many bytes, and what is left of it: one goes,
/// though it may be larger.
fn of_one_group(mut room: usize, bytes: impl Iterator<Item = usize>) -> (usize, usize) {
    let mut count = 0;
    for bytes in bytes {
        room = match room.checked_sub(bytes) {
            Some(left) => left,
            None if count == 0 => 0,
            None => break,
        };
        count += 1;
    }
    (count, room)
}

impl GroupCommit {
    pub(crate) fn new(topic: &str, partitions: i32, producer: &Arc<Producer>) -> Self {
        Self(Arc::new(TopicAppends {
            topic: topic.to_owned(),
            room: BATCH_BYTES.saturating_mul(usize::try_from(partitions).unwrap_or(1)),
            producer: producer.clone(),
            queue: Mutex::default(),
            #[cfg(test)]
            panics: std::sync::atomic::AtomicBool::new(false),
        }))
    }

    #[cfg(test)]
    pub(crate) fn panic_once(&self) {
        self.0.panics.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// As [`Producer::write`], together with others.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have written them.
    pub(crate) async fn write(&self, records: Vec<Outgoing>) -> Result<Written, WriteError> {
        let producer = &self.0.producer;
        let admitted = producer.admit(&records).await?;
        let (done, result) = oneshot::channel();
        self.0.enter(Append {
            bytes: records.iter().map(Outgoing::size).sum(),
            records,
            batch: admitted.batch(done),
        });
        producer.judged(result.await)
    }
}

impl TopicAppends {
    /// Hands them over, unless they have to wait for what is under way.
    fn enter(self: &Arc<Self>, append: Append) {
        let mut queue = self.queue.lock();
        if let Some((group, until)) = &queue.open
            && Instant::now() < *until
            && group.one_more(append.bytes)
        {
            return self.enqueue(Sends::Lingering, append, group);
        }
        queue.waiting.push_back(append);
        if queue.under_way.is_none() {
            self.submit(&mut queue, self.room);
            drop(queue);
            let own = self.clone();
            // After a panic it continues with the group that is under way, so that no append waits for ever.
            let goes_on = supervised::until_done("appends to Kafka", self.topic.clone(), move || own.clone().go_on());
            tokio::spawn(goes_on);
        }
    }

    /// Until nothing waits.
    async fn go_on(self: Arc<Self>) {
        loop {
            let Some(group) = self.queue.lock().under_way.clone() else {
                return;
            };
            let mut room = self.room;
            if tokio::time::timeout(GROUP_MAX, group.report_all()).await.is_err() {
                let hears = move || {
                    let group = group.clone();
                    async move { group.report_all().await }
                };
                tokio::spawn(supervised::until_done(
                    "a late answer of Kafka",
                    self.topic.clone(),
                    hears,
                ));
                // The next group takes everything that waits, so that this one alone was waited for.
                room = usize::MAX;
            }
            #[cfg(test)]
            assert!(
                !self.panics.swap(false, std::sync::atomic::Ordering::SeqCst),
                "a test asks for it"
            );
            let mut queue = self.queue.lock();
            queue.open = None;
            if queue.waiting.is_empty() {
                queue.under_way = None;
                return;
            }
            self.submit(&mut queue, room);
        }
    }

    /// Hands over the appends that wait, as many as there is room for.
    fn submit(&self, queue: &mut Queue, room: usize) {
        let (count, room) = of_one_group(room, queue.waiting.iter().map(|append| append.bytes));
        let appends: Vec<Append> = queue.waiting.drain(..count).collect();
        let now = Instant::now();
        let group = Arc::new(Group::of(count, room));
        queue.under_way = Some(group.clone());
        let mut sends = Sends::group_of(appends.iter().map(|append| append.records.len()).sum());
        match sends {
            Sends::Lingering => queue.burst_until = Some(now + BURST),
            Sends::AtOnce if queue.burst_until.is_some_and(|until| now < until) => sends = Sends::Lingering,
            Sends::AtOnce => {}
        }
        queue.open = match sends {
            Sends::Lingering => Some((group.clone(), now + JOIN_MAX)),
            Sends::AtOnce => None,
        };
        for append in appends {
            self.enqueue(sends, append, &group);
        }
    }

    fn enqueue(&self, sends: Sends, append: Append, group: &Arc<Group>) {
        let Append { records, batch, .. } = append;
        self.producer
            .enqueue(sends, &self.topic, records, None, batch.of(group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_there_is_room_for_or_one() {
        for (waiting, count, room) in [
            ([5, 5, 1], 2, 0),
            ([5, 6, 1], 1, 5),
            ([1, 2, 3], 3, 4),
            ([11, 1, 1], 1, 0),
        ] {
            assert_eq!(of_one_group(10, waiting.into_iter()), (count, room), "{waiting:?}");
        }
    }
}
