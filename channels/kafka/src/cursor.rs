//! A cursor of a Kafka channel: which of its records are held, handed out and settled, partition by partition.
//!
//! Knows no client: [`crate::group`] brings records and saves what is settled. What a cursor has received and not settled
//! it keeps, so that a released event comes again without the broker; beyond a bound it asks for no more.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use channel::{
    Attempts, Cursor, CursorName, Delivery, Gap, GapReason, Offset, ReadError, Seat, Settle, SettleError, Standing,
    Watermark,
    progress::{Holder, Progress},
};
use event::Event;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    PAGE_BYTES,
    place::{parts, place},
    reader::Ends,
};

/// Records received and not settled beyond which no more are asked for: twice what the data plane keeps in backoff for one
/// subscription, so that others go on while that is full.
const HELD_MAX: usize = 8192;
/// The same in bytes of events.
const HELD_BYTES_MAX: usize = 24 << 20;

/// Releases further ahead than this come back then: far beyond any backoff, and well inside what the clock can add.
const RELEASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Gaps remembered at most: the newest are what a person looks at.
const GAPS_MAX: usize = 100;

/// The part of a cursor that outlives its holder.
pub(crate) struct Shared {
    pub(crate) name: CursorName,
    state: Mutex<State>,
    pub(crate) seat: Seat,
    /// Told when something was settled that a commit would save.
    pub(crate) unsaved: Notify,
    /// Told when records may be asked for again.
    pub(crate) room: Notify,
}

struct State {
    partitions: BTreeMap<i32, Partition>,
    /// Where partitions stood that are not ours now, as far as we know.
    elsewhere: BTreeMap<i32, Watermark>,
    /// Counts assignments: a receipt of an earlier one settles nothing.
    epoch: u64,
    /// Who is asked first; so that no partition waits behind another for ever.
    turn: i32,
    holding: usize,
    holding_bytes: usize,
    full: bool,
    /// The member leaves its group.
    is_over: bool,
    gaps: Vec<Gap>,
}

struct Partition {
    progress: Progress<Instant>,
    holder: Holder,
    epoch: u64,
    /// The offset of the next record that will be received.
    expected: u64,
    held: BTreeMap<u64, Held>,
    unsaved: bool,
}

struct Held {
    event: Event,
    stored_at: SystemTime,
}

/// What a received record was to the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It will be handed out, or was settled before.
    Kept,
    /// As before; and nothing more should be asked for.
    Full,
    /// Its partition is not ours any more.
    Stray,
}

impl Shared {
    pub(crate) fn new(name: CursorName, known: BTreeMap<i32, Watermark>) -> Self {
        Self {
            name,
            state: Mutex::new(State {
                partitions: BTreeMap::new(),
                elsewhere: known,
                epoch: 0,
                turn: 0,
                holding: 0,
                holding_bytes: 0,
                full: false,
                is_over: false,
                gaps: Vec::new(),
            }),
            seat: Seat::default(),
            unsaved: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Becomes its holder, unless there is one: what an earlier one took and did not settle comes again.
    pub(crate) fn hold(&self) -> bool {
        if !self.seat.take() {
            return false;
        }
        for partition in self.state.lock().partitions.values_mut() {
            partition.holder = partition.progress.take_over();
        }
        true
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
                state.forget_held(before.held.into_values());
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
                state.forget_held(gone.held.into_values());
                state.elsewhere.insert(*id, gone.progress.settled().clone());
            }
        }
        drop(state);
        self.room.notify_one();
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
            // Offsets only count down when the topic was deleted and made anew: what is there now was never handed out.
            tracing::warn!(cursor = %self.name, partition, offset, expected = found.expected, "the topic begins anew");
            let lost = Gap {
                from: place(partition, offset),
                to: place(partition, found.expected),
                found_at: SystemTime::now(),
                reason: GapReason::Damage,
            };
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
            remember(&mut state.gaps, lost);
            state.forget_held(gone.into_values());
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
            return Received::Kept;
        }
        match event {
            Some((event, stored_at)) => {
                state.holding += 1;
                state.holding_bytes += event.size();
                found.held.insert(offset, Held { event, stored_at });
            }
            // It is dealt with elsewhere.
            None => {
                found.progress.settle(Offset(offset));
                found.unsaved = true;
                self.unsaved.notify_one();
            }
        }
        self.seat.wake();
        if state.holding >= HELD_MAX || state.holding_bytes >= HELD_BYTES_MAX {
            state.full = true;
            return Received::Full;
        }
        Received::Kept
    }

    /// Says that records are gone which were not settled.
    pub(crate) fn missed(&self, gap: Gap) {
        tracing::warn!(cursor = %self.name, from = gap.from.0, to = gap.to.0, reason = gap.reason.as_str(), "events are gone that were not settled");
        remember(&mut self.state.lock().gaps, gap);
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

    /// What is settled of these partitions, or of all, for the last commit before they go. All of it, also what was committed a
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

    pub(crate) fn gaps(&self) -> Vec<Gap> {
        self.state.lock().gaps.clone()
    }

    /// What is settled of each partition, ours or not.
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

    /// Of another member's partition only what was settled when it went away from here is known.
    pub(crate) fn standing(&self, place: Offset) -> Option<Standing> {
        let (partition, offset) = parts(place);
        let (state, offset) = (self.state.lock(), Offset(offset));
        if let Some(ours) = state.partitions.get(&partition) {
            return Some(ours.progress.standing(offset));
        }
        let known = state.elsewhere.get(&partition)?;
        known.is_settled(offset).then_some(Standing::Settled)
    }

    /// The lowest place not settled, how many are not, and when the oldest of those that are held was stored.
    pub(crate) fn status(&self, ends: &[Ends]) -> (Offset, u64, Option<SystemTime>) {
        let state = self.state.lock();
        let (mut below, mut unsettled, mut oldest) = (None, 0, None);
        for (id, ends) in (0_i32..).zip(ends) {
            let ours = state.partitions.get(&id);
            let Some(settled) = ours
                .map(|ours| ours.progress.settled())
                .or_else(|| state.elsewhere.get(&id))
            else {
                unsettled += ends.high.saturating_sub(ends.low);
                below = below.or(Some(place(id, ends.low)));
                continue;
            };
            let left = settled.unsettled(Offset(ends.high).max(settled.top()));
            unsettled += left;
            if left > 0 || ends.high == 0 {
                below = below.or(Some(place(id, settled.settled_below().0)));
            }
            let first = ours
                .and_then(|ours| ours.held.first_key_value())
                .map(|(_, held)| held.stored_at);
            oldest = [oldest, first].into_iter().flatten().min();
        }
        let last = i32::try_from(ends.len()).unwrap_or(1) - 1;
        let all = || place(last.max(0), ends.last().map_or(0, |ends| ends.high));
        (below.unwrap_or_else(all), unsettled, oldest)
    }

    /// Takes what is there; the time to look again when it is nothing.
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
                        // What is expected was received, and what is not settled is held.
                        debug_assert!(false, "offset {next} of partition {id} is not settled and not held");
                        continue;
                    };
                    bytes += held.event.size();
                    own += 1;
                    let receipt = Receipt {
                        shared: self.clone(),
                        partition: *id,
                        epoch: partition.epoch,
                        holder: partition.holder,
                        offset: next,
                    };
                    taken.push(Delivery::new(
                        held.event.clone(),
                        place(*id, next.0),
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

impl State {
    fn forget_held(&mut self, gone: impl Iterator<Item = Held>) {
        for held in gone {
            self.holding -= 1;
            self.holding_bytes -= held.event.size();
        }
        self.full &= !self.has_room();
    }

    /// Half empty again: partitions are not paused and resumed for single records.
    fn has_room(&self) -> bool {
        self.holding <= HELD_MAX / 2 && self.holding_bytes <= HELD_BYTES_MAX / 2
    }
}

fn remember(gaps: &mut Vec<Gap>, gap: Gap) {
    if gaps.len() >= GAPS_MAX {
        gaps.remove(0);
    }
    gaps.push(gap);
}

/// The holder of a cursor.
pub(crate) struct KafkaCursor {
    shared: Arc<Shared>,
}

impl KafkaCursor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl Cursor for KafkaCursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        let max = max.max(1);
        self.shared.seat.wait_for(|| self.shared.take(max)).await
    }
}

impl Drop for KafkaCursor {
    fn drop(&mut self) {
        self.shared.seat.leave();
    }
}

struct Receipt {
    shared: Arc<Shared>,
    partition: i32,
    epoch: u64,
    holder: Holder,
    offset: Offset,
}

impl Receipt {
    fn with<T>(&self, act: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        let mut state = self.shared.state.lock();
        let partition = state.partitions.get_mut(&self.partition)?;
        (partition.epoch == self.epoch).then(|| act(partition))
    }
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        if self.shared.seat.has_ended() {
            return Err(SettleError);
        }
        let mut state = self.shared.state.lock();
        let partition = state
            .partitions
            .get_mut(&self.partition)
            .filter(|found| found.epoch == self.epoch);
        let partition = partition.ok_or(SettleError)?;
        partition.progress.settle(self.offset);
        partition.unsaved = true;
        let gone = partition.held.remove(&self.offset.0);
        let was_full = state.full;
        state.forget_held(gone.into_iter());
        let room = was_full && !state.full;
        drop(state);
        self.shared.unsaved.notify_one();
        if room {
            self.shared.room.notify_one();
        }
        Ok(())
    }

    fn release(self: Box<Self>, after: Duration) {
        let due = (!after.is_zero()).then(|| Instant::now() + after.min(RELEASE_MAX));
        let released = self.with(|partition| partition.progress.release(self.holder, self.offset, due));
        if released == Some(true) {
            self.shared.seat.wake();
        }
    }

    fn remember(&mut self, attempts: Attempts) {
        self.with(|partition| partition.progress.remember(self.offset, attempts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: CH-5
    #[test]
    fn the_last_commit_says_all_that_is_settled_also_what_was_committed_a_moment_ago() {
        let shared = Shared::new(CursorName::new("a"), BTreeMap::new());
        let settled = |below| Watermark::new(Offset(below));
        shared.assign([(0, settled(5)), (1, settled(9))].into());
        assert_eq!(shared.take_unsaved().len(), 2);
        assert_eq!(shared.take_unsaved(), []);
        assert_eq!(shared.to_leave(Some(&[1])), [(1, settled(9))]);
        assert_eq!(shared.to_leave(None).len(), 2);
        shared.over();
        assert_eq!(shared.to_leave(None), []);
    }

    /// Proves: CH-7
    #[test]
    fn of_another_members_partition_only_what_was_settled_before_is_known() {
        let shared = Shared::new(CursorName::new("a"), BTreeMap::new());
        let settled = |below| Watermark::new(Offset(below));
        shared.assign([(0, settled(5)), (1, settled(9))].into());
        let open = Some(Standing::Open(Attempts::default()));
        let standing = |partition, offset| shared.standing(place(partition, offset));
        assert_eq!([standing(1, 8), standing(1, 9)], [Some(Standing::Settled), open]);
        shared.revoke(&[1]);
        assert_eq!([standing(1, 8), standing(1, 9)], [Some(Standing::Settled), None]);
        assert_eq!([standing(0, 5), standing(2, 0)], [open, None]);
    }
}
