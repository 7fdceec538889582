//! What one GitHub source is told.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// A secret token. Never printed (CONTRACT SR-6).
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    /// `NAMESPACE/NAME`, for logs and metrics.
    pub name: String,
    /// `source` of the events: `https://github.com/OWNER/REPOSITORY`, or the Enterprise host's.
    pub source: String,
    /// Names of GitHub events; `*` takes all.
    pub event_types: Vec<String>,
    /// A delivery must be signed with one of them: the current one, and the previous one while it is being replaced. None at
    /// all means that the source was written without `secretToken` and takes unsigned deliveries. A secret that is named and
    /// cannot be found must not become an empty list: such a source is [`adapter::Unready`]. An empty secret signs nothing.
    pub secrets: Vec<Secret>,
    /// `ceOverrides.extensions`, laid over every event.
    pub extensions: BTreeMap<String, String>,
}

impl Config {
    pub(crate) fn takes(&self, event: &str) -> bool {
        self.event_types.iter().any(|wanted| wanted == "*" || wanted == event)
    }
}
