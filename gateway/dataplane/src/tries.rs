//! What was tried lately, for people who ask where an event went: the newest tries of all subscriptions, in memory.
//!
//! No promise rests on it. Cursors say what is settled and dead letters say what failed, across restarts; this adds when and
//! how. Tries that failed are kept apart, so that a busy subscription does not push out what somebody looks for.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::{Duration, SystemTime},
};

use event::Event;
use parking_lot::Mutex;
use spec::ObjectName;

use crate::failure::Failure;

/// Tries remembered that were answered 2xx: 16 s of 1000 a second, in 80 bytes each.
const TAKEN_MAX: usize = 16_384;

/// Tries and letters remembered that tell of a failure, with what is said of each in half a KiB.
const FAILED_MAX: usize = 4096;

/// Characters kept of what is said of one.
const DETAIL_MAX: usize = 256;

/// One try, or what became of the event after the last.
#[derive(Clone, Debug)]
pub struct Try {
    /// When it ended.
    pub at: SystemTime,
    /// `None` where nothing was sent to the subscriber.
    pub took: Option<Duration>,
    pub end: TryEnd,
}

#[derive(Clone, Debug)]
pub enum TryEnd {
    /// The subscriber took it, with this status; `None`: it is a channel.
    Taken(Option<u16>),
    Failed(Box<FailedTry>),
    /// A dead letter is where it belongs.
    Buried {
        reason: &'static str,
    },
}

#[derive(Clone, Debug)]
pub struct FailedTry {
    /// As in `headgatereason`.
    pub reason: &'static str,
    pub code: Option<u16>,
    pub detail: String,
    /// When it is tried again, if it is.
    pub next: Option<SystemTime>,
}

struct Kept {
    subscription: Arc<ObjectName>,
    event: Identity,
    tried: Try,
}

/// Source and id as numbers. Events that share both would be shown each other's tries: nothing else rests on it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    id: u64,
    source: u64,
}

impl Identity {
    fn of(event: &Event) -> Self {
        Self {
            id: number(event.id()),
            source: number(event.source()),
        }
    }
}

fn number(text: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

/// Shared by all subscriptions of a gateway.
#[derive(Default)]
pub(crate) struct Tries {
    taken: Mutex<VecDeque<Kept>>,
    failed: Mutex<VecDeque<Kept>>,
}

impl Tries {
    pub(crate) fn taken(&self, by: &Arc<ObjectName>, event: &Event, status: Option<u16>, took: Duration) {
        let tried = Try {
            at: SystemTime::now(),
            took: Some(took),
            end: TryEnd::Taken(status),
        };
        keep(&self.taken, TAKEN_MAX, by, event, tried);
    }

    /// `wait` is the time to the next try, if there is one.
    pub(crate) fn failed(
        &self,
        by: &Arc<ObjectName>,
        event: &Event,
        failure: &Failure,
        took: Option<Duration>,
        wait: Option<Duration>,
    ) {
        let at = SystemTime::now();
        let said = match failure.destination.as_str() {
            "" => failure.detail.clone(),
            destination => format!("{destination}: {}", failure.detail),
        };
        let failed = FailedTry {
            reason: failure.reason.as_str(),
            code: failure.code,
            detail: said.chars().take(DETAIL_MAX).collect(),
            next: wait.and_then(|wait| at.checked_add(wait)),
        };
        let end = TryEnd::Failed(Box::new(failed));
        keep(&self.failed, FAILED_MAX, by, event, Try { at, took, end });
    }

    pub(crate) fn buried(&self, by: &Arc<ObjectName>, event: &Event, failure: &Failure) {
        let tried = Try {
            at: SystemTime::now(),
            took: None,
            end: TryEnd::Buried {
                reason: failure.reason.as_str(),
            },
        };
        keep(&self.failed, FAILED_MAX, by, event, tried);
    }

    /// What is remembered of events with this id, of one source or any, by subscription, oldest first. Replays and redrives are
    /// among it.
    pub(crate) fn of(&self, id: &str, source: Option<&str>) -> BTreeMap<ObjectName, Vec<Try>> {
        let (id, source) = (number(id), source.map(number));
        let is_meant = |of: Identity| of.id == id && source.is_none_or(|source| source == of.source);
        let mut found: BTreeMap<ObjectName, Vec<Try>> = BTreeMap::new();
        for kept in [&self.taken, &self.failed] {
            for kept in kept.lock().iter().filter(|kept| is_meant(kept.event)) {
                let tries = found.entry((*kept.subscription).clone()).or_default();
                tries.push(kept.tried.clone());
            }
        }
        found.values_mut().for_each(|tries| tries.sort_by_key(|tried| tried.at));
        found
    }
}

fn keep(all: &Mutex<VecDeque<Kept>>, max: usize, by: &Arc<ObjectName>, event: &Event, tried: Try) {
    let kept = Kept {
        subscription: by.clone(),
        event: Identity::of(event),
        tried,
    };
    let mut all = all.lock();
    if all.len() >= max {
        all.pop_front();
    }
    all.push_back(kept);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::failure::Reason;

    fn event(id: usize) -> Event {
        Event::builder(&id.to_string(), "/s", "t").finish().unwrap()
    }

    #[test]
    fn tries_are_told_apart_by_event_and_subscription_and_the_oldest_go() {
        let tries = Tries::default();
        let (one, other) = (
            Arc::new(ObjectName::new("a", "one")),
            Arc::new(ObjectName::new("a", "other")),
        );
        let failure = Failure::new(Reason::SinkError, "http://s/", "x".repeat(1000));
        tries.failed(&one, &event(0), &failure, None, Some(Duration::from_secs(1)));
        for id in 0..=TAKEN_MAX {
            tries.taken(&one, &event(id), Some(204), Duration::from_millis(1));
        }
        tries.taken(&other, &event(2), None, Duration::ZERO);
        let of = |by: &ObjectName, id: usize| tries.of(&id.to_string(), Some("/s")).remove(by).unwrap_or_default();
        let [failed] = &of(&one, 0)[..] else {
            panic!("the first success is forgotten, the failure is not");
        };
        assert!(
            matches!(&failed.end, TryEnd::Failed(failed) if failed.detail.len() == DETAIL_MAX && failed.next.is_some()),
            "{failed:?}"
        );
        let newest = of(&one, TAKEN_MAX);
        assert!(
            matches!(
                newest[..],
                [Try {
                    end: TryEnd::Taken(Some(204)),
                    ..
                }]
            ),
            "{newest:?}"
        );
        assert!(matches!(
            of(&other, 2)[..],
            [Try {
                end: TryEnd::Taken(None),
                ..
            }]
        ));
        assert_eq!(tries.of("2", None).len(), 2);
        assert!(tries.of("2", Some("/other")).is_empty());
        assert_eq!(tries.taken.lock().len(), TAKEN_MAX);
    }
}
