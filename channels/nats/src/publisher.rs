//! Publishing: one message alone, or several all or none.
//!
//! A lost answer means that nothing is known: the same message is published again with the same identity until the server reports
//! that it has it, old or new. Servers from 2.12 store several as an [`atomic batch`](atomic); before, they go one after the
//! other, as [`single`] messages do. Appends that wait are committed as a [`group`].

mod atomic;
mod group;
mod outcome;
mod single;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::Subject;
use tokio::time::Instant;

pub(crate) use self::outcome::Fault;
use self::{
    atomic::{AtomicBatches, BATCH_MAX},
    outcome::Verdict,
    single::SingleMessages,
};
use crate::{connection::Server, message::Outgoing};

/// An append is given up after this. A leader election takes 2 to 5 s.
const PUBLISH_MAX: Duration = Duration::from_secs(15);

/// The pause between tries.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Publishes to one stream.
pub(crate) struct Publisher {
    subject: Subject,
    atomic: AtomicBool,
    single: SingleMessages,
    batches: AtomicBatches,
}

impl Publisher {
    pub(crate) fn new(subject: Subject, atomic: bool) -> Self {
        Self {
            subject,
            atomic: AtomicBool::new(atomic),
            single: SingleMessages::default(),
            batches: AtomicBatches::default(),
        }
    }

    /// Stores them in this order; returns the last one's sequence.
    pub(crate) async fn publish(&self, server: &Server, messages: &[Outgoing<'_>]) -> Result<u64, Fault> {
        let deadline = Instant::now() + PUBLISH_MAX;
        let mut last = 0;
        for messages in messages.chunks(BATCH_MAX) {
            last = self.publish_some(server, messages, deadline).await?;
        }
        Ok(last)
    }

    async fn publish_some(&self, server: &Server, messages: &[Outgoing<'_>], deadline: Instant) -> Result<u64, Fault> {
        // After a try whose answer is lost, a batch may be stored already: publishing one by one finds out.
        let mut atomic = messages.len() > 1 && self.atomic.load(Ordering::Relaxed);
        loop {
            if !server.is_connected() {
                return Err(Fault::NotConnected);
            }
            let tried = if atomic {
                self.batches.store(server, &self.subject, messages).await
            } else {
                self.single.store(server, &self.subject, messages).await
            };
            let fault = match tried {
                Ok(sequence) => return Ok(sequence),
                Err(error) => error,
            };
            match fault {
                Verdict::GiveUp(fault) => return Err(fault),
                Verdict::Duplicates => atomic = false,
                Verdict::NoBatches => {
                    self.atomic.store(false, Ordering::Relaxed);
                    atomic = false;
                }
                Verdict::Retry(fault) if Instant::now() + TRY_AGAIN >= deadline => return Err(fault),
                Verdict::Retry(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    }
}
