//! The headers that identify the gateway to one destination, made once for a route and not for each attempt.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use event::Event;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use spec::{
    Reason,
    model::{Access, Auth},
};

use super::{signature::Signer, tokens::Tokens};

/// A shorter secret may be part of any text, and hiding it would show where it is.
const HIDDEN_MIN_BYTES: usize = 8;

const HIDDEN: &[u8] = b"<redacted>";

/// The headers of one destination.
#[derive(Default)]
pub(super) struct Credentials {
    headers: Box<[(HeaderName, HeaderValue)]>,
    /// A credential that stays the same.
    authorization: Option<HeaderValue>,
    /// Fetches the credential.
    pub(super) tokens: Option<Box<Tokens>>,
    signer: Option<Box<Signer>>,
    /// Texts that the destination may repeat in its answer, and that are never shown.
    secrets: Vec<Bytes>,
}

/// Why the settings of a destination cannot be used.
pub(super) type Unusable = (Reason, String);

impl Credentials {
    /// `scope` names the subscription and which of its targets this is.
    pub(super) fn new(access: &Access, scope: String) -> Result<Self, Unusable> {
        let invalid = |what: &str| (Reason::CredentialsInvalid, format!("{what} cannot be sent in a header"));
        let headers = access.headers.iter().map(|(name, value)| {
            let made = (name.parse().ok(), HeaderValue::from_str(value).ok());
            match made {
                (Some(name), Some(value)) => Ok((name, value)),
                _ => Err((Reason::InvalidTarget, format!("the header {name} cannot be sent"))),
            }
        });
        let mut this = Self {
            headers: headers.collect::<Result<_, _>>()?,
            signer: access.sign.as_ref().map(|keys| Box::new(Signer::new(keys, scope))),
            ..Self::default()
        };
        match &access.auth {
            None => {}
            Some(Auth::Bearer(token)) => {
                this.authorization = Some(bearer(token.expose()).ok_or_else(|| invalid("the bearer token"))?);
                this.hide(token.expose());
            }
            Some(Auth::Basic { username, password }) => {
                let (value, encoded) = basic(username.expose(), password.expose());
                this.authorization = Some(value);
                this.hide(password.expose());
                this.hide(encoded.as_bytes());
            }
            Some(Auth::OAuth2(client)) => this.tokens = Some(Box::new(Tokens::new(client)?)),
        }
        Ok(this)
    }

    /// The credential that stands in the URL of a destination.
    pub(super) fn set_basic(&mut self, username: &[u8], password: &[u8]) {
        let (value, encoded) = basic(username, password);
        self.authorization = Some(value);
        self.hide(password);
        self.hide(encoded.as_bytes());
    }

    fn hide(&mut self, secret: &[u8]) {
        if secret.len() >= HIDDEN_MIN_BYTES {
            self.secrets.push(Bytes::copy_from_slice(secret));
        }
    }

    /// How many headers are added to a request.
    pub(super) fn count(&self) -> usize {
        self.headers.len()
    }

    /// Adds the headers that do not depend on the event. `token` is the credential of this attempt, where it is fetched.
    pub(super) fn add(&self, token: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some(authorization) = token.or(self.authorization.as_ref()) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
    }

    /// Whether requests are signed, and events therefore are in structured mode.
    pub(super) fn is_signed(&self) -> bool {
        self.signer.is_some()
    }

    /// Signs a request whose body is the event.
    pub(super) fn sign(&self, event: &Event, body: &[u8], headers: &mut HeaderMap) {
        if let Some(signer) = &self.signer {
            signer.sign(event, body, SystemTime::now(), headers);
        }
    }

    /// Returns the body of a failed answer as it may be shown: without the credentials that it repeats.
    pub(super) fn hidden(&self, body: Bytes, token: Option<&HeaderValue>) -> Bytes {
        let token = token.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let secrets = self.secrets.iter().map(|secret| &**secret);
        hidden(body, secrets.chain(token))
    }
}

/// Returns `body` with [`HIDDEN`] in the place of every secret.
pub(super) fn hidden<'a>(body: Bytes, secrets: impl Iterator<Item = &'a [u8]>) -> Bytes {
    secrets
        .filter(|secret| secret.len() >= HIDDEN_MIN_BYTES)
        .fold(body, |body, secret| {
            let Some(mut at) = position(&body, secret) else {
                return body;
            };
            let (mut shown, mut rest) = (Vec::with_capacity(body.len()), &body[..]);
            loop {
                shown.extend_from_slice(&rest[..at]);
                shown.extend_from_slice(HIDDEN);
                rest = &rest[at + secret.len()..];
                match position(rest, secret) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            shown.extend_from_slice(rest);
            shown.into()
        })
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// `None`: the token has characters that no header carries.
pub(super) fn bearer(token: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Basic authentication (RFC 7617), and what follows the scheme in it.
pub(super) fn basic(username: &[u8], password: &[u8]) -> (HeaderValue, String) {
    let encoded = BASE64_STANDARD.encode([username, b":", password].concat());
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    (value, encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: SR-6
    #[test]
    fn an_answer_that_repeats_a_credential_is_shown_without_it() {
        let mut credentials = Credentials::default();
        credentials.set_basic(b"user", b"hunter2hunter2");
        let (_, encoded) = basic(b"user", b"hunter2hunter2");
        let body = format!("no: hunter2hunter2hunter2hunter2, {encoded}, abcdefgh");
        let token = bearer(b"abcdefgh");
        let shown = credentials.hidden(body.into(), token.as_ref());
        assert_eq!(shown, "no: <redacted><redacted>, <redacted>, <redacted>");
        let other = Bytes::from_static(b"short");
        assert_eq!(credentials.hidden(other.clone(), None), other);
    }
}
