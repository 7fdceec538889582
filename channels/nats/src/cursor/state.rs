//! The events that a cursor holds, and how far it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use async_nats::Subject;
use channel::{Attempts, Watermark};
use channel_broker::HeldSize;
use event::Event;
use tokio::time::Instant;

use super::AHEAD_MAX;
use crate::consumer::ConsumerProgress;

pub(super) struct State {
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) size: HeldSize,
    /// To be handed out now.
    pub(super) ready: BTreeSet<u64>,
    /// Released, to be handed out at a time. May name settled ones, which are skipped when their time comes.
    pub(super) waiting: BTreeSet<(Instant, u64)>,
    /// Nothing is handed out before everything that was delivered earlier is here: see [`NatsCursor::serve`].
    pub(super) recovering: bool,
    /// The sequence after the highest that came.
    pub(super) expected: u64,
    /// The server's last report.
    pub(super) reported: ConsumerProgress,
    /// Settled in this process: a message that is redelivered all the same is acknowledged again.
    pub(super) settled: Watermark,
    /// Numbers the receipts: a release by an earlier receipt of an event does not concern the current one.
    pub(super) receipts: u64,
    pub(super) attempts: BTreeMap<u64, Attempts>,
    pub(super) work: Work,
    pub(super) full: bool,
}

pub(super) struct Held {
    pub(super) event: Event,
    pub(super) stored_at: SystemTime,
    /// Where it is acknowledged.
    pub(super) reply: Subject,
    /// When its ack deadline began.
    pub(super) deadline_began: Instant,
    pub(super) receipt: u64,
}

/// Changes to report to the server.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) acks: Vec<Subject>,
    /// Events whose attempts changed: `None` when they are settled.
    pub(crate) attempts: BTreeMap<u64, Option<Attempts>>,
}

impl State {
    /// Half empty again: the server is not asked for single messages.
    pub(super) fn has_room(&self) -> bool {
        self.size.has_room() && self.ready.len() <= AHEAD_MAX / 2
    }

    pub(super) fn settled_below(&self) -> u64 {
        if self.recovering {
            return self.reported.settled_below;
        }
        let lowest = self.held.first_key_value().map(|(sequence, _)| *sequence);
        lowest.unwrap_or(self.expected).min(self.expected)
    }

    pub(super) fn progress(&self) -> ConsumerProgress {
        if self.recovering {
            return self.reported;
        }
        ConsumerProgress {
            settled_below: self.settled_below(),
            unsettled: u64::try_from(self.held.len()).unwrap_or(u64::MAX),
            last: self.expected.saturating_sub(1),
        }
    }
}
