//! One subscription is one task: pull a batch, filter, keep at most `maxInFlight` going, in order per key.
//!
//! All deliveries of a subscription are polled inside its task, so that a delivery costs no task and no lock, and stopping the
//! task stops them. A subscription that is slow, dead or poisoned holds its own slots and its own place in the channel,
//! nothing of another (CONTRACT CH-2). What it holds is bounded: beyond that it stops pulling, and the channel keeps the rest.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use channel::{Cursor, Delivery, Offset, ReadError};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use spec::model::Ordering;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    breaker::Permission,
    context::{Context, Slot},
    delivery::{Outcome, deliver},
    failure::{Failure, Reason},
    lanes::{Lane, Lanes},
    lineage,
    route::Route,
    settlement::{Again, bury, discard, settle},
};

/// Events started or held at most, those included that wait for a try or for another of their key. Each costs its event and
/// about 2 KiB.
const HELD_MAX: usize = 4096;

/// Bytes of those events at most: four sinks that fail at once stay below 64 MiB.
const HELD_MAX_BYTES: usize = 16 * 1024 * 1024;

/// From this many on, or as many bytes, an event that no other waits for spends its backoff in the channel, which remembers its
/// attempts and hands it out again: a hundred thousand of them cost 200 bytes each, and those that can be delivered go on.
const CROWDED: usize = HELD_MAX / 2;
const CROWDED_BYTES: usize = HELD_MAX_BYTES / 2;

/// With `ordering: total` one event runs at a time; this many are pulled ahead so that the next needs no wake-up.
const TOTAL_AHEAD: usize = 32;

/// After a failed read the channel is left alone for this long.
const READ_RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Dispatcher {
    context: Arc<Context>,
    cursor: Box<dyn Cursor>,
    slots: Arc<Semaphore>,
    slot_count: usize,
    lanes: Lanes,
    journeys: FuturesUnordered<BoxedJourney>,
    /// Cancelled to end waits: on a pause and on the drain. A new one follows a pause.
    interrupt: CancellationToken,
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
    offset: Offset,
    lane: Option<Lane>,
    bytes: usize,
}

/// How a dispatcher is stopped.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// Pull nothing more, end waits, finish tries.
    pub(crate) gently: CancellationToken,
    /// Give up what is in flight, too: it is released.
    pub(crate) now: CancellationToken,
}

impl Dispatcher {
    pub(crate) fn new(context: Arc<Context>, cursor: Box<dyn Cursor>, switch: Arc<Switch>) -> Self {
        let slot_count = context.route().subscription.max_in_flight;
        Self {
            context,
            cursor,
            slots: Arc::new(Semaphore::new(slot_count)),
            slot_count,
            lanes: Lanes::default(),
            journeys: FuturesUnordered::new(),
            interrupt: CancellationToken::new(),
            running_bytes: 0,
            switch,
        }
    }

    /// Runs until stopped or until the channel is closed. Everything that is not settled by then has been released.
    pub(crate) async fn run(mut self, stop: Stop) {
        loop {
            let route = self.context.route();
            let delivering = self.follow(&route);
            if delivering {
                self.start();
            }
            self.context
                .metrics
                .in_flight
                .set(i64::try_from(self.journeys.len()).unwrap_or(i64::MAX));
            let room = if delivering { self.room(&route) } else { 0 };
            let pulled = tokio::select! {
                biased;
                () = stop.gently.cancelled() => break,
                Some(ended) = self.journeys.next(), if !self.journeys.is_empty() => {
                    self.ended(ended);
                    // Take whatever else has ended meanwhile before anything is looked at again.
                    while let Some(Some(ended)) = self.journeys.next().now_or_never() {
                        self.ended(ended);
                    }
                    continue;
                }
                () = self.context.changed.notified() => continue,
                // Cancel safe: nothing is handed out by a call that did not return.
                pulled = self.cursor.next(room), if room > 0 => pulled,
            };
            match pulled {
                Ok(deliveries) => deliveries.into_iter().for_each(|delivery| self.admit(delivery, &route)),
                Err(ReadError::Closed) => break,
                Err(error) => {
                    tracing::error!(subscription = %self.context.name, %error, "channel cannot be read, trying again");
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

    /// Waits end at once and give their events back; tries may finish until `stop.now`.
    async fn finish(mut self, stop: Stop) {
        self.interrupt.cancel();
        self.lanes.release_all();
        let rest = async { while self.journeys.next().await.is_some() {} };
        tokio::select! {
            () = rest => {}
            () = stop.now.cancelled() => {}
        }
        self.context.metrics.in_flight.set(0);
    }

    /// Follows the route and the switch: number of slots, paused or not. Says whether anything may be delivered.
    fn follow(&mut self, route: &Route) -> bool {
        let wanted = route.subscription.max_in_flight;
        if wanted > self.slot_count {
            self.slots.add_permits(wanted - self.slot_count);
            self.slot_count = wanted;
        } else if wanted < self.slot_count {
            // Places that are taken now are given up as they become free.
            self.slot_count -= self.slots.forget_permits(self.slot_count - wanted);
        }
        let delivering = !route.subscription.paused && !self.switch.is_paused() && route.blocked.is_none();
        if delivering {
            if self.interrupt.is_cancelled() {
                self.interrupt = CancellationToken::new();
            }
        } else if !self.interrupt.is_cancelled() {
            self.interrupt.cancel();
            self.lanes.release_all();
        }
        delivering
    }

    /// How many events to pull now.
    fn room(&self, route: &Route) -> usize {
        let held = self.journeys.len() + self.lanes.held();
        let bytes = self.running_bytes + self.lanes.held_bytes();
        self.context
            .crowded
            .store(held >= CROWDED || bytes >= CROWDED_BYTES, Relaxed);
        if held >= HELD_MAX || bytes >= HELD_MAX_BYTES {
            return 0;
        }
        let ready = self.lanes.ready();
        let room = match self.context.breaker.lock().permission() {
            Permission::Start if route.subscription.ordering == Ordering::Total => TOTAL_AHEAD.saturating_sub(held),
            Permission::Start => self.slots.available_permits().saturating_sub(ready),
            Permission::Probe => 1_usize.saturating_sub(ready),
            Permission::Wait => 0,
        };
        room.min(HELD_MAX - held)
    }

    /// A pulled event is filtered out, found to have looped, or waits for its turn.
    fn admit(&mut self, delivery: Delivery, route: &Route) {
        let hops = lineage::hops(delivery.event());
        if hops > self.context.max_hops {
            let chain = delivery.event().text(lineage::CHAIN).unwrap_or_default();
            let detail = format!(
                "it passed {hops} channels, more than {} allowed: {chain}",
                self.context.max_hops
            );
            return self.bury(delivery, Failure::new(Reason::Loop, &route.destination(), detail));
        }
        match route.admits(delivery.event()) {
            Ok(true) => self.lanes.admit(delivery, route.subscription.ordering),
            Ok(false) => discard(delivery, &self.context),
            Err(error) => self.bury(
                delivery,
                Failure::new(Reason::FilterError, &route.destination(), error.to_string()),
            ),
        }
    }

    /// Starts what is ready, as far as there are slots and the breaker lets it.
    fn start(&mut self) {
        while self.lanes.ready() > 0 {
            let permission = self.context.breaker.lock().permission();
            if permission == Permission::Wait {
                return;
            }
            let Ok(permit) = self.slots.clone().try_acquire_owned() else {
                return;
            };
            let Some((delivery, lane)) = self.lanes.start() else {
                return;
            };
            if permission == Permission::Probe {
                self.context.breaker.lock().probing(delivery.offset());
            }
            let slot = Slot::new(self.context.clone(), self.slots.clone(), permit, self.interrupt.clone());
            let slot = if lane.is_none() { slot.that_parks() } else { slot };
            self.push(delivery, lane, |delivery, context| journey(delivery, context, slot));
        }
    }

    /// A dead letter without a try.
    fn bury(&mut self, delivery: Delivery, failure: Failure) {
        let slot = Slot::without_place(self.context.clone(), self.slots.clone(), self.interrupt.clone());
        self.push(delivery, None, |delivery, context| async move {
            let mut slot = slot;
            bury(delivery, failure, &context, &mut slot).await;
        });
    }

    fn push<F>(&mut self, delivery: Delivery, lane: Option<Lane>, run: impl FnOnce(Delivery, Arc<Context>) -> F)
    where
        F: Future + Send + 'static,
    {
        let (offset, bytes) = (delivery.offset(), delivery.event().size());
        self.running_bytes += bytes;
        let journey = run(delivery, self.context.clone());
        self.journeys.push(Box::pin(async move {
            journey.await;
            Ended { offset, lane, bytes }
        }));
    }

    fn ended(&mut self, ended: Ended) {
        self.running_bytes -= ended.bytes;
        if let Some(lane) = ended.lane {
            self.lanes.ended(lane);
        }
        let mut breaker = self.context.breaker.lock();
        if !breaker.is_calm() {
            breaker.ended(ended.offset);
        }
    }
}

/// One event from its first try to its settlement. True when no try was left or none would help: a letter was due.
pub(crate) async fn journey(mut delivery: Delivery, context: Arc<Context>, mut slot: Slot) -> bool {
    let mut failed = None;
    loop {
        let outcome = deliver(&mut delivery, failed.take(), &context, &mut slot).await;
        let is_exhausted = matches!(outcome, Outcome::Exhausted(_));
        match settle(delivery, outcome, &context, &mut slot).await {
            None => return is_exhausted,
            Some(Again {
                delivery: back,
                failure,
            }) => {
                delivery = back;
                failed = Some(failure);
            }
        }
    }
}
