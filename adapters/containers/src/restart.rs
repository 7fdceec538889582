//! Decides what follows the end of a container: a restart after a growing wait, or nothing. Pure.

use std::time::Duration;

use backoff::{Growth, Policy};

use crate::Restart;

/// SOURCES.md: 1 s, doubled up to 5 min.
const WAITS: Policy = Policy {
    retry: u32::MAX,
    growth: Growth::Exponential,
    delay: Duration::from_secs(1),
    max: Duration::from_secs(5 * 60),
    retry_after_max: Duration::ZERO,
};

/// A container that ran this long was healthy: the next wait is the first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10 * 60);

/// The end of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// `None`: the container was removed.
    pub(crate) code: Option<i64>,
    pub(crate) ran: Duration,
}

/// The next step after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    StartAfter(Duration),
    /// It did what it was to do.
    Completed,
    /// It failed and is not to be started again.
    Failed,
}

/// How often the container ended recently.
#[derive(Debug, Default)]
pub(crate) struct History {
    in_a_row: u32,
    pub(crate) restarts: u64,
    /// Its last run ended, and the current one is young.
    pub(crate) is_crashing: bool,
}

impl History {
    pub(crate) fn ended(&mut self, policy: Restart, exit: Exit) -> Next {
        let over = match (policy, exit.code) {
            (Restart::OnFailure | Restart::Never, Some(0)) => Some(Next::Completed),
            (Restart::Never, Some(_)) => Some(Next::Failed),
            // The exit code of a removed container is unknown, so it is created again.
            (Restart::Always | Restart::OnFailure, _) | (Restart::Never, None) => None,
        };
        if let Some(over) = over {
            return over;
        }
        if exit.ran >= HEALTHY_AFTER {
            self.in_a_row = 0;
        }
        self.restarts += 1;
        self.is_crashing = true;
        Next::StartAfter(self.again())
    }

    /// The wait after a container that could not be made or started at all.
    pub(crate) fn again(&mut self) -> Duration {
        self.in_a_row = self.in_a_row.saturating_add(1);
        // No jitter: one container needs no spreading, and a person can follow the waits.
        WAITS.wait(self.in_a_row, None, 1.0).unwrap_or(WAITS.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i64, ran_secs: u64) -> Exit {
        Exit {
            code: Some(code),
            ran: Duration::from_secs(ran_secs),
        }
    }

    #[test]
    fn waits_double_from_1_s_to_5_min_and_begin_again_after_10_min_of_health() {
        let mut history = History::default();
        let mut waits = Vec::new();
        for _ in 0..11 {
            match history.ended(Restart::Always, exit(1, 3)) {
                Next::StartAfter(wait) => waits.push(wait.as_secs()),
                over => panic!("{over:?}"),
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let again = history.ended(Restart::Always, exit(1, 599));
        assert_eq!(again, Next::StartAfter(Duration::from_secs(300)));
        let healthy = history.ended(Restart::Always, exit(1, 600));
        assert_eq!(healthy, Next::StartAfter(Duration::from_secs(1)));
        assert_eq!(history.restarts, 13);
    }

    #[test]
    fn the_policy_says_which_end_is_the_last() {
        let gone = Exit {
            code: None,
            ran: Duration::ZERO,
        };
        let first = Next::StartAfter(Duration::from_secs(1));
        for (policy, exit, next) in [
            (Restart::Always, exit(0, 1), first),
            (Restart::Always, exit(1, 1), first),
            (Restart::Always, gone, first),
            (Restart::OnFailure, exit(0, 1), Next::Completed),
            (Restart::OnFailure, exit(137, 1), first),
            (Restart::Never, exit(0, 1), Next::Completed),
            (Restart::Never, exit(2, 1), Next::Failed),
            (Restart::Never, gone, first),
        ] {
            assert_eq!(History::default().ended(policy, exit), next, "{policy:?} {exit:?}");
        }
    }
}
