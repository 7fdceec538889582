//! What is known about a stream that nobody acknowledges for: its servers elect no leader, or hang.
//!
//! Appends then wait long for nothing; so while it lasts, one a second is let through to find out, and the others are refused
//! at once. That the connection is gone is known without that: see [`crate::publisher`].

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// One append in this time is let through to find out.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// While nobody appends, a stream that answers when it is looked at is well again after this: longer than an append waits.
const QUIET: Duration = Duration::from_secs(20);

struct Since {
    why: String,
    failed: Instant,
    probed: Instant,
}

#[derive(Default)]
pub(crate) struct Outage(Mutex<Option<Since>>);

impl Outage {
    /// An append got no acknowledgement.
    pub(crate) fn failed(&self, stream: &str, why: String) {
        let mut known = self.0.lock();
        if known.is_none() {
            tracing::warn!(
                stream,
                why,
                "JetStream does not acknowledge, appends are refused until it does"
            );
        }
        let failed = Instant::now();
        let probed = known.as_ref().map_or(failed, |known| known.probed);
        *known = Some(Since { why, failed, probed });
    }

    /// An append was acknowledged.
    pub(crate) fn is_over(&self, stream: &str) {
        if self.0.lock().take().is_some() {
            tracing::info!(stream, "JetStream acknowledges again");
        }
    }

    /// The stream has a leader who answers.
    pub(crate) fn answers(&self, stream: &str) {
        let quiet = self
            .0
            .lock()
            .as_ref()
            .is_some_and(|known| known.failed.elapsed() >= QUIET);
        if quiet {
            self.is_over(stream);
        }
    }

    /// The reason to refuse an append now, unless it is to find out.
    pub(crate) fn refusal(&self) -> Option<String> {
        let mut known = self.0.lock();
        let known = known.as_mut()?;
        if known.probed.elapsed() >= PROBE_EVERY {
            known.probed = Instant::now();
            return None;
        }
        Some(known.why.clone())
    }

    pub(crate) fn why(&self) -> Option<String> {
        self.0.lock().as_ref().map(|known| known.why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: IN-3
    #[tokio::test(start_paused = true)]
    async fn one_append_a_second_finds_out_whether_it_is_over() {
        let outage = Outage::default();
        assert_eq!(outage.refusal(), None);
        outage.failed("s", "no leader".into());
        assert_eq!(outage.refusal().as_deref(), Some("no leader"));
        tokio::time::advance(PROBE_EVERY).await;
        assert_eq!(outage.refusal(), None);
        assert_eq!(outage.refusal().as_deref(), Some("no leader"));
        outage.answers("s");
        assert!(outage.why().is_some(), "somebody may still wait for an acknowledgement");
        tokio::time::advance(QUIET).await;
        outage.answers("s");
        assert_eq!(outage.why(), None);
    }
}
