//! Background tasks of a channel. None of them ends in silence (CONTRACT OP-3).
//!
//! A task that panics would otherwise leave those who wait for it waiting for ever: tokio keeps the panic in a `JoinHandle` that
//! no code asks. Here a panic is logged at ERROR where it happens. A task that serves a whole channel is started again; a
//! task that serves one cursor ends that cursor ([`at_end`] with [`crate::CursorLease::end`]), so that the data plane opens it again.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::task::JoinError;

/// Between a panic and the next start: a task that panics at once must not fill the log or take a core.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Runs `work`. `None`: it panicked, which was logged. `task` names what the work does, `of` the channel or cursor it serves.
///
/// # Cancel safety
/// As `work`.
pub async fn catch<T>(task: &'static str, of: &str, work: impl Future<Output = T>) -> Option<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => Some(done),
        Err(panic) => {
            tracing::error!(task, of, panic = message(&*panic), "a background task panicked");
            None
        }
    }
}

/// Runs the future that `start` makes until it returns. A panic is logged, and the future is made again after a second.
///
/// # Cancel safety
/// As the future that `start` makes.
pub async fn until_done<F: Future<Output = ()>>(task: &'static str, of: String, mut start: impl FnMut() -> F) {
    // Making the future may panic, too.
    while catch(task, &of, async { start().await }).await.is_none() {
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

/// Logs that a spawned task panicked, for those who wait for it and can do nothing else about it.
pub fn joined<T>(task: &'static str, of: &str, result: Result<T, JoinError>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) => {
            if error.is_panic() {
                let panic = error.into_panic();
                tracing::error!(task, of, panic = message(&*panic), "a background task panicked");
            }
            None
        }
    }
}

/// Returns the message of a panic.
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it says nothing")
}

/// Calls its function when it is dropped, also by a panic or when its task is aborted.
#[must_use = "it acts when it is dropped"]
pub struct AtEnd<F: FnOnce()>(Option<F>);

/// Makes an [`AtEnd`].
pub fn at_end<F: FnOnce()>(act: F) -> AtEnd<F> {
    AtEnd(Some(act))
}

impl<F: FnOnce()> AtEnd<F> {
    /// Drops it without calling its function.
    pub fn cancel(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::time::Instant;

    use super::*;
    use crate::{CursorLease, ReadError};

    /// Proves: OP-3
    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_until_it_returns() {
        let (begun, starts) = (Instant::now(), AtomicUsize::new(0));
        until_done("test", "a channel".into(), || {
            let start = starts.fetch_add(1, Ordering::Relaxed);
            async move { assert!(start == 2, "start {start} fails") }
        })
        .await;
        assert_eq!(starts.into_inner(), 3);
        assert_eq!(begun.elapsed(), RESTART_AFTER * 2);
    }

    /// Proves: OP-3, CH-3
    #[tokio::test]
    async fn a_cursor_ends_when_its_task_panics() {
        let lease = Arc::new(CursorLease::default());
        let ends = lease.clone();
        let task = tokio::spawn(async move {
            let _ends = at_end(move || ends.end());
            tokio::task::yield_now().await;
            panic!("no one joins this task");
        });
        let waited = lease.wait_for(|| Err::<(), _>(None)).await;
        assert!(matches!(waited, Err(ReadError::Closed)));
        assert_eq!(joined("test", "a cursor", task.await), None::<()>);
    }

    #[test]
    fn a_panic_says_its_text() {
        assert_eq!(message(&"text"), "text");
        assert_eq!(message(&String::from("own text")), "own text");
        assert_eq!(message(&7), "it says nothing");
    }
}
