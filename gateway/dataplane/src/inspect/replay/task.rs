//! A running replay: reads and filters events, delivers them again, and reports its counts twice a second.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use cesql::Budget;
use channel::{Offset, Record};
use jiff::Timestamp;
use spec::model::Ordering;

use super::{Claim, Progress, Replay, ReplayCounts, is_paused};
use crate::{
    Plane,
    journey::{
        context::Context,
        dispatcher::{FILTER_STEPS_PER_TURN, Switch},
        gate::Gate,
        redelivery::{IN_FLIGHT, REPORT_EVERY, Reading, Redelivery, Step},
        settlement::End,
    },
};

/// On every replayed event.
pub(crate) const REPLAY: &str = "headgatereplay";

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 256;

pub(super) struct ReplayTask {
    plane: Plane,
    context: Arc<Context>,
    switch: Arc<Switch>,
    what: Replay,
    /// The value of `headgatereplay`.
    mark: String,
    /// The offsets that were not read yet.
    ranges: VecDeque<Range<Offset>>,
    redelivery: Redelivery,
    so_far: ReplayCounts,
    _claim: Claim,
}

/// How an event that was read is handled.
enum Verdict {
    Matched,
    /// The filter that was asked for leaves it out.
    NotAskedFor,
    /// The subscription's own filters leave it out.
    LeftOut,
}

impl ReplayTask {
    pub(super) fn new(
        plane: Plane,
        context: Arc<Context>,
        switch: Arc<Switch>,
        what: Replay,
        ranges: VecDeque<Range<Offset>>,
        claim: Claim,
    ) -> Self {
        let route = context.route();
        let started_max = match route.subscription.ordering {
            Ordering::None => IN_FLIGHT.min(route.subscription.max_in_flight),
            // In stored order means one after the other.
            Ordering::Key | Ordering::Total => 1,
        };
        tracing::info!(subscription = %context.name, dry_run = what.dry_run, "replay begins");
        let stop = plane.0.runtime.draining.clone();
        Self {
            mark: Timestamp::now().to_string(),
            ranges,
            redelivery: Redelivery::new(context.clone(), stop, Gate::start, started_max, what.rate),
            so_far: ReplayCounts::default(),
            plane,
            context,
            switch,
            what,
            _claim: claim,
        }
    }

    /// Works until there is something to report.
    ///
    /// # Cancel safety
    /// Dropped, it ends the replay.
    pub(super) async fn go_on(&mut self) -> Progress {
        let report = tokio::time::sleep(REPORT_EVERY);
        tokio::pin!(report);
        let draining = self.plane.0.runtime.draining.clone();
        loop {
            let due = self.redelivery.start(is_paused(&self.context, &self.switch));
            if self.redelivery.is_idle() && self.ranges.iter().all(Range::is_empty) {
                return self.ended(None);
            }
            if !self.is_current() {
                return self.ended(Some("the subscription was removed or begun anew".into()));
            }
            if self.redelivery.needs_page() {
                self.redelivery.reading = self.next_page();
            }
            let step = tokio::select! {
                biased;
                () = draining.cancelled() => return self.ended(Some("the gateway ends".into())),
                () = &mut report => return Progress::Going(self.counted()),
                step = self.redelivery.step(due) => step,
            };
            match step {
                Step::Ended(_, End::Delivered | End::Forwarded | End::Replied) => self.so_far.delivered += 1,
                Step::Ended(_, End::DeadLettered(_)) => self.so_far.dead_lettered += 1,
                Step::Ended(_, End::Filtered | End::Released) | Step::Due => {}
                Step::Read(Ok(page)) => self.take(page).await,
                Step::Read(Err(error)) => {
                    let why = format!("the channel cannot be read: {}", crate::chain(&error));
                    return self.ended(Some(why));
                }
            }
        }
    }

    /// Whether the subscription still runs as it did when the replay was requested.
    fn is_current(&self) -> bool {
        let state = self.plane.0.runtime.state.lock();
        let running = state.live(&self.context.name);
        running.is_some_and(|running| Arc::ptr_eq(&running.context, &self.context))
    }

    fn next_page(&mut self) -> Option<Reading> {
        while self.ranges.front().is_some_and(Range::is_empty) {
            self.ranges.pop_front();
        }
        let (from, channel) = (self.ranges.front()?.start, self.context.channel.clone());
        Some(Box::pin(async move { channel.read(from, PAGE).await }))
    }

    async fn take(&mut self, page: Vec<Record>) {
        let Some(range) = self.ranges.front_mut() else {
            return;
        };
        let end = range.end;
        range.start = match page.last() {
            Some(last) if last.offset < end => last.offset.next(),
            // The rest of it holds nothing.
            _ => end,
        };
        let mut steps = 0;
        for record in page.into_iter().filter(|record| record.offset < end) {
            self.so_far.read += 1;
            let budget = Budget::default();
            let verdict = self.judge(&record, &budget);
            steps += budget.taken();
            match verdict {
                None => self.so_far.unfit += 1,
                Some(Verdict::NotAskedFor) => {}
                Some(Verdict::LeftOut) => self.so_far.left_out += 1,
                Some(Verdict::Matched) => {
                    self.so_far.matched += 1;
                    if !self.what.dry_run {
                        let marked = self.marked(record);
                        self.redelivery.waiting.push_back(marked);
                    }
                }
            }
            // Costly filters: other subscriptions have their turn between two events.
            if steps >= FILTER_STEPS_PER_TURN {
                tokio::task::yield_now().await;
                steps = 0;
            }
        }
    }

    /// Returns `None` when a filter cannot be evaluated.
    fn judge(&self, record: &Record, budget: &Budget) -> Option<Verdict> {
        let is_asked_for = match &self.what.filter {
            Some(filter) => filter.evaluate_within(&record.event, budget).ok()?,
            None => true,
        };
        if !is_asked_for {
            return Some(Verdict::NotAskedFor);
        }
        let is_admitted = self.context.route().admits(&record.event, budget).ok()?;
        Some(if is_admitted {
            Verdict::Matched
        } else {
            Verdict::LeftOut
        })
    }

    fn marked(&self, record: Record) -> Record {
        let marked = record.event.edit().set(REPLAY, &self.mark).finish();
        Record {
            // Only a sender's own attributes can fill the table: then it goes without ours rather than not at all.
            event: marked.unwrap_or(record.event),
            ..record
        }
    }

    fn counted(&self) -> ReplayCounts {
        let left = self
            .ranges
            .iter()
            .map(|range| range.end.0.saturating_sub(range.start.0));
        ReplayCounts {
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
