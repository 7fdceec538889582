//! What all deliveries of one subscription share: its route, its breaker, its slots, its counters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use channel::{AppendError, Channel, Delivery};
use event::Event;
use parking_lot::Mutex;
use spec::ObjectName;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    breaker::Breaker,
    failure::Failure,
    metrics::SubscriptionMetrics,
    route::{Channels, Route},
    tries::Tries,
};

pub(crate) struct Context {
    pub(crate) name: Arc<ObjectName>,
    pub(crate) channel_name: ObjectName,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) channels: Channels,
    pub(crate) max_hops: u32,
    pub(crate) metrics: SubscriptionMetrics,
    pub(crate) tries: Arc<Tries>,
    pub(crate) breaker: Mutex<Breaker>,
    /// The dispatcher holds so many events that those which wait go back to the channel until their time comes.
    pub(crate) crowded: AtomicBool,
    /// Rung when something changed that lets the dispatcher do more: a route, a switch, the breaker.
    pub(crate) changed: Notify,
    route: ArcSwap<Route>,
    /// Why the last failed try failed, for the subscription's conditions.
    last_failure: Mutex<Option<String>>,
}

impl Context {
    pub(crate) fn new(
        channel: Arc<dyn Channel>,
        channels: Channels,
        max_hops: u32,
        metrics: SubscriptionMetrics,
        tries: Arc<Tries>,
        route: Arc<Route>,
    ) -> Self {
        Self {
            name: Arc::new(route.subscription.name.clone()),
            channel_name: route.subscription.channel.clone(),
            channel,
            channels,
            max_hops,
            metrics,
            tries,
            breaker: Mutex::default(),
            crowded: AtomicBool::new(false),
            changed: Notify::new(),
            route: ArcSwap::new(route),
            last_failure: Mutex::default(),
        }
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        self.route.load_full()
    }

    /// From the next try on, deliveries go the new way; those in flight are not disturbed.
    pub(crate) fn reroute(&self, route: Arc<Route>) {
        self.route.store(route);
        self.changed.notify_one();
    }

    /// The last failure while the breaker is open.
    pub(crate) fn outage(&self) -> Option<String> {
        if !self.breaker.lock().is_open() {
            return None;
        }
        self.last_failure
            .lock()
            .clone()
            .or_else(|| Some("deliveries fail".into()))
    }

    /// The subscriber took the event, with this status where it has one.
    pub(crate) fn succeeded(&self, event: &Event, status: Option<u16>, took: Duration) {
        self.tries.taken(&self.name, event, status, took);
        let mut breaker = self.breaker.lock();
        if breaker.is_calm() {
            return;
        }
        if breaker.succeeded() {
            tracing::info!(subscription = %self.name, "sink is healthy again");
            self.changed.notify_one();
        }
    }

    /// A try failed: one line, one count, and the breaker hears of it. `wait` is the time to the next try, if there is one.
    pub(crate) fn failed(
        &self,
        delivery: &Delivery,
        failure: &Failure,
        took: Option<Duration>,
        wait: Option<Duration>,
    ) {
        let offset = delivery.offset();
        self.tries.failed(&self.name, delivery.event(), failure, took, wait);
        self.metrics.attempt_failed(failure.reason);
        tracing::debug!(
            subscription = %self.name, %offset, reason = failure.reason.as_str(), destination = failure.destination,
            detail = failure.detail, wait_ms = wait.map(|wait| wait.as_millis()), "delivery failed"
        );
        let opened = {
            let mut breaker = self.breaker.lock();
            if failure.is_outage() {
                breaker.failed(offset)
            } else {
                breaker.answered();
                false
            }
        };
        if opened {
            tracing::warn!(
                subscription = %self.name, reason = failure.reason.as_str(), destination = failure.destination,
                detail = failure.detail, "sink is failing, no further event is started until one succeeds"
            );
        }
        *self.last_failure.lock() = Some(format!("{}: {}", failure.destination, failure.detail));
    }

    /// A dead letter is where it belongs: one line, one count.
    pub(crate) fn buried(&self, failure: &Failure, attempts: u32, event: &Event) {
        self.tries.buried(&self.name, event, failure);
        self.metrics.dead_lettered(failure.reason);
        tracing::warn!(
            subscription = %self.name, id = event.id(), source = event.source(), reason = failure.reason.as_str(),
            destination = failure.destination, detail = failure.detail, attempts, "event is dead-lettered"
        );
    }

    pub(crate) fn letter_refused(&self, failure: &Failure, wait: Option<Duration>) {
        tracing::warn!(
            subscription = %self.name, reason = failure.reason.as_str(), destination = failure.destination,
            detail = failure.detail, wait_ms = wait.map(|wait| wait.as_millis()), "dead-letter sink did not take a letter"
        );
    }

    pub(crate) fn log_refused(&self, error: &AppendError) {
        tracing::error!(subscription = %self.name, %error, "dead-letter log did not take a letter, trying again");
    }
}

/// One of the subscription's `maxInFlight` places, held during tries and not during waits.
pub(crate) struct Slot {
    context: Arc<Context>,
    slots: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    interrupt: CancellationToken,
    /// Nothing waits behind this event, and its channel hands it out again.
    may_park: bool,
}

impl Slot {
    pub(crate) fn new(
        context: Arc<Context>,
        slots: Arc<Semaphore>,
        held: OwnedSemaphorePermit,
        interrupt: CancellationToken,
    ) -> Self {
        Self {
            context,
            slots,
            held: Some(held),
            interrupt,
            may_park: false,
        }
    }

    /// For what is no delivery: a letter about an event that was never started.
    pub(crate) fn without_place(context: Arc<Context>, slots: Arc<Semaphore>, interrupt: CancellationToken) -> Self {
        Self {
            context,
            slots,
            held: None,
            interrupt,
            may_park: false,
        }
    }

    /// For an event of the subscription's own cursor that no other waits for: in backoff it may go back to the channel.
    pub(crate) fn that_parks(self) -> Self {
        Self { may_park: true, ..self }
    }

    /// Should a wait be spent in the channel, because too many events wait here?
    pub(crate) fn parks(&self) -> bool {
        self.may_park && self.context.crowded.load(Ordering::Relaxed)
    }

    /// Gives the place up, waits, takes one again. False when interrupted: the gateway drains or the subscription is paused.
    /// Cancel safe.
    pub(crate) async fn pause(&mut self, wait: Duration) -> bool {
        self.held = None;
        // Another event may take the place now.
        self.context.changed.notify_one();
        let again = async {
            tokio::time::sleep(wait).await;
            self.slots.clone().acquire_owned().await
        };
        // Boxed: a wait is rare, and every delivery's future has room for it.
        let permit = Box::pin(self.interrupt.run_until_cancelled(again)).await;
        // Slots are closed with their dispatcher.
        self.held = permit.and_then(Result::ok);
        self.held.is_some()
    }
}
