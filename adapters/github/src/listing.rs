//! Finds missing deliveries: takes attempts, newest first as GitHub lists them, and returns those that are missing, oldest
//! first. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use crate::{api::Attempt, delivered::DeliveredIds};

/// A list is read back to this long before where the last one ended: an attempt is listed when it is over (10 s at most),
/// and GitHub's lists are a copy that may lag.
const OVERLAP: Duration = Duration::from_secs(10 * 60);

/// Held at once, about 15 MB. When more are missing the oldest come first; the next list finds the others.
const MISSING_MAX: usize = 50_000;

/// A delivery that is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) at: Timestamp,
    pub(crate) attempt: u64,
    pub(crate) guid: String,
    pub(crate) event: String,
}

pub(crate) struct Listing<'a> {
    /// Whether an event of this name is wanted.
    takes: &'a (dyn Fn(&str) -> bool + Sync),
    /// Whether every delivery that is not stored is missing, even if it was answered.
    is_polling: bool,
    until: Option<Timestamp>,
    /// Delivered after an attempt that failed: those come later in the list.
    good: HashSet<String>,
    missing: HashMap<String, Missing>,
    /// By age.
    order: BTreeMap<(Timestamp, u64), String>,
    max: usize,
    /// From here on some were left for the next time.
    left_from: Option<Timestamp>,
}

impl<'a> Listing<'a> {
    /// Everything before `through` is done with.
    pub(crate) fn new(takes: &'a (dyn Fn(&str) -> bool + Sync), is_polling: bool, through: Option<Timestamp>) -> Self {
        Self {
            takes,
            is_polling,
            until: through.map(|through| through.saturating_sub(OVERLAP).unwrap_or(Timestamp::MIN)),
            good: HashSet::new(),
            missing: HashMap::new(),
            order: BTreeMap::new(),
            max: MISSING_MAX,
            left_from: None,
        }
    }

    /// Takes a page. False when what is older is done with.
    pub(crate) fn page(&mut self, attempts: Vec<Attempt>, delivered_ids: &DeliveredIds) -> bool {
        for attempt in attempts {
            if self.until.is_some_and(|until| attempt.delivered_at < until) {
                return false;
            }
            self.attempt(attempt, delivered_ids);
        }
        true
    }

    fn attempt(&mut self, attempt: Attempt, delivered_ids: &DeliveredIds) {
        if attempt.is_pending() && !self.is_polling {
            // The next list, which overlaps, knows how it ended.
            return;
        }
        if attempt.is_good() && !self.is_polling {
            self.delete(&attempt.guid);
            if attempt.redelivery {
                self.good.insert(attempt.guid);
            }
            return;
        }
        let is_relevant = attempt.event != "ping" && (self.takes)(&attempt.event);
        if !is_relevant || self.good.contains(&attempt.guid) || delivered_ids.contains(&attempt.guid) {
            return;
        }
        // The first of several attempts counts: it has the time of the event.
        self.delete(&attempt.guid);
        let position = (attempt.delivered_at, attempt.id);
        self.order.insert(position, attempt.guid.clone());
        let missing = Missing {
            at: attempt.delivered_at,
            attempt: attempt.id,
            guid: attempt.guid,
            event: attempt.event,
        };
        self.missing.insert(missing.guid.clone(), missing);
        if self.order.len() > self.max
            && let Some(((at, _), guid)) = self.order.pop_last()
        {
            self.missing.remove(&guid);
            self.left_from = Some(self.left_from.map_or(at, |from| from.min(at)));
        }
    }

    fn delete(&mut self, guid: &str) {
        if let Some(known) = self.missing.remove(guid) {
            self.order.remove(&(known.at, known.attempt));
        }
    }

    /// Returns the missing deliveries, oldest first, and the time from which more may be missing.
    pub(crate) fn finish(mut self) -> (Vec<Missing>, Option<Timestamp>) {
        let guids = self.order.values();
        let missing = guids.filter_map(|guid| self.missing.remove(guid)).collect();
        (missing, self.left_from)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn attempt(second: i64, guid: &str, status_code: u16) -> Attempt {
        Attempt {
            id: u64::try_from(second).unwrap(),
            guid: guid.into(),
            delivered_at: at(second),
            redelivery: false,
            status_code: Some(status_code),
            status: None,
            event: "push".into(),
        }
    }

    fn again(attempt: Attempt) -> Attempt {
        Attempt {
            redelivery: true,
            ..attempt
        }
    }

    fn guids(listing: Listing<'_>) -> Vec<String> {
        let (missing, _) = listing.finish();
        missing.into_iter().map(|missing| missing.guid).collect()
    }

    /// Proves: SR-1
    #[test]
    fn only_what_no_attempt_delivered_is_missing_and_the_oldest_comes_first() {
        let mut delivered_ids = DeliveredIds::default();
        delivered_ids.settled("answer-lost");
        let takes = |event: &str| event == "push";
        let page = vec![
            again(attempt(90, "healed", 202)),
            again(attempt(80, "good-then-failed", 500)),
            Attempt {
                status: Some("pending".into()),
                ..attempt(75, "under way", 0)
            },
            attempt(70, "down", 0),
            Attempt {
                event: "star".into(),
                ..attempt(60, "unwanted", 503)
            },
            Attempt {
                event: "ping".into(),
                ..attempt(59, "ping", 503)
            },
            attempt(50, "good", 200),
            attempt(40, "answer-lost", 504),
            again(attempt(35, "twice", 503)),
            attempt(30, "healed", 503),
            attempt(20, "good-then-failed", 202),
            attempt(10, "twice", 503),
        ];
        let mut listing = Listing::new(&takes, false, None);
        assert!(listing.page(page.clone(), &delivered_ids));
        assert_eq!(guids(listing), ["twice", "down"]);
        let mut polled = Listing::new(&takes, true, None);
        assert!(polled.page(page, &delivered_ids));
        assert_eq!(
            guids(polled),
            ["twice", "good-then-failed", "healed", "good", "down", "under way"]
        );
    }

    #[test]
    fn a_list_is_read_back_to_what_is_done_with_and_a_little_further() {
        let all = |_: &str| true;
        let through = at(10_000);
        let mut listing = Listing::new(&all, false, Some(through));
        let page = vec![
            attempt(10_001, "new", 0),
            attempt(9_500, "late", 0),
            attempt(9_300, "old", 0),
        ];
        assert!(!listing.page(page, &DeliveredIds::default()));
        assert_eq!(guids(listing), ["late", "new"]);
    }

    /// Proves: SR-5
    #[test]
    fn more_than_can_be_held_is_left_for_the_next_time_newest_first() {
        let all = |_: &str| true;
        let mut listing = Listing::new(&all, false, None);
        listing.max = 2;
        let page = (1..=5).rev().map(|n| attempt(n, &n.to_string(), 0)).collect();
        assert!(listing.page(page, &DeliveredIds::default()));
        let (missing, left_from) = listing.finish();
        assert_eq!(missing.len(), 2);
        assert_eq!(missing[1].guid, "2");
        assert_eq!(left_from, Some(at(3)));
    }
}
