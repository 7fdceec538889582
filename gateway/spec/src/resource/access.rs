//! How the gateway identifies itself to a destination, and how it verifies the destination (API.md 5.1).

use url::Url;

use super::{SecretSelector, Token, sources::keyed};
use crate::schema::{
    Form, Map, Shape, document_struct,
    rules::{Rule, Test, any, not, rule},
    short_list,
};

/// Each is sent with every request, and servers take about a hundred headers, most of which attributes may need.
const HEADERS_MAX: usize = 16;

/// Authorization servers define some dozens.
const SCOPES_MAX: usize = 32;

document_struct! {
    /// The credential that the gateway sends with every request. Exactly one.
    pub struct Auth {
        /// A token, sent as it is.
        bearer: Option<Token>,
        /// A user and a password (RFC 7617).
        basic: Option<BasicAuth>,
        /// A token that the gateway fetches as a client (RFC 6749, 4.4).
        oauth2: Option<OAuth2>,
    } with { rules: exactly_one() }
}

fn exactly_one() -> Vec<Rule> {
    let both = |a, b| not(Test::All(vec![Test::Has(a), Test::Has(b)]));
    vec![
        rule(
            any(&["bearer", "basic", "oauth2"]),
            "",
            "names no credential: use bearer, basic or oauth2",
        ),
        rule(
            Test::All(vec![
                both("bearer", "basic"),
                both("bearer", "oauth2"),
                both("basic", "oauth2"),
            ]),
            "",
            "names several credentials: a request carries one of bearer, basic and oauth2",
        ),
    ]
}

document_struct! {
    /// A user and a password.
    pub struct BasicAuth {
        /// The secret that has the keys `username` and `password`.
        secret_ref: SecretName,
    } with { secret: true }
}

document_struct! {
    /// A secret of which the keys are known.
    pub struct SecretName {
        /// The secret's name.
        name: String [Shape::Text(Form::Name)],
    } with { secret: true }
}

document_struct! {
    /// The gateway as a client of an authorization server.
    pub struct OAuth2 {
        /// The token endpoint: https, or http on this machine.
        token_url ("tokenURL"): Url [Shape::Text(Form::ApiUrl)],
        /// The client's id.
        client_id ("clientID"): String [Shape::Text(Form::Filled)],
        /// The secret that has the client's secret.
        client_secret_key_ref: SecretSelector [keyed()],
        /// The scopes that are asked for.
        scopes: Vec<String> [short_list(Shape::Text(Form::Filled), SCOPES_MAX)],
        /// The API that the token is for, where the server asks for it.
        audience: Option<String> [Shape::Text(Form::Filled)],
    }
}

document_struct! {
    /// TLS with the destination. Its certificate is always verified.
    pub struct DestinationTls {
        /// The secret with its authorities (PEM), which alone are trusted; key `ca.crt` when none is named. Default the system's.
        ca_secret_ref: Option<SecretSelector>,
        /// The secret with the certificate that is presented: keys `tls.crt` and `tls.key`.
        client_certificate_secret_ref: Option<SecretName>,
        /// The name in its certificate, when that is not the URL's host.
        server_name: Option<String> [Shape::Text(Form::Name)],
    } with {
        rules: vec![rule(
            any(&["caSecretRef", "clientCertificateSecretRef", "serverName"]),
            "",
            "sets nothing: use caSecretRef, clientCertificateSecretRef or serverName, or leave `tls` out",
        )],
    }
}

document_struct! {
    /// Signs every request. A signature covers the body alone, so events are sent in structured mode.
    pub struct EventSignature {
        /// Signatures by the specification of standardwebhooks.com.
        standard_webhooks: StandardWebhooks,
    }
}

document_struct! {
    /// The keys of a Standard Webhooks signature: `whsec_` and 24 bytes or more in base64.
    pub struct StandardWebhooks {
        /// The secret that has the key.
        secret_key_ref: SecretSelector [keyed()],
        /// The key before it: during a rotation requests are signed with both.
        previous_secret_key_ref: Option<SecretSelector> [keyed()],
    } with { secret: true }
}

/// Headers that are set by the gateway, or that concern one connection (RFC 9110, 7.6.1).
const RESERVED: [&str; 15] = [
    "authorization",
    "connection",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "prefer",
    "date",
    "accept-encoding",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
];

/// The shape of `headers`.
pub(super) fn headers() -> Shape {
    Shape::Map(Map {
        of: Box::new(Shape::Text(Form::HeaderValue)),
        keys: Form::HeaderName,
        not: (
            &RESERVED,
            "is set by the gateway or concerns one connection; a credential belongs into `auth`",
        ),
        max: Some(HEADERS_MAX),
    })
}
