//! Polling while a channel is open: where its topic ends, open transactions, and what retention may delete.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use channel_broker::{BrokerCursor, OpenCursor};
use rdkafka::error::KafkaError;
use tokio::time::Instant;

use super::KafkaBroker;
use crate::{
    cursor::KafkaCursor,
    error::OpenError,
    offset::PARTITIONS_MAX,
    reader::Ends,
    retention,
    watch::{HeldBack, Waits, is_another, phrase},
};

/// Others' writes, and what retention deleted, are noticed within this.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// The same while a reader waits for the channel to grow.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// The same after a start, and while a cursor may wait for what does not come.
const SOON: Duration = Duration::from_secs(1);
/// How often the topic's partitions are counted and open transactions are searched for: twice the requests.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// Cursors whose wait is checked at a time: each check reads from the topic.
const CHECKS_MAX: usize = 16;

/// Keeps polling where the topic begins and ends, and what it is.
pub(super) async fn poll(broker: Arc<KafkaBroker>) {
    let (mut waits, mut held_back) = (Waits::default(), HeldBack::default());
    let mut refreshed = Instant::now();
    let mut every = SOON;
    loop {
        tokio::time::sleep(every).await;
        let refresh = refreshed.elapsed() >= REFRESH_EVERY;
        // Records the current state before the first question about it.
        let known = broker.ends.lock().clone();
        match broker.seen(refresh).await {
            Ok(seen) => {
                if broker.is_another(&known, &seen).await {
                    tracing::warn!(
                        topic = broker.topic,
                        "the topic begins or ends before it did: it was deleted and made anew, or lost records"
                    );
                    broker.ends.lock().clone_from(&seen);
                    broker.state.notify_grown();
                }
                broker.extend(&seen);
                broker.skip_markers(&mut waits, &seen).await;
                if refresh {
                    refreshed = Instant::now();
                    broker.find_open_transactions(&mut held_back, &seen).await;
                }
            }
            Err(error) => tracing::debug!(topic = broker.topic, %error, "polling the topic"),
        }
        every = if broker.state.is_watched() {
            WATCH_EVERY
        } else if waits.are_some() {
            SOON
        } else {
            POLL_EVERY
        };
    }
}

pub(super) async fn trim(broker: Arc<KafkaBroker>) {
    loop {
        tokio::time::sleep(retention::TRIM_EVERY).await;
        if !broker.found.keeps_all || !broker.registry.we_made_it() {
            continue;
        }
        let settled: Vec<_> = broker
            .state
            .open_cursors()
            .iter()
            .map(|open| open.cursor.settled())
            .collect();
        // The progress of a cursor without a member in this process is unknown.
        if settled.len() == broker.registry.cursors().len() {
            retention::trim(&broker.cluster, &broker.topic, broker.partitions(), &settled).await;
        }
    }
}

impl KafkaBroker {
    /// Where the topic begins and ends now; `refresh`: with partitions that came.
    async fn seen(&self, refresh: bool) -> Result<Vec<Ends>, OpenError> {
        let (topic, known) = (self.topic.clone(), self.partitions());
        let asked = self.cluster.reader.run(move |reader| {
            let layout = if refresh { reader.layout(&topic)? } else { None };
            let partitions = layout.and_then(|layout| i32::try_from(layout.replicas.len()).ok());
            reader.all_ends(&topic, partitions.unwrap_or(known).clamp(1, PARTITIONS_MAX))
        });
        let found = asked.await.unwrap_or(Err(KafkaError::Canceled));
        found.map_err(|error| self.cluster.unreachable(error))
    }

    /// Cursors do not wait for markers of transactions, of which the client says nothing.
    async fn skip_markers(&self, waits: &mut Waits, seen: &[Ends]) {
        let open = self.state.open_cursors();
        let idle = |open: &Arc<OpenCursor<KafkaCursor>>| {
            let name = open.cursor.core().name.clone();
            let idle = open.cursor.idle(seen).into_iter();
            idle.map(move |(partition, from)| (name.clone(), partition, from))
        };
        let due = waits.seen(&open.iter().flat_map(idle).collect());
        let mut known = BTreeMap::new();
        for (number, wait) in due.into_iter().enumerate() {
            let (_, partition, from) = wait;
            let high = usize::try_from(partition).ok().and_then(|index| seen.get(index));
            let Some(high) = high.map(|ends| ends.high) else {
                continue;
            };
            // Cursors mostly wait at the same place.
            let is_void = match known.get(&(partition, from)) {
                Some(known) => *known,
                None if number < CHECKS_MAX => {
                    let topic = self.topic.clone();
                    let asked = self
                        .cluster
                        .reader
                        .run(move |reader| reader.is_void(&topic, partition, from, high));
                    match asked.await {
                        Ok(Ok(is_void)) => is_void,
                        Ok(Err(_)) | Err(_) => {
                            waits.unanswered(wait);
                            continue;
                        }
                    }
                }
                None => {
                    waits.unanswered(wait);
                    continue;
                }
            };
            known.insert((partition, from), is_void);
            if let Some(open) = open.iter().find(|open| is_void && open.cursor.core().name == wait.0) {
                open.cursor.is_void(partition, from, high);
            }
        }
    }

    /// Whether the topic is another one than it was when this was known of it. What we wrote behind an open transaction lies behind
    /// what can be read, so then the real ends are asked for.
    async fn is_another(&self, known: &[Ends], seen: &[Ends]) -> bool {
        if !is_another(known, seen) {
            return false;
        }
        let Some(highs) = self.highs(seen.len()).await else {
            return false;
        };
        let with_high = |(seen, high): (&Ends, u64)| Ends { low: seen.low, high };
        let real: Vec<Ends> = seen.iter().zip(highs).map(with_high).collect();
        is_another(known, &real)
    }

    /// Where partitions end, what open transactions hold back included.
    async fn highs(&self, partitions: usize) -> Option<Vec<u64>> {
        let (cluster, topic) = (self.cluster.clone(), self.topic.clone());
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let asked = self
            .cluster
            .reader
            .run(move |_| cluster.follower.highs(&topic, partitions));
        match asked.await {
            Ok(Ok(highs)) => Some(highs),
            Ok(Err(error)) => {
                tracing::debug!(topic = self.topic, %error, "looking at the ends of the topic");
                None
            }
            Err(_) => None,
        }
    }

    async fn find_open_transactions(&self, held_back: &mut HeldBack, stable: &[Ends]) {
        let Some(highs) = self.highs(stable.len()).await else {
            return;
        };
        let phrase = phrase(&self.topic, &held_back.seen(stable, &highs));
        if phrase.is_some() != held_back.is_known {
            held_back.is_known = phrase.is_some();
            match &phrase {
                Some(why) => tracing::warn!(topic = self.topic, why, "an open transaction holds events back"),
                None => tracing::info!(topic = self.topic, "no open transaction holds events back any more"),
            }
        }
        *self.held_back.lock() = phrase;
    }

    /// Ends that were seen a moment ago: what we wrote since reaches further.
    pub(super) fn extend(&self, seen: &[Ends]) {
        let mut grown = false;
        let mut all = self.ends.lock();
        for (known, seen) in all.iter_mut().zip(seen) {
            grown |= seen.high > known.high;
            *known = Ends {
                low: seen.low.max(known.low),
                high: seen.high.max(known.high),
            };
        }
        if let Some(new) = seen.get(all.len()..).filter(|new| !new.is_empty()) {
            tracing::info!(
                topic = self.topic,
                partitions = seen.len(),
                "the topic has more partitions"
            );
            all.extend_from_slice(new);
            grown = true;
        }
        drop(all);
        if grown {
            self.state.notify_grown();
        }
    }
}
