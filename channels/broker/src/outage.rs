//! An outage: servers that do not acknowledge appends.
//!
//! Appends would wait long for nothing. So while an outage lasts, one append a second probes the servers, and the others are
//! refused at once.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// One append in this time probes the servers.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Whether servers acknowledge, as far as appends showed.
#[derive(Default)]
pub struct Outage(Mutex<Option<Ongoing>>);

struct Ongoing {
    why: String,
    failed_at: Instant,
    probed_at: Instant,
}

impl Outage {
    /// Records an append that was not acknowledged. Returns whether the outage begins with it.
    pub fn failed(&self, why: String) -> bool {
        let mut ongoing = self.0.lock();
        let failed_at = Instant::now();
        let before = ongoing.replace(Ongoing {
            why,
            failed_at,
            probed_at: failed_at,
        });
        match (before, &mut *ongoing) {
            (Some(before), Some(now)) => {
                now.probed_at = before.probed_at;
                false
            }
            _ => true,
        }
    }

    /// Lets no append probe the servers for a while, because something else has just shown that they are away.
    pub fn postpone_probe(&self) {
        if let Some(ongoing) = &mut *self.0.lock() {
            ongoing.probed_at = Instant::now();
        }
    }

    /// Ends the outage. Returns whether there was one.
    pub fn end(&self) -> bool {
        self.0.lock().take().is_some()
    }

    /// Ends an outage without a failed append for that long. Returns whether it ended one.
    pub fn end_if_quiet_for(&self, quiet: Duration) -> bool {
        let ended = self.0.lock().take_if(|ongoing| ongoing.failed_at.elapsed() >= quiet);
        ended.is_some()
    }

    /// The reason to refuse an append now. `None` when there is no outage, or when this append is the next probe.
    pub fn refusal(&self) -> Option<String> {
        let mut ongoing = self.0.lock();
        let ongoing = ongoing.as_mut()?;
        if ongoing.probed_at.elapsed() >= PROBE_EVERY {
            ongoing.probed_at = Instant::now();
            return None;
        }
        Some(ongoing.why.clone())
    }

    /// Why appends are not acknowledged, while there is an outage.
    pub fn why(&self) -> Option<String> {
        self.0.lock().as_ref().map(|ongoing| ongoing.why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: IN-3
    #[tokio::test(start_paused = true)]
    async fn one_append_a_second_probes_whether_the_outage_is_over() {
        let (outage, quiet) = (Outage::default(), Duration::from_secs(20));
        assert_eq!(outage.refusal(), None);
        assert!(outage.failed("no leader".into()) && !outage.failed("no leader".into()));
        assert_eq!(outage.refusal().as_deref(), Some("no leader"));
        tokio::time::advance(PROBE_EVERY).await;
        outage.postpone_probe();
        assert_eq!(outage.refusal().as_deref(), Some("no leader"));
        tokio::time::advance(PROBE_EVERY).await;
        assert_eq!(outage.refusal(), None);
        assert_eq!(outage.refusal().as_deref(), Some("no leader"));
        assert!(!outage.end_if_quiet_for(quiet) && outage.why().is_some());
        tokio::time::advance(quiet).await;
        assert!(outage.end_if_quiet_for(quiet));
        assert_eq!(outage.why(), None);
        assert!(!outage.end());
    }
}
