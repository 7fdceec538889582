//! Appends to one topic that come while others are under way go to the client together, when those are done.
//!
//! The client's own queue does the same, but while a request is under way its broker thread asks again and again whether
//! the next may go: with records waiting there it took a third of a core (rd_kafka_toppar_producer_serve, librdkafka 2.12).
//! Here little waits in that queue: a group is what a request to each partition takes. With
//! `bench --only "kafka: 16 connections, 30 KiB"`, where eight events fill a request, an event took 0.54 of the CPU that it took
//! without that bound, and 1.3 times as many got through.
//!
//! A request costs both sides as much as some dozens of records. So while many publish, an append also goes along with a group
//! that lingers in the client, and the first after a large group lingers for others: with `bench --only "kafka: 64"`,
//! in pairs of runs, both together took 0.91 of the CPU for an event and let 1.17 times as many through.
//!
//! Reports come on a thread of the client. It only puts them down: a task on the runtime tells the callers, in a row, and
//! hands over what has come meanwhile.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    clients::{BATCH_BYTES, Sends},
    producer::{Batch, Done, Outgoing, Producer, WriteError, Written},
};

/// A partition without a leader holds up those on other partitions for this long at most: longer than a request to a broker
/// that is well takes.
const GROUP_MAX: Duration = Duration::from_millis(100);

/// For so long others go along with a group that lingers in the client, which is shorter than it does ([`Sends::Together`]): one
/// that comes too late waits in the client's queue.
const OPEN: Duration = Duration::from_micros(500);

/// For so long after a large group the next is taken for one, too: twice what its publishers take, who all got their answers
/// at the same time, until they are here again.
const CROWD: Duration = Duration::from_millis(8);

struct Append {
    records: Vec<Outgoing>,
    bytes: usize,
    batch: Batch,
}

/// Of one topic.
pub(crate) struct Gather(Arc<Shared>);

struct Shared {
    topic: String,
    /// Bytes of a group while the one before is done in time: of a full request to each partition.
    room: usize,
    producer: Arc<Producer>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Some are under way; their task hands over the next.
    is_busy: bool,
    /// Bounded by the producer, which admits only so many bytes.
    waiting: VecDeque<Append>,
    /// The group under way, while others may go along with it.
    open: Option<(Arc<Group>, Instant)>,
    /// Many publish, as far as is known.
    crowd_until: Option<Instant>,
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

impl Gather {
    pub(crate) fn new(topic: &str, partitions: i32, producer: &Arc<Producer>) -> Self {
        Self(Arc::new(Shared {
            topic: topic.to_owned(),
            room: BATCH_BYTES.saturating_mul(usize::try_from(partitions).unwrap_or(1)),
            producer: producer.clone(),
            queue: Mutex::default(),
        }))
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

impl Shared {
    /// Hands them over, unless they have to wait for what is under way.
    fn enter(self: &Arc<Self>, append: Append) {
        let mut queue = self.queue.lock();
        if let Some((group, until)) = &queue.open
            && Instant::now() < *until
            && group.one_more(append.bytes)
        {
            return self.enqueue(Sends::Together, append, group);
        }
        queue.waiting.push_back(append);
        if !queue.is_busy {
            queue.is_busy = true;
            let group = self.hand_over(&mut queue, self.room);
            drop(queue);
            tokio::spawn(self.clone().go_on(group));
        }
    }

    /// Until nothing waits.
    async fn go_on(self: Arc<Self>, mut group: Arc<Group>) {
        loop {
            let mut room = self.room;
            if tokio::time::timeout(GROUP_MAX, group.hear()).await.is_err() {
                tokio::spawn(async move { group.hear().await });
                // Nobody waits for more than this one, however much there is.
                room = usize::MAX;
            }
            let mut queue = self.queue.lock();
            queue.open = None;
            if queue.waiting.is_empty() {
                queue.is_busy = false;
                return;
            }
            group = self.hand_over(&mut queue, room);
        }
    }

    /// Of what waits, as much as there is room for.
    fn hand_over(&self, queue: &mut Queue, room: usize) -> Arc<Group> {
        let (count, room) = of_one_group(room, queue.waiting.iter().map(|append| append.bytes));
        let appends: Vec<Append> = queue.waiting.drain(..count).collect();
        let now = Instant::now();
        let group = Arc::new(Group::of(count, room));
        let mut sends = Sends::group_of(appends.iter().map(|append| append.records.len()).sum());
        match sends {
            Sends::Together => queue.crowd_until = Some(now + CROWD),
            Sends::AtOnce if queue.crowd_until.is_some_and(|until| now < until) => sends = Sends::Together,
            Sends::AtOnce => {}
        }
        queue.open = match sends {
            Sends::Together => Some((group.clone(), now + OPEN)),
            Sends::AtOnce => None,
        };
        for append in appends {
            self.enqueue(sends, append, &group);
        }
        group
    }

    fn enqueue(&self, sends: Sends, append: Append, group: &Arc<Group>) {
        let Append { records, batch, .. } = append;
        self.producer
            .enqueue(sends, &self.topic, records, None, batch.of(group));
    }
}

/// What a batch's caller is told.
pub(crate) type Told = Result<Written, KafkaError>;

/// Appends that were handed over in one go.
pub(crate) struct Group {
    reports: Mutex<Reports>,
    news: Notify,
}

struct Reports {
    /// Appends that are not done.
    left: usize,
    /// Bytes that others may still bring.
    room: usize,
    /// For callers that have not been told yet.
    told: Vec<(Done, Told)>,
}

impl Group {
    fn of(appends: usize, room: usize) -> Self {
        Self {
            reports: Mutex::new(Reports {
                left: appends,
                room,
                told: Vec::with_capacity(appends),
            }),
            news: Notify::new(),
        }
    }

    /// What became of one of its appends.
    pub(crate) fn tell(&self, done: Done, told: Told) {
        self.reports.lock().told.push((done, told));
    }

    /// Another append goes along with it, unless it is over or full.
    fn one_more(&self, bytes: usize) -> bool {
        let mut reports = self.reports.lock();
        match reports.room.checked_sub(bytes) {
            Some(room) if reports.left > 0 => {
                reports.room = room;
                reports.left += 1;
                true
            }
            _ => false,
        }
    }

    /// One of its appends is done.
    pub(crate) fn one_less(&self) {
        self.reports.lock().left -= 1;
        self.news.notify_one();
    }

    /// Tells callers, until all are told. Cancel safe.
    async fn hear(&self) {
        loop {
            let (told, left) = {
                let mut reports = self.reports.lock();
                (std::mem::take(&mut reports.told), reports.left)
            };
            for (done, told) in told {
                // The caller may have gone away.
                let _ = done.send(told);
            }
            if left == 0 {
                return;
            }
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn callers_are_told_as_reports_come_and_others_go_along_until_the_last() {
        let group = Group::of(2, 9);
        let written = Written {
            partition: 0,
            offset: 7,
        };
        let report = |group: &Group| {
            let (done, told) = oneshot::channel();
            group.tell(done, Ok(written));
            group.one_less();
            told
        };
        let mut told = report(&group);
        assert!(group.hear().now_or_never().is_none(), "one has no report");
        assert_eq!(told.try_recv(), Ok(Ok(written)));
        assert!(!group.one_more(10), "it is too large");
        assert!(group.one_more(9));
        let mut others = [report(&group), report(&group)];
        assert!(group.hear().now_or_never().is_some());
        for told in &mut others {
            assert_eq!(told.try_recv(), Ok(Ok(written)));
        }
        assert!(!group.one_more(0), "it is over");
    }

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

    #[test]
    fn appends_that_were_never_handed_over_hold_up_nobody() {
        let group = Group::of(1, 0);
        group.one_less();
        assert!(group.hear().now_or_never().is_some());
    }
}
