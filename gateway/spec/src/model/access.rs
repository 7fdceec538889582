//! How the gateway identifies itself to a destination that it reaches by HTTP, and how it verifies the destination.

use std::collections::BTreeMap;

use url::Url;

use super::SecretText;

/// The settings of one destination, the values of its secrets among them. A changed secret makes it another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// Headers of every request, by their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The credential.
    pub auth: Option<Auth>,
    /// TLS settings; the destination's URL is https.
    pub tls: Option<Tls>,
    /// The keys that requests are signed with.
    pub sign: Option<SigningKeys>,
}

/// The credential that is sent with every request.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// `Authorization: Bearer`, with visible ASCII characters.
    Bearer(SecretText),
    /// `Authorization: Basic` (RFC 7617).
    Basic {
        /// Without a colon.
        username: SecretText,
        /// Its password.
        password: SecretText,
    },
    /// A token of an authorization server.
    OAuth2(OAuth2),
}

/// The gateway as a client of an authorization server (RFC 6749, 4.4).
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: Url,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretText,
    /// The scopes that are asked for.
    pub scopes: Vec<String>,
    /// The API that the token is for.
    pub audience: Option<String>,
}

/// TLS with one destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// The authorities that alone are trusted, PEM. `None`: the system's.
    pub authorities: Option<SecretText>,
    /// The certificate that is presented.
    pub certificate: Option<ClientCertificate>,
    /// The name that the destination's certificate has to have. `None`: the URL's host.
    pub server_name: Option<String>,
}

/// A certificate and its private key.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificate {
    /// The certificate and those that lead to its authority, PEM.
    pub chain: SecretText,
    /// The private key, PEM.
    pub key: SecretText,
}

/// The keys of Standard Webhooks signatures, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct SigningKeys {
    /// The key.
    pub current: SecretText,
    /// The one before it, while it is replaced.
    pub previous: Option<SecretText>,
}
