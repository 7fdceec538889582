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
    /// `NAMESPACE/NAME`, for logs.
    pub name: String,
    /// `source` of the events: `https://github.com/OWNER/REPOSITORY`, or the Enterprise host's.
    pub source: String,
    /// Names of GitHub events; `*` takes all.
    pub event_types: Vec<String>,
    /// A delivery must be signed with one of them; none means that unsigned deliveries are taken.
    pub secrets: Vec<Secret>,
    /// `ceOverrides.extensions`.
    pub extensions: BTreeMap<String, String>,
}

impl Config {
    pub(crate) fn takes(&self, event: &str) -> bool {
        self.event_types.iter().any(|wanted| wanted == "*" || wanted == event)
    }
}
