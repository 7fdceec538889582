//! A delivery that no cursor handed out: a letter delivered again, an event replayed. It goes the way of any other, and
//! how it ended is known to whoever began it, for nothing else in the channel tells.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use channel::{Attempts, Delivery, Offset, Settle, SettleError};
use event::Event;

use crate::{
    context::{Context, Slot},
    dispatcher::journey,
};

/// How an event's journey ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    DeadLettered,
    /// Given back: the gateway drains, or its letter could not be stored.
    Released,
}

/// Delivers the event from its first try to its settlement, whatever was tried before.
pub(crate) async fn journey_apart(
    event: Event,
    offset: Offset,
    stored_at: SystemTime,
    context: Arc<Context>,
    slot: Slot,
) -> End {
    let settled = Arc::new(AtomicBool::new(false));
    let receipt = Box::new(Receipt(settled.clone()));
    let delivery = Delivery::new(event, offset, stored_at, Attempts::default(), receipt);
    let is_exhausted = journey(delivery, context, slot).await;
    match (settled.load(Ordering::Acquire), is_exhausted) {
        (false, _) => End::Released,
        (true, true) => End::DeadLettered,
        (true, false) => End::Delivered,
    }
}

/// Notes that the event was settled. No cursor moves by it.
struct Receipt(Arc<AtomicBool>);

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }

    fn release(self: Box<Self>, _after: Duration) {}

    fn remember(&mut self, _attempts: Attempts) {}
}
