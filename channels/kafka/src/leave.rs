//! How a member leaves its group: with a last commit, and so that the group knows.
//!
//! A group that is being rearranged takes neither. Brokers answer the requests of one member in their order, so that what it asks waits
//! behind its request to join, which is answered when all members are there, and a commit is of an earlier generation then.

use std::{sync::Arc, time::Duration};

use channel::{CursorName, Watermark, supervised};
use rdkafka::{
    consumer::{CommitMode, Consumer, StreamConsumer},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    group::{ERROR_PAUSE, Membership, accept, commit_list, partition_list},
    reader::ASK_MAX,
};

/// Leaving waits this long. A group that is new is being rearranged for three seconds (`group.initial.rebalance.delay.ms`), another until
/// its members have heard of it (3 s) and until one that died is given up ([`crate::group::SESSION_MS`], 10 s).
const LEAVE_MAX: Duration = Duration::from_secs(15);

/// Between tries of the last commit.
const COMMIT_AGAIN: Duration = Duration::from_millis(100);

/// Questions, one after the other, after which nothing of a rearrangement is under way any more. A member is done with one after three
/// requests (to join, for the topic's partitions, for its part) and one to look up where what it was given begins; the other two are for
/// what the client does between them.
const STEPS_OF_JOINING: usize = 6;

/// A member whose cursor is over.
pub(crate) struct Leaving {
    pub(crate) topic: String,
    /// The cursor's own.
    pub(crate) id: String,
    pub(crate) cursor: CursorName,
    pub(crate) consumer: Arc<StreamConsumer<Membership>>,
    /// The last commit; empty: there is none.
    pub(crate) settled: Vec<(i32, Watermark)>,
    /// Partitions given to it that the client has no answer about yet.
    pub(crate) unanswered: Option<Vec<i32>>,
}

impl Leaving {
    /// Returns when the group has let it go, or after [`LEAVE_MAX`].
    pub(crate) async fn run(self) {
        let until = Instant::now() + LEAVE_MAX;
        let left = async {
            if let Err(error) = self.save_last().await {
                tracing::warn!(topic = self.topic, cursor = %self.cursor, %error, "what was settled last is not saved, it may be delivered again");
            }
            self.say_farewell().await;
        };
        let in_time = timeout_at(until, left).await.is_ok();
        let Self {
            topic,
            cursor,
            consumer,
            ..
        } = self;
        // Never on a thread of the runtime: it waits for brokers.
        let dropped = tokio::task::spawn_blocking(move || drop(consumer));
        let dropped = async { supervised::joined("closing a consumer of Kafka", cursor.as_str(), dropped.await) };
        if !in_time || timeout_at(until, dropped).await.is_err() {
            tracing::warn!(topic, %cursor, "leaving a consumer group takes long, going on without waiting");
        }
    }

    /// Commits once more, again while the group is being rearranged.
    async fn save_last(&self) -> KafkaResult<()> {
        if self.settled.is_empty() {
            return Ok(());
        }
        loop {
            let consumer = self.consumer.clone();
            let list = commit_list(&self.topic, &self.id, &self.settled)?;
            let committed = tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync)).await;
            match committed.unwrap_or(Err(KafkaError::Canceled)) {
                Err(error) if is_of_a_rearrangement(&error) => tokio::time::sleep(COMMIT_AGAIN).await,
                committed => return committed,
            }
        }
    }

    /// Tells the group that this member goes. By itself the client does not where the member has no partitions (librdkafka 2.12): brokers
    /// would keep its place for [`crate::group::SESSION_MS`], partitions given to it would lie still, and as long as the group waits for it
    /// no other member could commit.
    ///
    /// While the group is being rearranged the client does it only afterwards, and does not say when. Hence the questions: an answer says
    /// that what was asked before has been dealt with.
    async fn say_farewell(&self) {
        if let Some(partitions) = &self.unanswered {
            accept(&*self.consumer, &partition_list(&self.topic, partitions));
        }
        // A member that has just come has no name in the group yet, by which it could leave.
        if !self.ask().await {
            return;
        }
        self.consumer.unsubscribe();
        for _ in 0..STEPS_OF_JOINING {
            if !self.ask().await {
                return;
            }
        }
    }

    /// Asks for something the group's broker answers in turn, and answers meanwhile what the client asks: partitions given to a member on
    /// its way out. `false`: there is no answer, and to ask more would be to wait for a broker that is gone.
    async fn ask(&self) -> bool {
        let (consumer, list) = (self.consumer.clone(), partition_list(&self.topic, &[0]));
        let mut asked = tokio::task::spawn_blocking(move || consumer.committed_offsets(list, ASK_MAX));
        loop {
            tokio::select! {
                biased;
                answer = &mut asked => return answer.is_ok_and(|answer| answer.is_ok()),
                received = self.consumer.recv() => {
                    if received.is_err() {
                        tokio::time::sleep(ERROR_PAUSE).await;
                    }
                }
            }
        }
    }
}

fn is_of_a_rearrangement(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress)
    )
}
