//! The plan of a run as plain data: made from a seed, printed in a failure, made smaller by leaving steps out.

mod generation;

use crate::history::Millis;
pub use generation::generate;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub channels: Vec<ChannelPlan>,
    /// Subscribers by number; the last one never fails.
    pub subscribers: usize,
    /// In the order of their times.
    pub steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
pub struct ChannelPlan {
    /// Attempts survive a restart.
    pub remembers: bool,
    /// A crash loses the acknowledgements of this time.
    pub lag: Millis,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub at: Millis,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Publish {
        channel: usize,
        id: String,
        key: Option<String>,
        lot: String,
        size: usize,
    },
    /// Adds the subscription, or edits the one of its name.
    Subscribe(Subscription),
    Unsubscribe(String),
    /// The channel's provisioner is edited: it is closed and opened again.
    Reopen(usize),
    Subscriber {
        number: usize,
        behavior: Behavior,
        lasts: Millis,
    },
    Channel {
        number: usize,
        fault: Fault,
        lasts: Millis,
    },
    Replay {
        subscription: String,
        from: u64,
        rate: Option<f64>,
        followed: Millis,
    },
    Redrive {
        subscription: String,
        rate: Option<f64>,
        followed: Millis,
    },
    Crash,
    Restart {
        grace: Millis,
    },
}

impl Action {
    /// How long a replay or a redrive is followed whose end is waited for. One that is followed for less stops then.
    pub const TO_ITS_END: Millis = Millis::MAX;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub name: String,
    pub channel: usize,
    pub target: Target,
    /// The channel that replies go to.
    pub reply: Option<usize>,
    /// The subscriber that takes dead letters.
    pub dead_letters: Option<usize>,
    pub ordering: Ordering,
    pub retry: u32,
    pub delay: Millis,
    pub exponential: bool,
    pub timeout: Millis,
    pub in_flight: usize,
    /// Only events of this lot.
    pub lot: Option<String>,
    pub earliest: bool,
    pub paused: bool,
    /// Nothing of its own ever fails, and it is never edited: others must not delay it.
    pub is_neighbor: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Subscriber(usize),
    Channel(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    None,
    Key,
    Total,
}

/// How a subscriber answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    Well,
    Status(u16),
    /// With `Retry-After`, in seconds.
    Later(u16, u64),
    /// Every other request is answered 503.
    Flaky,
    Slow(Millis),
    /// Takes the request and never answers.
    Mute,
    /// Connections are refused.
    Away,
    /// Takes the request and ends the connection.
    Breaks,
    Garbage,
    /// The gateway itself has no file descriptor left.
    NoFiles,
}

/// How a channel fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Full,
    Unavailable,
    /// Stores, and reports that it could not.
    Lies,
    /// Appends wait until the fault is over.
    Stalls,
    /// Dead letters are refused.
    DeadLetters,
    /// Reads fail.
    Reads,
    /// Reads end as if the task that serves the cursor had died.
    Ends,
    /// It cannot be opened.
    Opens,
}
