//! Settlements arrive in any order; only a prefix may be forgotten. This module turns one into the other.
//!
//! A [`Watermark`] knows a prefix in which everything is settled and, above it, the settled ranges that do not touch
//! it yet. The prefix moves only over offsets that were settled one by one: an open offset holds it back for ever
//! (CONTRACT CH-3, nothing is settled by default).
//!
//! It is pure: no clock, no lock, no I/O. Its memory is one range per gap, so callers bound it by bounding how
//! many offsets are handed out and not settled ([`crate::progress::UNSETTLED_MAX`]).

use std::{collections::BTreeMap, ops::Range};

use crate::Offset;

/// Which offsets of a log are settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// Everything below is settled.
    below: u64,
    /// Settled ranges above `below`, start to end (exclusive): disjoint, not touching each other or `below`.
    above: BTreeMap<u64, u64>,
    /// How many offsets the ranges hold together.
    count: u64,
}

impl Watermark {
    /// Everything below `start` counts as settled, nothing from there on.
    pub fn new(start: Offset) -> Self {
        Self {
            below: start.0,
            above: BTreeMap::new(),
            count: 0,
        }
    }

    /// Everything below this offset is settled; the offset itself is not.
    pub fn settled_below(&self) -> Offset {
        Offset(self.below)
    }

    /// Whether the event at `offset` is settled.
    pub fn is_settled(&self, offset: Offset) -> bool {
        offset.0 < self.below
            || self
                .above
                .range(..=offset.0)
                .next_back()
                .is_some_and(|(_, end)| offset.0 < *end)
    }

    /// Settles one offset; `false` when it was settled already.
    pub fn settle(&mut self, offset: Offset) -> bool {
        // The usual case, settled in order with nothing above, touches no tree.
        if offset.0 == self.below && self.above.is_empty() {
            self.below += 1;
            return true;
        }
        if self.is_settled(offset) {
            return false;
        }
        self.insert(offset.0, offset.0 + 1);
        true
    }

    /// Settles every offset of the range, whether or not some of it was settled before.
    pub fn settle_range(&mut self, offsets: Range<Offset>) {
        let (mut start, mut end) = (offsets.start.0.max(self.below), offsets.end.0);
        if start >= end {
            return;
        }
        // Swallow what overlaps, so that `insert` sees only neighbours that touch.
        if let Some((&before, &reach)) = self.above.range(..start).next_back()
            && reach > start
        {
            self.above.remove(&before);
            self.count -= reach - before;
            (start, end) = (before, end.max(reach));
        }
        while let Some((&inside, &reach)) = self.above.range(start..end).next() {
            self.above.remove(&inside);
            self.count -= reach - inside;
            end = end.max(reach);
        }
        self.insert(start, end);
    }

    /// The settled ranges above [`Self::settled_below`], lowest first: disjoint and not touching.
    pub fn above(&self) -> impl DoubleEndedIterator<Item = Range<Offset>> + '_ {
        self.above.iter().map(|(&start, &end)| Offset(start)..Offset(end))
    }

    /// How many ranges there are: what this costs.
    pub fn ranges(&self) -> usize {
        self.above.len()
    }

    /// One past the highest settled offset.
    pub fn top(&self) -> Offset {
        Offset(self.above.last_key_value().map_or(self.below, |(_, &end)| end))
    }

    /// How many offsets below `end` are not settled. `end` must not lie below [`Self::top`]: callers ask about the end
    /// of the log, which is above everything settled.
    pub fn unsettled(&self, end: Offset) -> u64 {
        end.0.saturating_sub(self.below).saturating_sub(self.count)
    }

    /// The ranges below `end` that are not settled, lowest first.
    pub fn open_ranges(&self, end: Offset) -> Vec<Range<Offset>> {
        let (mut open, mut at) = (Vec::new(), self.below);
        for (&start, &settled) in &self.above {
            open.push(at..start.min(end.0));
            at = settled;
        }
        open.push(at..end.0);
        let open = open.into_iter().filter(|range| range.start < range.end);
        open.map(|range| Offset(range.start)..Offset(range.end)).collect()
    }

    /// The lowest offset at or after `from` that is not settled.
    pub fn next_unsettled(&self, from: Offset) -> Offset {
        let from = from.0.max(self.below);
        match self.above.range(..=from).next_back() {
            Some((_, &end)) if end > from => Offset(end),
            _ => Offset(from),
        }
    }

    /// Adds a range nothing of which is settled, joining the neighbours it touches.
    fn insert(&mut self, start: u64, end: u64) {
        let mut end = end;
        if let Some(reach) = self.above.remove(&end) {
            self.count -= reach - end;
            end = reach;
        }
        if start == self.below {
            self.below = end;
            return;
        }
        self.count += end - start;
        let first = match self.above.range(..start).next_back() {
            Some((&before, &reach)) if reach == start => before,
            _ => start,
        };
        self.above.insert(first, end);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn watermark(start: u64, settled: &[u64]) -> Watermark {
        let mut watermark = Watermark::new(Offset(start));
        for &offset in settled {
            watermark.settle(Offset(offset));
        }
        watermark
    }

    fn above(watermark: &Watermark) -> Vec<(u64, u64)> {
        watermark.above().map(|range| (range.start.0, range.end.0)).collect()
    }

    /// Proves: CH-3
    #[test]
    fn open_ranges_are_what_is_not_settled() {
        let open = |settled: &[u64], end| {
            let ranges = watermark(3, settled).open_ranges(Offset(end));
            ranges
                .into_iter()
                .map(|range| range.start.0..range.end.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(open(&[5, 6, 9], 11), [3..5, 7..9, 10..11]);
        assert_eq!(open(&[5, 6, 9], 8), [3..5, 7..8]);
        assert_eq!(open(&[5], 4), std::slice::from_ref(&(3..4)));
        assert!(open(&[], 3).is_empty() && open(&[5], 0).is_empty());
    }

    #[test]
    fn an_open_offset_holds_the_prefix_back() {
        let mut watermark = watermark(5, &[6, 7, 9]);
        assert_eq!(
            (watermark.settled_below(), above(&watermark)),
            (Offset(5), vec![(6, 8), (9, 10)])
        );
        assert_eq!(watermark.unsettled(Offset(10)), 2);
        assert!(watermark.settle(Offset(5)));
        assert_eq!(
            (watermark.settled_below(), above(&watermark)),
            (Offset(8), vec![(9, 10)])
        );
        assert!(watermark.settle(Offset(8)));
        assert_eq!((watermark.settled_below(), watermark.ranges()), (Offset(10), 0));
    }

    #[test]
    fn settling_twice_changes_nothing() {
        let mut watermark = watermark(0, &[0, 2]);
        let before = watermark.clone();
        assert!(!watermark.settle(Offset(0)) && !watermark.settle(Offset(2)));
        assert_eq!(watermark, before);
    }

    #[test]
    fn the_next_unsettled_offset_skips_settled_ranges() {
        let watermark = watermark(3, &[5, 6]);
        let next = |from| watermark.next_unsettled(Offset(from)).0;
        assert_eq!(
            [next(0), next(3), next(4), next(5), next(6), next(7)],
            [3, 3, 4, 7, 7, 7]
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        One(u64),
        Range(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..64).prop_map(Step::One),
            1 => (0u64..64, 0u64..12).prop_map(|(start, len)| Step::Range(start, start + len)),
        ]
    }

    proptest! {
        /// Against the naive model: a set of settled offsets.
        ///
        /// Proves: CH-3
        #[test]
        fn it_agrees_with_a_set_of_settled_offsets(start in 0u64..8, steps in prop::collection::vec(step(), 0..80)) {
            let mut watermark = Watermark::new(Offset(start));
            let mut model: BTreeSet<u64> = (0..start).collect();
            for step in steps {
                match step {
                    Step::One(offset) => {
                        prop_assert_eq!(watermark.settle(Offset(offset)), model.insert(offset));
                    }
                    Step::Range(from, to) => {
                        watermark.settle_range(Offset(from)..Offset(to));
                        model.extend(from..to);
                    }
                }
                let below = (0..).find(|offset| !model.contains(offset)).unwrap();
                prop_assert_eq!(watermark.settled_below().0, below);
                let listed: BTreeSet<u64> = (0..below).chain(above(&watermark).into_iter().flat_map(|(a, b)| a..b)).collect();
                prop_assert_eq!(&listed, &model);
                prop_assert!(above(&watermark).windows(2).all(|pair| pair[0].1 < pair[1].0));
                for offset in 0..90 {
                    prop_assert_eq!(watermark.is_settled(Offset(offset)), model.contains(&offset));
                    let next = (offset..).find(|offset| !model.contains(offset)).unwrap();
                    prop_assert_eq!(watermark.next_unsettled(Offset(offset)).0, next);
                }
                prop_assert_eq!(watermark.unsettled(Offset(100)), 100 - model.len() as u64);
                prop_assert_eq!(watermark.top().0, model.last().map_or(0, |last| last + 1).max(below));
            }
        }
    }
}
