//! Wall-clock time as it is stored: milliseconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn to_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Rounds up, so that a time read back is never before the one written.
pub(crate) fn to_ms_up(time: SystemTime) -> u64 {
    to_ms(time + Duration::from_nanos(999_999))
}

/// Clamps times that only damage can write to the year 10 000.
pub(crate) fn from_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms.min(253_402_300_799_999))
}
