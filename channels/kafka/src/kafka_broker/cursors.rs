//! How a cursor is registered and opened.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use channel::{CursorName, ReadError, Start};
use channel_broker::{OpenCursor, stop_signal, unreadable};
use rdkafka::error::KafkaError;
use uuid::Uuid;

use super::{KafkaBroker, ends};
use crate::{
    cursor::KafkaCursor,
    group::{Member, group_id},
    offset::split,
    reader::Ends,
    registry::{Before, Registered},
};

/// Partitions that distinguish a topic from a later one of the same name: the first may be empty, or retention deleted from it.
const COMPARED_PARTITIONS: usize = 4;
/// Registering a cursor takes this long at most, for others wait meanwhile: an append that no broker acknowledges, and some more.
const REGISTER_MAX: Duration = Duration::from_secs(20);

/// Limits registering to [`REGISTER_MAX`]. What is not done in time is done or found by the next try.
pub(super) async fn in_time<T>(registering: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
    match tokio::time::timeout(REGISTER_MAX, registering).await {
        Ok(done) => done,
        Err(_) => Err(unreadable(format!(
            "Kafka did not answer within {} s",
            REGISTER_MAX.as_secs()
        ))),
    }
}

impl KafkaBroker {
    /// Where a new cursor begins in each partition.
    pub(super) async fn start(&self, start: Start) -> Result<BTreeMap<i32, u64>, ReadError> {
        let seen = ends(&self.cluster, &self.topic, self.partitions())
            .await
            .map_err(unreadable)?;
        self.extend(&seen);
        let latest = |ends: &Ends| ends.high;
        let offsets: Vec<u64> = match start {
            Start::Latest => seen.iter().map(latest).collect(),
            Start::Earliest => seen.iter().map(|ends| ends.low).collect(),
            Start::Offset(desired) => {
                let (desired_partition, desired) = split(desired);
                let at = |(partition, ends): (i32, &Ends)| match partition.cmp(&desired_partition) {
                    std::cmp::Ordering::Less => ends.high,
                    std::cmp::Ordering::Equal => desired.clamp(ends.low, ends.high),
                    std::cmp::Ordering::Greater => ends.low,
                };
                (0..).zip(&seen).map(at).collect()
            }
            Start::Time(time) => {
                let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                // Kafka counts milliseconds: the first one at or after a time within one is the next.
                let millis = i64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
                let (topic, partitions) = (self.topic.clone(), self.partitions());
                let asked = self
                    .cluster
                    .reader
                    .run(move |reader| reader.offsets_at(&topic, partitions, millis));
                let found = asked.await.map_err(unreadable)?.map_err(unreadable)?;
                found
                    .iter()
                    .zip(&seen)
                    .map(|(found, ends)| found.unwrap_or(ends.high))
                    .collect()
            }
        };
        Ok((0..).zip(offsets).collect())
    }

    /// Returns what the topic holds before a cursor's beginning, in the first few partitions that hold something.
    async fn before(&self, start: &BTreeMap<i32, u64>) -> Result<BTreeMap<i32, Before>, ReadError> {
        let begun = start.iter().filter(|(_, start)| **start > 0).take(COMPARED_PARTITIONS);
        let begun: Vec<(i32, u64)> = begun.map(|(partition, start)| (*partition, *start)).collect();
        let topic = self.topic.clone();
        let asked = self.cluster.reader.run(move |reader| {
            let before = |(partition, start): (i32, u64)| {
                let ends = reader.ends(&topic, partition)?;
                Ok::<_, KafkaError>((partition, reader.before(&topic, partition, ends, start)?))
            };
            begun.into_iter().map(before).collect::<Result<_, _>>()
        });
        asked.await.map_err(unreadable)?.map_err(unreadable)
    }

    /// A cursor as everybody has it: as it is, the owner's from now on, or new.
    pub(super) async fn registered(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Registered, ReadError> {
        match self.registry.cursor(name, owner) {
            Some(mut known) => {
                if known.owner.is_none() && owner.is_some() {
                    known.owner = owner.map(str::to_owned);
                    self.registry.own(name, &known).await.map_err(unreadable)?;
                }
                Ok(known)
            }
            None => {
                // Fails at once while the cluster is known to be away, because other callers wait meanwhile.
                if let Some(why) = self.cluster.producer.outage() {
                    return Err(unreadable(format!("Kafka does not acknowledge: {why}")));
                }
                let start = self.start(start).await?;
                let before = self.before(&start).await?;
                let new = Registered::new(Uuid::now_v7().simple().to_string(), owner, start).after(before);
                self.registry.register(name, new).await.map_err(unreadable)
            }
        }
    }

    /// Whether another gateway consumes for a cursor. It knows the subscription, which may not have been heard of here yet; once that
    /// is deleted, it forgets the cursor itself.
    pub(super) async fn is_used(&self, name: &CursorName) -> Result<bool, ReadError> {
        let asked = self.cluster.group(&group_id(&self.topic, name.as_str())).await;
        let (state, members) = asked.map_err(unreadable)?;
        if members > 0 {
            tracing::info!(topic = self.topic, cursor = %name, state, members, "a cursor is in use by other gateways and stays");
        }
        Ok(members > 0)
    }

    /// Begins to consume for a cursor that is registered.
    pub(super) fn consume(
        &self,
        name: &CursorName,
        registered: Registered,
    ) -> Result<Arc<OpenCursor<KafkaCursor>>, ReadError> {
        let cursor = Arc::new(KafkaCursor::new(name.clone(), registered.watermarks()));
        let (id, owner) = (registered.id.clone(), registered.owner.clone());
        let (stop, stopped) = stop_signal();
        let member = Member::join(
            self.cluster.clone(),
            &self.topic,
            registered,
            cursor.clone(),
            self.dead_letters.clone(),
            self.keys.clone(),
            stopped,
        );
        let member = member.map_err(unreadable)?;
        Ok(OpenCursor::start(id, owner, cursor, stop, member))
    }
}
