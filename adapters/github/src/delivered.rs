//! The GUIDs of recent deliveries that are stored already, whichever way they came.
//!
//! GitHub lists a delivery as failed also when it was stored and only the answer was lost; and a list is read with an
//! overlap. A delivery whose GUID is known is not stored again.

use std::collections::{HashSet, VecDeque};

use adapter::Accepted;
use sha2::{Digest, Sha256};

/// More than GitHub's limits let a source read within the overlap of two lists (15 000 requests an hour for an Enterprise
/// App, ten minutes), and 0.5 MB when written down.
const IDS_MAX: usize = 16_384;

/// Bytes of a GUID's digest. GitHub makes the GUIDs, so a sender cannot choose one that collides.
const KEY_BYTES: usize = 16;

type Key = [u8; KEY_BYTES];

#[derive(Default)]
pub(crate) struct DeliveredIds {
    /// Oldest first.
    order: VecDeque<Key>,
    known: HashSet<Key>,
    /// The proof of the last stored event, which allows saving.
    proof: Option<Accepted>,
    /// Whether a GUID was added since the last save.
    is_changed: bool,
}

impl DeliveredIds {
    pub(crate) fn contains(&self, guid: &str) -> bool {
        self.known.contains(&key(guid))
    }

    /// Adds a delivery that is stored.
    pub(crate) fn stored(&mut self, guid: &str, proof: Accepted) {
        self.proof = Some(proof);
        self.settled(guid);
    }

    /// Adds a delivery that cannot be stored.
    pub(crate) fn settled(&mut self, guid: &str) {
        self.insert(key(guid));
        self.is_changed = true;
    }

    /// The proof to save with, if a GUID was added since the last save.
    pub(crate) fn unsaved(&self) -> Option<Accepted> {
        self.proof.filter(|_| self.is_changed)
    }

    /// Returns the digests to save; GUIDs added later are unsaved again.
    pub(crate) fn save(&mut self) -> Vec<String> {
        self.is_changed = false;
        self.order.iter().map(hex::encode).collect()
    }

    /// Restores saved digests; skips texts that are none.
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
        if self.order.len() > IDS_MAX
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
        let mut delivered_ids = DeliveredIds::default();
        for n in 0..=IDS_MAX {
            delivered_ids.settled(&n.to_string());
        }
        delivered_ids.settled("1");
        assert!(!delivered_ids.contains("0") && delivered_ids.contains("1"));
        let saved = delivered_ids.save();
        assert_eq!(saved.len(), IDS_MAX);
        let mut again = DeliveredIds::default();
        again.restore(&saved);
        again.restore(&["no digest".to_owned()]);
        assert!(again.contains("1") && again.contains(&IDS_MAX.to_string()) && !again.contains("0"));
    }

    /// Proves: SR-1
    #[test]
    fn nothing_is_written_down_without_proof() {
        let mut delivered_ids = DeliveredIds::default();
        delivered_ids.settled("1");
        assert!(delivered_ids.unsaved().is_none());
    }
}
