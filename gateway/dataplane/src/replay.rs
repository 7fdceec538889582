//! Replay: past events of a channel, delivered once more to one subscription alone.
//!
//! What a channel keeps between two places or times is read page by page, beside the cursors, which do not move. What passes
//! the subscription's own filters, and the one that was asked for, goes the way of any delivery: its route, its retries, its
//! dead letters. Each event carries `headgatereplay`, the time at which the replay was asked for, so that a subscriber can
//! tell it from the first.
//!
//! A replay is a stream of what it came to so far: whoever drops the stream ends it. It is bounded: one a subscription, a few
//! events in flight, a page ahead. It yields to the subscription's own deliveries: while the sink is down it probes as they do
//! (CONTRACT DL-8), while the subscription is paused it waits.

mod running;

use std::{collections::VecDeque, ops::Range, time::SystemTime};

use cesql::Filter;
use channel::{Offset, ReadError, Start};
use futures_util::{Stream, stream};
use spec::ObjectName;

use crate::{Plane, context::Context, dispatcher::Switch};
#[cfg(test)]
pub(crate) use running::REPLAY;
use running::Running;

/// What to deliver again.
#[derive(Clone, Debug)]
pub struct Replay {
    pub from: Start,
    /// `None`: what is stored when the replay begins.
    pub to: Option<Until>,
    pub filter: Option<Filter>,
    /// Events a second.
    pub rate: Option<f64>,
    /// Count, and deliver nothing.
    pub dry_run: bool,
}

/// Where a replay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Only what was stored before.
    Time(SystemTime),
    /// The last place.
    Place(Offset),
}

/// What a replay came to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Events looked at.
    pub read: u64,
    /// Of those, what the filters let through: to be delivered, or already.
    pub matched: u64,
    pub delivered: u64,
    pub dead_lettered: u64,
    /// Events on which a filter could not be evaluated: left out.
    pub unfit: u64,
    /// Places not looked at yet; some may hold nothing.
    pub left: u64,
}

/// What a replay says.
#[derive(Clone, Debug)]
pub enum Progress {
    Going(Replayed),
    Done(Replayed),
    /// It ended early, for this reason.
    Stopped(Replayed, String),
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("subscription {0} not found")]
    NoSubscription(ObjectName),
    #[error("subscription {0} does not run: see its conditions")]
    NotRunning(ObjectName),
    #[error("subscription {0} is paused: resume it, or replay with --dry-run")]
    Paused(ObjectName),
    #[error("channel {0} keeps nothing that was delivered: only embedded, kafka and nats channels can replay")]
    NothingKept(ObjectName),
    #[error("a replay to {0} is going on: wait for it, or end the command that asked for it")]
    Busy(ObjectName),
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
            let state = self.0.state.lock();
            let running = state.subscriptions.get(subscription);
            running.map(|running| (running.context.clone(), running.switch.clone()))
        };
        let Some((context, switch)) = running else {
            return Err(match self.spec().subscriptions.contains_key(subscription) {
                true => ReplayError::NotRunning(subscription.clone()),
                false => ReplayError::NoSubscription(subscription.clone()),
            });
        };
        if !context.channel.promises().replay {
            return Err(ReplayError::NothingKept(context.channel_name.clone()));
        }
        if !what.dry_run && is_paused(&context, &switch) {
            return Err(ReplayError::Paused(subscription.clone()));
        }
        let claim = Claim::new(self, subscription).ok_or_else(|| ReplayError::Busy(subscription.clone()))?;
        let stretches = stretches(&context, &what).await?;
        let running = Running::new(self.clone(), context, switch, what, stretches, claim);
        Ok(stream::unfold(Some(running), |running| async move {
            let mut running = running?;
            let progress = running.go_on().await;
            let going = matches!(progress, Progress::Going(_));
            Some((progress, going.then_some(running)))
        }))
    }
}

/// By its document or by a person.
pub(crate) fn is_paused(context: &Context, switch: &Switch) -> bool {
    context.route().subscription.paused || switch.is_paused()
}

/// Where the events lie, partition by partition.
async fn stretches(context: &Context, what: &Replay) -> Result<VecDeque<Range<Offset>>, ReadError> {
    let mut stretches = context.channel.stretches(what.from).await?;
    let ends: Vec<Offset> = match what.to {
        None => Vec::new(),
        Some(Until::Time(time)) => {
            let later = context.channel.stretches(Start::Time(time)).await?;
            later.iter().map(|stretch| stretch.start).collect()
        }
        Some(Until::Place(place)) => vec![place.next(); stretches.len()],
    };
    for (stretch, end) in stretches.iter_mut().zip(ends) {
        stretch.end = stretch.end.min(end).max(stretch.start);
    }
    Ok(stretches.into())
}

/// The right to replay to a subscription; given back when dropped.
struct Claim(Plane, ObjectName);

impl Claim {
    fn new(plane: &Plane, subscription: &ObjectName) -> Option<Self> {
        let is_free = plane.0.replaying.lock().insert(subscription.clone());
        is_free.then(|| Self(plane.clone(), subscription.clone()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.0.replaying.lock().remove(&self.1);
    }
}
