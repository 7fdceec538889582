//! Records the newest attempts of all subscriptions in memory, for people who ask where an event went.
//!
//! No promise rests on it. Cursors show what is settled and dead letters show what failed, across restarts; this adds when and
//! how. Failed attempts have a ring of their own, so that a busy subscription does not push them out.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use event::Event;
use parking_lot::Mutex;
use spec::{ObjectName, Reason};

use crate::journey::failure::Failure;

/// Recorded attempts that succeeded: 16 s of 1000 a second, in 100 bytes each.
const TAKEN_MAX: usize = 16_384;

/// Recorded attempts that failed, and dead letters, in half a KiB each.
const FAILED_MAX: usize = 4096;

/// Characters kept of a detail.
const DETAIL_MAX: usize = 256;

/// One attempt, or what became of the event after the last.
#[derive(Clone, Debug)]
pub struct Try {
    /// When it ended.
    pub at: SystemTime,
    /// `None` where nothing was sent to the subscriber.
    pub took: Option<Duration>,
    /// How it ended.
    pub end: TryEnd,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum TryEnd {
    /// The subscriber took the event.
    Succeeded {
        /// The status of the subscriber's answer; `None` when the subscriber is a channel.
        status: Option<u16>,
        /// The fault of the reply, which was dropped.
        fault: Option<Box<str>>,
    },
    /// The reply's target took the reply, after attempts that failed.
    Replied {
        /// The reply's target, as it is shown.
        to: Box<str>,
    },
    /// The target did not take the event or the reply.
    Failed(Box<FailedTry>),
    /// The dead letter is stored, or its sink took it.
    DeadLettered {
        /// As in `headgatereason`.
        reason: Reason,
    },
}

/// An attempt that failed.
#[derive(Clone, Debug)]
pub struct FailedTry {
    /// As in `headgatereason`.
    pub reason: Reason,
    /// The HTTP status of the answer, if there was one.
    pub code: Option<u16>,
    /// The event of the attempt, in a phrase.
    pub detail: String,
    /// When it is tried again, if it is.
    pub next: Option<SystemTime>,
}

struct Entry {
    subscription: Arc<ObjectName>,
    event: Identity,
    tried: Try,
}

/// Hashes of source and id. Events whose hashes collide are shown each other's attempts: nothing else depends on it.
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

/// Entries of a ring that are allocated together, when the first of them is needed.
const PAGE: usize = 1024;

/// The newest entries. Each writer takes the next slot by a counter, so that none waits for another writer or for a reader of
/// other slots.
struct Ring {
    next: AtomicUsize,
    pages: Box<[OnceLock<Page>]>,
}

type Page = Box<[Mutex<Option<Entry>>]>;

impl Ring {
    fn new(max: usize) -> Self {
        Self {
            next: AtomicUsize::new(0),
            pages: (0..max.div_ceil(PAGE)).map(|_| OnceLock::new()).collect(),
        }
    }

    fn push(&self, by: &Arc<ObjectName>, event: &Event, tried: Try) {
        let entry = Entry {
            subscription: by.clone(),
            event: Identity::of(event),
            tried,
        };
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % (self.pages.len() * PAGE);
        let page = self.pages[slot / PAGE].get_or_init(|| (0..PAGE).map(|_| Mutex::default()).collect());
        *page[slot % PAGE].lock() = Some(entry);
    }

    fn slots(&self) -> impl Iterator<Item = &Mutex<Option<Entry>>> {
        self.pages.iter().filter_map(OnceLock::get).flatten()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.slots().filter(|slot| slot.lock().is_some()).count()
    }
}

/// Shared by all subscriptions of a gateway.
pub(crate) struct Tries {
    taken: Ring,
    failed: Ring,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            taken: Ring::new(TAKEN_MAX),
            failed: Ring::new(FAILED_MAX),
        }
    }
}

impl Tries {
    pub(crate) fn taken(
        &self,
        by: &Arc<ObjectName>,
        event: &Event,
        status: Option<u16>,
        took: Duration,
        fault: Option<Box<str>>,
    ) {
        let fault = fault.map(|fault| fault.chars().take(DETAIL_MAX).collect());
        let tried = Try {
            at: SystemTime::now(),
            took: Some(took),
            end: TryEnd::Succeeded { status, fault },
        };
        self.taken.push(by, event, tried);
    }

    /// Kept with the failures, because it ends a row of them.
    pub(crate) fn replied(&self, by: &Arc<ObjectName>, event: &Event, to: &str, took: Duration) {
        let end = TryEnd::Replied {
            to: to.chars().take(DETAIL_MAX).collect(),
        };
        let tried = Try {
            at: SystemTime::now(),
            took: Some(took),
            end,
        };
        self.failed.push(by, event, tried);
    }

    /// `wait` is the time to the next try, if there is one.
    pub(crate) fn failed(
        &self,
        by: &Arc<ObjectName>,
        event: &Event,
        failure: &Failure,
        took: Duration,
        wait: Option<Duration>,
    ) {
        let at = SystemTime::now();
        let text = match failure.destination.as_str() {
            "" => failure.detail.clone(),
            destination => format!("{destination}: {}", failure.detail),
        };
        let failed = FailedTry {
            reason: failure.reason,
            code: failure.code,
            detail: text.chars().take(DETAIL_MAX).collect(),
            next: wait.and_then(|wait| at.checked_add(wait)),
        };
        let end = TryEnd::Failed(Box::new(failed));
        let took = Some(took);
        self.failed.push(by, event, Try { at, took, end });
    }

    pub(crate) fn buried(&self, by: &Arc<ObjectName>, event: &Event, failure: &Failure) {
        let tried = Try {
            at: SystemTime::now(),
            took: None,
            end: TryEnd::DeadLettered { reason: failure.reason },
        };
        self.failed.push(by, event, tried);
    }

    /// Returns the number of recorded failures and letters.
    #[cfg(test)]
    pub(crate) fn failures(&self) -> usize {
        self.failed.len()
    }

    /// Returns the recorded attempts of events with this id, of one source or any, by subscription, oldest first. Attempts of
    /// replays and redrives are included.
    pub(crate) fn of(&self, id: &str, source: Option<&str>) -> BTreeMap<ObjectName, Vec<Try>> {
        let (id, source) = (number(id), source.map(number));
        let is_meant = |of: Identity| of.id == id && source.is_none_or(|source| source == of.source);
        let mut found: BTreeMap<ObjectName, Vec<Try>> = BTreeMap::new();
        for slot in [&self.taken, &self.failed].into_iter().flat_map(Ring::slots) {
            if let Some(entry) = slot.lock().as_ref().filter(|entry| is_meant(entry.event)) {
                let tries = found.entry((*entry.subscription).clone()).or_default();
                tries.push(entry.tried.clone());
            }
        }
        found.values_mut().for_each(|tries| tries.sort_by_key(|tried| tried.at));
        found
    }

    /// As [`Self::of`] for each of these events, in one pass over all that is recorded.
    pub(crate) fn of_each<'a>(
        &self,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Vec<BTreeMap<ObjectName, Vec<Try>>> {
        let asked: Vec<Identity> = events.into_iter().map(Identity::of).collect();
        let mut found = vec![BTreeMap::<ObjectName, Vec<Try>>::new(); asked.len()];
        for slot in [&self.taken, &self.failed].into_iter().flat_map(Ring::slots) {
            let entry = slot.lock();
            let Some(entry) = entry.as_ref() else { continue };
            // An id may be asked for twice: it was published twice.
            for (_, found) in asked.iter().zip(&mut found).filter(|(of, _)| **of == entry.event) {
                let tries = found.entry((*entry.subscription).clone()).or_default();
                tries.push(entry.tried.clone());
            }
        }
        for tries in found.iter_mut().flat_map(BTreeMap::values_mut) {
            tries.sort_by_key(|tried| tried.at);
        }
        found
    }

    /// Returns the newest `max` recorded attempts of one subscription, newest first.
    pub(crate) fn newest(&self, subscription: &ObjectName, max: usize) -> Vec<Try> {
        let mut found = Vec::new();
        for slot in [&self.taken, &self.failed].into_iter().flat_map(Ring::slots) {
            let entry = slot.lock();
            found.extend(
                entry
                    .as_ref()
                    .filter(|entry| *entry.subscription == *subscription)
                    .map(|entry| entry.tried.clone()),
            );
        }
        found.sort_by_key(|tried| std::cmp::Reverse(tried.at));
        found.truncate(max);
        found
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::journey::failure::Reason;

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
        tries.failed(&one, &event(0), &failure, Duration::ZERO, Some(Duration::from_secs(1)));
        for id in 0..=TAKEN_MAX {
            tries.taken(&one, &event(id), Some(204), Duration::from_millis(1), None);
        }
        tries.taken(&other, &event(2), None, Duration::ZERO, None);
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
                    end: TryEnd::Succeeded { status: Some(204), .. },
                    ..
                }]
            ),
            "{newest:?}"
        );
        assert!(matches!(
            of(&other, 2)[..],
            [Try {
                end: TryEnd::Succeeded { status: None, .. },
                ..
            }]
        ));
        assert_eq!(tries.of("2", None).len(), 2);
        assert!(tries.of("2", Some("/other")).is_empty());
        let each = tries.of_each([&event(2), &event(0), &event(2), &event(TAKEN_MAX + 1)]);
        assert_eq!(each.iter().map(BTreeMap::len).collect::<Vec<_>>(), [2, 1, 2, 0]);
        assert_eq!((tries.newest(&one, 7).len(), tries.newest(&other, 7).len()), (7, 1));
        assert_eq!(tries.taken.len(), TAKEN_MAX);
    }
    #[test]
    fn a_reader_of_one_slot_delays_no_delivery() {
        let tries = Arc::new(Tries::default());
        let by = Arc::new(ObjectName::new("a", "s"));
        tries.taken(&by, &event(0), None, Duration::ZERO, None);
        let first = tries.taken.slots().next().unwrap();
        let _read = first.lock();
        let (sender, done) = std::sync::mpsc::channel();
        let writer = tries.clone();
        std::thread::spawn(move || {
            for id in 1..=100 {
                writer.taken(&by, &event(id), None, Duration::ZERO, None);
            }
            sender.send(())
        });
        assert_eq!(done.recv_timeout(Duration::from_secs(5)), Ok(()));
    }
}
