//! The breaker of one subscription: when its sink is plainly down, no further event is started (CONTRACT DL-8).
//!
//! Ten different events in a row that failed with no answer, 5xx or 429 open it. While it is open one event at a time is
//! started as a probe, on its own retry budget; events started before go on as their schedules say. The first success
//! closes it. It never touches the attempts or waits of an event: it only answers "may another one start?".

use channel::Offset;

/// CONTRACT DL-8.
const FAILING_EVENTS_TO_OPEN: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// Different events that failed since the last success or other answer; at most `FAILING_EVENTS_TO_OPEN`.
    failing: Vec<Offset>,
    open: bool,
    probe: Option<Offset>,
}

/// Whether an event that was never started may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Start,
    /// Start it and nothing else until it ends.
    Probe,
    Wait,
}

impl Breaker {
    pub(crate) fn permission(&self) -> Permission {
        match (self.open, self.probe) {
            (false, _) => Permission::Start,
            (true, None) => Permission::Probe,
            (true, Some(_)) => Permission::Wait,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Nothing to forget on a success: the usual case, asked before anything is locked for writing.
    pub(crate) fn is_calm(&self) -> bool {
        !self.open && self.failing.is_empty()
    }

    /// `offset` was started on a `Permission::Probe`.
    pub(crate) fn probing(&mut self, offset: Offset) {
        self.probe = Some(offset);
    }

    /// A try failed the way a sink that is down fails. True when this one opened the breaker.
    pub(crate) fn failed(&mut self, offset: Offset) -> bool {
        if self.open || self.failing.contains(&offset) {
            return false;
        }
        self.failing.push(offset);
        self.open = self.failing.len() >= FAILING_EVENTS_TO_OPEN;
        self.open
    }

    /// The sink answered, though not with a success: the row is broken, an open breaker stays open.
    pub(crate) fn answered(&mut self) {
        if !self.open {
            self.failing.clear();
        }
    }

    /// True when this success closed it.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.failing.clear();
        self.probe = None;
        std::mem::take(&mut self.open)
    }

    /// The event's journey ended, however: if it was the probe, the next one may probe.
    pub(crate) fn ended(&mut self, offset: Offset) {
        if self.probe == Some(offset) {
            self.probe = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for n in 0..10 {
            assert_eq!(breaker.permission(), Permission::Start);
            assert_eq!(breaker.failed(Offset(n)), n == 9);
        }
        breaker
    }

    /// Proves: DL-8
    #[test]
    fn ten_different_events_in_a_row_open_it_and_one_probes_at_a_time() {
        let mut breaker = opened();
        assert_eq!(breaker.permission(), Permission::Probe);
        breaker.probing(Offset(10));
        assert_eq!(breaker.permission(), Permission::Wait);
        breaker.failed(Offset(10));
        assert_eq!(
            breaker.permission(),
            Permission::Wait,
            "the probe is still on its own retry budget"
        );
        breaker.ended(Offset(3));
        assert_eq!(
            breaker.permission(),
            Permission::Wait,
            "another event's end is not the probe's"
        );
        breaker.ended(Offset(10));
        assert_eq!(breaker.permission(), Permission::Probe);
    }

    /// Proves: DL-8
    #[test]
    fn the_same_event_failing_ten_times_does_not_open_it() {
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed(Offset(1));
        }
        assert_eq!(breaker.permission(), Permission::Start);
    }

    /// Proves: DL-8
    #[test]
    fn the_first_success_closes_it() {
        let mut breaker = opened();
        assert!(breaker.succeeded());
        assert_eq!(breaker.permission(), Permission::Start);
        assert!(breaker.is_calm());
        assert!(!breaker.succeeded(), "closing happens once");
    }

    /// Proves: DL-8
    #[test]
    fn an_answer_breaks_the_row_but_does_not_close_an_open_breaker() {
        let mut breaker = Breaker::default();
        for n in 0..9 {
            breaker.failed(Offset(n));
        }
        breaker.answered();
        assert!(!breaker.failed(Offset(9)));
        let mut breaker = opened();
        breaker.answered();
        assert!(breaker.is_open());
    }
}
