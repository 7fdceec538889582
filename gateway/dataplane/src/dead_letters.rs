//! Operations on dead letters: list, redrive, drop.
//!
//! A redrive delivers the original event to its subscription alone, by the same path as any delivery. The letter is removed
//! once the event is settled: delivered, or written as a new letter that describes the new attempts.

pub(crate) mod encoding;
mod listing;
mod redrive;

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use cesql::Filter;
use channel::{Channel, Offset, ReadError};
use event::Event;
use jiff::Timestamp;
use spec::ObjectName;
use tokio::sync::SemaphorePermit;

use crate::Plane;
pub use listing::ListedDeadLetter;
pub use redrive::{RedriveCounts, RunningRedrive};

/// Letters are read in pages of this many; with whole answers a page is 23 MiB at the very worst.
const PAGE: usize = 256;

/// A dead letter with its facts.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// `NAMESPACE/_unknown` with the channel's namespace where the letter's facts cannot be read.
    pub subscription: ObjectName,
    /// The letter's offset in the dead-letter log: unique in its channel.
    pub offset: u64,
    /// The event as it was accepted.
    pub event: Event,
    /// `headgatereason`.
    pub reason: String,
    /// `headgatedetail`: what was found wrong before any try, as of a filter that could not be evaluated.
    pub detail: Option<String>,
    /// The HTTP status of the last answer, if there was one.
    pub code: Option<u16>,
    /// Failed attempts.
    pub attempts: u32,
    /// The target of the last attempt, as it is shown.
    pub destination: Option<String>,
    /// When the first attempt failed.
    pub first_attempt: Option<Timestamp>,
    /// When the last attempt failed.
    pub last_attempt: Option<Timestamp>,
    /// When the letter was stored.
    pub stored_at: Timestamp,
    /// The whole answer's body, at most 64 KiB.
    pub answer: Option<Bytes>,
}

/// How dead letters failed: those with the same cause are one trouble, and are dealt with at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureGroup {
    /// `headgatereason`.
    pub reason: String,
    /// The HTTP status of the last answer, if there was one.
    pub code: Option<u16>,
    /// The target of the last attempt, as it is shown.
    pub destination: Option<String>,
}

impl FailureGroup {
    /// Returns the group that a dead letter is in.
    pub fn of(dead_letter: &DeadLetter) -> Self {
        Self {
            reason: dead_letter.reason.clone(),
            code: dead_letter.code,
            destination: dead_letter.destination.clone(),
        }
    }

    fn has(&self, dead_letter: &DeadLetter) -> bool {
        self.reason == dead_letter.reason
            && self.code == dead_letter.code
            && self.destination == dead_letter.destination
    }
}

/// The dead letters to deliver again.
#[derive(Clone, Debug, Default)]
pub struct Redrive {
    /// Event ids; empty means all of the subscription.
    pub ids: Vec<String>,
    /// Only events that it lets through.
    pub filter: Option<Filter>,
    /// Only dead letters of this group.
    pub group: Option<FailureGroup>,
    /// Events a second.
    pub rate: Option<f64>,
    /// Count, and deliver nothing.
    pub dry_run: bool,
}

/// Why dead letters cannot be listed, redriven or dropped.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The spec names no such subscription.
    #[error("subscription {0} not found")]
    NoSubscription(ObjectName),
    /// No letter of the subscription has this event id.
    #[error("no dead letter of {subscription} has the id {id}")]
    NoDeadLetter {
        /// The subscription.
        subscription: ObjectName,
        /// The event id.
        id: String,
    },
    /// The subscription is named, and does not run.
    #[error("subscription {0} does not run: see its conditions")]
    NotRunning(ObjectName),
    /// The dead-letter log cannot be read or written.
    #[error("dead letters cannot be read")]
    Read(#[from] ReadError),
}

impl Plane {
    /// Removes letters by event id (empty: all of them); all ids must exist, else nothing is removed. With a group, only those of
    /// the group.
    pub async fn drop_dead_letters(
        &self,
        subscription: &ObjectName,
        ids: &[String],
        group: Option<&FailureGroup>,
    ) -> Result<usize, DeadLetterError> {
        let mut dropped = 0;
        let is_match = |dead_letter: &DeadLetter| group.is_none_or(|group| group.has(dead_letter));
        let channels = self.channels_of(Some(subscription));
        for (name, channel) in &channels {
            let offsets = match offsets(self, name, &**channel, subscription, ids, is_match).await {
                // With several channels to look through the letters may be in another.
                Err(DeadLetterError::NoDeadLetter { .. }) if channels.len() > 1 => continue,
                found => found?,
            };
            let offsets: Vec<Offset> = offsets.into_iter().collect();
            dropped += channel.dead_letters().remove(&offsets).await?;
        }
        match (dropped, ids.first()) {
            (0, Some(id)) => Err(DeadLetterError::NoDeadLetter {
                subscription: subscription.clone(),
                id: id.clone(),
            }),
            _ => Ok(dropped),
        }
    }

    /// Returns the channels that may hold letters of that subscription: its own; all, when it is deleted.
    fn channels_of(&self, subscription: Option<&ObjectName>) -> Vec<(ObjectName, Arc<dyn Channel>)> {
        let spec = self.spec();
        let found = subscription.and_then(|name| spec.subscriptions.get(name));
        self.open_channels(found.map(|found| &found.channel))
    }
}

/// Returns the newest `max` matching letters of a channel, oldest first, without what may be large: data and answers.
pub(crate) async fn newest_dead_letters(
    plane: &Plane,
    name: &ObjectName,
    channel: &dyn Channel,
    max: usize,
    is_match: impl Fn(&DeadLetter) -> bool,
) -> Result<VecDeque<DeadLetter>, DeadLetterError> {
    let mut found = VecDeque::new();
    each_dead_letter(plane, name, channel, |dead_letter| {
        if is_match(&dead_letter) {
            found.push_back(dead_letter.without_data());
        }
        if found.len() > max {
            found.pop_front();
        }
    })
    .await?;
    Ok(found)
}

/// Calls `see` for each letter, oldest first, page by page.
async fn each_dead_letter(
    plane: &Plane,
    name: &ObjectName,
    channel: &dyn Channel,
    mut see: impl FnMut(DeadLetter),
) -> Result<(), ReadError> {
    let mut from = Offset(0);
    loop {
        let _turn = plane.turn_to_list().await;
        let page = channel.dead_letters().list(from, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        from = last.offset.next();
        page.iter()
            .map(|stored| encoding::read(stored, name))
            .for_each(&mut see);
        // A log in memory answers at once, and others want to run as well.
        tokio::task::yield_now().await;
    }
}

/// Returns the offsets of the letters with these ids; without ids, of all letters of the subscription.
///
/// # Errors
/// `NoDeadLetter` names the first id that has no letter.
async fn offsets(
    plane: &Plane,
    name: &ObjectName,
    channel: &dyn Channel,
    subscription: &ObjectName,
    ids: &[String],
    is_match: impl Fn(&DeadLetter) -> bool,
) -> Result<BTreeSet<Offset>, DeadLetterError> {
    let mut offsets = BTreeSet::new();
    let named: HashSet<&str> = ids.iter().map(String::as_str).collect();
    let mut missing = named.clone();
    each_dead_letter(plane, name, channel, |dead_letter| {
        let id = dead_letter.event.id();
        if dead_letter.subscription == *subscription && (named.is_empty() || named.contains(id)) {
            missing.remove(id);
            if is_match(&dead_letter) {
                offsets.insert(Offset(dead_letter.offset));
            }
        }
    })
    .await?;
    // The first in the order in which they were named.
    match ids.iter().find(|id| missing.contains(id.as_str())) {
        Some(id) => Err(DeadLetterError::NoDeadLetter {
            subscription: subscription.clone(),
            id: id.clone(),
        }),
        None => Ok(offsets),
    }
}

impl DeadLetter {
    /// Copies what identifies the letter: a page of letters shares one buffer, which would otherwise be kept.
    fn without_data(self) -> Self {
        let bare = Event::builder(self.event.id(), self.event.source(), self.event.kind()).finish();
        Self {
            event: bare.unwrap_or_else(|_| self.event.clone()),
            answer: None,
            ..self
        }
    }
}

impl Plane {
    /// The right to read a page of letters for a person: each may cost a few MiB while it is read, so one is read at a time.
    async fn turn_to_list(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.requests.listing.acquire().await.ok()
    }
}
