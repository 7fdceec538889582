//! Where an event is, and what each subscription did with it: for a person who asks about one id.
//!
//! Nothing is kept for this but the newest tries ([`crate::tries`]). The log says where the event is stored, cursors say what is
//! settled, dead letters say what failed, and filters are evaluated once more; each is said as what it is, and what nobody
//! knows any more is said, too.

use std::collections::{BTreeMap, VecDeque};

use cesql::explain;
use channel::{Attempts, Channel, Durability, ReadError, Record, Standing, Start};
use event::Event;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use spec::{ObjectName, model};

use crate::{
    DeadLetter, Plane, Try, TryEnd, chain, context::Context, deadletters::newest_letters, lineage, plane::cursor_name,
    replay::is_paused, route::Route,
};

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 256;

/// Places of one event shown of each channel, the newest: an id that more events share tells nobody anything.
const FOUND_MAX: usize = 20;

/// Letters about events of one id in one channel at most; with whole answers 9 MiB at the very worst.
const LETTERS_MAX: usize = 100;

/// Channels looked through at once: one whose servers do not answer takes its time.
const AT_ONCE: usize = 8;

/// Which event is meant.
#[derive(Clone, Debug)]
pub struct Explain {
    pub id: String,
    /// Any, when it is not given: ids are unique per source only.
    pub source: Option<String>,
    /// All channels, when it is not given.
    pub channel: Option<ObjectName>,
    /// So many of the newest places of each channel are looked at, where it has partitions of each of them.
    pub last: u64,
}

#[derive(Debug, Default)]
pub struct Explained {
    pub looked: Vec<Looked>,
    /// In the order in which they were stored: where it passed from channel to channel, that is its way.
    pub found: Vec<Found>,
    /// About events of this id, newest first, also where the event itself is not kept any more.
    pub letters: Vec<DeadLetter>,
    /// What is remembered of tries, by subscription, oldest first.
    pub tries: BTreeMap<ObjectName, Vec<Try>>,
}

/// What was looked through, or should have been.
#[derive(Debug)]
pub struct Looked {
    pub channel: ObjectName,
    pub events: u64,
    /// Why not everything was that should have been.
    pub error: Option<String>,
}

/// An event in a channel.
#[derive(Debug)]
pub struct Found {
    pub channel: ObjectName,
    pub place: u64,
    pub stored_at: Timestamp,
    pub durability: Durability,
    /// The channels that it, or what it is a reply to, passed before: oldest first.
    pub passed: Vec<String>,
    pub event: Event,
    pub rows: Vec<Row>,
}

/// What a subscription did with it.
#[derive(Debug)]
pub struct Row {
    pub subscription: ObjectName,
    pub stage: Stage,
    /// Why, for people.
    pub message: String,
    /// Oldest first.
    pub tries: Vec<Try>,
}

/// How far an event is with a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Delivered,
    /// By a filter.
    LeftOut,
    DeadLettered,
    /// Tried, and to be tried again.
    Retrying,
    /// Not tried yet.
    Waiting,
    /// Done with, and nobody remembers how.
    Settled,
    /// The subscription does not run.
    NotRunning,
    /// This process cannot say.
    Elsewhere,
}

impl Stage {
    /// The word that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::LeftOut => "left out",
            Self::DeadLettered => "dead-lettered",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Settled => "settled",
            Self::NotRunning => "not running",
            Self::Elsewhere => "elsewhere",
        }
    }
}

impl Plane {
    /// Looks for an event and says what became of it. Reads channels as people do: cursors are not affected. A channel that
    /// cannot be read keeps nobody from being told of the others: see [`Looked::error`].
    pub async fn explain(&self, what: &Explain) -> Explained {
        let channels = self.open_channels(what.channel.as_ref());
        let mut looks = Vec::with_capacity(channels.len());
        for (name, channel) in &channels {
            looks.push(look(name, &**channel, what));
        }
        let looks: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
        let mut explained = Explained {
            tries: self.0.tries.of(&what.id, what.source.as_deref()),
            ..Explained::default()
        };
        let mut records = Vec::new();
        for (looked, found, letters) in looks {
            explained.looked.push(looked);
            explained.letters.extend(letters);
            records.push(found);
        }
        explained.looked.extend(self.not_open(what.channel.as_ref()));
        explained
            .letters
            .sort_by_key(|letter| std::cmp::Reverse(letter.stored_at));
        for ((name, channel), records) in channels.iter().zip(&records) {
            for record in records {
                let found = self.found(name, &**channel, record, &explained.letters);
                explained.found.push(found);
            }
        }
        explained.found.sort_by_key(|found| found.stored_at);
        explained
    }

    /// Channels that there should be, and that cannot be looked through.
    fn not_open(&self, only: Option<&ObjectName>) -> Vec<Looked> {
        let state = self.0.state.lock();
        let wanted = state
            .spec
            .channels
            .keys()
            .filter(|name| only.is_none_or(|only| only == *name));
        let missing = wanted.filter(|name| !state.channels.contains_key(*name));
        let looked = missing.map(|name| {
            let why = state.channel_failures.get(name).map(|why| why.message.as_str());
            Looked {
                channel: name.clone(),
                events: 0,
                error: Some(why.unwrap_or("it is being opened").to_owned()),
            }
        });
        looked.collect()
    }

    fn found(&self, name: &ObjectName, channel: &dyn Channel, record: &Record, letters: &[DeadLetter]) -> Found {
        let spec = self.spec();
        let subscriptions = spec.subscriptions.values().filter(|found| found.channel == *name);
        let mut tries = self.0.tries.of(record.event.id(), Some(record.event.source()));
        let rows = subscriptions.map(|subscription| {
            let about = |letter: &&DeadLetter| {
                letter.subscription == subscription.name && letter.event.source() == record.event.source()
            };
            let (letter, tries) = (letters.iter().find(about), tries.remove(&subscription.name));
            self.row(subscription, channel, record, letter, tries.unwrap_or_default())
        });
        let passed = record.event.text(lineage::CHAIN).unwrap_or_default();
        Found {
            channel: name.clone(),
            place: record.offset.0,
            stored_at: Timestamp::try_from(record.stored_at).unwrap_or_default(),
            durability: channel.promises().durability,
            passed: passed.split_ascii_whitespace().map(str::to_owned).collect(),
            rows: rows.collect(),
            event: record.event.clone(),
        }
    }

    fn row(
        &self,
        subscription: &model::Subscription,
        channel: &dyn Channel,
        record: &Record,
        letter: Option<&DeadLetter>,
        tries: Vec<Try>,
    ) -> Row {
        let name = &subscription.name;
        let running = {
            let state = self.0.state.lock();
            let running = state.subscriptions.get(name);
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
            Ok((context, is_paused)) => match channel.standing(&cursor_name(name), record.offset) {
                Some(Standing::Open(attempts)) => open(&context, is_paused, record, attempts),
                standing => {
                    let known = delivered(&context, &tries).or_else(|| dead(letter, &tries));
                    known.unwrap_or_else(|| match standing {
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

/// Looks through the newest places of a channel, and its letters; what is found is oldest first.
async fn look(
    name: &ObjectName,
    channel: &dyn Channel,
    what: &Explain,
) -> (Looked, VecDeque<Record>, VecDeque<DeadLetter>) {
    let (mut events, mut found) = (0, VecDeque::new());
    let is_meant = |letter: &DeadLetter| what.means(&letter.event);
    let (looked_into, letters) = tokio::join!(
        look_into(channel, what, &mut events, &mut found),
        newest_letters(channel, LETTERS_MAX, is_meant)
    );
    let (letters, no_letters) = match letters {
        Ok(letters) => (letters, None),
        Err(error) => (VecDeque::new(), Some(chain(&error))),
    };
    let looked = Looked {
        channel: name.clone(),
        events,
        error: looked_into.err().map(|error| chain(&error)).or(no_letters),
    };
    (looked, found, letters)
}

async fn look_into(
    channel: &dyn Channel,
    what: &Explain,
    events: &mut u64,
    found: &mut VecDeque<Record>,
) -> Result<(), ReadError> {
    for stretch in channel.stretches(Start::Earliest).await? {
        let mut from = channel::Offset(stretch.end.0.saturating_sub(what.last)).max(stretch.start);
        while from < stretch.end {
            let page = channel.read(from, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.offset.next();
            for record in page.into_iter().filter(|record| record.offset < stretch.end) {
                *events += 1;
                if what.means(&record.event) {
                    found.push_back(record);
                }
            }
            while found.len() > FOUND_MAX {
                found.pop_front();
            }
        }
    }
    Ok(())
}

/// What is still to be done.
fn open(context: &Context, is_paused: bool, record: &Record, attempts: Attempts) -> (Stage, String) {
    let route = context.route();
    let held = match (&route.blocked, is_paused) {
        (Some(why), _) => Some(why.message.clone()),
        (None, true) => Some("the subscription is paused".into()),
        (None, false) => context.outage().map(|why| format!("the sink is failing: {why}")),
    };
    if attempts.failed > 0 {
        let last = match attempts.last_status {
            Some(status) => format!("last answer {status}"),
            None => "no answer".into(),
        };
        let next = attempts.next_at.and_then(|at| Timestamp::try_from(at).ok());
        let next = held.or_else(|| next.map(|at| format!("next try at {at:.3}")));
        let next = next.unwrap_or_else(|| "to be tried again".into());
        return (
            Stage::Retrying,
            format!("failed tries: {}, {last}; {next}", attempts.failed),
        );
    }
    let why = held.or_else(|| match left_out(&route, &record.event) {
        Ok(None) => None,
        Ok(Some(clause)) => Some(format!("its filters will leave it out: {clause}")),
        Err(error) => Some(format!("a filter cannot be evaluated: {error}")),
    });
    (
        Stage::Waiting,
        why.unwrap_or_else(|| "in flight, or behind earlier events".into()),
    )
}

/// The subscriber took it.
fn delivered(context: &Context, tries: &[Try]) -> Option<(Stage, String)> {
    let taken = tries.iter().rev().find_map(|tried| match tried.end {
        TryEnd::Taken(status) => Some((status, tried.at)),
        TryEnd::Failed(_) | TryEnd::Buried { .. } => None,
    });
    let (status, at) = taken?;
    // The subscriber took it, and its reply had nowhere to go.
    if matches!(
        tries.last(),
        Some(Try {
            end: TryEnd::Buried { .. },
            ..
        })
    ) {
        return None;
    }
    let at = Timestamp::try_from(at).unwrap_or_default();
    let to = context.route().destination();
    let message = match status {
        Some(status) => format!("{to} answered {status} at {at:.3}"),
        None => format!("passed to {to} at {at:.3}"),
    };
    Some((Stage::Delivered, message))
}

fn dead(letter: Option<&DeadLetter>, tries: &[Try]) -> Option<(Stage, String)> {
    if let Some(letter) = letter {
        let code = letter.code.map(|code| format!(" {code}")).unwrap_or_default();
        let message = format!(
            "{}{code}, attempts: {}; `headgate dead show {} {}` has all of it",
            letter.reason,
            letter.attempts,
            letter.subscription,
            letter.event.id()
        );
        return Some((Stage::DeadLettered, message));
    }
    match tries.last()?.end {
        TryEnd::Buried { reason } => {
            let message = format!("{reason}; the letter went to the dead-letter sink, or a person removed it");
            Some((Stage::DeadLettered, message))
        }
        TryEnd::Taken(_) | TryEnd::Failed(_) => None,
    }
}

/// Done with, and there is neither a letter nor a try that is remembered.
fn settled(route: &Route, event: &Event) -> (Stage, String) {
    match left_out(route, event) {
        Ok(Some(clause)) => (Stage::LeftOut, format!("by its filters of now: {clause}")),
        Ok(None) | Err(_) => {
            let why = "longer ago than this process remembers, or stored before the subscription began";
            (Stage::Settled, why.into())
        }
    }
}

/// The clause by which a filter says no.
fn left_out(route: &Route, event: &Event) -> Result<Option<String>, cesql::FilterError> {
    for filter in &route.subscription.filters {
        if !filter.evaluate(event)? {
            return Ok(Some(explain(filter.expression(), event).clause.to_string()));
        }
    }
    Ok(None)
}
