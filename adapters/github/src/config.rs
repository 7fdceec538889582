//! The configuration of one GitHub source.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use adapter::Cause;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use url::Url;

/// A secret: a token that signs, an access token, a private key. Never printed (CONTRACT SR-6).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes bytes that must not be shown.
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

/// The settings of one source.
#[derive(Clone, Debug)]
pub struct Config {
    /// `OWNER/REPOSITORY`, or an organisation.
    pub repository: String,
    /// `source` of the events: `https://github.com/OWNER/REPOSITORY`, or the Enterprise host's.
    pub source: String,
    /// Names of GitHub events; `*` takes all.
    pub event_types: Vec<String>,
    /// A delivery must be signed with one of them: the current one first, then the previous one while it is being replaced.
    /// None at all means that the source was written without `secretToken`, and nothing signs for it. A secret that is
    /// named and cannot be found must not become an empty list: such a source is [`adapter::Unready`]. An empty secret signs
    /// nothing.
    pub secrets: Vec<Secret>,
    /// `allowUnsigned`: without any secret, every client that knows the address may send. Else such deliveries are refused.
    pub allow_unsigned: bool,
    /// `ceOverrides.extensions`, laid over every event.
    pub extensions: BTreeMap<String, String>,
    /// The source's credentials. `None`: a person manages the webhook, and deliveries cannot be recovered.
    pub credentials: Option<Credentials>,
    /// The API's root: `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise server.
    pub api: Url,
    /// How deliveries come.
    pub transport: Transport,
    /// How often missed deliveries are looked for, or in poll mode the list of deliveries is read; `None` is never.
    pub sweep_interval: Option<Duration>,
}

/// How a source authenticates to GitHub.
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
    Missing(Cause),
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
    /// The source reads the list of deliveries, and GitHub does not call.
    Poll {
        /// Where the webhook that makes the list points: a URL of this source's own, which leads nowhere.
        marker: String,
    },
}

impl Credentials {
    /// The secret of a webhook that the gateway registers for a source whose document names none. It is derived from the
    /// credentials, which only GitHub and the gateway know: so it is the same after a restart and on every replica, and is
    /// kept nowhere (CONTRACT SR-6). `None` while the credentials are missing.
    pub fn webhook_secret(&self, source: &str, repository: &str) -> Option<Secret> {
        let key = match self {
            Self::Token(token) => token.bytes(),
            Self::App { private_key, .. } => private_key.bytes(),
            Self::Missing(_) => return None,
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        for part in ["headgate webhook secret", source, repository] {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        let secret = hex::encode(mac.finalize().into_bytes());
        Some(Secret::new(secret.into_bytes()))
    }
}

impl Config {
    pub(crate) fn takes(&self, event: &str) -> bool {
        self.event_types.iter().any(|name| name == "*" || name == event)
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Proves: SR-6
    #[test]
    fn a_derived_secret_is_stable_and_belongs_to_one_source_and_one_token() {
        let token = |text: &str| Credentials::Token(Secret::new(text.as_bytes()));
        let secret = |token: &Credentials, source: &str| token.webhook_secret(source, "octo/hello").unwrap();
        let one = token("ghp_one");
        assert_eq!(secret(&one, "default/a"), secret(&one, "default/a"));
        assert_ne!(secret(&one, "default/a"), secret(&one, "default/b"));
        assert_ne!(secret(&one, "default/a"), secret(&token("ghp_two"), "default/a"));
        assert_eq!(secret(&one, "default/a").bytes().len(), 64);
        let missing = Credentials::Missing(Cause::new(adapter::Reason::AccessTokenNotFound, ""));
        assert_eq!(missing.webhook_secret("default/a", "octo/hello"), None);
    }
}
