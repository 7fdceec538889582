//! A delivery's share of `maxInFlight`, and how its waits end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{context::Context, gate::Started};

/// The signals that end the waits of deliveries.
#[derive(Clone, Debug)]
pub(crate) struct Interrupts {
    /// Deliveries end: a drain, a subscription that is removed.
    pub(crate) end: CancellationToken,
    /// Whether the subscription is paused; `None` for deliveries that no pause interrupts. Its state now counts, not that there was a
    /// pause: an attempt may outlast a short one, and the next event of its key waits behind it again by then.
    pub(crate) paused: Option<watch::Receiver<bool>>,
}

impl Interrupts {
    /// Completes when a wait is to end. A subscriber that has the event would be called again after a pause.
    async fn interrupt(&mut self, is_taken: bool) {
        let paused = self.paused.as_mut().filter(|_| !is_taken);
        let pause = async {
            match paused {
                // The dispatcher, which sets it, outlives its deliveries.
                Some(paused) => paused.wait_for(|is_paused| *is_paused).await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.end.cancelled() => {}
            _ = pause => {}
        }
    }
}

/// One of the subscription's `maxInFlight` permits, held during attempts and not during waits.
pub(crate) struct Slot {
    context: Arc<Context>,
    slots: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    interrupts: Interrupts,
    /// The subscriber has the event: a pause must not give it back, for the subscriber would be called again.
    is_taken: bool,
    /// Held as long as the journey takes.
    _started: Started,
    /// Nothing waits behind this event, and its channel hands it out again.
    may_park: bool,
}

impl Slot {
    /// An event that was never started, and becomes a dead letter, holds no permit.
    pub(crate) fn new(
        context: Arc<Context>,
        slots: Arc<Semaphore>,
        held: Option<OwnedSemaphorePermit>,
        interrupts: Interrupts,
        started: Started,
    ) -> Self {
        Self {
            context,
            slots,
            held,
            interrupts,
            is_taken: false,
            _started: started,
            may_park: false,
        }
    }

    /// For an event of the subscription's own cursor that no other waits for: in backoff it may go back to the channel.
    pub(crate) fn that_parks(self) -> Self {
        Self { may_park: true, ..self }
    }

    /// Whether a wait is to be spent in the channel, because too many events wait here.
    pub(crate) fn parks(&self) -> bool {
        self.may_park && self.context.crowded.load(Ordering::Relaxed)
    }

    /// The subscriber has the event: from now on only the end of deliveries interrupts a wait.
    pub(crate) fn taken(&mut self) {
        self.is_taken = true;
    }

    /// Gives the permit up, waits, takes one again. Returns false when interrupted: the gateway drains or the subscription is paused.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn pause(&mut self, wait: Duration) -> bool {
        self.held = None;
        // Another event may take the permit now.
        self.context.gate.changed.notify_one();
        let again = async {
            tokio::time::sleep(wait).await;
            self.slots.clone().acquire_owned().await
        };
        let interrupt = self.interrupts.interrupt(self.is_taken);
        // Boxed: a wait is rare, and every delivery's future has room for it.
        let permit = Box::pin(async {
            tokio::select! {
                biased;
                () = interrupt => None,
                // Slots are closed with their dispatcher.
                permit = again => permit.ok(),
            }
        });
        self.held = permit.await;
        self.held.is_some()
    }
}
