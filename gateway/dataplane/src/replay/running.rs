//! A replay that runs: a page is read ahead, a few events are in flight, and once a second it says how far it is.

use std::{collections::VecDeque, ops::Range, pin::Pin, sync::Arc, time::Duration};

use channel::{Offset, ReadError, Record};
use futures_util::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use spec::model::Ordering;
use tokio::{sync::Semaphore, time::Instant};

use super::{Claim, Progress, Replay, Replayed, is_paused};
use crate::{
    Plane,
    apart::{End, journey_apart},
    breaker::Permission,
    context::{Context, Slot},
    dispatcher::Switch,
};

/// On every replayed event.
pub(crate) const REPLAY: &str = "headgatereplay";

/// A replay must not crowd out the subscription's own deliveries.
const IN_FLIGHT: usize = 8;

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 256;

/// How often a replay says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// While nothing may be started, it is looked again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

type Reading = Pin<Box<dyn Future<Output = Result<Vec<Record>, ReadError>> + Send>>;
type Journey = Pin<Box<dyn Future<Output = (Offset, End)> + Send>>;

pub(super) struct Running {
    plane: Plane,
    context: Arc<Context>,
    switch: Arc<Switch>,
    what: Replay,
    /// What `headgatereplay` says.
    mark: String,
    /// What was not read yet.
    stretches: VecDeque<Range<Offset>>,
    reading: Option<Reading>,
    /// Read, matched and not started yet.
    waiting: VecDeque<Record>,
    journeys: FuturesUnordered<Journey>,
    slots: Arc<Semaphore>,
    in_flight: usize,
    /// The one in flight that shows whether the sink is back.
    probe: Option<Offset>,
    /// When the next one may start.
    due: Instant,
    so_far: Replayed,
    _claim: Claim,
}

/// What keeps the next event from being started.
enum Hold {
    /// Nothing: there is none, or a place has to become free.
    None,
    Until(Instant),
}

impl Running {
    pub(super) fn new(
        plane: Plane,
        context: Arc<Context>,
        switch: Arc<Switch>,
        what: Replay,
        stretches: VecDeque<Range<Offset>>,
        claim: Claim,
    ) -> Self {
        let route = context.route();
        let in_flight = match route.subscription.ordering {
            Ordering::None => IN_FLIGHT.min(route.subscription.max_in_flight),
            // In stored order means one after the other.
            Ordering::Key | Ordering::Total => 1,
        };
        tracing::info!(subscription = %context.name, dry_run = what.dry_run, "replay begins");
        Self {
            mark: Timestamp::now().to_string(),
            stretches,
            reading: None,
            waiting: VecDeque::new(),
            journeys: FuturesUnordered::new(),
            slots: Arc::new(Semaphore::new(in_flight)),
            in_flight,
            probe: None,
            due: Instant::now(),
            so_far: Replayed::default(),
            plane,
            context,
            switch,
            what,
            _claim: claim,
        }
    }

    /// Works until there is something to say. Cancel safe in that whoever drops this ends the replay.
    pub(super) async fn go_on(&mut self) -> Progress {
        let report = tokio::time::sleep(REPORT_EVERY);
        tokio::pin!(report);
        let draining = self.plane.0.draining.clone();
        loop {
            let hold = self.start();
            if self.is_done() {
                return self.ended(None);
            }
            if !self.is_current() {
                return self.ended(Some("the subscription was removed or begun anew".into()));
            }
            if self.reading.is_none() && self.waiting.is_empty() {
                self.reading = self.next_page();
            }
            let held = match hold {
                Hold::None => Instant::now() + REPORT_EVERY,
                Hold::Until(time) => time,
            };
            tokio::select! {
                biased;
                () = draining.cancelled() => return self.ended(Some("the gateway ends".into())),
                () = &mut report => return Progress::Going(self.counted()),
                Some((offset, end)) = self.journeys.next(), if !self.journeys.is_empty() => self.arrived(offset, &end),
                page = read(&mut self.reading), if self.reading.is_some() => {
                    self.reading = None;
                    match page {
                        Ok(page) => self.take(page),
                        Err(error) => {
                            let why = format!("the channel cannot be read: {}", crate::chain(&error));
                            return self.ended(Some(why));
                        }
                    }
                }
                () = tokio::time::sleep_until(held) => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_read = self.stretches.iter().all(Range::is_empty);
        self.journeys.is_empty() && self.waiting.is_empty() && self.reading.is_none() && is_read
    }

    /// Is it still the subscription that was asked for?
    fn is_current(&self) -> bool {
        let state = self.plane.0.state.lock();
        let running = state.subscriptions.get(&self.context.name);
        running.is_some_and(|running| Arc::ptr_eq(&running.context, &self.context))
    }

    fn next_page(&mut self) -> Option<Reading> {
        while self.stretches.front().is_some_and(Range::is_empty) {
            self.stretches.pop_front();
        }
        let (from, channel) = (self.stretches.front()?.start, self.context.channel.clone());
        Some(Box::pin(async move { channel.read(from, PAGE).await }))
    }

    fn take(&mut self, page: Vec<Record>) {
        let Some(stretch) = self.stretches.front_mut() else {
            return;
        };
        let end = stretch.end;
        stretch.start = match page.last() {
            Some(last) if last.offset < end => last.offset.next(),
            // The rest of it holds nothing.
            _ => end,
        };
        for record in page.into_iter().filter(|record| record.offset < end) {
            self.so_far.read += 1;
            match self.wants(&record) {
                None => self.so_far.unfit += 1,
                Some(false) => {}
                Some(true) => {
                    self.so_far.matched += 1;
                    if !self.what.dry_run {
                        self.waiting.push_back(record);
                    }
                }
            }
        }
    }

    /// `None`: that cannot be said.
    fn wants(&self, record: &Record) -> Option<bool> {
        let asked = match &self.what.filter {
            Some(filter) => filter.evaluate(&record.event).ok()?,
            None => true,
        };
        Some(asked && self.context.route().admits(&record.event).ok()?)
    }

    /// Starts what may be started now.
    fn start(&mut self) -> Hold {
        while !self.waiting.is_empty() && self.journeys.len() < self.in_flight {
            let now = Instant::now();
            if self.due > now {
                return Hold::Until(self.due);
            }
            let is_held = is_paused(&self.context, &self.switch) || self.context.route().blocked.is_some();
            let permission = self.context.breaker.lock().permission();
            if is_held || permission == Permission::Wait {
                return Hold::Until(now + LOOK_AGAIN);
            }
            let Ok(permit) = self.slots.clone().try_acquire_owned() else {
                return Hold::None;
            };
            let Some(record) = self.waiting.pop_front() else {
                return Hold::None;
            };
            if permission == Permission::Probe {
                self.context.breaker.lock().probing(record.offset);
                self.probe = Some(record.offset);
            }
            if let Some(pause) = pause(self.what.rate) {
                // A little late is made good, what was held up is not: that would be a burst.
                self.due = now.checked_sub(pause).map_or(self.due, |late| self.due.max(late)) + pause;
            }
            let interrupt = self.plane.0.draining.child_token();
            let slot = Slot::new(self.context.clone(), self.slots.clone(), permit, interrupt);
            self.journeys
                .push(Box::pin(journey(self.marked(record), self.context.clone(), slot)));
        }
        Hold::None
    }

    fn marked(&self, record: Record) -> Record {
        let marked = record.event.edit().set(REPLAY, &self.mark).finish();
        Record {
            // Only a sender's own attributes can fill the table: then it goes without ours rather than not at all.
            event: marked.unwrap_or(record.event),
            ..record
        }
    }

    fn arrived(&mut self, offset: Offset, end: &End) {
        match end {
            End::Delivered => self.so_far.delivered += 1,
            End::DeadLettered => self.so_far.dead_lettered += 1,
            End::Released => {}
        }
        if self.probe == Some(offset) {
            self.probe = None;
            self.context.breaker.lock().ended(offset);
            // The subscription's own deliveries may have waited for it.
            self.context.changed.notify_one();
        }
    }

    fn counted(&self) -> Replayed {
        let left = self
            .stretches
            .iter()
            .map(|stretch| stretch.end.0.saturating_sub(stretch.start.0));
        Replayed {
            left: left.sum(),
            ..self.so_far
        }
    }

    fn ended(&self, why: Option<String>) -> Progress {
        let counted = self.counted();
        tracing::info!(
            subscription = %self.context.name, read = counted.read, matched = counted.matched, delivered = counted.delivered,
            dead_lettered = counted.dead_lettered, dry_run = self.what.dry_run, stopped = why, "replay ended"
        );
        match why {
            None => Progress::Done(counted),
            Some(why) => Progress::Stopped(counted, why),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A probe that is dropped in flight must not hold up the next one.
        if let Some(probe) = self.probe {
            self.context.breaker.lock().ended(probe);
            self.context.changed.notify_one();
        }
    }
}

/// Polls a page that is being read; it goes on where it was when this is dropped.
async fn read(reading: &mut Option<Reading>) -> Result<Vec<Record>, ReadError> {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

/// A slower rate than one a day is meant by nobody.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Between two events, at most so many a second.
fn pause(rate: Option<f64>) -> Option<Duration> {
    let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0)?;
    let pause = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(PAUSE_MAX);
    Some(pause.min(PAUSE_MAX))
}

async fn journey(record: Record, context: Arc<Context>, slot: Slot) -> (Offset, End) {
    let offset = record.offset;
    let end = journey_apart(record.event, offset, record.stored_at, context, slot).await;
    (offset, end)
}
