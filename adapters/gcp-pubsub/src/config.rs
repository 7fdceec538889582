//! The configuration of one Pub/Sub source.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// A service account's key as Google hands it out, JSON. Never printed (CONTRACT SR-6).
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccountKey(Arc<[u8]>);

impl ServiceAccountKey {
    /// Wraps the key's JSON, unchecked: connecting reports one that is no key.
    pub fn new(json: impl Into<Arc<[u8]>>) -> Self {
        Self(json.into())
    }

    pub(crate) fn json(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Where Pub/Sub is, and the identity that the gateway uses there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// An emulator at `host:port`: plain text, without an identity.
    Emulator(String),
    /// Google, as a service account.
    Key(ServiceAccountKey),
    /// Google, as Application Default Credentials say.
    Default,
}

/// One source's configuration, resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The id of the project that has the topic.
    pub project: String,
    /// The topic's id, without its project.
    pub topic: String,
    /// How the source signs in.
    pub access: Access,
    /// An existing subscription, by its id or as `projects/PROJECT/subscriptions/ID`. `None`: the source creates its own.
    pub subscription: Option<String>,
    /// Whether the source's own subscription is deleted with the source, and when the source moves to another topic.
    pub delete: bool,
    /// Whether messages of one ordering key are stored in the order Google has them.
    pub ordering: bool,
    /// `ceOverrides.extensions`, laid over every event.
    pub extensions: BTreeMap<String, String>,
}
