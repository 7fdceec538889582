//! Waiting for something instead of sleeping: bounded, and clear about what never happened.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// Long enough for a debug build on a two-core machine that is busy with clusters of brokers; a test that passes never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Often enough that waiting adds no noticeable time to a test, rare enough to cost nothing.
const POLL: Duration = Duration::from_millis(10);

/// Polls `probe` until it gives a value.
///
/// # Panics
/// When nothing came within [`PATIENCE`], naming `what`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, probe: impl FnMut() -> F) -> T {
    within(PATIENCE, what, probe).await
}

/// [`eventually`] with another bound.
///
/// # Panics
/// When nothing came within `limit`, naming `what`.
pub async fn within<T, F: Future<Output = Option<T>>>(limit: Duration, what: &str, mut probe: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        sleep(POLL).await;
    }
}

/// Watches that something stays true for a while: the only way to see that a thing does *not* happen.
///
/// # Panics
/// As soon as `probe` is false, naming `what`.
pub async fn holds(duration: Duration, what: &str, mut probe: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < duration {
        assert!(probe(), "no longer true after {:?}: {what}", start.elapsed());
        sleep(POLL).await;
    }
}
