//! The receipt of a delivery: how its holder settles or releases the event.

use std::{sync::Arc, time::Duration};

use async_nats::Subject;
use channel::{Attempts, Offset, Settle, SettleError};
use channel_broker::release_time;

use super::NatsCursor;

pub(super) struct Receipt {
    pub(super) cursor: Arc<NatsCursor>,
    pub(super) sequence: u64,
    /// Its number.
    pub(super) receipt: u64,
    pub(super) reply: Subject,
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        if self.cursor.core.lease.has_ended() {
            return Err(SettleError);
        }
        let mut state = self.cursor.state.lock();
        let state = &mut *state;
        let sequence = self.sequence;
        // The server accepts it even if another gateway has the event now, and the subscriber has it.
        let reply = match state.held.remove(&sequence) {
            Some(held) => {
                state.size.remove(held.event.size());
                held.reply
            }
            None => self.reply,
        };
        state.ready.remove(&sequence);
        state.settled.settle(Offset(sequence));
        if state.attempts.remove(&sequence).is_some() {
            state.work.attempts.insert(sequence, None);
        }
        self.cursor.acknowledge(&mut state.work, reply);
        if state.full && state.has_room() {
            self.cursor.core.room.notify_one();
        }
        Ok(())
    }

    fn release(self: Box<Self>, after: Duration) {
        let mut state = self.cursor.state.lock();
        let state = &mut *state;
        let Some(held) = state
            .held
            .get_mut(&self.sequence)
            .filter(|held| held.receipt == self.receipt)
        else {
            return;
        };
        held.receipt = 0;
        match release_time(after) {
            None => state.ready.insert(self.sequence),
            Some(time) => state.waiting.insert((time, self.sequence)),
        };
        self.cursor.core.lease.wake();
    }

    fn remember(&mut self, attempts: Attempts) {
        let mut state = self.cursor.state.lock();
        if state.held.contains_key(&self.sequence) {
            state.attempts.insert(self.sequence, attempts);
            state.work.attempts.insert(self.sequence, Some(attempts));
            self.cursor.work.notify_one();
        }
    }
}
