//! Past events delivered again: what a replay and a redrive share.
//!
//! A page is read ahead, a few events are in flight, and at most so many a second are started. A redelivery yields to the
//! subscription's own deliveries: the gate lets its events start as it does theirs, and none starts while the route is blocked.
//! The caller says what is read, and what follows from the [`End`] of an event.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use channel::{Attempts, Delivery, Offset, ReadError, Record, Settle, SettleError};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    context::Context,
    dispatcher::journey,
    gate::{Gate, Hold, Started},
    settlement::End,
    slot::{Interrupts, Slot},
};

/// Events tried at once: a redelivery must not crowd out the subscription's own deliveries.
pub(crate) const IN_FLIGHT: usize = 8;

/// While nothing may be started, it is asked again after this.
const RETRY_START: Duration = Duration::from_millis(200);

/// How often a redelivery reports its progress.
pub(crate) const REPORT_EVERY: Duration = Duration::from_millis(500);

/// The slowest rate: one a day.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

/// A page that is being read; it continues where it was when it is polled again.
pub(crate) type Reading = Pin<Box<dyn Future<Output = Result<Vec<Record>, ReadError>> + Send>>;

type Journey = Pin<Box<dyn Future<Output = (Offset, End)> + Send>>;

pub(crate) struct Redelivery {
    context: Arc<Context>,
    stop: CancellationToken,
    start: fn(&Arc<Gate>) -> Result<Started, Hold>,
    slots: Arc<Semaphore>,
    /// Events started and not ended at most, those included that wait for another attempt.
    started_max: usize,
    /// Between the starts of two events.
    interval: Option<Duration>,
    /// When the next one may start.
    due: Instant,
    pub(crate) reading: Option<Reading>,
    /// Read, and not started yet.
    pub(crate) waiting: VecDeque<Record>,
    journeys: FuturesUnordered<Journey>,
}

/// The result of [`Redelivery::step`].
pub(crate) enum Step {
    Ended(Offset, End),
    Read(Result<Vec<Record>, ReadError>),
    /// It is time to try to start again.
    Due,
}

impl Redelivery {
    /// `stop` ends the waits of events in flight; `start` is how the gate lets an event start; `rate` is in events a second.
    pub(crate) fn new(
        context: Arc<Context>,
        stop: CancellationToken,
        start: fn(&Arc<Gate>) -> Result<Started, Hold>,
        started_max: usize,
        rate: Option<f64>,
    ) -> Self {
        Self {
            context,
            stop,
            start,
            slots: Arc::new(Semaphore::new(IN_FLIGHT)),
            started_max,
            interval: interval(rate),
            due: Instant::now(),
            reading: None,
            waiting: VecDeque::new(),
            journeys: FuturesUnordered::new(),
        }
    }

    /// Whether nothing is being read, waits or is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.needs_page() && self.journeys.is_empty()
    }

    pub(crate) fn needs_page(&self) -> bool {
        self.reading.is_none() && self.waiting.is_empty()
    }

    /// Starts what may be started now, nothing while `is_held`. Returns when to try again, if something else than the end of an event
    /// is waited for.
    pub(crate) fn start(&mut self, is_held: bool) -> Option<Instant> {
        while !self.waiting.is_empty() && self.journeys.len() < self.started_max {
            let now = Instant::now();
            if self.due > now {
                return Some(self.due);
            }
            if is_held || self.context.route().blocked.is_some() {
                return Some(now + RETRY_START);
            }
            let permit = self.slots.clone().try_acquire_owned().ok()?;
            let started = match (self.start)(&self.context.gate) {
                Ok(started) => started,
                Err(Hold::Probe) => return Some(now + RETRY_START),
                Err(Hold::Until(at)) => return Some(at),
            };
            let record = self.waiting.pop_front()?;
            if let Some(interval) = self.interval {
                // A little late is made good, what was held up is not: that would be a burst.
                let earliest = now.checked_sub(interval).map_or(self.due, |late| self.due.max(late));
                self.due = earliest + interval;
            }
            let context = self.context.clone();
            let interrupts = Interrupts {
                end: self.stop.clone(),
                paused: None,
            };
            let slot = Slot::new(context.clone(), self.slots.clone(), Some(permit), interrupts, started);
            self.journeys.push(Box::pin(async move {
                let Record {
                    offset,
                    stored_at,
                    event,
                } = record;
                let delivery = Delivery::new(event, offset, stored_at, Attempts::default(), Box::new(NoCursor));
                (offset, journey(delivery, context, slot).await)
            }));
        }
        None
    }

    /// Returns when an event ended, a page was read, or it is `due`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn step(&mut self, due: Option<Instant>) -> Step {
        tokio::select! {
            biased;
            Some((offset, end)) = self.journeys.next(), if !self.journeys.is_empty() => Step::Ended(offset, end),
            page = poll(self.reading.as_mut()), if self.reading.is_some() => {
                self.reading = None;
                Step::Read(page)
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(|| Instant::now() + REPORT_EVERY)) => Step::Due,
        }
    }
}

/// There is nothing to move when the event is settled: the caller learns it from the [`End`].
struct NoCursor;

impl Settle for NoCursor {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        Ok(())
    }

    fn release(self: Box<Self>, _after: Duration) {}

    fn remember(&mut self, _attempts: Attempts) {}
}

/// Polls a future that continues where it was when this is dropped.
pub(crate) async fn poll<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The time between two starts, at `rate` a second.
fn interval(rate: Option<f64>) -> Option<Duration> {
    let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0)?;
    let interval = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(INTERVAL_MAX);
    Some(interval.min(INTERVAL_MAX))
}
