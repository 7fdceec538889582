//! What one Pub/Sub source is told.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// A service account's key as Google hands it out, JSON. Never printed (CONTRACT SR-6).
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccountKey(Arc<[u8]>);

impl ServiceAccountKey {
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

/// Where Pub/Sub is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// An emulator at `host:port`: plain text, nobody in particular.
    Emulator(String),
    /// Google, as a service account.
    Key(ServiceAccountKey),
    /// Google, as Application Default Credentials say.
    Default,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// The id of the project that has the topic.
    pub project: String,
    /// The topic's id, without its project.
    pub topic: String,
    pub access: Access,
    /// A subscription that is there already, by its id or as `projects/PROJECT/subscriptions/ID`. `None`: one of our own.
    pub subscription: Option<String>,
    /// Our own subscription is deleted with the source, and when the source moves to another topic.
    pub delete: bool,
    /// Messages of one ordering key are stored in the order Google has them.
    pub ordering: bool,
    /// `ceOverrides.extensions`, laid over every event.
    pub extensions: BTreeMap<String, String>,
}
