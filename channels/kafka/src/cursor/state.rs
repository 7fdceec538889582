//! The events that a cursor holds, and how far it is in each partition.

use std::{collections::BTreeMap, time::SystemTime};

use channel::{
    Watermark,
    progress::{Holder, Progress},
};
use channel_broker::HeldSize;
use event::Event;
use tokio::time::Instant;

pub(super) struct State {
    pub(super) partitions: BTreeMap<i32, Partition>,
    /// Where partitions stood that are not ours now, as far as we know.
    pub(super) elsewhere: BTreeMap<i32, Watermark>,
    /// Counts assignments: a receipt of an earlier one settles nothing.
    pub(super) epoch: u64,
    /// The partition that is asked first, so that none waits behind another for ever.
    pub(super) turn: i32,
    pub(super) size: HeldSize,
    pub(super) full: bool,
    /// The member leaves its group.
    pub(super) is_over: bool,
}

pub(super) struct Partition {
    pub(super) progress: Progress<Instant>,
    pub(super) holder: Holder,
    pub(super) epoch: u64,
    /// The offset of the next record that will be received.
    pub(super) expected: u64,
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) unsaved: bool,
}

pub(super) struct Held {
    pub(super) event: Event,
    pub(super) stored_at: SystemTime,
}

impl State {
    pub(super) fn drop_held(&mut self, gone: impl Iterator<Item = Held>) {
        for held in gone {
            self.size.remove(held.event.size());
        }
        self.full &= !self.size.has_room();
    }
}
