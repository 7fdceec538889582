//! Messages that cannot be stored as things are: larger than the sink's channel takes.
//!
//! They are never acknowledged (CONTRACT SR-1): held for a while, then released, so that Google sends them again when the limit
//! was raised, and they go to the subscription's dead-letter topic where it has one. Where order matters the other messages of
//! their key wait with them. The limit of messages in flight bounds their number.

use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::LeasedMessage;

/// How long a message is held before it is released. Long enough that one that can never be stored costs next to nothing.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(60);

/// Messages that the sink cannot store, by the time when each is released.
#[derive(Default)]
pub(crate) struct Unstorable(Vec<Group>);

/// A message that could not be stored, and those of its key that came after it.
struct Group {
    until: Instant,
    /// Empty: no order to keep.
    key: String,
    messages: Vec<LeasedMessage>,
}

impl Unstorable {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Holds a message; with `key`, later messages of that key wait behind it.
    pub(crate) fn hold_unstorable(&mut self, message: LeasedMessage, key: &str) {
        self.0.push(Group {
            until: Instant::now() + HELD_FOR,
            key: key.to_owned(),
            messages: vec![message],
        });
    }

    /// Holds the message behind an earlier one of its key, or returns it if there is none.
    pub(crate) fn waits(&mut self, message: LeasedMessage) -> Option<LeasedMessage> {
        let key = &message.0.ordering_key;
        let group = self.0.iter_mut().find(|group| !key.is_empty() && group.key == *key);
        match group {
            Some(group) => {
                group.messages.push(message);
                None
            }
            None => Some(message),
        }
    }

    /// Returns when the first of them is due; never when there is none.
    pub(crate) async fn due(&self) {
        match self.0.iter().map(|group| group.until).min() {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    /// Releases to Google the messages that are due.
    pub(crate) fn release(&mut self) {
        let now = Instant::now();
        self.0.retain(|group| group.until > now);
    }
}
