//! Messages that Google leased to us and that wait to be stored, in Google's order: bounded, and taken out in batches.
//!
//! They are read although the sink may be slow, because the client renews the leases only of messages that were read: Google
//! would send the others again.

use std::collections::VecDeque;

use crate::upstream::{LeasedMessage, OUTSTANDING_BYTES, OUTSTANDING_MESSAGES};

/// The size of a batch: as many messages as make a store's cost small beside theirs, and as many bytes as leave room for one more of Google's
/// largest messages.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A bounded queue of leased messages.
#[derive(Default)]
pub(crate) struct InFlight {
    messages: VecDeque<LeasedMessage>,
    bytes: usize,
    /// How many of the next messages are taken out one by one.
    singly: usize,
}

impl InFlight {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether as much is in flight as the subscriber allows. Google keeps to that by itself; if it did not, reading would wait.
    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= OUTSTANDING_MESSAGES || self.bytes >= OUTSTANDING_BYTES
    }

    pub(crate) fn push(&mut self, leased: LeasedMessage) {
        self.bytes += size(&leased);
        self.messages.push_back(leased);
    }

    /// Takes out the next messages to store, at least one if there is one.
    pub(crate) fn batch(&mut self) -> Vec<LeasedMessage> {
        let most = if self.singly > 0 { 1 } else { BATCH_MESSAGES };
        self.singly = self.singly.saturating_sub(1);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most && bytes < BATCH_BYTES {
            let Some(leased) = self.messages.pop_front() else { break };
            bytes += size(&leased);
            batch.push(leased);
        }
        self.bytes -= bytes;
        batch
    }

    /// Puts a batch back where it was, to be taken out one by one.
    pub(crate) fn put_back(&mut self, batch: Vec<LeasedMessage>) {
        self.singly += batch.len();
        for leased in batch.into_iter().rev() {
            self.bytes += size(&leased);
            self.messages.push_front(leased);
        }
    }

    /// Releases all messages to Google, which sends them again.
    pub(crate) fn drop_all(&mut self) {
        *self = Self::default();
    }
}

fn size((message, _): &LeasedMessage) -> usize {
    let attributes = message.attributes.iter();
    message.data.len() + attributes.map(|(name, value)| name.len() + value.len()).sum::<usize>()
}
