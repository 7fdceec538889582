//! One subscription is one task: pull a batch, filter, keep at most `maxInFlight` going, in order per key.
//!
//! All deliveries of a subscription are polled inside its task: a delivery costs no task, and stopping the task stops them. While
//! the sink takes events a delivery waits for no lock that a reader or another subscription may hold: `gate` answers from a flag,
//! `tries` gives each attempt a slot of its own. A subscription whose sink is slow or down holds only its own slots and its own
//! cursor (CONTRACT CH-2). The events it holds are bounded: beyond that it stops pulling, and the channel keeps the rest.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use cesql::Budget;
use channel::{Cursor, Delivery, ReadError};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use spec::model::Ordering;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    breaker::Permission,
    context::Context,
    delivery::deliver,
    failure::{Failure, Reason},
    gate::{Hold, Started},
    lanes::{Lane, Lanes},
    lineage,
    route::Route,
    settlement::{End, bury, discard, settle},
    slot::{Interrupts, Slot},
};

/// Events started or held at most, those included that wait for an attempt or for another of their key. Each costs its event
/// and about 2 KiB.
const HELD_MAX: usize = 4096;

/// Bytes of those events at most: four sinks that fail at once stay below 64 MiB.
const HELD_MAX_BYTES: usize = 16 * 1024 * 1024;

/// From this many on, or as many bytes, an event that no other waits for spends its backoff in the channel, which remembers its
/// attempts and hands it out again: a hundred thousand of them cost 200 bytes each, and those that can be delivered go on.
const CROWDED: usize = HELD_MAX / 2;
const CROWDED_BYTES: usize = HELD_MAX_BYTES / 2;

/// With `ordering: total` one event runs at a time; this many are pulled ahead so that the next needs no wake-up.
const TOTAL_AHEAD: usize = 32;

/// From so many steps of filters on, a tenth of a millisecond, a dispatcher lets other tasks have their turn.
pub(crate) const FILTER_STEPS_PER_TURN: usize = cesql::STEPS_MAX / 16;

/// After a failed read the channel is left alone for this long.
const READ_RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Dispatcher {
    context: Arc<Context>,
    cursor: Box<dyn Cursor>,
    slots: Arc<Semaphore>,
    slot_count: usize,
    lanes: Lanes,
    journeys: FuturesUnordered<BoxedJourney>,
    /// Ends waits.
    interrupts: Interrupts,
    paused: watch::Sender<bool>,
    /// When the breaker lets the next event start.
    next_start: Option<Instant>,
    running_bytes: usize,
    switch: Arc<Switch>,
}

/// One type for journeys and letters.
type BoxedJourney = std::pin::Pin<Box<dyn Future<Output = Ended> + Send>>;

/// `headgate pause`, as a dispatcher sees it.
#[derive(Debug, Default)]
pub(crate) struct Switch(std::sync::atomic::AtomicBool);

impl Switch {
    pub(crate) fn set(&self, paused: bool) {
        self.0.store(paused, Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.load(Relaxed)
    }
}

struct Ended {
    lane: Option<Lane>,
    bytes: usize,
}

/// How a dispatcher is stopped.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// Pull nothing more, end waits, finish attempts.
    pub(crate) gently: CancellationToken,
    /// Give up what is in flight, too: it is released.
    pub(crate) now: CancellationToken,
}

impl Dispatcher {
    pub(crate) fn new(context: Arc<Context>, cursor: Box<dyn Cursor>, switch: Arc<Switch>) -> Self {
        let slot_count = context.route().subscription.max_in_flight;
        let (paused, is_paused) = watch::channel(false);
        let interrupts = Interrupts {
            end: CancellationToken::new(),
            paused: Some(is_paused),
        };
        Self {
            context,
            cursor,
            slots: Arc::new(Semaphore::new(slot_count)),
            slot_count,
            lanes: Lanes::default(),
            journeys: FuturesUnordered::new(),
            interrupts,
            paused,
            next_start: None,
            running_bytes: 0,
            switch,
        }
    }

    /// Runs until stopped or until the channel is closed. Everything that is not settled by then has been released.
    pub(crate) async fn run(mut self, stop: Stop) {
        loop {
            let route = self.context.route();
            let delivering = self.follow(&route);
            self.next_start = None;
            if delivering {
                self.start();
            }
            self.context
                .reports
                .metrics
                .in_flight
                .set(i64::try_from(self.journeys.len()).unwrap_or(i64::MAX));
            let room = if delivering { self.room(&route) } else { 0 };
            let pulled = tokio::select! {
                biased;
                () = stop.gently.cancelled() => break,
                Some(ended) = self.journeys.next(), if !self.journeys.is_empty() => {
                    self.ended(ended);
                    // Take all that have ended meanwhile before the next round.
                    while let Some(Some(ended)) = self.journeys.next().now_or_never() {
                        self.ended(ended);
                    }
                    continue;
                }
                () = self.context.gate.changed.notified() => continue,
                () = until(self.next_start) => continue,
                // Cancel safe: nothing is handed out by a call that did not return.
                pulled = self.cursor.next(room), if room > 0 => pulled,
            };
            match pulled {
                Ok(deliveries) => {
                    let mut steps = 0;
                    for delivery in deliveries {
                        steps += self.admit(delivery, &route);
                        // Costly filters: other subscriptions have their turn between two events.
                        if steps >= FILTER_STEPS_PER_TURN {
                            tokio::task::yield_now().await;
                            steps = 0;
                        }
                    }
                }
                Err(ReadError::Closed) => break,
                Err(error) => {
                    self.context.reports.unreadable(&error);
                    tokio::select! {
                        () = tokio::time::sleep(READ_RETRY) => {}
                        () = stop.gently.cancelled() => break,
                    }
                }
            }
            // A filter that discards everything never waits for anything: let others have their turn.
            tokio::task::consume_budget().await;
        }
        self.finish(stop).await;
    }

    /// Ends waits at once, which releases their events; attempts may finish until `stop.now`.
    async fn finish(mut self, stop: Stop) {
        self.interrupts.end.cancel();
        self.lanes.release_all();
        let rest = async { while self.journeys.next().await.is_some() {} };
        tokio::select! {
            () = rest => {}
            () = stop.now.cancelled() => {}
        }
        self.context.reports.metrics.in_flight.set(0);
    }

    /// Applies the route and the switch: number of slots, paused or not. Returns whether anything may be delivered.
    fn follow(&mut self, route: &Route) -> bool {
        let desired = route.subscription.max_in_flight;
        if desired > self.slot_count {
            self.slots.add_permits(desired - self.slot_count);
            self.slot_count = desired;
        } else if desired < self.slot_count {
            // Permits in use are removed as they are returned.
            self.slot_count -= self.slots.forget_permits(self.slot_count - desired);
        }
        let delivering = !route.subscription.paused && !self.switch.is_paused() && route.blocked.is_none();
        let is_new = self
            .paused
            .send_if_modified(|paused| std::mem::replace(paused, !delivering) == delivering);
        if is_new && !delivering {
            self.lanes.release_all();
        }
        delivering
    }

    /// Returns how many events to pull now.
    fn room(&mut self, route: &Route) -> usize {
        let held = self.journeys.len() + self.lanes.held();
        let bytes = self.running_bytes + self.lanes.held_bytes();
        self.context
            .crowded
            .store(held >= CROWDED || bytes >= CROWDED_BYTES, Relaxed);
        if held >= HELD_MAX || bytes >= HELD_MAX_BYTES || !self.context.has_reply_room() {
            return 0;
        }
        let ready = self.lanes.ready();
        let permission = self.context.gate.permission();
        let room = match permission {
            Permission::Start if route.subscription.ordering == Ordering::Total => TOTAL_AHEAD.saturating_sub(held),
            Permission::Start => self.slots.available_permits().saturating_sub(ready),
            Permission::StartOne => 1_usize.saturating_sub(ready),
            Permission::Wait => 0,
            Permission::WaitUntil(at) => {
                self.next_start = Some(at);
                0
            }
        };
        room.min(HELD_MAX - held)
    }

    /// A pulled event is filtered out, found to have looped, or waits for its turn. Returns the steps that its filters took.
    fn admit(&mut self, delivery: Delivery, route: &Route) -> usize {
        let budget = Budget::default();
        let hops = lineage::hops(delivery.event());
        if hops > self.context.max_hops {
            let chain = delivery.event().text(lineage::CHAIN).unwrap_or_default();
            let detail = format!(
                "it passed {hops} channels, more than {} allowed: {chain}",
                self.context.max_hops
            );
            self.bury(delivery, Failure::new(Reason::Loop, &route.destination(), detail));
            return 0;
        }
        match route.admits(delivery.event(), &budget) {
            Ok(true) => self.lanes.admit(delivery, route.subscription.ordering),
            Ok(false) => discard(delivery, &self.context),
            Err(error) => self.bury(
                delivery,
                Failure::new(Reason::FilterError, &route.destination(), error.to_string()),
            ),
        }
        budget.taken()
    }

    /// Starts what is ready, as far as there are slots and the breaker lets it.
    fn start(&mut self) {
        while self.lanes.ready() > 0 {
            let Ok(permit) = self.slots.clone().try_acquire_owned() else {
                return;
            };
            let started = match self.context.gate.start() {
                Ok(started) => started,
                Err(Hold::Probe) => return,
                Err(Hold::Until(at)) => {
                    self.next_start = Some(at);
                    return;
                }
            };
            let Some((delivery, lane)) = self.lanes.start() else {
                return;
            };
            let (slots, interrupts) = (self.slots.clone(), self.interrupts.clone());
            let slot = Slot::new(self.context.clone(), slots, Some(permit), interrupts, started);
            let slot = if lane.is_none() { slot.that_parks() } else { slot };
            self.push(delivery, lane, |delivery, context| journey(delivery, context, slot));
        }
    }

    /// Dead-letters an event without an attempt.
    fn bury(&mut self, delivery: Delivery, failure: Failure) {
        let (slots, interrupts) = (self.slots.clone(), self.interrupts.clone());
        let slot = Slot::new(self.context.clone(), slots, None, interrupts, Started::default());
        self.push(delivery, None, |delivery, context| async move {
            let mut slot = slot;
            bury(delivery, failure, &context, &mut slot).await
        });
    }

    fn push<F>(&mut self, delivery: Delivery, lane: Option<Lane>, run: impl FnOnce(Delivery, Arc<Context>) -> F)
    where
        F: Future<Output = End> + Send + 'static,
    {
        let bytes = delivery.event().size();
        self.running_bytes += bytes;
        let journey = run(delivery, self.context.clone());
        self.journeys.push(Box::pin(async move {
            journey.await;
            Ended { lane, bytes }
        }));
    }

    fn ended(&mut self, ended: Ended) {
        self.running_bytes -= ended.bytes;
        if let Some(lane) = ended.lane {
            self.lanes.ended(lane);
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Delivers one event, from its next attempt to its settlement.
pub(super) async fn journey(mut delivery: Delivery, context: Arc<Context>, mut slot: Slot) -> End {
    let outcome = deliver(&mut delivery, &context, &mut slot).await;
    settle(delivery, outcome, &context, &mut slot).await
}
