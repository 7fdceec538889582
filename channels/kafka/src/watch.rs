//! Changes of a topic while its channel is open: other programs write to it, add partitions, delete it, and hold it back.
//!
//! Asked every few seconds. Between two answers a cursor may have received everything and still not be at the end: where
//! transactions are, their markers take offsets and are no records. A cursor that waits at the same offset for two answers is
//! checked, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use channel::CursorName;
use tokio::time::Instant;

use crate::reader::Ends;

/// Records that a transaction holds back longer than this are reported: transactions of most producers end within seconds, and a
/// producer that died keeps its own open for this long by default (`transaction.timeout.ms`).
const HELD_BACK_MIN: Duration = Duration::from_secs(60);

/// Whether a topic is another one than when it was asked about before. Neither end of a partition goes back, nor does the number of
/// partitions.
pub(crate) fn is_another(before: &[Ends], seen: &[Ends]) -> bool {
    let back = |(before, seen): (&Ends, &Ends)| seen.low < before.low || seen.high < before.high;
    seen.len() < before.len() || before.iter().zip(seen).any(back)
}

/// Open transactions that hold records back, by partition.
#[derive(Default)]
pub(crate) struct HeldBack {
    since: BTreeMap<i32, (u64, Instant)>,
    /// It was reported.
    pub(crate) is_known: bool,
}

impl HeldBack {
    /// Returns which partitions are held back for long: the readable part ends at `stable`, the topic at `highs`. And how many
    /// records.
    pub(crate) fn seen(&mut self, stable: &[Ends], highs: &[u64]) -> Vec<(i32, u64)> {
        let now = Instant::now();
        let mut long = Vec::new();
        for ((partition, stable), high) in (0_i32..).zip(stable).zip(highs) {
            if *high <= stable.high {
                self.since.remove(&partition);
                continue;
            }
            let (offset, since) = self.since.entry(partition).or_insert((stable.high, now));
            if *offset != stable.high {
                // One ended. Another one, or what was written between the two questions.
                (*offset, *since) = (stable.high, now);
            }
            if since.elapsed() >= HELD_BACK_MIN {
                long.push((partition, high - stable.high));
            }
        }
        long
    }
}

/// A phrase for the condition of a channel that is held back.
pub(crate) fn phrase(topic: &str, long: &[(i32, u64)]) -> Option<String> {
    let (first, _) = long.first()?;
    let count: u64 = long.iter().map(|(_, count)| count).sum();
    let partitions: Vec<String> = long.iter().map(|(partition, _)| partition.to_string()).collect();
    Some(format!(
        "a transaction on topic {topic} has been open for more than {} s and holds back {count} records of partition {}, events answered 202 among them: end it (kafka-transactions find-hanging --topic {topic} --partition {first}, then abort), or wait for its timeout",
        HELD_BACK_MIN.as_secs(),
        partitions.join(", ")
    ))
}

/// A cursor's partition, and the offset at which it waits.
pub(crate) type Wait = (CursorName, i32, u64);

/// Cursors that wait where there may be nothing to come.
#[derive(Default)]
pub(crate) struct Waits {
    /// Seen once.
    new: BTreeSet<Wait>,
    /// Checked: something is on its way.
    checked: BTreeSet<Wait>,
}

impl Waits {
    /// Those that wait as they did when asked before, to be checked now.
    pub(crate) fn seen(&mut self, waits: &BTreeSet<Wait>) -> Vec<Wait> {
        self.checked.retain(|wait| waits.contains(wait));
        let old = |wait: &&Wait| self.new.contains(*wait);
        let due: Vec<Wait> = waits.iter().filter(old).cloned().collect();
        self.new = waits - &self.checked;
        for wait in &due {
            self.new.remove(wait);
            self.checked.insert(wait.clone());
        }
        due
    }

    /// A check had no answer: it is made again.
    pub(crate) fn unanswered(&mut self, wait: Wait) {
        self.checked.remove(&wait);
        self.new.insert(wait);
    }

    /// Some are to be checked soon.
    pub(crate) fn are_some(&self) -> bool {
        !self.new.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(pairs: &[(u64, u64)]) -> Vec<Ends> {
        pairs
            .iter()
            .map(|(low, high)| Ends { low: *low, high: *high })
            .collect()
    }

    /// Proves: CH-9
    #[test]
    fn a_topic_whose_ends_go_back_is_another() {
        let before = ends(&[(5, 10), (0, 3)]);
        for (seen, expected) in [
            (ends(&[(5, 10), (0, 3)]), false),
            (ends(&[(7, 12), (0, 3), (0, 0)]), false),
            (ends(&[(0, 15), (0, 3)]), true),
            (ends(&[(5, 9), (0, 3)]), true),
            (ends(&[(5, 10)]), true),
        ] {
            assert_eq!(is_another(&before, &seen), expected, "{seen:?}");
        }
        assert!(!is_another(&[], &before));
    }

    #[tokio::test(start_paused = true)]
    async fn a_transaction_that_is_open_for_more_than_a_minute_is_reported() {
        let mut held_back = HeldBack::default();
        let stable = ends(&[(0, 5), (0, 9)]);
        assert_eq!(held_back.seen(&stable, &[8, 9]), []);
        tokio::time::advance(HELD_BACK_MIN).await;
        assert_eq!(held_back.seen(&stable, &[9, 9]), [(0, 4)]);
        // That one ended, and the next is as young as it is.
        assert_eq!(held_back.seen(&ends(&[(0, 7), (0, 9)]), &[9, 9]), []);
        tokio::time::advance(HELD_BACK_MIN).await;
        assert_eq!(held_back.seen(&ends(&[(0, 9), (0, 9)]), &[9, 9]), []);
        let reported = phrase("t", &[(0, 4), (2, 1)]).expect("a phrase");
        assert!(reported.contains("5 records of partition 0, 2"), "{reported}");
        assert_eq!(phrase("t", &[]), None);
    }

    #[test]
    fn a_cursor_that_waits_at_one_offset_twice_is_checked_once() {
        let wait = |offset| (CursorName::new("a"), 0, offset);
        let mut waits = Waits::default();
        assert_eq!(waits.seen(&[wait(5)].into()), []);
        assert!(waits.are_some());
        assert_eq!(waits.seen(&[wait(5)].into()), [wait(5)]);
        assert!(!waits.are_some());
        assert_eq!(waits.seen(&[wait(5)].into()), []);
        waits.unanswered(wait(5));
        assert_eq!(waits.seen(&[wait(5)].into()), [wait(5)]);
        assert_eq!(waits.seen(&[wait(6)].into()), []);
        assert_eq!(waits.seen(&[wait(5)].into()), [], "it moved between");
    }
}
