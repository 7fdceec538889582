//! How much may be sent in a second: a token bucket that holds one second's worth (CONTRACT PU-4).

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use spec::model::Limits;
use tokio::time::Instant;

/// The events and bytes that may still be sent.
pub(super) struct Bucket {
    limits: Limits,
    left: Mutex<Left>,
}

#[derive(Clone, Copy)]
struct Left {
    events: f64,
    bytes: f64,
    at: Instant,
}

/// More than the bucket holds now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exceeded {
    /// The unit of the limit: `events` or `bytes`.
    unit: &'static str,
    needed: u64,
    per_second: u64,
    pub(super) retry_after: Duration,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unit,
            needed,
            per_second,
            ..
        } = self;
        write!(f, "the limit is {per_second} {unit} a second")?;
        if needed > per_second {
            write!(f, ", and this request has {needed}, which never fit: send less at once")?;
        }
        Ok(())
    }
}

impl Bucket {
    /// Begins full.
    pub(super) fn new(limits: Limits) -> Self {
        let full = |limit: Option<u64>| limit.map_or(f64::INFINITY, rate);
        let left = Left {
            events: full(limits.events_per_second.map(u64::from)),
            bytes: full(limits.bytes_per_second),
            at: Instant::now(),
        };
        Self {
            limits,
            left: Mutex::new(left),
        }
    }

    /// # Errors
    /// Not even one event of one byte may be sent now.
    pub(super) fn ensure_room(&self) -> Result<(), Exceeded> {
        self.fits(&self.refilled(*self.left.lock()), 1, 1)
    }

    /// Takes both, or neither.
    ///
    /// # Errors
    /// There is not so much left.
    pub(super) fn take(&self, events: u64, bytes: u64) -> Result<(), Exceeded> {
        let mut left = self.left.lock();
        *left = self.refilled(*left);
        self.fits(&left, events, bytes)?;
        left.events -= rate(events);
        left.bytes -= rate(bytes);
        Ok(())
    }

    fn refilled(&self, left: Left) -> Left {
        let now = Instant::now();
        let seconds = now.duration_since(left.at).as_secs_f64();
        let refilled = |left: f64, limit: Option<u64>| {
            limit.map_or(f64::INFINITY, |limit| (left + seconds * rate(limit)).min(rate(limit)))
        };
        Left {
            events: refilled(left.events, self.limits.events_per_second.map(u64::from)),
            bytes: refilled(left.bytes, self.limits.bytes_per_second),
            at: now,
        }
    }

    fn fits(&self, left: &Left, events: u64, bytes: u64) -> Result<(), Exceeded> {
        let events_max = self.limits.events_per_second.map(u64::from);
        let checks = [
            ("events", left.events, events, events_max),
            ("bytes", left.bytes, bytes, self.limits.bytes_per_second),
        ];
        for (unit, left, needed, limit) in checks {
            let Some(per_second) = limit.filter(|_| rate(needed) > left) else {
                continue;
            };
            // A request that never fits may come again when the bucket is full; it is refused then, too.
            let missing = rate(needed.min(per_second)) - left;
            return Err(Exceeded {
                unit,
                needed,
                per_second,
                retry_after: Duration::from_secs_f64((missing / rate(per_second)).clamp(0.0, 1.0)),
            });
        }
        Ok(())
    }
}

/// Counts are far below 2^53, up to where floating-point numbers are exact.
#[expect(clippy::cast_precision_loss, reason = "a count of events or bytes of a second")]
fn rate(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn bucket(events: Option<u32>, bytes: Option<u64>) -> Bucket {
        Bucket::new(Limits {
            events_per_second: events,
            bytes_per_second: bytes,
        })
    }

    /// Proves: PU-4
    #[tokio::test(start_paused = true)]
    async fn one_seconds_worth_may_come_at_once_and_then_as_fast_as_the_limit() {
        let bucket = bucket(Some(10), None);
        for _ in 0..10 {
            bucket.take(1, 1_000_000).unwrap();
        }
        let exceeded = bucket.take(1, 1).unwrap_err();
        assert_eq!(exceeded.retry_after, Duration::from_millis(100));
        assert!(bucket.ensure_room().is_err());
        tokio::time::advance(Duration::from_millis(100)).await;
        bucket.take(1, 1).unwrap();
        assert!(bucket.take(1, 1).is_err());
        tokio::time::advance(Duration::from_secs(3600)).await;
        bucket.take(10, 1).unwrap();
        assert!(bucket.take(1, 1).is_err(), "an hour fills it up to one second's worth");
    }

    /// Proves: PU-4
    #[tokio::test(start_paused = true)]
    async fn a_batch_counts_its_events_and_is_taken_whole_or_not() {
        let bucket = bucket(Some(10), Some(1000));
        bucket.take(6, 10).unwrap();
        let exceeded = bucket.take(6, 10).unwrap_err();
        assert_eq!(exceeded.retry_after, Duration::from_millis(200));
        bucket.take(4, 10).unwrap();
    }

    /// Proves: PU-4
    #[tokio::test(start_paused = true)]
    async fn bytes_have_a_limit_of_their_own() {
        let bucket = bucket(None, Some(1000));
        bucket.take(100, 900).unwrap();
        let exceeded = bucket.take(1, 600).unwrap_err();
        assert_eq!(
            (exceeded.to_string(), exceeded.retry_after),
            (
                "the limit is 1000 bytes a second".to_owned(),
                Duration::from_millis(500)
            )
        );
        bucket.take(1, 100).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_fits_is_told_so() {
        let bucket = bucket(Some(10), None);
        let exceeded = bucket.take(11, 1).unwrap_err();
        assert!(
            exceeded
                .to_string()
                .ends_with("this request has 11, which never fit: send less at once"),
            "{exceeded}"
        );
    }
}
