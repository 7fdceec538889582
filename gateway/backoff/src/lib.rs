//! Retry schedules as pure values: how long to wait after the n-th failure (CONTRACT DL-3).
//!
//! No clock and no randomness of its own: the caller says how many tries failed and draws the jitter, so that a schedule can
//! go on after a restart and a test can read it as a table.

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
    pub growth: Growth,
    pub delay: Duration,
    pub max: Duration,
    /// Cap on what a sink asks for with `Retry-After`.
    pub retry_after_max: Duration,
}

impl Default for Policy {
    /// The defaults of API.md 2.4.
    fn default() -> Self {
        Self {
            retry: 10,
            growth: Growth::Exponential,
            delay: Duration::from_millis(200),
            max: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(300),
        }
    }
}

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
                // 2^31 times any delay is beyond every `max` that is worth waiting for.
                self.delay
                    .saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1).min(31)))
            }
        };
        let delay = delay.min(self.max);
        let jittered = delay / 2 + (delay / 2).mul_f64(jitter.clamp(0.0, 1.0));
        let asked = retry_after.unwrap_or_default().min(self.retry_after_max);
        Some(jittered.max(asked))
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
    fn the_default_doubles_from_200_ms_up_to_a_minute_ten_times() {
        let expected = [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000];
        assert_eq!(waits(&Policy::default(), NO_JITTER), expected);
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
        let policy = Policy::default();
        let wait = |asked| {
            policy
                .wait(10, Some(Duration::from_secs(asked)), NO_JITTER)
                .map(|wait| wait.as_secs())
        };
        assert_eq!((wait(1), wait(90), wait(10_000)), (Some(60), Some(90), Some(300)));
        assert_eq!(
            policy.wait(11, Some(Duration::from_secs(1)), NO_JITTER),
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
