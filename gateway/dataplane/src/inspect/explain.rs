//! Explains where an event is, and what each subscription did with it, to a person who asks about one id.
//!
//! Only the newest attempts are recorded for this ([`super::tries`]). The log shows where the event is stored, cursors show what is
//! settled, dead letters show what failed, and filters are evaluated once more. The answer states which of these it rests on, and
//! what is no longer known.

mod stage;

use std::collections::{BTreeMap, HashSet, VecDeque};

use channel::{Channel, Durability, ReadError, Record, SettlementState, Start};
use event::Event;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use spec::{ObjectName, model};

use super::replay::is_paused;
use crate::{
    DeadLetter, DeadLetterError, Plane, Try, chain, dead_letters::newest_dead_letters, journey::lineage,
    plane::cursor_name,
};
pub use stage::Stage;
use stage::{dead, delivered, open, reply_waits, settled};

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 256;

/// Records of one id shown per channel, the newest: an id that more events share identifies nothing.
const FOUND_MAX: usize = 20;

/// Bytes of those at most, beside one that is larger: what a channel may add to an answer.
const FOUND_BYTES_MAX: usize = 2 << 20;

/// Letters about events of one id in one channel at most, without data and answers.
const DEAD_LETTERS_MAX: usize = 100;

/// Dead letters that are read for a list of events at most: a page of them in memory costs little, a million on disk would cost
/// seconds.
const DEAD_LETTERS_CONSULTED_MAX: u64 = 1024;

/// Channels searched at once: one whose servers do not answer must not hold up the others.
const AT_ONCE: usize = 8;

/// The event to explain.
#[derive(Clone, Debug)]
pub struct Explain {
    /// The event's id.
    pub id: String,
    /// Any, when it is not given: ids are unique per source only.
    pub source: Option<String>,
    /// All channels, when it is not given.
    pub channel: Option<ObjectName>,
    /// How many of the newest offsets of each channel are searched; of each partition, where it has several.
    pub last: u64,
}

/// The answer to [`Explain`].
#[derive(Debug, Default)]
pub struct Explanation {
    /// The channels that were searched.
    pub searched: Vec<Searched>,
    /// In the order in which they were stored, which is the path of an event that passed from channel to channel.
    pub found: Vec<FoundEvent>,
    /// About events of this id, newest first, also where the event itself is not kept any more.
    pub dead_letters: Vec<DeadLetter>,
    /// The recorded attempts by subscription, oldest first.
    pub tries: BTreeMap<ObjectName, Vec<Try>>,
}

/// A channel that was searched, or should have been.
#[derive(Debug)]
pub struct Searched {
    /// The channel.
    pub channel: ObjectName,
    /// Events read.
    pub events: u64,
    /// Why it was not searched completely.
    pub error: Option<String>,
}

/// An event in a channel.
#[derive(Debug)]
pub struct FoundEvent {
    /// The channel that stored it.
    pub channel: ObjectName,
    /// Its offset in the channel.
    pub offset: u64,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// How durably the channel stores events.
    pub durability: Durability,
    /// The channels that it, or what it is a reply to, passed before: oldest first.
    pub passed: Vec<String>,
    /// The event.
    pub event: Event,
    /// Its fate, one row per subscription of the channel.
    pub rows: Vec<Row>,
}

/// The fate of an event at one subscription.
#[derive(Debug)]
pub struct Row {
    /// The subscription.
    pub subscription: ObjectName,
    /// How far the event is.
    pub stage: Stage,
    /// Why, for people.
    pub message: String,
    /// Oldest first.
    pub tries: Vec<Try>,
}

impl Plane {
    /// Finds an event and explains what became of it. Cursors are not affected. A channel that cannot be read is reported in
    /// [`Searched::error`]; the others are searched all the same.
    pub async fn explain(&self, what: &Explain) -> Explanation {
        let channels = self.open_channels(what.channel.as_ref());
        let mut searches = Vec::with_capacity(channels.len());
        for (name, channel) in &channels {
            searches.push(search_channel(self, name, &**channel, what));
        }
        let searches: Vec<_> = stream::iter(searches).buffered(AT_ONCE).collect().await;
        let mut explained = Explanation {
            tries: self.0.tries.of(&what.id, what.source.as_deref()),
            ..Explanation::default()
        };
        let mut records = Vec::new();
        for (searched, found, dead_letters) in searches {
            explained.searched.push(searched);
            explained.dead_letters.extend(dead_letters);
            records.push(found);
        }
        explained.searched.extend(self.not_open(what.channel.as_ref()));
        explained
            .dead_letters
            .sort_by_key(|dead_letter| std::cmp::Reverse(dead_letter.stored_at));
        for ((name, channel), records) in channels.iter().zip(&records) {
            for record in records {
                let found = self.found(name, &**channel, record, &explained.dead_letters);
                explained.found.push(found);
            }
        }
        explained.found.sort_by_key(|found| found.stored_at);
        explained
    }

    /// Returns the channels of the spec that cannot be searched, with the reason.
    fn not_open(&self, only: Option<&ObjectName>) -> Vec<Searched> {
        let state = self.0.runtime.state.lock();
        let desired = state
            .spec
            .channels
            .keys()
            .filter(|name| only.is_none_or(|only| only == *name));
        let missing = desired.filter(|name| !state.channels.contains_key(*name));
        let searched = missing.map(|name| {
            let why = state.channel_failures.get(name).map(|why| why.message.as_str());
            Searched {
                channel: name.clone(),
                events: 0,
                error: Some(why.unwrap_or("it is being opened").to_owned()),
            }
        });
        searched.collect()
    }

    fn found(
        &self,
        name: &ObjectName,
        channel: &dyn Channel,
        record: &Record,
        dead_letters: &[DeadLetter],
    ) -> FoundEvent {
        let tries = self.0.tries.of(record.event.id(), Some(record.event.source()));
        let rows = self.rows(name, channel, record, dead_letters, tries);
        let passed = record.event.text(lineage::CHAIN).unwrap_or_default();
        FoundEvent {
            channel: name.clone(),
            offset: record.offset.0,
            stored_at: Timestamp::try_from(record.stored_at).unwrap_or_default(),
            durability: channel.promises().durability,
            passed: passed.split_ascii_whitespace().map(str::to_owned).collect(),
            rows,
            event: record.event.clone(),
        }
    }

    /// Returns the fate of each of these records of a channel, as [`Self::explain`] reports it. Dead letters are consulted where
    /// the channel has few: otherwise an event whose attempts are no longer recorded is shown as settled.
    pub async fn fates(
        &self,
        name: &ObjectName,
        channel: &dyn Channel,
        records: &[Record],
    ) -> Result<Vec<Vec<Row>>, DeadLetterError> {
        let mut dead_letters = VecDeque::new();
        let count = channel.dead_letters().count();
        if (1..=DEAD_LETTERS_CONSULTED_MAX).contains(&count) {
            let ids: HashSet<&str> = records.iter().map(|record| record.event.id()).collect();
            let is_meant = |dead_letter: &DeadLetter| ids.contains(dead_letter.event.id());
            dead_letters = newest_dead_letters(self, name, channel, DEAD_LETTERS_MAX, is_meant).await?;
        }
        let dead_letters: Vec<DeadLetter> = dead_letters.into_iter().rev().collect();
        let tries = self.0.tries.of_each(records.iter().map(|record| &record.event));
        let fates = records.iter().zip(tries);
        Ok(fates
            .map(|(record, tries)| {
                let about = |dead_letter: &&DeadLetter| dead_letter.event.id() == record.event.id();
                let dead_letters: Vec<DeadLetter> = dead_letters.iter().filter(about).cloned().collect();
                self.rows(name, channel, record, &dead_letters, tries)
            })
            .collect())
    }

    /// Returns the newest attempts of a subscription that this process remembers, newest first.
    pub fn newest_tries(&self, subscription: &ObjectName, max: usize) -> Vec<Try> {
        self.0.tries.newest(subscription, max)
    }

    /// One row for each subscription of the channel. `dead_letters` are about events of this id, newest first.
    fn rows(
        &self,
        name: &ObjectName,
        channel: &dyn Channel,
        record: &Record,
        dead_letters: &[DeadLetter],
        mut tries: BTreeMap<ObjectName, Vec<Try>>,
    ) -> Vec<Row> {
        let spec = self.spec();
        let subscriptions = spec.subscriptions.values().filter(|found| found.channel == *name);
        let rows = subscriptions.map(|subscription| {
            let about = |dead_letter: &&DeadLetter| {
                dead_letter.subscription == subscription.name && dead_letter.event.source() == record.event.source()
            };
            let (dead_letter, tries) = (dead_letters.iter().find(about), tries.remove(&subscription.name));
            self.row(subscription, channel, record, dead_letter, tries.unwrap_or_default())
        });
        rows.collect()
    }

    fn row(
        &self,
        subscription: &model::Subscription,
        channel: &dyn Channel,
        record: &Record,
        dead_letter: Option<&DeadLetter>,
        tries: Vec<Try>,
    ) -> Row {
        let name = &subscription.name;
        let running = {
            let state = self.0.runtime.state.lock();
            let running = state.live(name);
            let failure = state.subscription_failures.get(name).map(|why| why.message.clone());
            running
                .map(|running| (running.context.clone(), is_paused(&running.context, &running.switch)))
                .ok_or(failure)
        };
        let (stage, message) = match running {
            Err(failure) => {
                let why = failure.unwrap_or_else(|| "it is being started".into());
                (Stage::NotRunning, format!("{why}; its events wait"))
            }
            Ok((context, is_paused)) => match channel.settlement_state(&cursor_name(name), record.offset) {
                Some(SettlementState::Open(attempts)) => {
                    reply_waits(&tries).unwrap_or_else(|| open(&context, is_paused, record, attempts))
                }
                settlement_state => {
                    let known = delivered(&context, &tries).or_else(|| dead(dead_letter, &tries));
                    known.unwrap_or_else(|| match settlement_state {
                        Some(_) => settled(&context.route(), &record.event),
                        None => {
                            let why = "another replica has this part of the channel, or this one has not got it yet";
                            (Stage::Elsewhere, why.into())
                        }
                    })
                }
            },
        };
        Row {
            subscription: name.clone(),
            stage,
            message,
            tries,
        }
    }
}

impl Explain {
    fn means(&self, event: &Event) -> bool {
        event.id() == self.id && self.source.as_deref().is_none_or(|source| source == event.source())
    }
}

/// Searches the newest offsets of a channel, and its letters. Returns the finds oldest first.
async fn search_channel(
    plane: &Plane,
    name: &ObjectName,
    channel: &dyn Channel,
    what: &Explain,
) -> (Searched, VecDeque<Record>, VecDeque<DeadLetter>) {
    let (mut events, mut found) = (0, VecDeque::new());
    let is_meant = |dead_letter: &DeadLetter| what.means(&dead_letter.event);
    let (searched_events, dead_letters) = tokio::join!(
        search_events(channel, what, &mut events, &mut found),
        newest_dead_letters(plane, name, channel, DEAD_LETTERS_MAX, is_meant)
    );
    let (dead_letters, no_dead_letters) = match dead_letters {
        Ok(dead_letters) => (dead_letters, None),
        Err(error) => (VecDeque::new(), Some(chain(&error))),
    };
    let searched = Searched {
        channel: name.clone(),
        events,
        error: searched_events.err().map(|error| chain(&error)).or(no_dead_letters),
    };
    (searched, found, dead_letters)
}

async fn search_events(
    channel: &dyn Channel,
    what: &Explain,
    events: &mut u64,
    found: &mut VecDeque<Record>,
) -> Result<(), ReadError> {
    for range in channel.ranges(Start::Earliest).await? {
        let mut from = channel::Offset(range.end.0.saturating_sub(what.last)).max(range.start);
        while from < range.end {
            let page = channel.read(from, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.offset.next();
            for record in page.into_iter().filter(|record| record.offset < range.end) {
                *events += 1;
                if what.means(&record.event) {
                    found.push_back(record);
                }
            }
            let mut bytes: usize = found.iter().map(|record| record.event.size()).sum();
            while found.len() > FOUND_MAX || bytes > FOUND_BYTES_MAX && found.len() > 1 {
                bytes -= found.pop_front().map_or(0, |oldest| oldest.event.size());
            }
        }
    }
    Ok(())
}
