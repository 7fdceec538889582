//! The state of a source that outlives its process: how far its deliveries were read, and its webhook on GitHub. It holds
//! no secret (CONTRACT SR-6), only a keyed digest of the one that was set last.

use adapter::{Accepted, Checkpoint, StateError};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::Secret;

/// Enough to see that a secret changed; too little to be looked up.
const DIGEST_BYTES: usize = 8;

/// How far deliveries were read. Moves only with proof of storage (CONTRACT SR-1).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Mark {
    /// The repository whose deliveries were read; a mark of another one is void.
    pub(crate) repository: String,
    /// Deliveries before this time are stored. `None` before the first sweep.
    pub(crate) through: Option<Timestamp>,
    /// Digests of the GUIDs that were stored last.
    #[serde(rename = "handled")]
    pub(crate) delivered_ids: Vec<String>,
    /// How many deliveries were recovered since the source was made.
    pub(crate) recovered: u64,
}

/// The webhook on GitHub, as far as the source manages it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Notes {
    /// Where the webhook is.
    pub(crate) repository: String,
    pub(crate) hook: Option<u64>,
    /// Digest of the secret that was set last, `none` when none was.
    pub(crate) secret: String,
    /// When the webhook was last seen in place.
    pub(crate) seen: Option<Timestamp>,
    /// The last gap that could not be healed.
    pub(crate) gap: Option<Gap>,
}

/// Between these moments deliveries may be missing for good (CONTRACT SR-4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gap {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) reason: String,
}

impl Mark {
    /// Loads the mark. One that cannot be parsed was written by another version and counts as none, which costs repeats.
    pub(crate) async fn load(checkpoint: &dyn Checkpoint, repository: &str) -> Result<Self, StateError> {
        let saved = checkpoint.mark().await?.unwrap_or_default();
        let mark: Self = serde_json::from_slice(&saved).unwrap_or_default();
        if mark.repository == repository {
            return Ok(mark);
        }
        Ok(Self {
            repository: repository.to_owned(),
            recovered: mark.recovered,
            ..Self::default()
        })
    }

    pub(crate) async fn save(&self, checkpoint: &dyn Checkpoint, proof: &Accepted) -> Result<(), StateError> {
        checkpoint.save_mark(proof, written(self)).await
    }
}

impl Notes {
    pub(crate) async fn load(checkpoint: &dyn Checkpoint) -> Result<Self, StateError> {
        let saved = checkpoint.notes().await?.unwrap_or_default();
        Ok(serde_json::from_slice(&saved).unwrap_or_default())
    }

    pub(crate) async fn save(&self, checkpoint: &dyn Checkpoint) -> Result<(), StateError> {
        checkpoint.save_notes(written(self)).await
    }
}

fn written(value: &impl Serialize) -> Vec<u8> {
    // Numbers, texts and times are always JSON.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Tells whether a secret is the one that was set last, keyed by the source so that equal secrets do not look equal.
pub(crate) fn digest(uid: &str, secret: Option<&Secret>) -> String {
    let Some(secret) = secret else {
        return "none".to_owned();
    };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(uid.as_bytes()) else {
        return String::new();
    };
    mac.update(secret.bytes());
    hex::encode(&mac.finalize().into_bytes()[..DIGEST_BYTES])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use adapter::MemoryCheckpoint;

    use super::*;

    #[tokio::test]
    async fn notes_are_read_as_they_were_written_and_nonsense_is_nothing() {
        let checkpoint = MemoryCheckpoint::default();
        let notes = Notes {
            repository: "octo/hello".into(),
            hook: Some(u64::MAX),
            secret: digest("uid", Some(&Secret::new(*b"s"))),
            seen: Some(Timestamp::UNIX_EPOCH),
            gap: None,
        };
        notes.save(&checkpoint).await.unwrap();
        assert_eq!(Notes::load(&checkpoint).await.unwrap(), notes);
        checkpoint.save_notes(b"{\"hook\":\"text\"}".to_vec()).await.unwrap();
        assert_eq!(Notes::load(&checkpoint).await.unwrap(), Notes::default());
    }

    /// Proves: SR-6
    #[test]
    fn a_digest_tells_secrets_apart_and_nothing_else() {
        let one = Secret::new(*b"hunter2");
        assert_eq!(digest("a", Some(&one)), digest("a", Some(&one)));
        assert_ne!(digest("a", Some(&one)), digest("b", Some(&one)));
        assert_ne!(digest("a", Some(&one)), digest("a", Some(&Secret::new(*b"hunter3"))));
        assert_ne!(digest("a", Some(&one)), digest("a", None));
        assert_eq!(digest("a", Some(&one)).len(), 2 * DIGEST_BYTES);
    }
}
