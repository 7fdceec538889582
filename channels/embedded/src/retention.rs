//! Decides which segments are deleted, as a pure function.
//!
//! Segments that every cursor settled are kept for replay as long as retention allows, then deleted whole. Unsettled
//! segments are deleted only if the user set a limit, and the gap is reported.

use std::ops::Range;

use crate::Settings;

/// Retention settings in the units of the decision.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) age_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) limit_age_ms: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
}

impl Limits {
    pub(crate) fn of(settings: &Settings) -> Self {
        let ms = |age: std::time::Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self {
            age_ms: ms(settings.retention_age),
            bytes: settings.retention_bytes,
            limit_age_ms: settings.limit_age.map(ms),
            limit_bytes: settings.limit_bytes,
        }
    }
}

/// A sealed segment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) base: u64,
    /// The offset after its last record.
    pub(crate) end: u64,
    pub(crate) bytes: u64,
    /// When its last event was stored, or a little later; `None` if unknown, then it has no age.
    pub(crate) last_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many of the oldest segments are deleted.
    pub(crate) delete: usize,
    /// Offsets among them that some cursor had not settled.
    pub(crate) dropped: Option<Range<u64>>,
}

/// Decides over sealed segments, oldest first. Every cursor has settled everything below `low`.
pub(crate) fn judge(segments: &[View], active_bytes: u64, low: u64, now_ms: u64, limits: &Limits) -> Verdict {
    let older_than = |view: &View, age: u64| view.last_ms.is_some_and(|last| last.saturating_add(age) <= now_ms);
    let mut left = active_bytes + segments.iter().map(|view| view.bytes).sum::<u64>();
    let mut unsettled = active_bytes
        + segments
            .iter()
            .filter(|view| view.end > low)
            .map(|view| view.bytes)
            .sum::<u64>();
    let mut verdict = Verdict::default();
    for view in segments {
        let settled = view.end <= low;
        let done = settled && (older_than(view, limits.age_ms) || left > limits.bytes);
        let over = !settled
            && (limits.limit_age_ms.is_some_and(|age| older_than(view, age))
                || limits.limit_bytes.is_some_and(|bytes| unsettled > bytes));
        if !done && !over {
            break;
        }
        if over {
            unsettled -= view.bytes;
            let from = verdict
                .dropped
                .as_ref()
                .map_or(view.base.max(low), |dropped| dropped.start);
            verdict.dropped = Some(from..view.end);
        }
        left -= view.bytes;
        verdict.delete += 1;
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of ten offsets and 100 bytes each; the last event of segment `i` is stored at `1000 * i`.
    fn segments(count: u64) -> Vec<View> {
        (0..count)
            .map(|i| View {
                base: i * 10,
                end: i * 10 + 10,
                bytes: 100,
                last_ms: Some(i * 1000),
            })
            .collect()
    }

    fn limits() -> Limits {
        Limits {
            age_ms: 5000,
            bytes: 1_000_000,
            limit_age_ms: None,
            limit_bytes: None,
        }
    }

    /// Proves: CH-9
    #[test]
    fn what_is_unsettled_stays_however_old_and_large() {
        let tight = Limits {
            age_ms: 0,
            bytes: 0,
            ..limits()
        };
        assert_eq!(judge(&segments(5), 100, 0, u64::MAX, &tight), Verdict::default());
        assert_eq!(
            judge(&segments(5), 100, 25, u64::MAX, &tight),
            Verdict {
                delete: 2,
                dropped: None
            }
        );
    }

    /// Proves: CH-7
    #[test]
    fn what_is_settled_stays_until_it_is_old_or_there_is_too_much() {
        assert_eq!(judge(&segments(5), 100, 50, 6000, &limits()).delete, 2);
        let small = Limits { bytes: 300, ..limits() };
        assert_eq!(judge(&segments(5), 100, 50, 0, &small).delete, 3);
    }

    /// Proves: CH-9
    #[test]
    fn a_limit_drops_what_is_unsettled_and_says_which_places() {
        let by_bytes = Limits {
            limit_bytes: Some(350),
            ..limits()
        };
        assert_eq!(
            judge(&segments(5), 100, 3, 0, &by_bytes),
            Verdict {
                delete: 3,
                dropped: Some(3..30)
            }
        );
        let by_age = Limits {
            limit_age_ms: Some(1000),
            ..limits()
        };
        assert_eq!(
            judge(&segments(5), 100, 12, 2000, &by_age),
            Verdict::default(),
            "the oldest is settled and young"
        );
        assert_eq!(
            judge(&segments(5), 100, 3, 2000, &by_age),
            Verdict {
                delete: 2,
                dropped: Some(3..20)
            }
        );
    }

    #[test]
    fn a_segment_of_unknown_age_has_none() {
        let mut unknown = segments(2);
        unknown[0].last_ms = None;
        assert_eq!(judge(&unknown, 0, 20, u64::MAX, &limits()).delete, 0);
    }
}
