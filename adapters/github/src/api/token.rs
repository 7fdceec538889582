//! The credentials a request carries: an access token as it is, or an App installation's, which lives an hour and is fetched
//! with a token that the App's private key signed (RS256, RFC 7518).

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderValue, Method};
use jiff::Timestamp;
use ring::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Api, ApiError, Trouble};
use crate::Credentials;

/// Our clock may be ahead of GitHub's, which refuses tokens of the future.
const BACKDATED: i64 = 60;

/// GitHub takes ten minutes at most, counted from its own clock.
const VALID: i64 = 9 * 60;

/// A token is replaced this long before its end, so that no request carries a token that ends on the way.
const RENEWED_BEFORE: Duration = Duration::from_secs(5 * 60);

/// Where an answer does not say when its token ends; an hour is documented.
const LIFE_UNKNOWN: Duration = Duration::from_secs(10 * 60);

pub(super) enum Tokens {
    Fixed(HeaderValue),
    Installation {
        app: u64,
        installation: u64,
        key: Box<KeyPair>,
        /// The token in use and until when. Held while another is fetched, so that one is.
        current: Mutex<Option<(HeaderValue, Timestamp)>>,
    },
}

impl Tokens {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, ApiError> {
        match credentials {
            Credentials::Token(token) => {
                let text = std::str::from_utf8(token.bytes()).unwrap_or_default().trim();
                match bearer(text) {
                    Some(header) if !text.is_empty() => Ok(Self::Fixed(header)),
                    _ => Err(ApiError::new(
                        Trouble::Unauthorized,
                        "the secret that accessToken names holds no token",
                    )),
                }
            }
            Credentials::Missing(cause) => Err(ApiError::new(Trouble::Unauthorized, &cause.message)),
            Credentials::App {
                id,
                installation_id,
                private_key,
            } => Ok(Self::Installation {
                app: *id,
                installation: *installation_id,
                key: Box::new(key(private_key.bytes())?),
                current: Mutex::default(),
            }),
        }
    }

    /// The token to send now.
    pub(super) async fn current(&self, api: &Api) -> Result<HeaderValue, ApiError> {
        let (app, installation, key, current) = match self {
            Self::Fixed(token) => return Ok(token.clone()),
            Self::Installation {
                app,
                installation,
                key,
                current,
            } => (*app, *installation, key, current),
        };
        let mut current = current.lock().await;
        let now = Timestamp::now();
        if let Some((token, until)) = &*current
            && now + RENEWED_BEFORE < *until
        {
            return Ok(token.clone());
        }
        let signed = sign(app, key, now)?;
        let id = installation.to_string();
        let url = api.url(["app", "installations", &id, "access_tokens"].into_iter())?;
        // Boxed: sending is what asks for the token in the first place.
        let answer = Box::pin(api.send(&Method::POST, &url, None, &signed)).await?;
        let fetched: Fetched =
            serde_json::from_slice(&answer.body).map_err(|error| ApiError::unreadable(url.path(), &error))?;
        let token = bearer(&fetched.token).ok_or_else(|| ApiError::unreadable(url.path(), &"it holds no token"))?;
        let until = fetched.expires_at.unwrap_or(now + LIFE_UNKNOWN);
        *current = Some((token.clone(), until));
        Ok(token)
    }

    /// Whether another token than this one, which was refused, can be had.
    pub(super) async fn delete(&self, refused: &HeaderValue) -> bool {
        let Self::Installation { current, .. } = self else {
            return false;
        };
        let mut current = current.lock().await;
        if current.as_ref().is_some_and(|(token, _)| token == refused) {
            *current = None;
        }
        true
    }
}

/// The answer to a request for an installation's token.
#[derive(Deserialize)]
struct Fetched {
    token: String,
    expires_at: Option<Timestamp>,
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// GitHub gives PKCS#1; tools make PKCS#8 of it.
fn key(pem: &[u8]) -> Result<KeyPair, ApiError> {
    let invalid = |why: &dyn std::fmt::Display| {
        let detail = format!("the secret that app.privateKey names holds no usable RSA key: {why}");
        ApiError::new(Trouble::Key, detail)
    };
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| invalid(&error))?;
    let pair = match &der {
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(invalid(&"it is of another kind")),
    };
    pair.map_err(|error| invalid(&error))
}

/// The token an App shows for itself.
fn sign(app: u64, key: &KeyPair, now: Timestamp) -> Result<HeaderValue, ApiError> {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let now = now.as_second();
    let claims = json!({ "iat": now - BACKDATED, "exp": now + VALID, "iss": app });
    let message = format!("{}.{}", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    let signed = key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message.as_bytes(),
        &mut signature,
    );
    signed.map_err(|_| ApiError::new(Trouble::Key, "the private key does not sign"))?;
    let token = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
    bearer(&token).ok_or_else(|| ApiError::new(Trouble::Key, "the signed token is no header"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    /// Proves: SR-6
    #[test]
    fn what_is_no_key_or_token_is_said_without_showing_it() {
        let app = |pem: &str| Credentials::App {
            id: 1,
            installation_id: 2,
            private_key: Secret::new(pem.as_bytes()),
        };
        let pem = "-----BEGIN RSA PRIVATE KEY-----\naHVudGVyMg==\n-----END RSA PRIVATE KEY-----\n";
        let cases = [
            (app("hunter2"), Trouble::Key),
            (app(pem), Trouble::Key),
            (Credentials::Token(Secret::new(*b" ")), Trouble::Unauthorized),
            (Credentials::Token(Secret::new(*b"hunter2\nx")), Trouble::Unauthorized),
        ];
        for (credentials, trouble) in cases {
            let error = Tokens::new(&credentials).map(|_| ()).expect_err("it is unusable");
            assert_eq!(error.trouble, trouble);
            assert!(!error.message().contains("hunter2"), "{}", error.message());
        }
    }
}
