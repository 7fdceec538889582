//! A cursor that is open, and what moves it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use channel::{Attempts, Cursor, CursorLease, Delivery, Offset, ReadError, Settle, SettleError, progress::Holder};
use tokio::time::Instant;

use super::{Content, CursorState, SimChannel, unreadable};
use crate::{history::Fact, scenario::Fault};

pub(super) struct SimCursor {
    pub(super) channel: Arc<SimChannel>,
    pub(super) name: String,
    pub(super) lease: Arc<CursorLease>,
    pub(super) holder: Holder,
}

#[async_trait]
impl Cursor for SimCursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        if self.channel.disk.fails(Fault::Reads).is_some() {
            return Err(unreadable());
        }
        if self.channel.disk.fails(Fault::Ends).is_some() {
            return Err(ReadError::Closed);
        }
        self.lease
            .wait_for(|| self.channel.take(&self.name, self.holder, max))
            .await
    }
}

impl Drop for SimCursor {
    fn drop(&mut self) {
        self.lease.leave();
    }
}

pub(super) struct Receipt {
    pub(super) channel: Arc<SimChannel>,
    pub(super) cursor: String,
    /// Tells the cursor from a later one of its name.
    pub(super) lease: Arc<CursorLease>,
    pub(super) holder: Holder,
    pub(super) offset: Offset,
}

impl Receipt {
    fn state<'a>(&self, content: &'a mut Content) -> Option<&'a mut CursorState> {
        if self.channel.is_closed(content) {
            return None;
        }
        content
            .cursors
            .get_mut(&self.cursor)
            .filter(|state| Arc::ptr_eq(&state.lease, &self.lease))
    }
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        let disk = &self.channel.disk;
        let mut content = disk.content.lock();
        let state = self.state(&mut content).ok_or(SettleError)?;
        state.progress.settle(self.offset);
        state.fresh.push((disk.history.now(), self.offset));
        disk.history.note(Fact::Acknowledged {
            channel: disk.number,
            cursor: self.cursor.clone(),
            offset: self.offset.0,
        });
        Ok(())
    }

    fn release(self: Box<Self>, after: Duration) {
        let disk = &self.channel.disk;
        let mut content = disk.content.lock();
        let Some(state) = self.state(&mut content) else { return };
        let due = (!after.is_zero()).then(|| Instant::now() + after);
        let attempts = state.progress.attempts_of(self.offset).failed;
        if state.progress.release(self.holder, self.offset, due) {
            state.lease.wake();
            disk.history.note(Fact::Released {
                channel: disk.number,
                cursor: self.cursor.clone(),
                offset: self.offset.0,
                after: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                attempts,
            });
        }
    }

    fn remember(&mut self, attempts: Attempts) {
        let mut content = self.channel.disk.content.lock();
        if let Some(state) = self.state(&mut content) {
            state.progress.remember(self.offset, attempts);
        }
    }
}
