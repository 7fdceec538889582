//! Retry schedules as pure values: how long to wait after the n-th failure (CONTRACT DL-3).
//!
//! No clock and no randomness of its own: the caller says how many tries failed and draws the jitter, so that a schedule can
//! go on after a restart and a test can read it as a table.

#![warn(missing_docs)]

use std::time::{Duration, SystemTime};

/// How the delay grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The same delay each time (v0.2's `linear`).
    Linear,
    /// delay x 2^n, n from 0.
    Exponential,
}

/// `delivery.retry`, `backoffPolicy`, `backoffDelay`, `backoffMax`, `retryAfterMax`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts after the first.
    pub retry: u32,
    /// How the delay grows.
    pub growth: Growth,
    /// The delay that it grows from.
    pub delay: Duration,
    /// The longest delay.
    pub max: Duration,
    /// Cap on what a sink asks for with `Retry-After`.
    pub retry_after_max: Duration,
}

impl Default for Policy {
    /// The defaults of API.md 2.4.
    fn default() -> Self {
        Self {
            retry: 24,
            growth: Growth::Exponential,
            delay: Duration::from_millis(200),
            max: Duration::from_secs(600),
            retry_after_max: Duration::from_secs(300),
        }
    }
}

/// From this attempt on exponential waits do not grow: 2^31 times any delay is beyond every `max` that is worth waiting for.
const GROWING_MAX: u32 = 32;

impl Policy {
    /// How long to wait after `failed` failed attempts (1 or more), or `None` when no attempt is left. `jitter` in 0..1 picks
    /// a point of the upper half of the delay; `retry_after` raises the wait, up to `retry_after_max`.
    pub fn wait(&self, failed: u32, retry_after: Option<Duration>, jitter: f64) -> Option<Duration> {
        if failed > self.retry {
            return None;
        }
        let delay = match self.growth {
            Growth::Linear => self.delay,
            Growth::Exponential => {
                let doublings = failed.saturating_sub(1).min(GROWING_MAX - 1);
                self.delay.saturating_mul(2_u32.saturating_pow(doublings))
            }
        };
        let delay = delay.min(self.max);
        let jittered = delay / 2 + (delay / 2).mul_f64(jitter.clamp(0.0, 1.0));
        let asked = retry_after.unwrap_or_default().min(self.retry_after_max);
        Some(jittered.max(asked))
    }

    /// How long the waits between all attempts take together, with the same `jitter` in each: 0.0 gives the shortest time until an
    /// event is a dead letter, 0.5 the average, 1.0 the longest. The attempts themselves and `Retry-After` come on top.
    pub fn horizon(&self, jitter: f64) -> Duration {
        let growing = self.retry.min(GROWING_MAX);
        let waits = (1..=growing).filter_map(|failed| self.wait(failed, None, jitter));
        let sum = waits.fold(Duration::ZERO, Duration::saturating_add);
        let last = self.wait(growing, None, jitter).unwrap_or_default();
        sum.saturating_add(last.saturating_mul(self.retry - growing))
    }
}

/// Parses a `Retry-After` value: seconds, or an HTTP date relative to `now` (RFC 9110, section 10.2.3). A date that has
/// passed is zero.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean "very long", which the cap cuts.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_JITTER: f64 = 1.0;

    fn waits(policy: &Policy, jitter: f64) -> Vec<u64> {
        (1..)
            .map_while(|failed| policy.wait(failed, None, jitter))
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
            .collect()
    }

    /// Proves: DL-3
    #[test]
    fn the_default_doubles_from_200_ms_up_to_ten_minutes_24_times() {
        let doubling = [
            200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600,
        ];
        assert_eq!(waits(&Policy::default(), NO_JITTER), [doubling, [600_000; 12]].concat());
    }

    /// docs/delivery.md states these numbers.
    ///
    /// Proves: DL-3
    #[test]
    fn the_default_horizon_is_about_two_hours() {
        let horizon = |jitter| Policy::default().horizon(jitter).as_millis();
        assert_eq!(horizon(0.0), 4_009_500, "1 h 6 min 49.5 s at least");
        assert_eq!(horizon(0.5), 6_014_250, "1 h 40 min 14 s on average");
        assert_eq!(horizon(1.0), 8_019_000, "2 h 13 min 39 s at most");
    }

    #[test]
    fn the_horizon_is_the_sum_of_all_waits() {
        let second = Duration::from_secs(1);
        let policy = |growth, retry| Policy {
            growth,
            retry,
            delay: second,
            max: 4 * second,
            ..Policy::default()
        };
        let horizon = |growth, retry| policy(growth, retry).horizon(NO_JITTER).as_secs();
        assert_eq!(horizon(Growth::Exponential, 0), 0);
        assert_eq!(horizon(Growth::Exponential, 4), 1 + 2 + 4 + 4);
        assert_eq!(horizon(Growth::Exponential, 100), 1 + 2 + 98 * 4);
        assert_eq!(horizon(Growth::Linear, 100), 100);
    }

    /// Proves: DL-3
    #[test]
    fn linear_is_the_same_delay_each_time() {
        let policy = Policy {
            growth: Growth::Linear,
            retry: 3,
            ..Policy::default()
        };
        assert_eq!(waits(&policy, NO_JITTER), [200, 200, 200]);
    }

    /// Proves: DL-3
    #[test]
    fn jitter_picks_in_the_upper_half() {
        assert_eq!(waits(&Policy::default(), 0.0)[0], 100);
        assert_eq!(waits(&Policy::default(), 0.5)[0], 150);
    }

    /// Proves: DL-3
    #[test]
    fn retry_after_raises_the_wait_up_to_its_cap_and_never_lowers_it() {
        let policy = Policy {
            max: Duration::from_secs(60),
            ..Policy::default()
        };
        let wait = |asked| {
            policy
                .wait(10, Some(Duration::from_secs(asked)), NO_JITTER)
                .map(|wait| wait.as_secs())
        };
        assert_eq!((wait(1), wait(90), wait(10_000)), (Some(60), Some(90), Some(300)));
        assert_eq!(
            policy.wait(25, Some(Duration::from_secs(1)), NO_JITTER),
            None,
            "asking for a wait is no further attempt"
        );
    }

    #[test]
    fn no_setting_overflows() {
        let policy = Policy {
            retry: u32::MAX,
            delay: Duration::MAX,
            max: Duration::MAX,
            ..Policy::default()
        };
        assert!(policy.wait(u32::MAX, Some(Duration::MAX), 0.3).is_some());
        assert!(policy.horizon(1.0) > Duration::from_secs(1));
        assert_eq!(Policy { retry: 0, ..policy }.wait(1, None, 0.0), None);
    }

    /// Proves: DL-3
    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap_or(SystemTime::UNIX_EPOCH);
        let parsed = |value| parse_retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(parsed(" 120 "), Some(120));
        assert_eq!(parsed("Sun, 06 Nov 1994 08:49:57 GMT"), Some(20));
        assert_eq!(parsed("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!((parsed("soon"), parsed("-1"), parsed("")), (None, None, None));
        assert_eq!(parsed("99999999999999999999999"), Some(u64::MAX));
    }
}
