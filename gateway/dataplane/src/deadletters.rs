//! Dead letters as people handle them: listed, delivered again, dropped.
//!
//! A redrive delivers the original event to its subscription alone, by the same path as any delivery. The letter is removed
//! once the event is settled: taken by the subscriber, or written as a new letter that tells of the new tries.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use cesql::Filter;
use channel::{Channel, Offset};
use event::Event;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use spec::ObjectName;
use tokio::sync::Semaphore;

use crate::{
    Plane,
    apart::{End, journey_apart},
    context::{Context, Slot},
    letter,
};

/// Letters are read in pages of this many; with whole answers a page is 23 MiB at the very worst.
const PAGE: usize = 256;

/// A redrive must not crowd out the subscription's own deliveries.
const REDRIVE_IN_FLIGHT: usize = 8;

#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub subscription: ObjectName,
    /// The letter's own place in the log: unique in its channel.
    pub place: u64,
    /// The event as it was accepted, without the letter's extensions.
    pub event: Event,
    /// `headgatereason`.
    pub reason: String,
    /// `headgatedetail`: what was found wrong before any try, as of a filter that could not be evaluated.
    pub detail: Option<String>,
    /// The HTTP status of the last answer, if there was one.
    pub code: Option<u16>,
    pub attempts: u32,
    pub destination: Option<String>,
    pub first_attempt: Option<Timestamp>,
    pub last_attempt: Option<Timestamp>,
    pub stored_at: Timestamp,
    /// The whole answer's body, at most 64 KiB.
    pub answer: Option<Bytes>,
}

#[derive(Clone, Debug, Default)]
pub struct Redrive {
    /// Event ids; empty means all of the subscription.
    pub ids: Vec<String>,
    pub filter: Option<Filter>,
    /// Events a second.
    pub rate: Option<f64>,
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Redriven {
    /// How many letters matched; unless it was a dry run they are now being delivered in the background, and each is
    /// removed from the log once its event is settled.
    pub matched: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    #[error("subscription {0} not found")]
    NoSubscription(ObjectName),
    #[error("no dead letter of {subscription} has the id {id}")]
    NoLetter { subscription: ObjectName, id: String },
    #[error("subscription {0} does not run: see its conditions")]
    NotRunning(ObjectName),
    #[error("dead letters cannot be read")]
    Read(#[from] channel::ReadError),
}

impl Plane {
    /// Newest first, of one subscription or of all, at most `max`.
    pub async fn dead_letters(
        &self,
        subscription: Option<&ObjectName>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, LetterError> {
        let mut newest = VecDeque::new();
        for (_, channel) in self.channels_of(subscription) {
            let is_wanted = |letter: &DeadLetter| subscription.is_none_or(|name| *name == letter.subscription);
            newest.extend(newest_letters(&*channel, max, is_wanted).await?);
        }
        let mut all: Vec<DeadLetter> = newest.into();
        all.sort_by_key(|letter| std::cmp::Reverse(letter.stored_at));
        all.truncate(max);
        Ok(all)
    }

    /// Delivers letters' events again, to that subscription alone. Returns at once; `NoLetter` when an id is not there.
    pub async fn redrive(&self, subscription: &ObjectName, what: Redrive) -> Result<Redriven, LetterError> {
        let running = self
            .0
            .state
            .lock()
            .subscriptions
            .get(subscription)
            .map(|running| running.context.clone());
        let Some(context) = running else {
            return Err(match self.spec().subscriptions.contains_key(subscription) {
                true => LetterError::NotRunning(subscription.clone()),
                false => LetterError::NoSubscription(subscription.clone()),
            });
        };
        let wanted = |letter: &DeadLetter| {
            what.filter
                .as_ref()
                .is_none_or(|filter| filter.evaluate(&letter.event).unwrap_or(false))
        };
        let places = places(&*context.channel, subscription, &what.ids, wanted).await?;
        let redriven = Redriven { matched: places.len() };
        if !what.dry_run {
            self.0
                .tasks
                .spawn(deliver_again(self.clone(), context, places, what.rate));
        }
        Ok(redriven)
    }

    /// Removes letters by event id (empty: all of them); all ids must exist, else nothing is removed.
    pub async fn drop_letters(&self, subscription: &ObjectName, ids: &[String]) -> Result<usize, LetterError> {
        let mut dropped = 0;
        let channels = self.channels_of(Some(subscription));
        for (_, channel) in &channels {
            let places = match places(&**channel, subscription, ids, |_| true).await {
                // With several channels to look through the letters may be in another.
                Err(LetterError::NoLetter { .. }) if channels.len() > 1 => continue,
                found => found?,
            };
            let places: Vec<Offset> = places.into_iter().map(Offset).collect();
            dropped += channel.letters().remove(&places).await?;
        }
        match (dropped, ids.first()) {
            (0, Some(id)) => Err(LetterError::NoLetter {
                subscription: subscription.clone(),
                id: id.clone(),
            }),
            _ => Ok(dropped),
        }
    }

    /// Where letters of that subscription may be: in its channel; in any, when it is gone.
    fn channels_of(&self, subscription: Option<&ObjectName>) -> Vec<(ObjectName, Arc<dyn Channel>)> {
        let spec = self.spec();
        let found = subscription.and_then(|name| spec.subscriptions.get(name));
        self.open_channels(found.map(|found| &found.channel))
    }
}

/// The newest `max` letters of a channel that are wanted, oldest first.
pub(crate) async fn newest_letters(
    channel: &dyn Channel,
    max: usize,
    is_wanted: impl Fn(&DeadLetter) -> bool,
) -> Result<VecDeque<DeadLetter>, LetterError> {
    let mut found = VecDeque::new();
    each_letter(channel, |letter| {
        if is_wanted(&letter) {
            found.push_back(letter);
        }
        if found.len() > max {
            found.pop_front();
        }
    })
    .await?;
    Ok(found)
}

/// Calls `see` for each letter, oldest first, page by page.
async fn each_letter(channel: &dyn Channel, mut see: impl FnMut(DeadLetter)) -> Result<(), LetterError> {
    let mut from = Offset(0);
    loop {
        let page = channel.letters().list(from, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        from = last.offset.next();
        page.iter().filter_map(letter::read).for_each(&mut see);
    }
}

/// The places of the letters that are meant.
async fn places(
    channel: &dyn Channel,
    subscription: &ObjectName,
    ids: &[String],
    wanted: impl Fn(&DeadLetter) -> bool,
) -> Result<Vec<u64>, LetterError> {
    let mut places = Vec::new();
    let mut missing: Vec<&String> = ids.iter().collect();
    each_letter(channel, |letter| {
        let named = ids.is_empty() || ids.iter().any(|id| id == letter.event.id());
        if letter.subscription == *subscription && named {
            missing.retain(|id| *id != letter.event.id());
            if wanted(&letter) {
                places.push(letter.place);
            }
        }
    })
    .await?;
    match missing.first() {
        Some(id) => Err(LetterError::NoLetter {
            subscription: subscription.clone(),
            id: (*id).clone(),
        }),
        None => Ok(places),
    }
}

async fn deliver_again(plane: Plane, context: Arc<Context>, places: Vec<u64>, rate: Option<f64>) {
    let slots = Arc::new(Semaphore::new(REDRIVE_IN_FLIGHT));
    let pause = rate
        .filter(|rate| rate.is_finite() && *rate > 0.0)
        .and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
    let count = places.len();
    tracing::info!(subscription = %context.name, letters = count, "delivering dead letters again");
    let paced = stream::iter(places).then(|place| async move {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        place
    });
    let all = paced.for_each_concurrent(REDRIVE_IN_FLIGHT, |place| redrive_one(&plane, &context, &slots, place));
    tokio::select! {
        () = all => tracing::info!(subscription = %context.name, letters = count, "dead letters were delivered again"),
        // What was not settled is still in the log.
        () = plane.0.draining.cancelled() => {}
    }
}

async fn redrive_one(plane: &Plane, context: &Arc<Context>, slots: &Arc<Semaphore>, place: u64) {
    let key = (context.channel_name.clone(), place);
    if !plane.0.redriving.lock().insert(key.clone()) {
        return;
    }
    if let Err(error) = redrive_letter(plane, context, slots, Offset(place)).await {
        tracing::warn!(subscription = %context.name, place, %error, "dead letter could not be delivered again");
    }
    plane.0.redriving.lock().remove(&key);
}

async fn redrive_letter(
    plane: &Plane,
    context: &Arc<Context>,
    slots: &Arc<Semaphore>,
    place: Offset,
) -> Result<(), channel::ReadError> {
    let found = context.channel.letters().list(place, 1).await?;
    // Dropped by a person since it was listed.
    let Some(stored) = found.into_iter().find(|letter| letter.offset == place) else {
        return Ok(());
    };
    let Some(letter) = letter::read(&stored) else {
        return Ok(());
    };
    let Ok(permit) = slots.clone().acquire_owned().await else {
        return Ok(());
    };
    let slot = Slot::new(context.clone(), slots.clone(), permit, plane.0.draining.child_token());
    let end = journey_apart(letter.event, place, stored.stored_at, context.clone(), slot).await;
    // Removing it waits for the disk: it is done here, and not where the delivery is settled.
    if end != End::Released {
        context.channel.letters().remove(&[place]).await?;
    }
    Ok(())
}
