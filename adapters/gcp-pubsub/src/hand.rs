//! Messages in hand, in the order Google has them: bounded, and taken out in batches.
//!
//! They are read although the sink may be slow, because the client renews the leases of messages that were read, and of no
//! others: what Google sent and nobody read would be sent again.

use std::collections::VecDeque;

use crate::upstream::{OUTSTANDING_BYTES, OUTSTANDING_MESSAGES, Taken};

/// A batch: as many as make a store's cost small beside theirs, and as many bytes as leave room for one more of Google's
/// largest messages.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

#[derive(Default)]
pub(crate) struct Hand {
    messages: VecDeque<Taken>,
    bytes: usize,
    /// So many are taken out one by one.
    singly: usize,
}

impl Hand {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// As much as Google was told to have under way. It keeps to that by itself; if it did not, reading would wait.
    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= OUTSTANDING_MESSAGES || self.bytes >= OUTSTANDING_BYTES
    }

    pub(crate) fn push(&mut self, taken: Taken) {
        self.bytes += size(&taken);
        self.messages.push_back(taken);
    }

    /// The next ones to store, at least one if there is one.
    pub(crate) fn batch(&mut self) -> Vec<Taken> {
        let most = if self.singly > 0 { 1 } else { BATCH_MESSAGES };
        self.singly = self.singly.saturating_sub(1);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most && bytes < BATCH_BYTES {
            let Some(taken) = self.messages.pop_front() else { break };
            bytes += size(&taken);
            batch.push(taken);
        }
        self.bytes -= bytes;
        batch
    }

    /// Puts a batch back where it was, to be taken out one by one.
    pub(crate) fn put_back(&mut self, batch: Vec<Taken>) {
        self.singly += batch.len();
        for taken in batch.into_iter().rev() {
            self.bytes += size(&taken);
            self.messages.push_front(taken);
        }
    }

    /// Gives all of them back to Google.
    pub(crate) fn drop_all(&mut self) {
        *self = Self::default();
    }
}

fn size((message, _): &Taken) -> usize {
    let attributes = message.attributes.iter();
    message.data.len() + attributes.map(|(name, value)| name.len() + value.len()).sum::<usize>()
}
