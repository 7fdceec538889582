//! The receipt of a delivery: how its holder settles or releases the event.

use std::{sync::Arc, time::Duration};

use channel::{Attempts, Offset, Settle, SettleError, progress::Holder};
use channel_broker::release_time;

use super::{KafkaCursor, state::Partition};

pub(super) struct Receipt {
    pub(super) cursor: Arc<KafkaCursor>,
    pub(super) partition: i32,
    pub(super) epoch: u64,
    pub(super) holder: Holder,
    pub(super) offset: Offset,
}

impl Receipt {
    fn with<T>(&self, act: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        let mut state = self.cursor.state.lock();
        let partition = state.partitions.get_mut(&self.partition)?;
        (partition.epoch == self.epoch).then(|| act(partition))
    }
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        if self.cursor.core.lease.has_ended() {
            return Err(SettleError);
        }
        let mut state = self.cursor.state.lock();
        let partition = state
            .partitions
            .get_mut(&self.partition)
            .filter(|found| found.epoch == self.epoch);
        let partition = partition.ok_or(SettleError)?;
        partition.progress.settle(self.offset);
        partition.unsaved = true;
        let gone = partition.held.remove(&self.offset.0);
        let was_full = state.full;
        state.drop_held(gone.into_iter());
        let room = was_full && !state.full;
        drop(state);
        self.cursor.unsaved.notify_one();
        if room {
            self.cursor.core.room.notify_one();
        }
        Ok(())
    }

    fn release(self: Box<Self>, after: Duration) {
        let due = release_time(after);
        let released = self.with(|partition| partition.progress.release(self.holder, self.offset, due));
        if released == Some(true) {
            self.cursor.core.lease.wake();
        }
    }

    fn remember(&mut self, attempts: Attempts) {
        self.with(|partition| partition.progress.remember(self.offset, attempts));
    }
}
