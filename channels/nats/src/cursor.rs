//! A cursor of a NATS channel: which messages are held, handed out and settled.
//!
//! Knows no client: [`crate::consumer`] brings messages and tells the server what is settled. What is here and not settled is
//! kept until it is, so that a released event comes again without the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::Subject;
use async_trait::async_trait;
use channel::{
    Attempts, Cursor, CursorName, CursorStatus, Delivery, Gap, GapReason, Offset, ReadError, Seat, Settle, SettleError,
    Standing, Watermark,
};
use event::Event;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::PAGE_BYTES;

/// Events here and not settled beyond which no more are asked for: twice what the data plane keeps in backoff for one
/// subscription, so that others go on while that is full.
pub(crate) const HELD_MAX: usize = 8192;
/// The same in bytes of events.
const HELD_BYTES_MAX: usize = 24 << 20;

/// Events here and not handed out yet beyond which no more are asked for: a few round trips' worth. A gateway that dies takes
/// them with it until the server gives them to another.
const AHEAD_MAX: usize = 512;

/// Releases further ahead than this come back then: far beyond any backoff, and well inside what the clock can add.
const RELEASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// So many acknowledgements wait for no more: until then, a gateway that is killed takes them along, and their events come again.
const ACKS_GATHERED: usize = 32;

/// Gaps remembered at most: the newest are what a person looks at.
const GAPS_MAX: usize = 100;

/// The part of a cursor that outlives its holder.
pub(crate) struct Shared {
    pub(crate) name: CursorName,
    state: Mutex<State>,
    pub(crate) seat: Seat,
    /// Told when there is something to tell the server, and when there is much of it: not of every acknowledgement.
    pub(crate) work: Notify,
    /// Told when messages may be asked for again.
    pub(crate) room: Notify,
}

struct State {
    held: BTreeMap<u64, Held>,
    bytes: usize,
    /// To be handed out now.
    ready: BTreeSet<u64>,
    /// Released, to be handed out at a time. May name settled ones, which are skipped when their time comes.
    waiting: BTreeSet<(Instant, u64)>,
    /// Nothing is handed out before everything that was handed out earlier is here: see [`Shared::begin`].
    gathering: bool,
    /// The sequence after the highest that came.
    expected: u64,
    /// What the server said last.
    said: Said,
    /// What was settled here: when it comes again, the server missed it.
    settled: Watermark,
    /// Numbers the hands that events were given to: what an earlier one gives back does not concern the present one.
    hands: u64,
    attempts: BTreeMap<u64, Attempts>,
    work: Work,
    full: bool,
    gaps: Vec<Gap>,
}

struct Held {
    event: Event,
    stored_at: SystemTime,
    /// Where it is acknowledged.
    reply: Subject,
    /// When the server last heard of it.
    fresh: Instant,
    hand: u64,
}

/// A consumer's state on the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    pub(crate) settled_below: u64,
    pub(crate) unsettled: u64,
    /// The stream's last sequence then.
    pub(crate) last: u64,
}

impl Said {
    /// The same now that the stream ends with this sequence.
    pub(crate) fn status(&self, name: &CursorName, owner: Option<&str>, last: u64) -> CursorStatus {
        CursorStatus {
            name: name.clone(),
            owner: owner.map(str::to_owned),
            settled_below: Offset(self.settled_below),
            unsettled: self.unsettled + last.saturating_sub(self.last),
            oldest: None,
        }
    }
}

/// What the server is to be told.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) acks: Vec<Subject>,
    /// Events whose attempts changed: `None` when they are settled.
    pub(crate) attempts: BTreeMap<u64, Option<Attempts>>,
}

impl Shared {
    pub(crate) fn new(name: CursorName, said: Said) -> Self {
        Self {
            name,
            state: Mutex::new(State {
                held: BTreeMap::new(),
                bytes: 0,
                ready: BTreeSet::new(),
                waiting: BTreeSet::new(),
                gathering: true,
                expected: 0,
                said,
                settled: Watermark::default(),
                hands: 0,
                attempts: BTreeMap::new(),
                work: Work::default(),
                full: false,
                gaps: Vec::new(),
            }),
            seat: Seat::default(),
            work: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Becomes its holder, unless there is one: what an earlier one took and did not settle comes again.
    pub(crate) fn hold(&self) -> bool {
        if !self.seat.take() {
            return false;
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let waiting: BTreeSet<u64> = state.waiting.iter().map(|(_, sequence)| *sequence).collect();
        for (sequence, held) in &mut state.held {
            held.hand = 0;
            if !waiting.contains(sequence) {
                state.ready.insert(*sequence);
            }
        }
        true
    }

    /// A message came. `event` is `None` when it needs nothing of the subscription any more.
    pub(crate) fn received(&self, sequence: u64, event: Option<(Event, SystemTime)>, reply: Subject, alone: bool) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(held) = state.held.get_mut(&sequence) {
            // The server did not hear of it in time and sent it again.
            held.reply = reply;
            held.fresh = Instant::now();
            return;
        }
        if !state.gathering && alone && sequence > state.expected {
            // Deleted, or dropped by a limit, before it was handed out.
            state.missed(Offset(state.expected)..Offset(sequence), GapReason::Limit, &self.name);
        }
        state.expected = state.expected.max(sequence + 1);
        match event {
            Some((event, stored_at)) if !state.settled.is_settled(Offset(sequence)) => {
                state.bytes += event.size();
                state.held.insert(
                    sequence,
                    Held {
                        event,
                        stored_at,
                        reply,
                        fresh: Instant::now(),
                        hand: 0,
                    },
                );
                state.ready.insert(sequence);
                if !state.gathering {
                    self.seat.wake();
                }
            }
            _ => {
                state.settled.settle(Offset(sequence));
                self.acknowledge(&mut state.work, reply);
            }
        }
    }

    /// How many messages may be asked for; 0 while there are enough.
    pub(crate) fn wanted(&self) -> usize {
        let mut state = self.state.lock();
        // While gathering everything waits, and all that was handed out before must find a place.
        let ahead = if state.gathering { 0 } else { state.ready.len() };
        if state.held.len() >= HELD_MAX || state.bytes >= HELD_BYTES_MAX || ahead >= AHEAD_MAX {
            state.full = true;
        }
        if state.full && !state.has_room() {
            return 0;
        }
        state.full = false;
        (AHEAD_MAX - ahead).min(HELD_MAX - state.held.len())
    }

    pub(crate) fn is_gathering(&self) -> bool {
        self.state.lock().gathering
    }

    pub(crate) fn holding(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Everything that had been handed out and not settled is here, and nothing else will come that is older: from now on
    /// events are handed out, lowest first. `first` and `delivered` are the stream's first and the consumer's last sequence.
    pub(crate) fn begin(&self, first: u64, delivered: u64) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.gathering {
            return;
        }
        let before = state.said.settled_below;
        let lowest = state.held.first_key_value().map_or(u64::MAX, |(sequence, _)| *sequence);
        if before > 0 && before < first && first <= lowest {
            state.missed(Offset(before)..Offset(first), GapReason::Limit, &self.name);
        }
        state.gathering = false;
        state.expected = state.expected.max(delivered + 1);
        let held = &state.held;
        state.attempts.retain(|sequence, _| held.contains_key(sequence));
        self.seat.wake();
    }

    /// Remembers what an earlier holder remembered of events, before they are handed out.
    pub(crate) fn recall(&self, attempts: BTreeMap<u64, Attempts>) {
        self.state.lock().attempts.extend(attempts);
    }

    /// The server's word, while nothing better is known.
    pub(crate) fn said(&self, said: Said) {
        self.state.lock().said = said;
    }

    /// The server gave the consumer to another gateway, or forgot us: what is here and not in somebody's hands goes.
    /// Whoever has an event in hand may still settle it.
    pub(crate) fn lost(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.said = state.as_said();
        state.held.clear();
        state.bytes = 0;
        state.ready.clear();
        state.waiting.clear();
        state.attempts.clear();
        state.gathering = true;
        state.expected = 0;
        state.full = false;
        self.room.notify_one();
    }

    /// The stream was made anew: sequences mean other events.
    pub(crate) fn anew(&self) {
        self.lost();
        let mut state = self.state.lock();
        let said = std::mem::take(&mut state.said);
        if said.unsettled > 0 {
            let from = Offset(said.settled_below);
            state.missed(from..Offset(said.last + 1), GapReason::Damage, &self.name);
        }
        state.said.settled_below = 1;
        state.settled = Watermark::default();
    }

    /// Takes what the server is to be told.
    pub(crate) fn take_work(&self) -> Work {
        std::mem::take(&mut self.state.lock().work)
    }

    /// Whether what is to be told may wait a moment for more.
    pub(crate) fn has_little_work(&self) -> bool {
        let work = &self.state.lock().work;
        work.acks.len() < ACKS_GATHERED && work.attempts.is_empty()
    }

    fn acknowledge(&self, work: &mut Work, reply: Subject) {
        work.acks.push(reply);
        if work.acks.len() == 1 || work.acks.len() == ACKS_GATHERED || !work.attempts.is_empty() {
            self.work.notify_one();
        }
    }

    /// Where events are that the server has not heard of for that long; it has now.
    pub(crate) fn stale(&self, age: Duration) -> Vec<Subject> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let stale = state.held.values_mut().filter(|held| held.fresh + age <= now);
        stale
            .map(|held| {
                held.fresh = now;
                held.reply.clone()
            })
            .collect()
    }

    /// Everything here, given back at the end: where it is, and what is remembered of it.
    pub(crate) fn give_back(&self) -> (Vec<Subject>, BTreeMap<u64, Attempts>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let replies = state.held.values().map(|held| held.reply.clone()).collect();
        let held = &state.held;
        state.attempts.retain(|sequence, _| held.contains_key(sequence));
        (replies, std::mem::take(&mut state.attempts))
    }

    pub(crate) fn gaps(&self) -> Vec<Gap> {
        self.state.lock().gaps.clone()
    }

    /// Everything below this sequence is settled.
    pub(crate) fn settled_below(&self) -> u64 {
        self.state.lock().settled_below()
    }

    /// Until everything that was handed out before is here, only what the server said is known; and where others pull from the
    /// consumer, too (not `alone`), only what came here.
    pub(crate) fn standing(&self, sequence: u64, alone: bool) -> Option<Standing> {
        let state = self.state.lock();
        if state.held.contains_key(&sequence) {
            let attempts = state.attempts.get(&sequence).copied();
            return Some(Standing::Open(attempts.unwrap_or_default()));
        }
        if state.settled.is_settled(Offset(sequence)) {
            return Some(Standing::Settled);
        }
        match (alone, state.gathering) {
            (false, _) => None,
            (true, true) => (sequence < state.said.settled_below).then_some(Standing::Settled),
            (true, false) if sequence < state.expected => Some(Standing::Settled),
            (true, false) => Some(Standing::Open(Attempts::default())),
        }
    }

    pub(crate) fn status(&self, owner: Option<&str>, last: u64) -> CursorStatus {
        let state = self.state.lock();
        CursorStatus {
            oldest: state.held.first_key_value().map(|(_, held)| held.stored_at),
            ..state.as_said().status(&self.name, owner, last)
        }
    }

    /// Takes what is there; the time to look again when it is nothing.
    fn take(self: &Arc<Self>, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.gathering {
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
            state.hands += 1;
            held.hand = state.hands;
            bytes += held.event.size();
            let receipt = Receipt {
                shared: self.clone(),
                sequence,
                hand: held.hand,
                reply: held.reply.clone(),
            };
            taken.push(Delivery::new(
                held.event.clone(),
                Offset(sequence),
                held.stored_at,
                state.attempts.get(&sequence).copied().unwrap_or_default(),
                Box::new(receipt),
            ));
        }
        if state.full && state.has_room() || state.ready.len() <= AHEAD_MAX / 2 {
            self.room.notify_one();
        }
        if taken.is_empty() {
            Err(state.waiting.first().map(|(time, _)| *time))
        } else {
            Ok(taken)
        }
    }
}

impl State {
    /// Half empty again: the server is not asked for single messages.
    fn has_room(&self) -> bool {
        self.held.len() <= HELD_MAX / 2 && self.bytes <= HELD_BYTES_MAX / 2 && self.ready.len() <= AHEAD_MAX / 2
    }

    fn settled_below(&self) -> u64 {
        if self.gathering {
            return self.said.settled_below;
        }
        let lowest = self.held.first_key_value().map(|(sequence, _)| *sequence);
        lowest.unwrap_or(self.expected).min(self.expected)
    }

    fn as_said(&self) -> Said {
        if self.gathering {
            return self.said;
        }
        Said {
            settled_below: self.settled_below(),
            unsettled: u64::try_from(self.held.len()).unwrap_or(u64::MAX),
            last: self.expected.saturating_sub(1),
        }
    }

    fn missed(&mut self, places: std::ops::Range<Offset>, reason: GapReason, name: &CursorName) {
        let gap = Gap {
            from: places.start,
            to: places.end,
            found_at: SystemTime::now(),
            reason,
        };
        tracing::warn!(cursor = %name, from = gap.from.0, to = gap.to.0, reason = reason.as_str(), "events are gone that were not settled");
        if self.gaps.len() >= GAPS_MAX {
            self.gaps.remove(0);
        }
        self.gaps.push(gap);
    }
}

/// The holder of a cursor.
pub(crate) struct NatsCursor {
    shared: Arc<Shared>,
}

impl NatsCursor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl Cursor for NatsCursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        let max = max.max(1);
        self.shared.seat.wait_for(|| self.shared.take(max)).await
    }
}

impl Drop for NatsCursor {
    fn drop(&mut self) {
        self.shared.seat.leave();
    }
}

struct Receipt {
    shared: Arc<Shared>,
    sequence: u64,
    hand: u64,
    reply: Subject,
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        if self.shared.seat.has_ended() {
            return Err(SettleError);
        }
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        let sequence = self.sequence;
        // The server takes it from whoever has the event now: the subscriber has it.
        let reply = match state.held.remove(&sequence) {
            Some(held) => {
                state.bytes -= held.event.size();
                held.reply
            }
            None => self.reply,
        };
        state.ready.remove(&sequence);
        state.settled.settle(Offset(sequence));
        if state.attempts.remove(&sequence).is_some() {
            state.work.attempts.insert(sequence, None);
        }
        self.shared.acknowledge(&mut state.work, reply);
        if state.full && state.has_room() {
            self.shared.room.notify_one();
        }
        Ok(())
    }

    fn release(self: Box<Self>, after: Duration) {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        let Some(held) = state.held.get_mut(&self.sequence).filter(|held| held.hand == self.hand) else {
            return;
        };
        held.hand = 0;
        if after.is_zero() {
            state.ready.insert(self.sequence);
        } else {
            state
                .waiting
                .insert((Instant::now() + after.min(RELEASE_MAX), self.sequence));
        }
        self.shared.seat.wake();
    }

    fn remember(&mut self, attempts: Attempts) {
        let mut state = self.shared.state.lock();
        if state.held.contains_key(&self.sequence) {
            state.attempts.insert(self.sequence, attempts);
            state.work.attempts.insert(self.sequence, Some(attempts));
            self.shared.work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: CH-7
    #[test]
    fn what_another_gateway_may_have_is_not_said_to_be_settled() {
        let said = Said {
            settled_below: 3,
            ..Said::default()
        };
        let shared = Shared::new(CursorName::new("a"), said);
        let (open, settled) = (Some(Standing::Open(Attempts::default())), Some(Standing::Settled));
        let event = Event::builder("1", "/s", "t").finish().expect("a valid event");
        shared.received(4, Some((event, SystemTime::now())), "reply".into(), true);
        let standing = |alone| [2, 3, 4, 6].map(|sequence| shared.standing(sequence, alone));
        assert_eq!(
            standing(true),
            [settled, None, open, None],
            "what others had may still come"
        );
        shared.begin(1, 5);
        assert_eq!(standing(true), [settled, settled, open, open]);
        assert_eq!(
            standing(false),
            [None, None, open, None],
            "others pull from the consumer, too"
        );
    }
}
