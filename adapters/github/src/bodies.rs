//! As which event each signed body came in, of the last ones.
//!
//! GitHub signs the body alone: a client that has seen one delivery could send it again as another event, by another
//! `X-GitHub-Event`. GitHub itself never sends one body as two events to one webhook. A repeat as the same event is let in:
//! people ask GitHub to deliver again, and the event's id tells consumers.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// About a day of a busy organisation, and less than 2 MiB.
const KNOWN_MAX: usize = 16_384;

/// Bytes of a body's digest: too many for two bodies with the same digest to be found.
const KEY_BYTES: usize = 16;

type Key = [u8; KEY_BYTES];

/// Kept in memory alone: after a restart nothing is known.
#[derive(Default)]
pub(crate) struct Bodies(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Oldest first.
    order: VecDeque<Key>,
    events: HashMap<Key, Key>,
}

impl Bodies {
    /// Whether a body that was signed came in as another event before. Of a new one the event is remembered.
    pub(crate) fn is_other_event(&self, event: &str, body: &[u8]) -> bool {
        let (body, event) = (key(body), key(event.as_bytes()));
        let mut known = self.0.lock();
        if let Some(before) = known.events.get(&body) {
            return *before != event;
        }
        if known.order.len() == KNOWN_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.events.remove(&oldest);
        }
        known.order.push_back(body);
        known.events.insert(body, event);
        false
    }
}

fn key(bytes: &[u8]) -> Key {
    let digest = Sha256::digest(bytes);
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_event_and_the_oldest_are_forgotten() {
        let bodies = Bodies::default();
        assert!(!bodies.is_other_event("push", b"{}"));
        assert!(!bodies.is_other_event("push", b"{}"), "delivered again");
        assert!(bodies.is_other_event("release", b"{}"));
        assert!(!bodies.is_other_event("release", b"{ }"));
        for n in 0..KNOWN_MAX {
            assert!(!bodies.is_other_event("push", n.to_string().as_bytes()));
        }
        assert_eq!(bodies.0.lock().events.len(), KNOWN_MAX);
        assert!(!bodies.is_other_event("release", b"{}"));
    }
}
