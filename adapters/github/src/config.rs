//! What one GitHub source is told.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use url::Url;

/// A secret: a token that signs, an access token, a private key. Never printed (CONTRACT SR-6).
#[derive(Clone, PartialEq, Eq)]
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
    /// `OWNER/REPOSITORY`, or an organisation.
    pub repository: String,
    /// `source` of the events: `https://github.com/OWNER/REPOSITORY`, or the Enterprise host's.
    pub source: String,
    /// Names of GitHub events; `*` takes all.
    pub event_types: Vec<String>,
    /// A delivery must be signed with one of them: the current one first, then the previous one while it is being replaced.
    /// None at all means that the source was written without `secretToken` and takes unsigned deliveries. A secret that is
    /// named and cannot be found must not become an empty list: such a source is [`adapter::Unready`]. An empty secret signs
    /// nothing.
    pub secrets: Vec<Secret>,
    /// `ceOverrides.extensions`, laid over every event.
    pub extensions: BTreeMap<String, String>,
    /// Who we are on GitHub. `None`: the webhook is looked after by hand, and nothing can be recovered.
    pub credentials: Option<Credentials>,
    /// The API's root: `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise server.
    pub api: Url,
    pub transport: Transport,
    /// How often missed deliveries are looked for, or in poll mode the list of deliveries is read; `None` is never.
    pub sweep_interval: Option<Duration>,
}

/// Who the gateway is on GitHub.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A personal access token, classic or fine-grained.
    Token(Secret),
    /// An App's installation: the private key is PEM, as GitHub gives it.
    App {
        id: u64,
        installation_id: u64,
        private_key: Secret,
    },
    /// Named in the document and not to be found: deliveries are taken, GitHub is not asked anything.
    Missing {
        /// CamelCase, listed in docs/reasons.
        reason: &'static str,
        message: String,
    },
}

/// How deliveries reach us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// GitHub calls; what it could not deliver is swept up.
    Webhook {
        /// Where deliveries are taken, as this process knows it.
        address: String,
        /// Whether that is an address which GitHub may be told.
        is_public: bool,
    },
    /// The list of deliveries is read, and nobody calls.
    Poll {
        /// Where the webhook that makes the list points: a URL of this source's own, which leads nowhere.
        marker: String,
    },
}

impl Config {
    pub(crate) fn takes(&self, event: &str) -> bool {
        self.event_types.iter().any(|wanted| wanted == "*" || wanted == event)
    }

    /// The URL that the webhook on GitHub is to have; `None` when none can be registered.
    pub(crate) fn registered_url(&self) -> Option<&str> {
        self.credentials.as_ref()?;
        match &self.transport {
            Transport::Webhook { address, is_public } => is_public.then_some(address),
            Transport::Poll { marker } => Some(marker),
        }
    }

    pub(crate) fn is_polling(&self) -> bool {
        matches!(self.transport, Transport::Poll { .. })
    }
}
