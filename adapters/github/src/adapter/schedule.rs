//! When a thing is done next: on schedule, or sooner after a failure, and never before GitHub allows.

use std::time::Duration;

use backoff::{Growth, Policy};
use tokio::time::Instant;

use crate::api::ApiError;

/// Waits after failures, from a second to a minute: a person who restored a token wants to see it
/// work, and one request a minute costs nothing.
const RETRY: Policy = Policy {
    retry: u32::MAX,
    growth: Growth::Exponential,
    delay: Duration::from_secs(1),
    max: Duration::from_secs(60),
    retry_after_max: Duration::from_secs(65 * 60),
};

/// When a thing is done next.
pub(super) struct Schedule {
    every: Option<Duration>,
    /// `None`: never again.
    pub(super) due: Option<Instant>,
    pub(super) failures: u32,
}

impl Schedule {
    pub(super) fn new(every: Option<Duration>) -> Self {
        Self {
            every,
            due: every.map(|_| Instant::now()),
            failures: 0,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    pub(super) fn at_once(&mut self) {
        self.due = self.due.map(|_| Instant::now());
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.due = self.every.map(|every| Instant::now() + every);
    }

    pub(super) fn failed(&mut self, error: &ApiError, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        let wait = RETRY
            .wait(self.failures, error.retry_after, jitter)
            .unwrap_or(RETRY.max);
        self.due = Some(Instant::now() + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(600);

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_soon_then_every_minute_and_never_before_github_allows() {
        let mut schedule = Schedule::new(Some(EVERY));
        assert!(schedule.is_due());
        let mut waits = Vec::new();
        for _ in 0..8 {
            schedule.failed(&ApiError::setting(&"no"), 1.0);
            waits.push(schedule.due.map(|due| (due - Instant::now()).as_secs()));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60].map(Some));
        let limited = ApiError {
            retry_after: Some(Duration::from_secs(1800)),
            ..ApiError::setting(&"no")
        };
        schedule.failed(&limited, 1.0);
        tokio::time::advance(Duration::from_secs(1799)).await;
        assert!(!schedule.is_due());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(schedule.is_due());
        schedule.succeeded();
        assert_eq!(schedule.due, Some(Instant::now() + EVERY));
        assert!(!Schedule::new(None).is_due());
    }
}
