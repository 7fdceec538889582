//! What must not have happened in a run. Each invariant is a pure function of the history.

mod acknowledged;
mod attempts;
mod bounds;
mod delivered;
mod drained;
mod forgotten;
mod neighbor;
mod once;
mod order;
mod redelivered;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use crate::{
    documents::full,
    history::{Fact, Purpose, Record},
    scenario::{Action, Scenario, Subscription, Target},
};

/// An invariant that does not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: &'static str,
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.message)
    }
}

type Check = fn(&View<'_>) -> Result<(), String>;

const ALL: &[(&str, Check)] = &[
    ("nothing is acknowledged before its consequence", acknowledged::check),
    ("what was delivered is not delivered again", once::check),
    ("only what a user deletes is forgotten", forgotten::check),
    ("every event is delivered or a dead letter", delivered::check),
    ("events of a key keep their order", order::check),
    ("attempts and waits follow the policy", attempts::check),
    ("nobody disturbs a neighbor", neighbor::check),
    ("what is held is bounded", bounds::check),
    ("a drain ends in time and leaves nothing running", drained::check),
    (
        "a replay or redrive reaches its subscription in whole",
        redelivered::check,
    ),
];

/// Returns the first invariant that does not hold.
pub fn check(scenario: &Scenario, records: &[Record]) -> Option<Violation> {
    let view = View::new(scenario, records);
    ALL.iter().find_map(|(invariant, check)| {
        let message = check(&view).err()?;
        Some(Violation { invariant, message })
    })
}

/// An event in a channel.
struct StoredEvent<'a> {
    /// Its place in the history.
    at: usize,
    id: &'a str,
    key: Option<&'a str>,
    lot: &'a str,
}

/// A cursor, from its making to its end.
struct Life<'a> {
    subscription: &'a Subscription,
    cursor: &'a str,
    start: u64,
    begin: usize,
    end: usize,
    is_deleted: bool,
}

/// The history, indexed.
struct View<'a> {
    scenario: &'a Scenario,
    records: &'a [Record],
    /// By channel, in stored order.
    stored: Vec<Vec<StoredEvent<'a>>>,
    /// The offsets of an event in a channel.
    offsets: HashMap<(usize, &'a str), Vec<usize>>,
    /// Where an offset was acknowledged for a cursor.
    acknowledged: HashMap<(&'a str, usize), Vec<usize>>,
    lives: Vec<Life<'a>>,
    /// Every version of each subscription that the scenario has, by full name.
    versions: BTreeMap<String, Vec<&'a Subscription>>,
    /// Where something ended for an event of a subscription.
    ends: HashMap<(&'a str, &'a str), Vec<usize>>,
}

impl<'a> View<'a> {
    fn new(scenario: &'a Scenario, records: &'a [Record]) -> Self {
        let mut versions: BTreeMap<String, Vec<&Subscription>> = BTreeMap::new();
        for step in &scenario.steps {
            if let Action::Subscribe(subscription) = &step.action {
                versions.entry(full(&subscription.name)).or_default().push(subscription);
            }
        }
        let mut view = Self {
            scenario,
            records,
            stored: (0..scenario.channels.len()).map(|_| Vec::new()).collect(),
            offsets: HashMap::new(),
            acknowledged: HashMap::new(),
            lives: Vec::new(),
            versions,
            ends: HashMap::new(),
        };
        for (at, record) in records.iter().enumerate() {
            view.read(at, &record.fact);
        }
        view
    }

    fn read(&mut self, at: usize, fact: &'a Fact) {
        match fact {
            Fact::Stored {
                channel, id, key, lot, ..
            } => {
                let offset = self.stored[*channel].len();
                self.offsets.entry((*channel, id)).or_default().push(offset);
                self.stored[*channel].push(StoredEvent {
                    at,
                    id,
                    key: key.as_deref(),
                    lot,
                });
                let forwards = |one: &&&Subscription| one.target == Target::Channel(*channel);
                for sender in self.versions.values().map(|versions| &versions[0]).filter(forwards) {
                    self.ends.entry((&sender.name, id)).or_default().push(at);
                }
            }
            Fact::CursorCreated { cursor, start, .. } => {
                let Some(subscription) = self.versions.get(cursor).map(|versions| versions[0]) else {
                    return;
                };
                let end = self.records.len();
                self.lives.push(Life {
                    subscription,
                    cursor,
                    start: *start,
                    begin: at,
                    end,
                    is_deleted: false,
                });
            }
            Fact::CursorDeleted { cursor, .. } => {
                if let Some(life) = self
                    .lives
                    .iter_mut()
                    .rev()
                    .find(|life| life.cursor == cursor && !life.is_deleted)
                {
                    (life.end, life.is_deleted) = (at, true);
                }
            }
            Fact::Acknowledged { cursor, offset, .. } => {
                let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
                self.acknowledged.entry((cursor, offset)).or_default().push(at);
            }
            Fact::Answered {
                subscription,
                id,
                status: 200..=299,
                purpose: Purpose::Delivery | Purpose::DeadLetter | Purpose::Replay,
                ..
            }
            | Fact::DeadLetterStored { subscription, id, .. } => {
                self.ends.entry((short(subscription), id)).or_default().push(at);
            }
            _ => {}
        }
    }

    /// Whether the event reached an end for the subscription in a part of the history.
    fn ended(&self, subscription: &Subscription, id: &str, within: std::ops::Range<usize>) -> bool {
        let ends = self.ends.get(&(subscription.name.as_str(), id));
        ends.is_some_and(|ends| ends.iter().any(|at| within.contains(at)))
    }

    /// The life of a cursor at that time.
    fn life(&self, cursor: &str, at: usize) -> Option<&Life<'a>> {
        self.lives
            .iter()
            .find(|life| life.cursor == cursor && (life.begin..=life.end).contains(&at))
    }

    /// The first place of the event in the channel.
    fn offset(&self, channel: usize, id: &str) -> Option<usize> {
        self.offsets.get(&(channel, id))?.first().copied()
    }

    /// Whether the channel has the event once: a lie makes a sender store it again.
    fn is_single(&self, channel: usize, id: &str) -> bool {
        self.offsets
            .get(&(channel, id))
            .is_some_and(|offsets| offsets.len() == 1)
    }
}

impl Subscription {
    fn matches(&self, stored: &StoredEvent<'_>) -> bool {
        self.lot.as_ref().is_none_or(|lot| lot == stored.lot)
    }
}

/// The name without its namespace.
fn short(full: &str) -> &str {
    full.rsplit('/').next().unwrap_or(full)
}
