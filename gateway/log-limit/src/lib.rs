//! Bounds log lines that one peer or one event can cause again and again: some lines a minute, and one that counts the rest.
//!
//! A line is written at once as long as its minute has room. Lines beyond that are counted, and when the minute ends a summary
//! says how many there were. Nothing is lost without a count: a summary that is due is also written when the runtime ends.
//! This crate writes no line of its own: the caller knows the fields.

#![warn(missing_docs)]

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{runtime::Handle, time::Instant};

/// How long a line keeps others of its kind out: short enough that a person who follows the log sees that it goes on.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The lines of one kind.
#[derive(Clone)]
pub struct LogLimit(Arc<Mutex<Window>>);

struct Window {
    lines_max: u32,
    /// When the first line of this window was written; `None` before the first of all.
    since: Option<Instant>,
    lines: u32,
    unlogged: u64,
}

impl Default for LogLimit {
    /// One line a minute.
    fn default() -> Self {
        Self::per_minute(1)
    }
}

impl LogLimit {
    /// At most `lines_max` lines a minute, the summary included.
    pub fn per_minute(lines_max: u32) -> Self {
        Self(Arc::new(Mutex::new(Window {
            lines_max: lines_max.max(1),
            since: None,
            lines: 0,
            unlogged: 0,
        })))
    }

    /// Whether the caller may write its line now. If not, the line is counted, and `summary` is called with the count of this
    /// minute when the minute ends.
    pub fn admits(&self, summary: impl FnOnce(u64) + Send + 'static) -> bool {
        let now = Instant::now();
        let mut window = self.0.lock();
        let end = window.since.map(|since| since + WINDOW);
        if window.unlogged == 0 && end.is_none_or(|end| end <= now) {
            (window.since, window.lines) = (Some(now), 0);
        }
        if window.unlogged == 0 && window.lines < window.lines_max {
            window.lines += 1;
            return true;
        }
        window.unlogged += 1;
        if window.unlogged > 1 {
            return false;
        }
        // The first that is not written sees to it that the count is.
        let summary = Summary {
            limit: self.clone(),
            write: Some(summary),
        };
        let due = end.unwrap_or(now);
        drop(window);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep_until(due).await;
                drop(summary);
            });
        }
        false
    }
}

/// Written when dropped: at the end of the minute, or with the runtime.
struct Summary<F: FnOnce(u64)> {
    limit: LogLimit,
    write: Option<F>,
}

impl<F: FnOnce(u64)> Drop for Summary<F> {
    fn drop(&mut self) {
        let unlogged = {
            let mut window = self.limit.0.lock();
            // The summary is the first line of the next minute.
            (window.since, window.lines) = (Some(Instant::now()), 1);
            std::mem::take(&mut window.unlogged)
        };
        if let Some(write) = self.write.take() {
            write(unlogged);
        }
    }
}

/// A [`LogLimit`] of one line a minute for each key. Keys come from a closed set, such as reasons: none is ever removed.
pub struct LogLimits<K>(Mutex<HashMap<K, LogLimit>>);

impl<K> Default for LogLimits<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> LogLimits<K> {
    /// See [`LogLimit::admits`].
    pub fn admits(&self, key: K, summary: impl FnOnce(u64) + Send + 'static) -> bool {
        let limit = self.0.lock().entry(key).or_default().clone();
        limit.admits(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `lines` lines, as far as they are admitted: 0 for a line, and the count of a summary.
    fn write(limit: &LogLimit, lines: usize, log: &Arc<Mutex<Vec<u64>>>) {
        for _ in 0..lines {
            let summaries = log.clone();
            if limit.admits(move |unlogged| summaries.lock().push(unlogged)) {
                log.lock().push(0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_line_and_one_summary() {
        let (limit, log) = (LogLimit::default(), Arc::default());
        write(&limit, 10_000, &log);
        assert_eq!(*log.lock(), [0]);
        tokio::time::sleep(WINDOW + Duration::from_millis(1)).await;
        assert_eq!(*log.lock(), [0, 9999]);
        write(&limit, 3, &log);
        assert_eq!(*log.lock(), [0, 9999], "the summary was this minute's line");
        tokio::time::sleep(WINDOW + Duration::from_millis(1)).await;
        assert_eq!(*log.lock(), [0, 9999, 3]);
        tokio::time::sleep(WINDOW + Duration::from_millis(1)).await;
        write(&limit, 1, &log);
        assert_eq!(
            *log.lock(),
            [0, 9999, 3, 0],
            "after a quiet minute a line is written at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn more_lines_a_minute_are_admitted_where_more_are_allowed() {
        let (limit, log) = (LogLimit::per_minute(3), Arc::default());
        write(&limit, 5, &log);
        assert_eq!(*log.lock(), [0, 0, 0]);
        tokio::time::sleep(WINDOW + Duration::from_millis(1)).await;
        assert_eq!(*log.lock(), [0, 0, 0, 2]);
    }

    #[test]
    fn a_summary_that_is_due_is_written_when_the_runtime_ends() {
        let log = Arc::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(async { write(&LogLimit::default(), 5, &log) });
        }
        assert_eq!(*log.lock(), [0, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_limited_apart() {
        let (limits, mut admitted) = (LogLimits::default(), Vec::new());
        for key in ["a", "b", "a"] {
            admitted.push(limits.admits(key, |_| {}));
        }
        assert_eq!(admitted, [true, true, false]);
    }
}
