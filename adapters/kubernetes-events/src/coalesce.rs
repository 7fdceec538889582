//! Repeats of one (object, reason) within a window: the first goes out at once, what follows is held, and at the window's end
//! the last of it goes out with the number of those left out. Then another window begins, so that a storm costs one event a
//! window.
//!
//! Pure: callers pass the time. A held event is not stored, so the checkpoint must stay before [`Coalescer::first_held`].

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use event::Event;
use tokio::time::Instant;

/// Objects whose repeats are bundled at once; those beyond go out unbundled. About 2 MiB of keys.
const WINDOWS_MAX: usize = 10_000;

/// The most bytes held in all windows; beyond it the oldest window ends early. 16 000 events of 1 KiB.
const HELD_MAX_BYTES: usize = 16 * 1024 * 1024;

/// About what an entry of `versions` takes.
const VERSION_BYTES: usize = 80;

/// One object and one reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) object: String,
    pub(crate) reason: String,
}

/// One version of one Event object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectVersion {
    pub(crate) uid: Box<str>,
    pub(crate) version: u64,
}

/// The last of a window and everything it stands for.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) event: Event,
    pub(crate) suppressed: u64,
    pub(crate) versions: Vec<ObjectVersion>,
}

#[derive(Debug)]
pub(crate) struct Coalescer {
    window: Duration,
    windows: HashMap<Key, Window>,
    /// Keys in the order their windows end; an entry whose time is not its window's is stale.
    ends: VecDeque<(Instant, Key)>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Window {
    ends: Instant,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    event: Event,
    events: u64,
    first: u64,
    /// The newest version of each Event object. Controllers write few objects for one (object, reason).
    versions: HashMap<Box<str>, u64>,
}

impl Held {
    fn bytes(&self) -> usize {
        self.event.size() + self.versions.len() * VERSION_BYTES
    }
}

impl Coalescer {
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            window,
            windows: HashMap::new(),
            ends: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// Gives the event back when it is to go out now. The same version offered again changes nothing.
    pub(crate) fn offer(
        &mut self,
        key: Key,
        object_version: ObjectVersion,
        event: Event,
        now: Instant,
    ) -> Option<Event> {
        let Some(window) = self.windows.get_mut(&key) else {
            if self.windows.len() < WINDOWS_MAX {
                self.begin(key, now);
            }
            return Some(event);
        };
        let held = window.held.get_or_insert_with(|| Held {
            event: event.clone(),
            events: 0,
            first: object_version.version,
            versions: HashMap::new(),
        });
        if held
            .versions
            .get(&object_version.uid)
            .is_some_and(|version| *version >= object_version.version)
        {
            return None;
        }
        if held.events > 0 {
            self.held_bytes -= held.bytes();
        }
        held.event = event;
        held.events += 1;
        held.first = held.first.min(object_version.version);
        held.versions.insert(object_version.uid, object_version.version);
        self.held_bytes += held.bytes();
        None
    }

    /// When [`Coalescer::due`] has something next.
    pub(crate) fn next_end(&self, now: Instant) -> Option<Instant> {
        if self.held_bytes > HELD_MAX_BYTES {
            return Some(now);
        }
        self.ends.front().map(|(ends, _)| *ends)
    }

    /// Takes out what is due: the bundles of windows that have ended, and of the oldest ones when too much is held.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Bundle> {
        let mut due = Vec::new();
        while let Some((ends, _)) = self.ends.front()
            && (*ends <= now || self.held_bytes > HELD_MAX_BYTES)
        {
            let Some((ends, key)) = self.ends.pop_front() else {
                break;
            };
            if self.windows.get(&key).is_none_or(|window| window.ends != ends) {
                continue;
            }
            let Some(held) = self.windows.remove(&key).and_then(|window| window.held) else {
                continue;
            };
            self.held_bytes -= held.bytes();
            self.begin(key, now);
            due.push(Bundle {
                event: held.event,
                suppressed: held.events - 1,
                versions: held
                    .versions
                    .into_iter()
                    .map(|(uid, version)| ObjectVersion { uid, version })
                    .collect(),
            });
        }
        due
    }

    /// The oldest version that is held: nothing from it on may count as stored.
    pub(crate) fn first_held(&self) -> Option<u64> {
        self.windows
            .values()
            .filter_map(|window| window.held.as_ref())
            .map(|held| held.first)
            .min()
    }

    fn begin(&mut self, key: Key, now: Instant) {
        let ends = now + self.window;
        self.ends.push_back((ends, key.clone()));
        self.windows.insert(key, Window { ends, held: None });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn event(data: &str) -> Event {
        let data = bytes::Bytes::copy_from_slice(data.as_bytes());
        Event::builder("1", "/x", "t")
            .data("text/plain", data)
            .finish()
            .unwrap()
    }

    fn offer(coalescer: &mut Coalescer, object: &str, (uid, version): (&str, u64), now: Instant) -> bool {
        let key = Key {
            object: object.to_owned(),
            reason: "BackOff".to_owned(),
        };
        let object_version = ObjectVersion {
            uid: uid.into(),
            version,
        };
        coalescer
            .offer(key, object_version, event(&version.to_string()), now)
            .is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_goes_out_at_once_and_the_last_when_the_window_ends() {
        let (mut coalescer, start) = (Coalescer::new(WINDOW), Instant::now());
        assert!(offer(&mut coalescer, "a", ("u", 1), start));
        for version in [2, 3, 4] {
            assert!(!offer(&mut coalescer, "a", ("u", version), start));
        }
        assert!(offer(&mut coalescer, "b", ("w", 5), start), "another object");
        assert_eq!(coalescer.first_held(), Some(2));
        assert!(coalescer.due(start + WINDOW / 2).is_empty());
        assert_eq!(coalescer.next_end(start), Some(start + WINDOW));
        let due = coalescer.due(start + WINDOW);
        assert_eq!(due.len(), 1);
        assert_eq!((&due[0].event.data()[..], due[0].suppressed), (&b"4"[..], 2));
        assert_eq!(
            due[0].versions,
            [ObjectVersion {
                uid: "u".into(),
                version: 4
            }]
        );
        assert_eq!((coalescer.first_held(), coalescer.held_bytes), (None, 0));
        // The bundle began a window of its own; one with nothing in it just ends.
        assert!(!offer(&mut coalescer, "a", ("u", 6), start + WINDOW));
        assert_eq!(coalescer.due(start + WINDOW * 2).len(), 1);
        assert!(coalescer.due(start + WINDOW * 3).is_empty());
        assert!(offer(&mut coalescer, "a", ("u", 7), start + WINDOW * 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_is_offered_again_counts_once() {
        let (mut coalescer, now) = (Coalescer::new(WINDOW), Instant::now());
        assert!(offer(&mut coalescer, "a", ("u", 1), now));
        for version in [3, 3, 2] {
            assert!(!offer(&mut coalescer, "a", ("u", version), now));
        }
        assert!(
            !offer(&mut coalescer, "a", ("v", 4), now),
            "another Event object about the same"
        );
        let due = coalescer.due(now + WINDOW);
        assert_eq!((due[0].suppressed, due[0].versions.len()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn windows_and_what_they_hold_are_bounded() {
        let (mut coalescer, now) = (Coalescer::new(WINDOW), Instant::now());
        for object in 0..WINDOWS_MAX {
            assert!(offer(&mut coalescer, &object.to_string(), ("u", 1), now));
        }
        for version in 1..3 {
            assert!(offer(&mut coalescer, "one too many", ("u", version), now), "unbundled");
        }
        let large = "x".repeat(HELD_MAX_BYTES / 2);
        for object in ["0", "1", "2"] {
            let key = Key {
                object: object.to_owned(),
                reason: "BackOff".to_owned(),
            };
            let object_version = ObjectVersion {
                uid: object.into(),
                version: 9,
            };
            assert!(coalescer.offer(key, object_version, event(&large), now).is_none());
        }
        assert_eq!(coalescer.next_end(now), Some(now));
        assert_eq!(coalescer.due(now).len(), 2);
        assert!(coalescer.held_bytes <= HELD_MAX_BYTES);
    }
}
