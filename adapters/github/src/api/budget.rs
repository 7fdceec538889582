//! How much GitHub lets us ask: its headers are read, and what it does not allow is not sent.
//!
//! Two limits. The primary one is a number of requests an hour, which every answer says. Secondary ones are not published:
//! their answers say `Retry-After`, or else a minute is to be waited at least (docs.github.com, "Rate limits for the REST API").

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, StatusCode,
    header::{DATE, RETRY_AFTER},
};
use jiff::Timestamp;

use super::{Answer, ApiError, Trouble};

/// Where GitHub says only that it is too much.
const SECONDARY_WAIT: Duration = Duration::from_secs(60);

/// The hour of a primary limit, and a little: a header that asks for more is not believed.
const WAIT_MAX: Duration = Duration::from_secs(65 * 60);

/// Nothing was said about the limit yet.
const UNKNOWN: i64 = -1;

/// The rest of one source's rate limit. Outlives a rebuild of its source.
#[derive(Debug)]
pub(crate) struct Budget {
    remaining: AtomicI64,
    /// Before this nothing is sent; milliseconds since 1970.
    closed_until_ms: AtomicI64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            remaining: AtomicI64::new(UNKNOWN),
            closed_until_ms: AtomicI64::new(0),
        }
    }
}

impl Budget {
    /// Requests left until the limit is renewed, as GitHub reported last.
    pub(crate) fn remaining(&self) -> Option<i64> {
        Some(self.remaining.load(Ordering::Relaxed)).filter(|remaining| *remaining != UNKNOWN)
    }

    /// An error while GitHub would refuse anyway: asking on is what gets one blocked.
    pub(super) fn permits(&self, now: Timestamp) -> Result<(), ApiError> {
        let left = self.closed_until_ms.load(Ordering::Relaxed) - now.as_millisecond();
        let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else {
            return Ok(());
        };
        let wait = Duration::from_millis(left);
        let mut error = ApiError::new(
            Trouble::RateLimited,
            format!("GitHub's rate limit is used up for another {} s", wait.as_secs() + 1),
        );
        error.retry_after = Some(wait);
        Err(error)
    }

    pub(super) fn learn(&self, answer: &Answer) {
        if let Some(remaining) = number(&answer.headers, "x-ratelimit-remaining") {
            self.remaining.store(remaining, Ordering::Relaxed);
        }
        let spent = number(&answer.headers, "x-ratelimit-remaining") == Some(0);
        let limited = spent || matches!(answer.status.as_u16(), 403 | 429);
        let words = String::from_utf8_lossy(&answer.body[..answer.body.len().min(1024)]);
        let wait = limited.then(|| wait(answer.status, &answer.headers, &words)).flatten();
        let until = wait.map_or(0, |wait| {
            let ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            Timestamp::now().as_millisecond().saturating_add(ms)
        });
        self.closed_until_ms.store(until, Ordering::Relaxed);
    }
}

/// How long to ask nothing, when an answer says so: the later of what its headers say.
pub(super) fn wait(status: StatusCode, headers: &HeaderMap, words: &str) -> Option<Duration> {
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| backoff::parse_retry_after(text, SystemTime::now()));
    let spent = number(headers, "x-ratelimit-remaining") == Some(0);
    let reset = number(headers, "x-ratelimit-reset").filter(|_| spent);
    let renewed = reset.map(|reset| {
        // By GitHub's clock on both sides. A second more: the limit is renewed within it.
        let now = date(headers).unwrap_or_else(Timestamp::now).as_second();
        Duration::from_secs(u64::try_from(reset.saturating_sub(now)).unwrap_or(0) + 1)
    });
    let unnamed =
        spent || status == StatusCode::TOO_MANY_REQUESTS || words.to_lowercase().contains("secondary rate limit");
    let found = match (retry_after, renewed) {
        (None, None) => unnamed.then_some(SECONDARY_WAIT),
        (one, other) => one.max(other),
    };
    found.map(|wait| wait.min(WAIT_MAX))
}

/// The header `Date`.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers.get(DATE)?.to_str().ok()?;
    Timestamp::try_from(httpdate::parse_http_date(date).ok()?).ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const DATE_TEXT: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
    const DATE_SECOND: i64 = 1_767_225_600;

    fn headers(entries: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, DATE_TEXT.parse().unwrap());
        for (name, value) in entries {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn each_way_of_saying_how_long_to_wait_is_understood() {
        let in_90 = (DATE_SECOND + 90).to_string();
        let in_years = (DATE_SECOND * 2).to_string();
        let long_ago = (DATE_SECOND - 90).to_string();
        let spent = |reset| vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
        let cases = [
            (403, vec![], "forbidden", None),
            (403, vec![], "exceeded a Secondary Rate Limit", Some(60)),
            (429, vec![], "", Some(60)),
            (403, vec![("retry-after", "5")], "", Some(5)),
            (403, spent(in_90.as_str()), "", Some(91)),
            (200, spent(in_90.as_str()), "", Some(91)),
            (403, spent(long_ago.as_str()), "", Some(1)),
            (403, spent(in_years.as_str()), "", Some(65 * 60)),
            (
                200,
                vec![("x-ratelimit-remaining", "17"), ("x-ratelimit-reset", in_90.as_str())],
                "",
                None,
            ),
        ];
        for (status, entries, words, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            let found = wait(status, &headers(&entries), words).map(|wait| wait.as_secs());
            assert_eq!(found, expected, "{status} {entries:?} {words}");
        }
    }

    #[test]
    fn nothing_is_sent_while_the_limit_is_used_up() {
        let budget = Budget::default();
        assert_eq!(budget.remaining(), None);
        let mut answer = Answer {
            status: StatusCode::OK,
            headers: headers(&[("x-ratelimit-remaining", "0"), ("retry-after", "30")]),
            body: bytes::Bytes::new(),
        };
        budget.learn(&answer);
        let now = Timestamp::now();
        let closed = budget.permits(now).unwrap_err();
        assert_eq!(closed.trouble, Trouble::RateLimited);
        assert!(closed.retry_after.unwrap() <= Duration::from_secs(30));
        assert!(budget.permits(now + Duration::from_secs(31)).is_ok());
        answer.headers = headers(&[("x-ratelimit-remaining", "4999")]);
        budget.learn(&answer);
        assert!(budget.permits(now).is_ok());
        assert_eq!(budget.remaining(), Some(4999));
    }
}
