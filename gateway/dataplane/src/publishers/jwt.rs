//! Tokens of identity providers: JWTs (RFC 7519) with the signature of a public key.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use spec::{Cause, Reason, model};

use super::{
    Issuers, Refusal,
    issuer::{Algorithm, Issuer, NoKey},
};

/// Longer than tokens with dozens of groups. Servers take request heads of about this size.
const TOKEN_MAX_BYTES: usize = 16 * 1024;

/// How far the clocks of the identity provider and the gateway may differ.
const LEEWAY_SECS: f64 = 30.0;

type Claims = Map<String, Value>;

/// The tokens of one publisher.
pub(super) struct Trusted {
    expected: model::Jwt,
    issuer: Arc<Issuer>,
}

impl Trusted {
    pub(super) fn new(desired: &model::Jwt, issuers: &Issuers) -> Self {
        Self {
            expected: desired.clone(),
            issuer: issuers.get(&desired.issuer),
        }
    }

    /// Whether the token says that it is of this issuer.
    pub(super) fn is_issuer_of(&self, token: &Unverified<'_>) -> bool {
        token.issuer == self.expected.issuer
    }

    pub(super) fn trouble(&self) -> Option<Cause> {
        self.issuer.trouble()
    }

    /// The claim that is not as it has to be.
    fn unmet(&self, claims: &Claims) -> Option<&str> {
        let unmet =
            |(name, expected): &(&String, &String)| !claims.get(*name).is_some_and(|found| says(found, expected));
        self.expected.claims.iter().find(unmet).map(|(name, _)| name.as_str())
    }
}

/// Whether a claim is this text, a number or truth value that is written so, or a list that holds it.
fn says(claim: &Value, expected: &str) -> bool {
    match claim {
        Value::String(text) => text == expected,
        Value::Number(number) => number.to_string() == expected,
        Value::Bool(truth) => truth.to_string() == expected,
        Value::Array(entries) => entries.iter().any(|entry| !entry.is_array() && says(entry, expected)),
        Value::Null | Value::Object(_) => false,
    }
}

/// A token of which nothing is believed yet.
pub(super) struct Unverified<'a> {
    /// The part that is signed.
    message: &'a str,
    signature: Vec<u8>,
    claims: Claims,
    issuer: String,
    algorithm: Option<Algorithm>,
    key: Option<String>,
    /// It has parts that must be understood (RFC 7515, 4.1.11), and are not.
    is_critical: bool,
}

impl<'a> Unverified<'a> {
    /// Reads the parts of a token. `None`: it is no JWT of an issuer.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text.len() > TOKEN_MAX_BYTES {
            return None;
        }
        let (message, signature) = text.rsplit_once('.')?;
        let (head, claims) = message.split_once('.')?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        let head: Claims = serde_json::from_slice(&decode(head)?).ok()?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        let text_of = |part: &Claims, name: &str| part.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            message,
            signature: decode(signature)?,
            issuer: text_of(&claims, "iss")?,
            claims,
            algorithm: text_of(&head, "alg").and_then(|name| Algorithm::find(&name)),
            key: text_of(&head, "kid"),
            is_critical: head.contains_key("crit"),
        })
    }

    /// Verifies the signature and the times, and returns the claims, which are then the issuer's word.
    async fn verify(&self, issuer: &Issuer, now: SystemTime) -> Result<&Claims, Refusal> {
        let Some(algorithm) = self.algorithm.filter(|_| !self.is_critical) else {
            return Err(invalid(
                "the token is signed in a way that is not accepted: use RS256, ES256 or EdDSA",
            ));
        };
        let keys = issuer.keys(self.key.as_deref(), algorithm).await;
        let keys = keys.map_err(|none| match none {
            NoKey::Unknown => invalid("the token is signed with a key that its issuer does not have"),
            NoKey::Unavailable => Refusal::unavailable(&issuer.unavailable()),
        })?;
        let (message, signature) = (self.message.as_bytes(), self.signature.as_slice());
        if !keys.iter().any(|key| key.verifies(algorithm, message, signature)) {
            return Err(invalid("the token's signature is not of its issuer's key"));
        }
        in_time(&self.claims, now)?;
        Ok(&self.claims)
    }
}

/// Checks `exp`, which must be there, and `nbf`. A time of another type than a number is no time.
fn in_time(claims: &Claims, now: SystemTime) -> Result<(), Refusal> {
    let unusable = |name: &str| invalid(format!("the token has no usable claim {name}"));
    let since = now.duration_since(UNIX_EPOCH);
    let now = since
        .map_err(|_| invalid("the gateway's clock is before 1970: set it"))?
        .as_secs_f64();
    let expires = claims
        .get("exp")
        .and_then(Value::as_f64)
        .ok_or_else(|| unusable("exp"))?;
    if now >= expires + LEEWAY_SECS {
        return Err(invalid("the token has expired: get a new one"));
    }
    match claims.get("nbf").map(Value::as_f64) {
        Some(None) => Err(unusable("nbf")),
        Some(Some(begins)) if now < begins - LEEWAY_SECS => Err(invalid("the token is not good yet (nbf)")),
        Some(Some(_)) | None => Ok(()),
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::CredentialInvalid, message)
}

/// Returns the publisher that a token is from. `trusted` are those that trust its issuer, with their indexes.
///
/// # Errors
/// The token is not good, or good and of none of them.
pub(super) async fn publisher(token: &Unverified<'_>, trusted: &[(usize, &Trusted)]) -> Result<usize, Refusal> {
    let mut refusal = invalid("the token is for another audience");
    let Some((_, first)) = trusted.first() else {
        return Err(refusal);
    };
    let claims = token.verify(&first.issuer, SystemTime::now()).await?;
    for (index, trusted) in trusted {
        if !claims
            .get("aud")
            .is_some_and(|audience| says(audience, &trusted.expected.audience))
        {
            continue;
        }
        match trusted.unmet(claims) {
            None => return Ok(*index),
            Some(claim) => {
                let message = format!("the token is good, and its claim {claim} is not one that may publish here");
                refusal = Refusal::new(Reason::PublisherForbidden, message);
            }
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests;
