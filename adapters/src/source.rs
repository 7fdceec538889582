//! The resources of one source: its outlet, its durable state, its counters, and its report.

use std::{sync::Arc, time::Duration};

use event::Event;
use status::Cause;
use tokio_util::sync::CancellationToken;

use crate::{Accepted, Checkpoint, Counters, Outlet, Refused, Report, Severity, Truth};

/// Condition of a source whose sink refuses: nothing is lost, upstream waits (CONTRACT SR-5).
pub const ACCEPTED: &str = "Accepted";

/// Without a time of its own a refusal is repeated after this: a channel that is not open yet usually is within seconds.
const AGAIN: Duration = Duration::from_secs(2);

/// One source, as its adapter sees it. A handle: clones are the same.
#[derive(Clone)]
pub struct Source {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// Unique to this source on this gateway; changes when the source is recreated. Tags resources created upstream.
    pub uid: String,
    /// The gateway's id. Tags resources created upstream, so that the gateway can find all of them.
    pub gateway: String,
    /// Where its events go.
    pub outlet: Outlet,
    /// Where it keeps its position upstream.
    pub checkpoint: Arc<dyn Checkpoint>,
    /// Where it reports its conditions.
    pub report: Report,
    /// Its counters, shown as metrics.
    pub counters: Arc<Counters>,
}

/// Events that were not stored. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum Unstored {
    /// The adapter is to end; upstream keeps what it has.
    #[error("stopped before the events were stored")]
    Stopped,
    /// Waiting would not help.
    #[error("event of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
}

impl Source {
    /// Stores the events, all or none, however long the sink refuses them (CONTRACT SR-5): meanwhile the condition
    /// `Accepted` is a warning. An empty list is stored at once.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped, the events may be stored or not, and the caller has no proof.
    pub async fn store(&self, events: Vec<Event>, stop: &CancellationToken) -> Result<Accepted, Unstored> {
        let count = events.len() as u64;
        self.counters.received(count);
        loop {
            let refused = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Unstored::Stopped),
                accepted = self.outlet.accept(events.clone()) => match accepted {
                    Ok(accepted) => {
                        self.counters.stored(count);
                        self.accepts();
                        return Ok(accepted);
                    }
                    Err(refused) => refused,
                },
            };
            self.counters.refused(count);
            if let Refused::TooLarge { bytes, limit } = refused {
                return Err(Unstored::TooLarge { bytes, limit });
            }
            self.refuses(&refused);
            tokio::select! {
                () = stop.cancelled() => return Err(Unstored::Stopped),
                () = tokio::time::sleep(refused.retry_after().unwrap_or(AGAIN)) => {}
            }
        }
    }

    fn accepts(&self) {
        self.report.note(ACCEPTED, (Truth::True, Severity::Warning), None);
    }

    fn refuses(&self, refused: &Refused) {
        let message = format!("{refused}: upstream keeps the events and they are offered again");
        self.report.note(
            ACCEPTED,
            (Truth::False, Severity::Warning),
            Cause::new(refused.reason(), message),
        );
    }
}

#[cfg(all(test, feature = "suite"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::suite::{REFUSALS, Scripted, source};

    fn event() -> Event {
        Event::builder("1", "/test", "t").finish().unwrap()
    }

    /// Proves: SR-5
    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_waited_out_unless_waiting_cannot_help() {
        for refusal in REFUSALS {
            let outlet = Scripted::refusing(refusal);
            let source = source(outlet.clone());
            let stop = CancellationToken::new();
            let mut storing = std::pin::pin!(source.store(vec![event()], &stop));
            let early = tokio::time::timeout(Duration::from_secs(3600), &mut storing).await;
            if let Refused::TooLarge { .. } = refusal() {
                assert!(matches!(early, Ok(Err(Unstored::TooLarge { .. }))));
                continue;
            }
            assert!(early.is_err(), "{:?}", refusal());
            let reported = source.report.state();
            assert_eq!(reported.conditions[ACCEPTED].reason(), refusal().reason().as_str());
            outlet.accept_from_now_on();
            let _ = storing.await.unwrap();
            assert_eq!(outlet.stored().len(), 1);
            assert_eq!(source.report.state().conditions[ACCEPTED].truth, Truth::True);
        }
    }

    /// Proves: SR-1
    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waiting_without_proof() {
        let source = source(Scripted::refusing(REFUSALS[0]));
        let stop = CancellationToken::new();
        let (stored, ()) = tokio::join!(source.store(vec![event()], &stop), async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            stop.cancel();
        });
        assert!(matches!(stored, Err(Unstored::Stopped)));
    }
}
