//! Helpers of this package's tests.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::{collections::BTreeMap, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{Config, Secret, Transport};

/// A source of `octo/hello` without credentials.
pub(crate) fn config(secrets: &[&str], event_types: &[&str]) -> Config {
    Config {
        repository: "octo/hello".into(),
        source: "https://github.com/octo/hello".into(),
        event_types: event_types.iter().map(|name| (*name).to_owned()).collect(),
        secrets: secrets.iter().map(|secret| Secret::new(secret.as_bytes())).collect(),
        allow_unsigned: secrets.is_empty(),
        extensions: BTreeMap::new(),
        credentials: None,
        api: "https://api.github.com".parse().unwrap(),
        transport: Transport::Webhook {
            address: "http://127.0.0.1:8080/hooks/default/test".into(),
            is_public: false,
        },
        sweep_interval: Some(Duration::from_secs(300)),
    }
}

/// `X-Hub-Signature-256` of a body.
pub(crate) fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}
