//! A cursor of a NATS channel: which messages are held, handed out and settled.
//!
//! It knows no client: [`crate::member`] brings messages and reports to the server what is settled. A message is held until it is
//! settled, so that a released event comes again without the server.

mod receipt;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::Subject;
use channel::{Attempts, CursorName, CursorStatus, Delivery, GapReason, Offset, SettlementState, Watermark};
use channel_broker::{BrokerCursor, CursorCore, HELD_MAX, HeldSize, PAGE_BYTES};
use event::Event;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::state::Work;
use self::{
    receipt::Receipt,
    state::{Held, State},
};
use crate::consumer::ConsumerProgress;

/// Events received and not handed out beyond which the member asks for no more: a few round trips' worth. When a gateway dies,
/// they wait for their ack deadline.
const AHEAD_MAX: usize = 512;

/// So many acknowledgements are reported at once. Those not reported are lost when the gateway is killed, and their events come
/// again.
const ACKS_MAX: usize = 32;

/// The part of a cursor that outlives its holder.
pub struct NatsCursor {
    core: CursorCore,
    state: Mutex<State>,
    /// Notified when there is something to report to the server, and when there is much of it; not for every acknowledgement.
    pub(crate) work: Notify,
    /// Makes the member's task panic.
    #[cfg(test)]
    pub(crate) panics: std::sync::atomic::AtomicBool,
}

impl NatsCursor {
    pub(crate) fn new(name: CursorName, reported: ConsumerProgress) -> Self {
        Self {
            core: CursorCore::new(name),
            state: Mutex::new(State {
                held: BTreeMap::new(),
                size: HeldSize::default(),
                ready: BTreeSet::new(),
                waiting: BTreeSet::new(),
                recovering: true,
                expected: 0,
                reported,
                settled: Watermark::default(),
                receipts: 0,
                attempts: BTreeMap::new(),
                work: Work::default(),
                full: false,
            }),
            work: Notify::new(),
            #[cfg(test)]
            panics: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Holds a message. `event` is `None` when it became a dead letter. `is_exclusive`: no other gateway pulls from the consumer.
    pub(crate) fn received(
        &self,
        sequence: u64,
        event: Option<(Event, SystemTime)>,
        reply: Subject,
        is_exclusive: bool,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(held) = state.held.get_mut(&sequence) {
            // Its ack deadline passed, so the server sent it again.
            held.reply = reply;
            held.deadline_began = Instant::now();
            return;
        }
        if !state.recovering && is_exclusive && sequence > state.expected {
            // Deleted, or dropped by a limit, before it was handed out.
            self.core
                .missed(Offset(state.expected)..Offset(sequence), GapReason::Limit);
        }
        state.expected = state.expected.max(sequence + 1);
        match event {
            Some((event, stored_at)) if !state.settled.is_settled(Offset(sequence)) => {
                state.size.add(event.size());
                state.held.insert(
                    sequence,
                    Held {
                        event,
                        stored_at,
                        reply,
                        deadline_began: Instant::now(),
                        receipt: 0,
                    },
                );
                state.ready.insert(sequence);
                if !state.recovering {
                    self.core.lease.wake();
                }
            }
            _ => {
                state.settled.settle(Offset(sequence));
                self.acknowledge(&mut state.work, reply);
            }
        }
    }

    /// How many messages the member may ask for; 0 while there are enough.
    pub(crate) fn capacity(&self) -> usize {
        let mut state = self.state.lock();
        // While the member recovers everything waits, and all that was delivered before must be held.
        let ahead = if state.recovering { 0 } else { state.ready.len() };
        if state.size.is_full() || ahead >= AHEAD_MAX {
            state.full = true;
        }
        if state.full && !state.has_room() {
            return 0;
        }
        state.full = false;
        (AHEAD_MAX - ahead).min(HELD_MAX - state.held.len())
    }

    /// How many events are held.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Begins to hand out events, lowest first: everything that was delivered and not settled is here, and nothing older will
    /// come. `first` is the stream's first sequence, `delivered` the consumer's last.
    pub(crate) fn serve(&self, first: u64, delivered: u64) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.recovering {
            return;
        }
        let before = state.reported.settled_below;
        let lowest = state.held.first_key_value().map_or(u64::MAX, |(sequence, _)| *sequence);
        if before > 0 && before < first && first <= lowest {
            self.core.missed(Offset(before)..Offset(first), GapReason::Limit);
        }
        state.recovering = false;
        state.expected = state.expected.max(delivered + 1);
        let held = &state.held;
        state.attempts.retain(|sequence, _| held.contains_key(sequence));
        self.core.lease.wake();
    }

    /// Restores the attempts that an earlier holder remembered, before events are handed out.
    pub(crate) fn restore_attempts(&self, attempts: BTreeMap<u64, Attempts>) {
        self.state.lock().attempts.extend(attempts);
    }

    /// The server reports how far the consumer is.
    pub(crate) fn reported(&self, reported: ConsumerProgress) {
        self.state.lock().reported = reported;
    }

    /// Drops what is held, because the consumer went to another gateway or was recreated. Events in flight may still be
    /// settled.
    pub(crate) fn lose(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.reported = state.progress();
        state.held.clear();
        state.size = HeldSize::default();
        state.ready.clear();
        state.waiting.clear();
        state.attempts.clear();
        state.recovering = true;
        state.expected = 0;
        state.full = false;
        self.core.room.notify_one();
    }

    /// Starts over in a stream that was recreated: sequences mean other events.
    pub(crate) fn restart(&self) {
        self.lose();
        let mut state = self.state.lock();
        let reported = std::mem::take(&mut state.reported);
        if reported.unsettled > 0 {
            let from = Offset(reported.settled_below);
            self.core.missed(from..Offset(reported.last + 1), GapReason::Damage);
        }
        state.reported.settled_below = 1;
        state.settled = Watermark::default();
    }

    /// Takes the changes to report.
    pub(crate) fn take_work(&self) -> Work {
        std::mem::take(&mut self.state.lock().work)
    }

    /// Whether the changes may wait a moment for more.
    pub(crate) fn has_little_work(&self) -> bool {
        let work = &self.state.lock().work;
        work.acks.len() < ACKS_MAX && work.attempts.is_empty()
    }

    fn acknowledge(&self, work: &mut Work, reply: Subject) {
        work.acks.push(reply);
        if work.acks.len() == 1 || work.acks.len() == ACKS_MAX || !work.attempts.is_empty() {
            self.work.notify_one();
        }
    }

    /// The reply subjects of held messages whose ack deadline began that long ago. It begins again now.
    pub(crate) fn extend_deadlines(&self, age: Duration) -> Vec<Subject> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let extend_deadlines = state.held.values_mut().filter(|held| held.deadline_began + age <= now);
        extend_deadlines
            .map(|held| {
                held.deadline_began = now;
                held.reply.clone()
            })
            .collect()
    }

    /// Everything held, to be returned to the server at the end: the reply subjects, and the attempts.
    pub(crate) fn return_all(&self) -> (Vec<Subject>, BTreeMap<u64, Attempts>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let replies = state.held.values().map(|held| held.reply.clone()).collect();
        let held = &state.held;
        state.attempts.retain(|sequence, _| held.contains_key(sequence));
        (replies, std::mem::take(&mut state.attempts))
    }

    /// Everything below this sequence is settled.
    pub(crate) fn settled_below(&self) -> u64 {
        self.state.lock().settled_below()
    }

    /// How far the cursor is with one event. While the member recovers, only what the server reported is known. Where other gateways
    /// pull from the consumer, too (not `is_exclusive`), only what came here is known.
    pub(crate) fn settlement_state(&self, sequence: u64, is_exclusive: bool) -> Option<SettlementState> {
        let state = self.state.lock();
        if state.held.contains_key(&sequence) {
            let attempts = state.attempts.get(&sequence).copied();
            return Some(SettlementState::Open(attempts.unwrap_or_default()));
        }
        if state.settled.is_settled(Offset(sequence)) {
            return Some(SettlementState::Settled);
        }
        match (is_exclusive, state.recovering) {
            (false, _) => None,
            (true, true) => (sequence < state.reported.settled_below).then_some(SettlementState::Settled),
            (true, false) if sequence < state.expected => Some(SettlementState::Settled),
            (true, false) => Some(SettlementState::Open(Attempts::default())),
        }
    }

    pub(crate) fn status(&self, owner: Option<&str>, last: u64) -> CursorStatus {
        let state = self.state.lock();
        CursorStatus {
            oldest: state.held.first_key_value().map(|(_, held)| held.stored_at),
            ..state.progress().status(&self.core.name, owner, last)
        }
    }
}

impl BrokerCursor for NatsCursor {
    const MEMBER: &'static str = "consumer of NATS";
    /// For the request that is under way, and for the last answers.
    const END_MAX: Duration = Duration::from_secs(10);
    const ABORTS_LATE: bool = true;

    fn core(&self) -> &CursorCore {
        &self.core
    }

    fn take_over(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let waiting: BTreeSet<u64> = state.waiting.iter().map(|(_, sequence)| *sequence).collect();
        for (sequence, held) in &mut state.held {
            held.receipt = 0;
            if !waiting.contains(sequence) {
                state.ready.insert(*sequence);
            }
        }
    }

    fn take(self: &Arc<Self>, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.recovering {
            return Err(None);
        }
        let now = Instant::now();
        while let Some((time, sequence)) = state.waiting.first().copied()
            && time <= now
        {
            state.waiting.pop_first();
            if state.held.contains_key(&sequence) {
                state.ready.insert(sequence);
            }
        }
        let (mut bytes, mut taken) = (0, Vec::new());
        while taken.len() < max && bytes < PAGE_BYTES {
            let Some(sequence) = state.ready.pop_first() else { break };
            let Some(held) = state.held.get_mut(&sequence) else {
                continue;
            };
            state.receipts += 1;
            held.receipt = state.receipts;
            bytes += held.event.size();
            let settle = Receipt {
                cursor: self.clone(),
                sequence,
                receipt: held.receipt,
                reply: held.reply.clone(),
            };
            taken.push(Delivery::new(
                held.event.clone(),
                Offset(sequence),
                held.stored_at,
                state.attempts.get(&sequence).copied().unwrap_or_default(),
                Box::new(settle),
            ));
        }
        if state.full && state.has_room() || state.ready.len() <= AHEAD_MAX / 2 {
            self.core.room.notify_one();
        }
        if taken.is_empty() {
            Err(state.waiting.first().map(|(time, _)| *time))
        } else {
            Ok(taken)
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: CH-7
    #[test]
    fn what_another_gateway_may_have_is_not_said_to_be_settled() {
        let reported = ConsumerProgress {
            settled_below: 3,
            ..ConsumerProgress::default()
        };
        let cursor = NatsCursor::new(CursorName::new("a"), reported);
        let (open, settled) = (
            Some(SettlementState::Open(Attempts::default())),
            Some(SettlementState::Settled),
        );
        let event = Event::builder("1", "/s", "t").finish().expect("a valid event");
        cursor.received(4, Some((event, SystemTime::now())), "reply".into(), true);
        let settlement_state =
            |is_exclusive| [2, 3, 4, 6].map(|sequence| cursor.settlement_state(sequence, is_exclusive));
        assert_eq!(
            settlement_state(true),
            [settled, None, open, None],
            "what others had may still come"
        );
        cursor.serve(1, 5);
        assert_eq!(settlement_state(true), [settled, settled, open, open]);
        assert_eq!(
            settlement_state(false),
            [None, None, open, None],
            "others pull from the consumer, too"
        );
    }
}
