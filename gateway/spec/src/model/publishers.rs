//! The publishers of a channel, as the gateway checks them.

use std::collections::BTreeMap;

use super::FoundSecret;
use crate::schema::document_enum;

/// The senders that may publish to a channel over HTTP, and how much.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publishing {
    /// Those who may. Empty: every sender.
    pub publishers: Vec<Publisher>,
    /// The limits of each publisher, or of the channel as a whole where it names none.
    pub limits: Option<Limits>,
}

/// A sender that may publish.
#[derive(Clone, Debug, PartialEq)]
pub struct Publisher {
    /// Its name, which its events have as `headgatepublisher`.
    pub name: String,
    /// How it is recognized.
    pub credential: Credential,
}

/// How a publisher is recognized.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// A token of this secret, which has one a line.
    Bearer(FoundSecret),
    /// A token that an identity provider signed.
    Jwt(Jwt),
    /// A signature over the body.
    Signature(Signature),
}

/// Tokens of an identity provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// The issuer as it is written, which is what `iss` is compared with.
    pub issuer: String,
    /// One of the token's audiences.
    pub audience: String,
    /// Further claims, and what they have to be.
    pub claims: BTreeMap<String, String>,
}

/// Signatures over the body.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Where the signature is and what it covers.
    pub scheme: Signed,
    /// The signing keys, one a line.
    pub secret: FoundSecret,
}

/// Where a signature is and what it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    StandardWebhooks,
    GitHub,
    Hmac(Hmac),
}

/// A keyed hash of the body in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hmac {
    /// The header's name.
    pub header: String,
    /// The hash function.
    pub algorithm: HmacAlgorithm,
    /// How the hash is written.
    pub encoding: SignatureEncoding,
    /// The text before it; may be empty.
    pub prefix: String,
}

/// The most that a publisher, or all senders of a channel without publishers, may send in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events.
    pub events_per_second: Option<u32>,
    /// Bytes of their attributes and data.
    pub bytes_per_second: Option<u64>,
}

document_enum! {
    /// The known ways to sign a request.
    pub enum SignatureScheme {
        StandardWebhooks = "standard-webhooks",
        GitHub = "github",
        Hmac = "hmac",
    }
}

document_enum! {
    /// Hash functions of an HMAC.
    pub enum HmacAlgorithm {
        Sha256 = "sha256",
        Sha512 = "sha512",
    }
}

document_enum! {
    /// How bytes are written as text.
    pub enum SignatureEncoding {
        Hex = "hex",
        Base64 = "base64",
    }
}
