//! A replay delivers past events of a channel again, to one subscription alone.
//!
//! The events between two offsets or times are read page by page; cursors do not move. Events that pass the subscription's own
//! filters, and the requested one, are delivered like any other: same route, same retries, same dead letters. Each carries
//! `headgatereplay`, the time at which the replay was requested, so that a subscriber can tell it from the first delivery.
//!
//! A replay is a stream of its counts so far; dropping the stream ends it. It is bounded: one per subscription, a few events in
//! flight, one page read ahead. It yields to the subscription's own deliveries: while the sink is down it probes as they do
//! (CONTRACT DL-8), while the subscription is paused it waits.

mod task;

use std::{collections::VecDeque, ops::Range, time::SystemTime};

use cesql::Filter;
use channel::{Offset, ReadError, Start};
use futures_util::{Stream, stream};
use spec::ObjectName;

use crate::{
    Plane,
    journey::{context::Context, dispatcher::Switch},
};
#[cfg(test)]
pub(crate) use task::REPLAY;
use task::ReplayTask;

/// The events to deliver again.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Where the replay starts.
    pub from: Start,
    /// `None`: the last event stored when the replay begins.
    pub to: Option<Until>,
    /// Only events that it lets through, beside the subscription's own filters.
    pub filter: Option<Filter>,
    /// Events a second.
    pub rate: Option<f64>,
    /// Count, and deliver nothing.
    pub dry_run: bool,
}

/// Where a replay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Only events stored before this time.
    Time(SystemTime),
    /// The last offset.
    Offset(Offset),
}

/// The counts of a replay so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// Events read.
    pub read: u64,
    /// Events of those that the filters let through, delivered or not yet.
    pub matched: u64,
    /// Events that were delivered.
    pub delivered: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Events that the subscription's own filters left out.
    pub left_out: u64,
    /// Events on which a filter could not be evaluated: left out.
    pub unfit: u64,
    /// Offsets not read yet; some may hold no event.
    pub left: u64,
}

/// A report of a replay.
#[derive(Clone, Debug)]
pub enum Progress {
    /// It runs.
    Going(ReplayCounts),
    /// It ended.
    Done(ReplayCounts),
    /// It ended early, for this reason.
    Stopped(ReplayCounts, String),
}

/// Why a replay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The spec names no such subscription.
    #[error("subscription {0} not found")]
    NoSubscription(ObjectName),
    /// The subscription is named, and does not run.
    #[error("subscription {0} does not run: see its conditions")]
    NotRunning(ObjectName),
    /// The subscription is paused.
    #[error("subscription {0} is paused: resume it, or replay with --dry-run")]
    Paused(ObjectName),
    /// The channel does not keep settled events.
    #[error("channel {0} keeps nothing that was delivered: only embedded, kafka and nats channels can replay")]
    NothingKept(ObjectName),
    /// Another replay to the subscription runs.
    #[error("a replay to {0} is going on: wait for it, or end the command that asked for it")]
    Busy(ObjectName),
    /// The channel cannot be read.
    #[error("channel cannot be read")]
    Read(#[from] ReadError),
}

impl Plane {
    /// Begins a replay. The stream ends with [`Progress::Done`] or [`Progress::Stopped`]; dropped before, it stops, and what
    /// was in flight may have reached the subscriber.
    pub async fn replay(
        &self,
        subscription: &ObjectName,
        what: Replay,
    ) -> Result<impl Stream<Item = Progress> + Send + use<>, ReplayError> {
        let running = {
            let state = self.0.runtime.state.lock();
            let running = state.live(subscription);
            running.map(|running| (running.context.clone(), running.switch.clone()))
        };
        let Some((context, switch)) = running else {
            return Err(if self.spec().subscriptions.contains_key(subscription) {
                ReplayError::NotRunning(subscription.clone())
            } else {
                ReplayError::NoSubscription(subscription.clone())
            });
        };
        if !context.channel.promises().replay {
            return Err(ReplayError::NothingKept(context.channel_name.clone()));
        }
        if !what.dry_run && is_paused(&context, &switch) {
            return Err(ReplayError::Paused(subscription.clone()));
        }
        let claim = Claim::new(self, subscription).ok_or_else(|| ReplayError::Busy(subscription.clone()))?;
        let ranges = ranges(&context, &what).await?;
        let running = ReplayTask::new(self.clone(), context, switch, what, ranges, claim);
        Ok(stream::unfold(Some(running), |running| async move {
            let mut running = running?;
            let progress = running.go_on().await;
            let going = matches!(progress, Progress::Going(_));
            Some((progress, going.then_some(running)))
        }))
    }
}

/// Whether the subscription is paused, by its document or by a person.
pub(crate) fn is_paused(context: &Context, switch: &Switch) -> bool {
    context.route().subscription.paused || switch.is_paused()
}

/// Returns the ranges of offsets to read, one per partition.
async fn ranges(context: &Context, what: &Replay) -> Result<VecDeque<Range<Offset>>, ReadError> {
    let mut ranges = context.channel.ranges(what.from).await?;
    let ends: Vec<Offset> = match what.to {
        None => Vec::new(),
        Some(Until::Time(time)) => {
            let later = context.channel.ranges(Start::Time(time)).await?;
            later.iter().map(|range| range.start).collect()
        }
        Some(Until::Offset(offset)) => vec![offset.next(); ranges.len()],
    };
    for (range, end) in ranges.iter_mut().zip(ends) {
        range.end = range.end.min(end).max(range.start);
    }
    Ok(ranges.into())
}

/// The right to replay to a subscription; given back when dropped.
struct Claim(Plane, ObjectName);

impl Claim {
    fn new(plane: &Plane, subscription: &ObjectName) -> Option<Self> {
        let is_free = plane.0.requests.replaying.lock().insert(subscription.clone());
        is_free.then(|| Self(plane.clone(), subscription.clone()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.0.requests.replaying.lock().remove(&self.1);
    }
}
