//! Messages that cannot be stored as things are: larger than the sink's channel takes.
//!
//! They are never acknowledged (CONTRACT SR-1): held for a while, then given back, so that they are tried again when the limit
//! was raised, and go to the subscription's dead-letter topic where it has one. Where order matters the other messages of
//! their key wait with them. How many there are is bounded by what Google lets us have in hand.

use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::Taken;

/// Long enough that a message that nobody can store costs nothing worth mentioning.
pub(crate) const PARKED_FOR: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Parked(Vec<Group>);

/// A message that could not be stored, and those of its key that came after it.
struct Group {
    until: Instant,
    /// Empty: no order to keep.
    key: String,
    messages: Vec<Taken>,
}

impl Parked {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With `key`, later messages of that key wait as well.
    pub(crate) fn park(&mut self, message: Taken, key: &str) {
        self.0.push(Group {
            until: Instant::now() + PARKED_FOR,
            key: key.to_owned(),
            messages: vec![message],
        });
    }

    /// Takes the message if its key waits, else hands it back.
    pub(crate) fn waits(&mut self, message: Taken) -> Option<Taken> {
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

    /// Gives back what is due.
    pub(crate) fn release(&mut self) {
        let now = Instant::now();
        self.0.retain(|group| group.until > now);
    }
}
