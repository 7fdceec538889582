//! Signatures over the body, made with a key that the publisher and the gateway share.
//!
//! | scheme | headers | signed |
//! |--|--|--|
//! | Standard Webhooks | `webhook-id`, `webhook-timestamp`, `webhook-signature` | `ID.TIMESTAMP.BODY`, within five minutes |
//! | GitHub | `x-hub-signature-256` | the body |
//! | hmac | as the document says | the body |
//!
//! A signature covers the body alone, so attributes in headers could be changed on the way: the caller lets
//! only requests come here whose body holds the whole event.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderMap;
use ring::hmac::{self, Key};
use spec::{
    Cause, Reason,
    model::{self, HmacAlgorithm, SignatureEncoding, Signed},
};
use subtle::ConstantTimeEq;

use super::{
    Refusal,
    lines::{lines, unusable},
};

/// How far a signature's time may be from the gateway's clock: what the libraries of Standard Webhooks allow.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Signatures of one request that are compared: a sender that rotates its key makes two.
const SIGNATURES_MAX: usize = 16;

/// The prefix of a key of Standard Webhooks.
const KEY_PREFIX: &[u8] = b"whsec_";

/// Base64, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A publisher that signs its requests.
pub(super) struct Signer {
    scheme: Signed,
    /// One of them made the signature; or why they are missing.
    keys: Result<Vec<Key>, Cause>,
}

impl Signer {
    pub(super) fn new(desired: &model::Signature) -> Self {
        let scheme = desired.scheme.clone();
        let secret = desired.secret.as_ref().map_err(Clone::clone);
        let keys = secret.and_then(|secret| {
            let lines = lines(secret, "signing key")?;
            lines.into_iter().map(|line| key(&scheme, line)).collect()
        });
        Self { scheme, keys }
    }

    /// The header that has the signature.
    pub(super) fn header(&self) -> &str {
        match &self.scheme {
            Signed::StandardWebhooks => "webhook-signature",
            Signed::GitHub => "x-hub-signature-256",
            Signed::Hmac(hmac) => &hmac.header,
        }
    }

    /// Whether a request has a signature of this scheme.
    pub(super) fn is_named(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(self.header())
    }

    pub(super) fn trouble(&self) -> Option<&Cause> {
        self.keys.as_ref().err()
    }

    /// # Errors
    /// The signature is made with none of the keys, is too old, or there is none.
    pub(super) fn verify(&self, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Result<(), Refusal> {
        let keys = self.keys.as_ref().map_err(Refusal::unavailable)?;
        let (head, signatures) = match &self.scheme {
            Signed::StandardWebhooks => standard_webhooks(headers, now)?,
            Signed::GitHub => (
                Vec::new(),
                vec![one(headers, self.header(), "sha256=", SignatureEncoding::Hex)?],
            ),
            Signed::Hmac(hmac) => (
                Vec::new(),
                vec![one(headers, &hmac.header, &hmac.prefix, hmac.encoding)?],
            ),
        };
        for key in keys {
            let mut context = hmac::Context::with_key(key);
            context.update(&head);
            context.update(body);
            let tag = context.sign();
            if signatures
                .iter()
                .any(|signature| bool::from(tag.as_ref().ct_eq(signature)))
            {
                return Ok(());
            }
        }
        Err(invalid("the signature is not of this body and a publisher's key"))
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::SignatureInvalid, message)
}

/// Reads one line of a publisher's secret.
fn key(scheme: &Signed, line: &[u8]) -> Result<Key, Cause> {
    let algorithm = match scheme {
        Signed::Hmac(model::Hmac {
            algorithm: HmacAlgorithm::Sha512,
            ..
        }) => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    if *scheme != Signed::StandardWebhooks {
        return Ok(Key::new(algorithm, line));
    }
    let encoded = line.strip_prefix(KEY_PREFIX).unwrap_or(line);
    let decoded = BASE64.decode(encoded).map_err(|_| {
        unusable("its secret holds a line that is no key of Standard Webhooks: write whsec_ and base64".to_owned())
    })?;
    Ok(Key::new(algorithm, &decoded))
}

/// The only value of a header.
fn value<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(http::HeaderValue::to_str), values.next()) {
        (Some(Ok(value)), None) => Ok(value.trim()),
        (None, _) => Err(invalid(format!("the header {name} is missing"))),
        (Some(Ok(_)), Some(_)) => Err(invalid(format!("the header {name} is there twice"))),
        (Some(Err(_)), _) => Err(invalid(format!("the header {name} is no text"))),
    }
}

/// The signature in a header.
fn one(headers: &HeaderMap, name: &str, prefix: &str, encoding: SignatureEncoding) -> Result<Vec<u8>, Refusal> {
    let signature = value(headers, name)?.strip_prefix(prefix);
    let signature = signature.ok_or_else(|| invalid(format!("the header {name} does not begin with {prefix}")))?;
    let decoded = match encoding {
        SignatureEncoding::Hex => hex::decode(signature).ok(),
        SignatureEncoding::Base64 => BASE64.decode(signature).ok(),
    };
    let form = match encoding {
        SignatureEncoding::Hex => "hexadecimal digits",
        SignatureEncoding::Base64 => "base64",
    };
    decoded.ok_or_else(|| invalid(format!("the header {name} holds no {form}")))
}

/// Returns the text that is signed before the body, and the signatures (<https://www.standardwebhooks.com>, "Signature scheme").
fn standard_webhooks(headers: &HeaderMap, now: SystemTime) -> Result<(Vec<u8>, Vec<Vec<u8>>), Refusal> {
    let (id, timestamp) = (value(headers, "webhook-id")?, value(headers, "webhook-timestamp")?);
    let seconds: u64 = timestamp
        .parse()
        .map_err(|_| invalid("the header webhook-timestamp holds no seconds since 1970"))?;
    // A clock before 1970 is wrong, and no signature is made then.
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now.abs_diff(seconds) > TOLERANCE.as_secs() {
        return Err(invalid(format!(
            "the signature's time is {} s from the gateway's clock, and {} s are the most: sign each attempt anew, and set \
             the clocks",
            now.abs_diff(seconds),
            TOLERANCE.as_secs()
        )));
    }
    let signatures = value(headers, "webhook-signature")?.split(' ').filter_map(|signature| {
        // Other versions are other ways to sign; a sender may offer several.
        BASE64.decode(signature.strip_prefix("v1,")?).ok()
    });
    let signatures: Vec<_> = signatures.take(SIGNATURES_MAX).collect();
    Ok((format!("{id}.{timestamp}.").into_bytes(), signatures))
}

#[cfg(test)]
mod tests;
