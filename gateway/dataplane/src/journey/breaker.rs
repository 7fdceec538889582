//! The breaker of one subscription: it bounds how many further events are started while the sink takes none (CONTRACT DL-8).
//!
//! It judges by the last ten different events in a row that were not taken:
//!
//! | of those ten | the sink is | events that may start |
//! |--|--|--|
//! | one or more failed in a way that is retried (no answer, 404, 408, 425, 429, 5xx) | failing | one at a time, as a probe, on its own retry budget |
//! | all were refused for good (400, 401, 403, ...) | rejecting | ten a second: each of them becomes a dead letter at once |
//!
//! One event that is taken makes the sink healthy again. Any other answer ends a row that is not complete. The breaker never
//! touches the attempts or waits of an event that was started: it only answers "may another one start?". Pure: the caller
//! says what time it is.

use std::{collections::VecDeque, time::Duration};

use channel::Offset;
use tokio::time::Instant;

/// CONTRACT DL-8: so many different events in a row that were not taken.
const ROW: usize = 10;

/// CONTRACT DL-8: ten starts a second while every event is refused for good. Evenly spaced, so that no second has more.
const REJECTED_START_INTERVAL: Duration = Duration::from_millis(100);

/// How an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// No answer, or one that says "later": it is tried again.
    Failed,
    /// No other try will help.
    Refused,
}

/// The sink's health, judged by the last events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    #[default]
    Healthy,
    Failing,
    Rejecting,
}

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    health: Health,
    /// The last different events that were not taken, newest last; at most [`ROW`].
    row: VecDeque<(Offset, NotTaken)>,
    probe: Option<Probe>,
    /// Probes so far.
    probes: u64,
    /// When the next event may start, while events are refused.
    next_start: Option<Instant>,
}

/// The one event in flight that shows whether the sink is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe(u64);

/// Whether an event that was never started may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// As many as there are slots for.
    Start,
    /// One.
    StartOne,
    /// Not before the probe ends.
    Wait,
    /// Not before this time.
    WaitUntil(Instant),
}

impl Breaker {
    pub(crate) fn permission(&self, now: Instant) -> Permission {
        if self.health == Health::Healthy {
            return Permission::Start;
        }
        if self.probe.is_some() {
            return Permission::Wait;
        }
        // A probe that is refused ends at once: without a pace the next ones would become letters as fast as they are sent.
        let is_refused = matches!(self.row.back(), Some((_, NotTaken::Refused)));
        match self.next_start {
            Some(at) if at > now && is_refused => Permission::WaitUntil(at),
            _ => Permission::StartOne,
        }
    }

    /// An event was started on a permission. `Some`: it is the probe, whose end is to be reported.
    pub(crate) fn started(&mut self, now: Instant) -> Option<Probe> {
        if self.health == Health::Healthy {
            return None;
        }
        self.next_start = Some(now + REJECTED_START_INTERVAL);
        if self.health == Health::Rejecting {
            return None;
        }
        self.probes += 1;
        self.probe = Some(Probe(self.probes));
        self.probe
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Whether a success changes nothing: the sink is healthy and no failure is remembered.
    pub(crate) fn is_calm(&self) -> bool {
        self.health == Health::Healthy && self.row.is_empty()
    }

    /// An attempt of the event failed. Returns the sink's health when it changed.
    pub(crate) fn not_taken(&mut self, event: Offset, how: NotTaken) -> Option<Health> {
        match self.row.iter_mut().find(|(known, _)| *known == event) {
            // An event that failed and then was refused is one that failed.
            Some((_, known)) if how == NotTaken::Failed => *known = how,
            Some(_) => {}
            None => {
                if self.row.len() == ROW {
                    self.row.pop_front();
                }
                self.row.push_back((event, how));
            }
        }
        if self.row.len() < ROW {
            return None;
        }
        let has_failed = self.row.iter().any(|(_, how)| *how == NotTaken::Failed);
        let health = if has_failed { Health::Failing } else { Health::Rejecting };
        if std::mem::replace(&mut self.health, health) == health {
            return None;
        }
        self.probe = None;
        Some(health)
    }

    /// The sink gave another answer that is no success: an incomplete row ends, the health stays.
    pub(crate) fn answered(&mut self) {
        if self.health == Health::Healthy {
            self.row.clear();
        }
    }

    /// The sink took an event. True when it was not healthy before.
    pub(crate) fn taken(&mut self) -> bool {
        self.row.clear();
        (self.probe, self.next_start) = (None, None);
        std::mem::take(&mut self.health) != Health::Healthy
    }

    /// The probe's journey ended, however: the next event may probe.
    pub(crate) fn ended(&mut self, probe: Probe) {
        if self.probe == Some(probe) {
            self.probe = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(results: &[NotTaken]) -> Breaker {
        let mut breaker = Breaker::default();
        for (n, how) in (0..).zip(results) {
            breaker.not_taken(Offset(n), *how);
        }
        breaker
    }

    /// Proves: DL-8
    #[test]
    fn ten_different_events_in_a_row_decide_what_the_sink_is() {
        use NotTaken::{Failed, Refused};
        let mut one_failed = [Refused; 10];
        one_failed[4] = Failed;
        let mut last_failed = [Refused; 10];
        last_failed[9] = Failed;
        let cases: [(&[NotTaken], Health); 8] = [
            (&[], Health::Healthy),
            (&[Failed; 9], Health::Healthy),
            (&[Failed; 10], Health::Failing),
            (&[Refused; 9], Health::Healthy),
            (&[Refused; 10], Health::Rejecting),
            (&one_failed, Health::Failing),
            (&last_failed, Health::Failing),
            (&[[Failed; 10], [Refused; 10]].concat(), Health::Rejecting),
        ];
        for (results, expected) in cases {
            assert_eq!(after(results).health(), expected, "{results:?}");
        }
    }

    /// Proves: DL-8
    #[test]
    fn a_change_of_health_is_reported_once() {
        let mut breaker = after(&[NotTaken::Refused; 9]);
        let mut report = |n, how| breaker.not_taken(Offset(n), how);
        assert_eq!(report(9, NotTaken::Refused), Some(Health::Rejecting));
        assert_eq!(report(10, NotTaken::Refused), None);
        assert_eq!(report(11, NotTaken::Failed), Some(Health::Failing));
        assert_eq!(report(12, NotTaken::Failed), None);
        assert!(breaker.taken());
        assert!(!breaker.taken());
    }

    /// Proves: DL-8
    #[test]
    fn while_the_sink_fails_one_event_probes_at_a_time() {
        let now = Instant::now();
        let mut breaker = after(&[NotTaken::Failed; 10]);
        assert_eq!(breaker.permission(now), Permission::StartOne);
        let Some(probe) = breaker.started(now) else {
            panic!("it is the probe")
        };
        breaker.not_taken(Offset(10), NotTaken::Failed);
        assert_eq!(
            breaker.permission(now),
            Permission::Wait,
            "the probe is still on its own retry budget"
        );
        breaker.ended(Probe(77));
        assert_eq!(
            breaker.permission(now),
            Permission::Wait,
            "another event's end is not the probe's"
        );
        breaker.ended(probe);
        assert_eq!(breaker.permission(now), Permission::StartOne);
    }

    /// Proves: DL-8
    #[test]
    fn while_the_sink_rejects_ten_events_start_a_second() {
        let began = Instant::now();
        let mut breaker = after(&[NotTaken::Refused; 10]);
        let mut started = 0;
        for ms in 0..1000 {
            let now = began + Duration::from_millis(ms);
            if breaker.permission(now) == Permission::StartOne {
                assert_eq!(breaker.started(now), None, "no probe: ten may be in flight");
                breaker.not_taken(Offset(100 + ms), NotTaken::Refused);
                started += 1;
            }
        }
        assert_eq!(started, 10);
    }

    /// Proves: DL-8
    #[test]
    fn probes_that_are_refused_are_paced_too() {
        let now = Instant::now();
        let mut breaker = after(&[NotTaken::Failed; 10]);
        let probe = breaker.started(now);
        breaker.not_taken(Offset(10), NotTaken::Refused);
        probe.into_iter().for_each(|probe| breaker.ended(probe));
        assert_eq!(
            breaker.permission(now),
            Permission::WaitUntil(now + REJECTED_START_INTERVAL)
        );
    }

    /// Proves: DL-8
    #[test]
    fn the_same_event_failing_ten_times_does_not_open_it() {
        for how in [NotTaken::Failed, NotTaken::Refused] {
            let mut breaker = Breaker::default();
            for _ in 0..20 {
                breaker.not_taken(Offset(1), how);
            }
            assert_eq!(breaker.permission(Instant::now()), Permission::Start);
        }
    }

    /// Proves: DL-8
    #[test]
    fn the_first_event_that_is_taken_closes_it() {
        for how in [NotTaken::Failed, NotTaken::Refused] {
            let mut breaker = after(&[how; 10]);
            breaker.started(Instant::now());
            assert!(breaker.taken());
            assert_eq!(breaker.permission(Instant::now()), Permission::Start);
            assert!(breaker.is_calm());
        }
    }

    /// Proves: DL-8
    #[test]
    fn another_answer_ends_an_incomplete_row_and_nothing_else() {
        let mut breaker = after(&[NotTaken::Failed; 9]);
        breaker.answered();
        assert_eq!(breaker.not_taken(Offset(9), NotTaken::Failed), None);
        assert!(!breaker.is_calm());
        let mut breaker = after(&[NotTaken::Failed; 10]);
        breaker.answered();
        assert_eq!(breaker.health(), Health::Failing);
    }
}
