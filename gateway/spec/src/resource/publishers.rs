//! The publishers of a channel: who may send events to it over HTTP, and how many (API.md 5.1).

use std::collections::BTreeMap;

use super::{SecretSelector, Token, sources::keyed};
use crate::{
    model::{HmacAlgorithm, SignatureEncoding, SignatureScheme},
    schema::{
        FieldType, Form, Map, Shape, document_struct, integer, keyed_list,
        rules::{Rule, Test, any, given, not, rule},
        special,
    },
};

/// A request is compared with the credentials of all of them; more senders share a token or an identity provider.
const PUBLISHERS_MAX: usize = 64;

/// Tokens have a dozen claims.
const CLAIMS_MAX: usize = 32;

/// Far beyond what one channel takes.
const EVENTS_PER_SECOND_MAX: i64 = 1_000_000;

/// The kinds of credentials.
const CREDENTIALS: [&str; 3] = ["bearer", "jwt", "signature"];
const ONE_CREDENTIAL: &str = "a publisher has exactly one of `bearer`, `jwt` and `signature`";

/// The shape of `publishers`.
pub(super) fn publishers() -> Shape {
    keyed_list(Publisher::shape(), "name", PUBLISHERS_MAX)
}

document_struct! {
    /// A sender that may publish to the channel, by one kind of credential.
    pub struct Publisher {
        /// Its name, which its events have as headgatepublisher.
        name: String [Shape::Text(Form::Name)],
        /// A bearer token. The secret has one token a line, and each of them is good.
        bearer: Option<Token>,
        /// A token that an identity provider signs (OpenID Connect).
        jwt: Option<Jwt>,
        /// A signature over the body. Events come in structured mode or as a batch.
        signature: Option<Signature>,
    } with { rules: vec![one_credential()] }
}

impl Publisher {
    /// The secret that it names, if it names one.
    pub(crate) fn secret(&self) -> Option<&SecretSelector> {
        let token = self.bearer.as_ref().map(|token| &token.secret_key_ref);
        token.or(self.signature.as_ref().map(|signature| &signature.secret_key_ref))
    }
}

fn one_credential() -> Rule {
    let mut tests = vec![any(&CREDENTIALS)];
    for (index, one) in CREDENTIALS.iter().enumerate() {
        let others = CREDENTIALS[index + 1..].iter();
        tests.extend(others.map(|other| not(Test::All(vec![Test::Has(one), Test::Has(other)]))));
    }
    rule(Test::All(tests), "", ONE_CREDENTIAL)
}

document_struct! {
    /// The tokens of an identity provider that a publisher sends.
    pub struct Jwt {
        /// The issuer's URL, as it is in the token's `iss`. Its keys are found by OpenID discovery.
        issuer: String [Shape::Text(Form::IssuerUrl)],
        /// One of the token's audiences (`aud`).
        audience: String [Shape::Text(Form::Filled)],
        /// Claims of the token and what they have to be. A claim that is a list has to hold it.
        claims: BTreeMap<String, String> [claims()],
    }
}

fn claims() -> Shape {
    Shape::Map(Map {
        of: Box::new(Shape::Text(Form::Filled)),
        keys: Form::Free,
        not: (&["iss", "aud", "exp", "nbf"], "is checked anyway: leave it out"),
        max: Some(CLAIMS_MAX),
    })
}

document_struct! {
    /// How the requests of a publisher are signed.
    pub struct Signature {
        /// The kind of signature: standard-webhooks, github, or hmac for others with a shared secret.
        scheme: SignatureScheme,
        /// hmac: the header that has the signature.
        header: Option<String> [Shape::Text(Form::SignatureHeader)],
        /// hmac: default sha256.
        algorithm: Option<HmacAlgorithm>,
        /// hmac: how the signature is written; default hex.
        encoding: Option<SignatureEncoding>,
        /// hmac: the text before the signature, such as sha256=.
        prefix: Option<String> [Shape::Text(Form::Filled)],
        /// The secret that has the signing key. It has one key a line, and each of them is good.
        secret_key_ref: SecretSelector [keyed()],
    } with {
        rules: vec![
            rule(
                given(Test::Is("scheme", &["hmac"]), Test::Has("header")),
                "scheme",
                "hmac needs `header`, the name of the header that has the signature",
            ),
            rule(
                given(not(Test::Is("scheme", &["hmac"])), not(any(&["header", "algorithm", "encoding", "prefix"]))),
                "scheme",
                "`header`, `algorithm`, `encoding` and `prefix` are for the scheme hmac; the others define them",
            ),
        ],
    }
}

document_struct! {
    /// How much a publisher may send.
    pub struct Limits {
        /// Events in a second.
        events_per_second: Option<u32> [integer(1, EVENTS_PER_SECOND_MAX)],
        /// Bytes of their attributes and data in a second.
        bytes_per_second: Option<u64> [special::size()],
    } with {
        rules: vec![rule(
            any(&["eventsPerSecond", "bytesPerSecond"]),
            "",
            "at least one of `eventsPerSecond` and `bytesPerSecond` is needed",
        )],
    }
}
