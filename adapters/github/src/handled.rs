//! Which deliveries are stored already, by their GUIDs: the last ones, whichever way they came.
//!
//! GitHub lists a delivery as failed also when it was stored and only the answer was lost; and a list is read with an
//! overlap. What is remembered here is not stored a second time.

use std::collections::{HashSet, VecDeque};

use adapter::Accepted;
use sha2::{Digest, Sha256};

/// More than GitHub's limits let a source read within the overlap of two lists (15 000 requests an hour for an Enterprise
/// App, ten minutes), and 0.5 MB when written down.
const HANDLED_MAX: usize = 16_384;

/// Bytes of a GUID's digest. GUIDs are made by GitHub, nobody can choose one that collides.
const KEY_BYTES: usize = 16;

type Key = [u8; KEY_BYTES];

#[derive(Default)]
pub(crate) struct Handled {
    /// Oldest first.
    order: VecDeque<Key>,
    known: HashSet<Key>,
    /// Of the last event that was stored: what allows this to be written down.
    proof: Option<Accepted>,
    /// Something came since it was written down.
    is_changed: bool,
}

impl Handled {
    pub(crate) fn contains(&self, guid: &str) -> bool {
        self.known.contains(&key(guid))
    }

    /// A delivery is stored.
    pub(crate) fn stored(&mut self, guid: &str, proof: Accepted) {
        self.proof = Some(proof);
        self.settled(guid);
    }

    /// A delivery is done with, and nothing of it can be stored.
    pub(crate) fn settled(&mut self, guid: &str) {
        self.insert(key(guid));
        self.is_changed = true;
    }

    /// What was written down, when something came since and may be.
    pub(crate) fn unsaved(&self) -> Option<Accepted> {
        self.proof.filter(|_| self.is_changed)
    }

    /// For writing down; what comes afterwards is unsaved again.
    pub(crate) fn save(&mut self) -> Vec<String> {
        self.is_changed = false;
        self.order.iter().map(hex::encode).collect()
    }

    /// What was written down once. What is no digest is of no use.
    pub(crate) fn restore(&mut self, saved: &[String]) {
        for text in saved {
            let mut key = Key::default();
            if hex::decode_to_slice(text, &mut key).is_ok() {
                self.insert(key);
            }
        }
    }

    fn insert(&mut self, key: Key) {
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > HANDLED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

fn key(guid: &str) -> Key {
    let digest = Sha256::digest(guid.as_bytes());
    let mut key = Key::default();
    key.copy_from_slice(&digest[..KEY_BYTES]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known_also_after_a_restart() {
        let mut handled = Handled::default();
        for n in 0..=HANDLED_MAX {
            handled.settled(&n.to_string());
        }
        handled.settled("1");
        assert!(!handled.contains("0") && handled.contains("1"));
        let saved = handled.save();
        assert_eq!(saved.len(), HANDLED_MAX);
        let mut again = Handled::default();
        again.restore(&saved);
        again.restore(&["no digest".to_owned()]);
        assert!(again.contains("1") && again.contains(&HANDLED_MAX.to_string()) && !again.contains("0"));
    }

    /// Proves: SR-1
    #[test]
    fn nothing_is_written_down_without_proof() {
        let mut handled = Handled::default();
        handled.settled("1");
        assert!(handled.unsaved().is_none());
    }
}
