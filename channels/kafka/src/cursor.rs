//! A cursor of a Kafka channel: which of its records are held, handed out and settled, partition by partition.
//!
//! Knows no client: [`crate::group`] brings records and saves what is settled. What a cursor has received and not settled
//! it keeps, so that a released event comes again without the broker; beyond a bound it asks for no more.

mod receipt;
mod state;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use channel::{
    CursorName, CursorStatus, Delivery, GapReason, Offset, SettlementState, Watermark,
    progress::{Holder, Progress},
};
use channel_broker::{BrokerCursor, CursorCore, HeldSize, PAGE_BYTES};
use event::Event;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use self::{
    receipt::Receipt,
    state::{Held, Partition, State},
};
use crate::{
    offset::{channel_offset, split},
    reader::Ends,
};

/// The part of a cursor that outlives its holder.
pub struct KafkaCursor {
    core: CursorCore,
    state: Mutex<State>,
    /// Told when something was settled that a commit would save.
    pub(crate) unsaved: Notify,
    /// Makes the member's task panic.
    #[cfg(test)]
    pub(crate) panics: std::sync::atomic::AtomicBool,
}

/// How the cursor treated a received record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It will be handed out, or was settled before.
    Held,
    /// As before; and nothing more should be asked for.
    Full,
    /// Its partition is not ours any more.
    Stray,
}

impl KafkaCursor {
    pub(crate) fn new(name: CursorName, known: BTreeMap<i32, Watermark>) -> Self {
        Self {
            core: CursorCore::new(name),
            state: Mutex::new(State {
                partitions: BTreeMap::new(),
                elsewhere: known,
                epoch: 0,
                turn: 0,
                size: HeldSize::default(),
                full: false,
                is_over: false,
            }),
            unsaved: Notify::new(),
            #[cfg(test)]
            panics: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Partitions are ours from now on, each settled so far.
    pub(crate) fn assign(&self, partitions: BTreeMap<i32, Watermark>) {
        let mut state = self.state.lock();
        state.epoch += 1;
        let epoch = state.epoch;
        for (id, settled) in partitions {
            state.elsewhere.remove(&id);
            let mut progress = Progress::restore(settled, BTreeMap::new());
            let partition = Partition {
                expected: progress.settled().settled_below().0,
                holder: progress.take_over(),
                progress,
                epoch,
                held: BTreeMap::new(),
                // A first commit shows the cursor to Kafka's own tools.
                unsaved: true,
            };
            if let Some(before) = state.partitions.insert(id, partition) {
                state.drop_held(before.held.into_values());
            }
        }
        drop(state);
        self.unsaved.notify_one();
    }

    /// Partitions go to another member of the group; what of them is in flight cannot be settled here any more.
    pub(crate) fn revoke(&self, partitions: &[i32]) {
        let mut state = self.state.lock();
        for id in partitions {
            if let Some(gone) = state.partitions.remove(id) {
                state.drop_held(gone.held.into_values());
                state.elsewhere.insert(*id, gone.progress.settled().clone());
            }
        }
        drop(state);
        self.core.room.notify_one();
    }

    /// A record came. Offsets that were jumped over hold nothing for anybody: markers of transactions, or records that are
    /// gone, which are a gap where they lie below the partition's beginning.
    pub(crate) fn received(&self, partition: i32, offset: u64, event: Option<(Event, SystemTime)>) -> Received {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(found) = state.partitions.get_mut(&partition) else {
            return Received::Stray;
        };
        if offset < found.expected {
            // Offsets only go back when the topic was deleted and recreated: what it has now was never handed out.
            tracing::warn!(cursor = %self.core.name, partition, offset, expected = found.expected, "the topic begins anew");
            let lost = missing(partition, found.progress.settled(), Offset(found.expected));
            state.epoch += 1;
            let gone = std::mem::take(&mut found.held);
            *found = Partition {
                progress: Progress::new(Offset(offset)),
                holder: Holder::default(),
                epoch: state.epoch,
                expected: offset,
                held: BTreeMap::new(),
                unsaved: true,
            };
            found.holder = found.progress.take_over();
            for offsets in lost {
                self.core.missed(offsets, GapReason::Damage);
            }
            state.drop_held(gone.into_values());
        }
        let Some(found) = state.partitions.get_mut(&partition) else {
            return Received::Stray;
        };
        if offset > found.expected {
            found.progress.skip(Offset(found.expected)..Offset(offset));
            found.unsaved = true;
        }
        found.expected = offset + 1;
        if found.progress.settled().is_settled(Offset(offset)) {
            return Received::Held;
        }
        match event {
            Some((event, stored_at)) => {
                state.size.add(event.size());
                found.held.insert(offset, Held { event, stored_at });
            }
            // It is dealt with elsewhere.
            None => {
                found.progress.settle(Offset(offset));
                found.unsaved = true;
                self.unsaved.notify_one();
            }
        }
        self.core.lease.wake();
        if state.size.is_full() {
            state.full = true;
            return Received::Full;
        }
        Received::Held
    }

    /// Partitions of which everything that came is dealt with, and which reach further: by partition, where they go on. What lies
    /// there is on its way, or is nothing.
    pub(crate) fn idle(&self, ends: &[Ends]) -> Vec<(i32, u64)> {
        let state = self.state.lock();
        let reaches = |id: i32| usize::try_from(id).ok().and_then(|index| ends.get(index));
        let ours = state.partitions.iter().filter(|(_, ours)| ours.held.is_empty());
        ours.map(|(id, ours)| (*id, ours.expected))
            .filter(|(id, expected)| reaches(*id).is_some_and(|ends| *expected < ends.high))
            .collect()
    }

    /// There is no record from `from` up to `until`: nothing is waited for there.
    pub(crate) fn is_void(&self, partition: i32, from: u64, until: u64) {
        let mut state = self.state.lock();
        let Some(ours) = state.partitions.get_mut(&partition) else {
            return;
        };
        // Something came meanwhile.
        if ours.expected != from || until <= from {
            return;
        }
        ours.progress.skip(Offset(from)..Offset(until));
        ours.expected = until;
        ours.unsaved = true;
        drop(state);
        self.unsaved.notify_one();
    }

    /// Takes what a commit would save.
    pub(crate) fn take_unsaved(&self) -> Vec<(i32, Watermark)> {
        let mut state = self.state.lock();
        let unsaved = state.partitions.iter_mut().filter(|(_, partition)| partition.unsaved);
        unsaved
            .map(|(id, partition)| {
                partition.unsaved = false;
                (*id, partition.progress.settled().clone())
            })
            .collect()
    }

    /// Returns what is settled in these partitions, or in all, for the last commit before they go. All of it, also what was committed a
    /// moment ago: while a group is being rearranged brokers refuse commits, and tell of it when it is too late for another.
    pub(crate) fn to_leave(&self, only: Option<&[i32]>) -> Vec<(i32, Watermark)> {
        let state = self.state.lock();
        if state.is_over {
            return Vec::new();
        }
        let leaving = state.partitions.iter();
        leaving
            .filter(|(id, _)| only.is_none_or(|only| only.contains(id)))
            .map(|(id, partition)| (*id, partition.progress.settled().clone()))
            .collect()
    }

    /// From now on nothing is saved: the last commit was made, or there is to be none.
    pub(crate) fn over(&self) {
        self.state.lock().is_over = true;
    }

    /// See [`Self::over`].
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    /// A commit failed: everything is to be saved again.
    pub(crate) fn save_again(&self) {
        for partition in self.state.lock().partitions.values_mut() {
            partition.unsaved = true;
        }
        self.unsaved.notify_one();
    }

    /// Returns what is settled in each partition, those of other members included.
    pub(crate) fn settled(&self) -> BTreeMap<i32, Offset> {
        let state = self.state.lock();
        let elsewhere = state
            .elsewhere
            .iter()
            .map(|(id, settled)| (*id, settled.settled_below()));
        let ours = state
            .partitions
            .iter()
            .map(|(id, ours)| (*id, ours.progress.settled().settled_below()));
        elsewhere.chain(ours).collect()
    }

    /// How far the cursor is with one event. In another member's partition, only what was settled when it was revoked is known.
    pub(crate) fn settlement_state(&self, channel_offset: Offset) -> Option<SettlementState> {
        let (partition, offset) = split(channel_offset);
        let (state, offset) = (self.state.lock(), Offset(offset));
        if let Some(ours) = state.partitions.get(&partition) {
            return Some(ours.progress.settlement_state(offset));
        }
        let known = state.elsewhere.get(&partition)?;
        known.is_settled(offset).then_some(SettlementState::Settled)
    }

    /// How far the cursor is, in partitions that end there.
    pub(crate) fn status(&self, owner: Option<String>, ends: &[Ends]) -> CursorStatus {
        let state = self.state.lock();
        let (mut below, mut unsettled, mut oldest) = (None, 0, None);
        for (id, ends) in (0_i32..).zip(ends) {
            let ours = state.partitions.get(&id);
            let Some(settled) = ours
                .map(|ours| ours.progress.settled())
                .or_else(|| state.elsewhere.get(&id))
            else {
                unsettled += ends.high.saturating_sub(ends.low);
                below = below.or(Some(channel_offset(id, ends.low)));
                continue;
            };
            let left = settled.unsettled(Offset(ends.high).max(settled.top()));
            unsettled += left;
            if left > 0 || ends.high == 0 {
                below = below.or(Some(channel_offset(id, settled.settled_below().0)));
            }
            let first = ours
                .and_then(|ours| ours.held.first_key_value())
                .map(|(_, held)| held.stored_at);
            oldest = [oldest, first].into_iter().flatten().min();
        }
        let last = i32::try_from(ends.len()).unwrap_or(1) - 1;
        let all = || channel_offset(last.max(0), ends.last().map_or(0, |ends| ends.high));
        CursorStatus {
            name: self.core.name.clone(),
            owner,
            settled_below: below.unwrap_or_else(all),
            unsettled,
            oldest,
        }
    }
}

impl BrokerCursor for KafkaCursor {
    const MEMBER: &'static str = "consumer of Kafka";
    /// Longer than leaving a group takes at most.
    const END_MAX: Duration = Duration::from_secs(20);
    const ABORTS_LATE: bool = false;

    fn core(&self) -> &CursorCore {
        &self.core
    }

    fn take_over(&self) {
        for partition in self.state.lock().partitions.values_mut() {
            partition.holder = partition.progress.take_over();
        }
    }

    fn take(self: &Arc<Self>, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let ids: Vec<i32> = state
            .partitions
            .range(state.turn..)
            .chain(state.partitions.range(..state.turn))
            .map(|(id, _)| *id)
            .collect();
        let share = max.div_ceil(ids.len().max(1)).max(1);
        let (mut bytes, mut taken, mut due) = (0, Vec::new(), None::<Instant>);
        // A second round lets the partitions that have more take what the others left.
        for share in [share, max] {
            for id in &ids {
                let Some(partition) = state.partitions.get_mut(id) else {
                    continue;
                };
                let mut own = 0;
                while own < share && taken.len() < max && bytes < PAGE_BYTES {
                    let Some(next) = partition.progress.take(Instant::now, Offset(partition.expected)) else {
                        due = [due, partition.progress.next_due()].into_iter().flatten().min();
                        break;
                    };
                    let Some(held) = partition.held.get(&next.0) else {
                        // Everything below `expected` was received, and is settled or held.
                        debug_assert!(false, "offset {next} of partition {id} is not settled and not held");
                        continue;
                    };
                    bytes += held.event.size();
                    own += 1;
                    let receipt = Receipt {
                        cursor: self.clone(),
                        partition: *id,
                        epoch: partition.epoch,
                        holder: partition.holder,
                        offset: next,
                    };
                    taken.push(Delivery::new(
                        held.event.clone(),
                        channel_offset(*id, next.0),
                        held.stored_at,
                        partition.progress.attempts_of(next),
                        Box::new(receipt),
                    ));
                    state.turn = *id + 1;
                }
            }
        }
        if taken.is_empty() { Err(due) } else { Ok(taken) }
    }
}
/// The offsets of a partition below `end` that were not settled and no longer exist.
pub(crate) fn missing(partition: i32, settled: &Watermark, end: Offset) -> Vec<Range<Offset>> {
    let missing = settled.open_ranges(end).into_iter();
    missing
        .map(|range| channel_offset(partition, range.start.0)..channel_offset(partition, range.end.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use channel::Attempts;

    use super::*;

    /// Proves: CH-5
    #[test]
    fn the_last_commit_says_all_that_is_settled_also_what_was_committed_a_moment_ago() {
        let cursor = KafkaCursor::new(CursorName::new("a"), BTreeMap::new());
        let settled = |below| Watermark::new(Offset(below));
        cursor.assign([(0, settled(5)), (1, settled(9))].into());
        assert_eq!(cursor.take_unsaved().len(), 2);
        assert_eq!(cursor.take_unsaved(), []);
        assert_eq!(cursor.to_leave(Some(&[1])), [(1, settled(9))]);
        assert_eq!(cursor.to_leave(None).len(), 2);
        cursor.over();
        assert_eq!(cursor.to_leave(None), []);
    }

    /// Proves: CH-7
    #[test]
    fn of_another_members_partition_only_what_was_settled_before_is_known() {
        let cursor = KafkaCursor::new(CursorName::new("a"), BTreeMap::new());
        let settled = |below| Watermark::new(Offset(below));
        cursor.assign([(0, settled(5)), (1, settled(9))].into());
        let open = Some(SettlementState::Open(Attempts::default()));
        let settlement_state = |partition, offset| cursor.settlement_state(channel_offset(partition, offset));
        assert_eq!(
            [settlement_state(1, 8), settlement_state(1, 9)],
            [Some(SettlementState::Settled), open]
        );
        cursor.revoke(&[1]);
        assert_eq!(
            [settlement_state(1, 8), settlement_state(1, 9)],
            [Some(SettlementState::Settled), None]
        );
        assert_eq!([settlement_state(0, 5), settlement_state(2, 0)], [open, None]);
    }
}
