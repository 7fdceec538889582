//! Retention: what every cursor settled is deleted after a day, in a topic that this gateway created and that keeps everything otherwise
//! (CONTRACT CH-9).

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use channel::Offset;

use crate::cluster::Cluster;

/// Settled events can be replayed this long, as on an embedded channel.
pub(crate) const KEEP: Duration = Duration::from_secs(24 * 3600);

/// Nothing is in a hurry, and each round costs the broker a few requests.
pub(crate) const TRIM_EVERY: Duration = Duration::from_secs(600);

/// Up to where each partition may be deleted: below what every cursor settled, and below what was stored lately.
pub(crate) fn deletable(
    settled: &[BTreeMap<i32, Offset>],
    old: &[Option<u64>],
    ends: &[crate::reader::Ends],
) -> Vec<(i32, u64)> {
    let mut before = Vec::new();
    for (partition, ends) in (0_i32..).zip(ends) {
        let index = usize::try_from(partition).unwrap_or_default();
        // No record is that young: all are old.
        let old = old.get(index).copied().flatten().unwrap_or(ends.high);
        let lowest = settled
            .iter()
            .map(|cursor| cursor.get(&partition).map_or(0, |below| below.0))
            .min();
        let until = old.min(lowest.unwrap_or(u64::MAX));
        if until > ends.low {
            before.push((partition, until));
        }
    }
    before
}

/// Deletes what may go.
pub(crate) async fn trim(cluster: &Cluster, topic: &str, partitions: i32, settled: &[BTreeMap<i32, Offset>]) {
    let since = (SystemTime::now() - KEEP)
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let millis = i64::try_from(since.as_millis()).unwrap_or_default();
    let name = topic.to_owned();
    let asked = cluster.reader.run(move |reader| {
        let old = reader.offsets_at(&name, partitions, millis)?;
        let ends = (0..partitions)
            .map(|partition| reader.ends(&name, partition))
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, rdkafka::error::KafkaError>((old, ends))
    });
    let before = match asked.await {
        Ok(Ok((old, ends))) => deletable(settled, &old, &ends),
        Ok(Err(error)) => {
            tracing::debug!(topic, %error, "cannot look for settled events to delete");
            return;
        }
        Err(_) => return,
    };
    if before.is_empty() {
        return;
    }
    match cluster.delete_records(topic, &before).await {
        Ok(()) => tracing::debug!(topic, ?before, "deleted what everybody settled"),
        Err(error) => tracing::warn!(topic, %error, "settled events are not deleted: allow Delete on the topic"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Ends;

    /// Proves: CH-9
    #[test]
    fn only_what_is_old_and_settled_by_everybody_goes() {
        let ends = [
            Ends { low: 5, high: 100 },
            Ends { low: 0, high: 10 },
            Ends { low: 3, high: 3 },
        ];
        let settled = |pairs: &[(i32, u64)]| {
            pairs
                .iter()
                .map(|(id, below)| (*id, Offset(*below)))
                .collect::<BTreeMap<_, _>>()
        };
        let cursors = [settled(&[(0, 60), (1, 10)]), settled(&[(0, 40), (1, 10), (2, 3)])];
        assert_eq!(deletable(&cursors, &[Some(50), None, None], &ends), [(0, 40), (1, 10)]);
        assert_eq!(deletable(&cursors, &[Some(20), Some(0), None], &ends), [(0, 20)]);
        assert_eq!(deletable(&[], &[Some(50), None, None], &ends), [(0, 50), (1, 10)]);
        // A cursor that knows nothing of a partition has settled nothing there.
        assert_eq!(deletable(&[settled(&[(0, 60)])], &[None, None, None], &ends), [(0, 60)]);
    }
}
