//! Appends to one topic that come while others are under way go to the client together, when those are done.
//!
//! The client's own queue does the same, but while a request is under way its broker thread asks again and again whether
//! the next may go: with records waiting there it took a third of a core (rd_kafka_toppar_producer_serve, librdkafka 2.12).
//! Here nothing waits in that queue.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::{
    clients::Sends,
    producer::{Batch, Outgoing, Producer, WriteError, Written},
};

/// A partition without a leader holds up those on other partitions for this long at most: longer than a request to a broker
/// that is well takes.
const GROUP_MAX: Duration = Duration::from_millis(100);

/// Of one topic.
pub(crate) struct Gather {
    topic: String,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    /// Somebody has the [`Turn`].
    is_taken: bool,
    /// Bounded by the producer, which admits only so many bytes.
    waiting: Vec<(Vec<Outgoing>, Batch)>,
    /// One for each that waits, unless it has gone away.
    callers: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to hand over all that waits. Dropped, it goes to who has waited longest.
struct Turn(Option<Arc<Mutex<Queue>>>);

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        let mut queue = shared.lock();
        while let Some(caller) = queue.callers.pop_front() {
            match caller.send(Self(Some(shared.clone()))) {
                Ok(()) => return,
                // It has gone away: what it left goes with the others.
                Err(mut refused) => refused.0 = None,
            }
        }
        queue.is_taken = false;
    }
}

/// Appends that were handed over in one go.
pub(crate) struct Group {
    left: AtomicUsize,
    /// Given on when all are done, or earlier when that takes too long.
    turn: Mutex<Option<Turn>>,
    over: Notify,
}

impl Group {
    /// One of its appends is done.
    pub(crate) fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end();
            self.over.notify_one();
        }
    }

    fn end(&self) {
        let turn = self.turn.lock().take();
        drop(turn);
    }
}

/// Ends the group for the append that began it, also when that is dropped.
struct Begun(Arc<Group>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Gather {
    pub(crate) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            queue: Arc::default(),
        }
    }

    /// As [`Producer::write`], together with others.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have written them.
    pub(crate) async fn write(&self, producer: &Producer, records: Vec<Outgoing>) -> Result<Written, WriteError> {
        let admitted = producer.admit(&records).await?;
        let (done, mut result) = oneshot::channel();
        let turn = match self.wait(records, admitted.batch(done)) {
            Ok(turn) => Some(turn),
            Err(offered) => tokio::select! {
                biased;
                result = &mut result => return producer.judged(result),
                // An error: another has taken ours along.
                turn = offered => turn.ok(),
            },
        };
        if let Some(turn) = turn {
            self.hand_over(producer, turn).await;
        }
        producer.judged(result.await)
    }

    /// The turn, when nobody has it.
    fn wait(&self, records: Vec<Outgoing>, batch: Batch) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut queue = self.queue.lock();
        queue.waiting.push((records, batch));
        if !queue.is_taken {
            queue.is_taken = true;
            return Ok(Turn(Some(self.queue.clone())));
        }
        let (caller, offered) = oneshot::channel();
        queue.callers.push_back(caller);
        Err(offered)
    }

    /// Returns when all of the group is done or overdue.
    async fn hand_over(&self, producer: &Producer, turn: Turn) {
        let next = {
            let mut queue = self.queue.lock();
            queue.callers.clear();
            std::mem::take(&mut queue.waiting)
        };
        let group = Group {
            left: AtomicUsize::new(next.len()),
            turn: Mutex::new(Some(turn)),
            over: Notify::new(),
        };
        let begun = Begun(Arc::new(group));
        let sends = Sends::group_of(next.iter().map(|(records, _)| records.len()).sum());
        for (records, batch) in next {
            producer.enqueue(sends, &self.topic, records, None, batch.of(&begun.0));
        }
        let _ = tokio::time::timeout(GROUP_MAX, begun.0.over.notified()).await;
    }
}
