//! An identity provider for tests: real keys, and readings that a test scripts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{
    Issuers,
    issuer::{Fetch, KeySet},
};

pub(super) const ISSUER: &str = "https://issuer.example";

/// A key that signs tokens.
pub(super) struct TestKey {
    id: String,
    private: PrivateKey,
    pub(super) public: Value,
}

enum PrivateKey {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl TestKey {
    pub(super) fn p256(id: &str) -> Self {
        let random = SystemRandom::new();
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref(), &random).unwrap();
        // An uncompressed point: 4, x, y.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        Self {
            public: json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": text(x), "y": text(y), "use": "sig" }),
            id: id.to_owned(),
            private: PrivateKey::P256(pair),
        }
    }

    pub(super) fn ed25519(id: &str) -> Self {
        let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
        let x = text(pair.public_key().as_ref());
        Self {
            public: json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x, "alg": "EdDSA" }),
            id: id.to_owned(),
            private: PrivateKey::Ed25519(pair),
        }
    }

    /// A token with these claims, signed with this key.
    pub(super) fn token(&self, claims: &Value) -> String {
        let algorithm = match &self.private {
            PrivateKey::P256(_) => "ES256",
            PrivateKey::Ed25519(_) => "EdDSA",
        };
        let head = json!({ "alg": algorithm, "kid": self.id });
        let message = format!(
            "{}.{}",
            text(head.to_string().as_bytes()),
            text(claims.to_string().as_bytes())
        );
        let signature = match &self.private {
            PrivateKey::P256(pair) => {
                let signed = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
                text(signed.as_ref())
            }
            PrivateKey::Ed25519(pair) => text(pair.sign(message.as_bytes()).as_ref()),
        };
        format!("{message}.{signature}")
    }
}

/// So many seconds from now, as a claim.
pub(super) fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// Claims of a good token, with some of them changed.
pub(super) fn claims(changed: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "headgate", "sub": "ci", "exp": seconds_from_now(60),
    });
    for (name, value) in changed.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// The readings of an issuer's keys.
pub(super) struct Scripted {
    answer: Mutex<Result<KeySet, String>>,
    /// A reading needs one; a slow issuer has none.
    permits: Semaphore,
    pub(super) readings: Mutex<usize>,
}

impl Scripted {
    pub(super) fn with(keys: &[&TestKey]) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Ok(key_set(keys))),
            permits: Semaphore::new(1),
            readings: Mutex::new(0),
        })
    }

    pub(super) fn has(&self, keys: &[&TestKey]) {
        *self.answer.lock() = Ok(key_set(keys));
    }

    pub(super) fn is_away(&self) {
        *self.answer.lock() = Err("no answer".to_owned());
    }

    /// Answers no reading from now on.
    pub(super) fn hangs(&self) {
        self.permits.forget_permits(1);
    }

    pub(super) fn issuers(self: &Arc<Self>) -> Issuers {
        Issuers::new(self.clone())
    }
}

#[async_trait]
impl Fetch for Scripted {
    async fn keys(&self, _issuer: &str) -> Result<KeySet, String> {
        let _permit = self.permits.acquire().await.unwrap();
        *self.readings.lock() += 1;
        match &*self.answer.lock() {
            Ok(keys) => Ok(keys.clone()),
            Err(why) => Err(why.clone()),
        }
    }
}

fn key_set(keys: &[&TestKey]) -> KeySet {
    let keys: Vec<_> = keys.iter().map(|key| key.public.clone()).collect();
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}
