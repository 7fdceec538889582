//! What happened in a run, in the order in which it happened: what invariants read, and the trace of a failure.

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::scenario::Action;

/// Milliseconds since the run began.
pub type Millis = u64;

/// Facts of a run. The busiest of 3000 runs had a fifth of it; one in which an event is sent again and again reaches it in seconds.
const FACTS_MAX: usize = 100_000;

/// Why a request reached a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Delivery,
    /// An event that a replay delivers again.
    Replay,
    DeadLetter,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A process began.
    Began,
    Crashed,
    DrainBegan {
        grace: Millis,
    },
    DrainEnded,
    /// A step of the scenario was taken.
    Step(Action),
    Refused {
        channel: usize,
        id: String,
        why: String,
    },
    Accepted {
        channel: usize,
        id: String,
        offset: u64,
    },
    Stored {
        channel: usize,
        offset: u64,
        id: String,
        key: Option<String>,
        lot: String,
        size: usize,
        intact: bool,
    },
    CursorCreated {
        channel: usize,
        cursor: String,
        start: u64,
    },
    CursorDeleted {
        channel: usize,
        cursor: String,
    },
    /// A user deleted it.
    Unsubscribed {
        subscription: String,
    },
    HandedOut {
        channel: usize,
        cursor: String,
        offset: u64,
        size: usize,
    },
    Released {
        channel: usize,
        cursor: String,
        offset: u64,
        after: Millis,
        attempts: u32,
    },
    Acknowledged {
        channel: usize,
        cursor: String,
        offset: u64,
    },
    Arrived {
        request: u64,
        subscription: String,
        subscriber: String,
        id: String,
        purpose: Purpose,
        intact: bool,
    },
    /// The whole answer was written.
    Answered {
        request: u64,
        subscription: String,
        id: String,
        purpose: Purpose,
        status: u16,
        retry_after: Option<Millis>,
        reply: Option<String>,
    },
    /// The connection ended without an answer, whoever ended it.
    Unanswered {
        request: u64,
        subscription: String,
        id: String,
        purpose: Purpose,
    },
    DeadLetterStored {
        channel: usize,
        place: u64,
        id: String,
        subscription: String,
        reason: String,
        attempts: u32,
        intact: bool,
    },
    DeadLetterRemoved {
        channel: usize,
        place: u64,
        id: String,
        subscription: String,
    },
    RedriveEnded {
        subscription: String,
        is_done: bool,
        delivered: u64,
        dead_lettered: u64,
        gone: u64,
        matched: u64,
    },
    ReplayBegan {
        subscription: String,
        from: u64,
    },
    ReplayEnded {
        subscription: String,
        is_done: bool,
        delivered: u64,
        dead_lettered: u64,
        matched: u64,
    },
    /// Everything that fails was mended, and nothing is paused.
    Mended,
    /// The run ended; `unsettled` events were left over by cursors, and `awaited` replays and redrives went on.
    Rested {
        unsettled: Vec<(String, u64)>,
        awaited: usize,
    },
    /// So much happened that something goes on and on: the run was ended.
    Overflowed,
    Panicked(String),
}

#[derive(Clone, Debug)]
pub struct Record {
    pub at: Millis,
    pub fact: Fact,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (actor, what) = self.fact.actor();
        write!(
            f,
            "{:>9.3} s  {actor:<14} {what}",
            Duration::from_millis(self.at).as_secs_f64()
        )
    }
}

impl Fact {
    fn actor(&self) -> (String, String) {
        let what = format!("{self:?}");
        let actor = match self {
            Self::Began | Self::Crashed | Self::DrainBegan { .. } | Self::DrainEnded | Self::Panicked(_) => {
                "process".into()
            }
            Self::Step(_) | Self::Unsubscribed { .. } | Self::Mended | Self::Rested { .. } | Self::Overflowed => {
                "scenario".into()
            }
            Self::Refused { .. } | Self::Accepted { .. } => "publisher".into(),
            Self::Stored { channel, .. }
            | Self::DeadLetterStored { channel, .. }
            | Self::DeadLetterRemoved { channel, .. } => {
                format!("channel {channel}")
            }
            Self::CursorCreated { cursor, .. }
            | Self::CursorDeleted { cursor, .. }
            | Self::HandedOut { cursor, .. }
            | Self::Released { cursor, .. }
            | Self::Acknowledged { cursor, .. } => format!("cursor {cursor}"),
            Self::Arrived { subscriber, .. } => subscriber.clone(),
            Self::Answered { .. } | Self::Unanswered { .. } => "subscriber".into(),
            Self::RedriveEnded { .. } => "redrive".into(),
            Self::ReplayBegan { .. } | Self::ReplayEnded { .. } => "replay".into(),
        };
        (actor, what)
    }
}

/// Facts, and the clock of the run: it goes on over the processes of a run, each of which has a runtime and a clock of its own.
#[derive(Default)]
pub struct History {
    facts: Mutex<Vec<Record>>,
    clock: Mutex<(Millis, Option<Instant>)>,
    overflow: Notify,
}

impl History {
    pub(crate) fn note(&self, fact: Fact) {
        let at = self.now();
        let mut facts = self.facts.lock();
        facts.push(Record { at, fact });
        if facts.len() == FACTS_MAX {
            facts.push(Record {
                at,
                fact: Fact::Overflowed,
            });
            self.overflow.notify_one();
        }
    }

    /// Returns when there are too many facts.
    pub(crate) async fn overflows(&self) {
        self.overflow.notified().await;
    }

    pub(crate) fn now(&self) -> Millis {
        let (base, since) = *self.clock.lock();
        base + since.map_or(0, |since| {
            u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// The clock goes on in another runtime; called inside it.
    pub(crate) fn go_on(&self, base: Millis) {
        *self.clock.lock() = (base, Some(Instant::now()));
    }

    /// The clock stands still between two runtimes.
    pub(crate) fn stop_at(&self, now: Millis) {
        *self.clock.lock() = (now, None);
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.facts.lock().clone()
    }
}
