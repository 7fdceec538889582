//! Signs requests by Standard Webhooks (standardwebhooks.com, specification 1.0.0): `webhook-id`, `webhook-timestamp` and
//! `webhook-signature` over `ID.TIMESTAMP.BODY`.
//!
//! A signature covers the body and not the headers, so the event is sent in structured mode, with its attributes in the body.
//!
//! | header | stays the same |
//! |--|--|
//! | `webhook-id` | in all attempts of one event for one target of a subscription, also in a replay: receivers recognize repeats by it |
//! | `webhook-timestamp` | in one attempt: receivers refuse old ones |
//! | `webhook-signature` | in one attempt: one signature for each key |

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use event::Event;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::{digest, hmac};
use spec::model::SigningKeys;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Bytes of the digest in a `webhook-id`: two of them are never equal by chance, and receivers store them.
const ID_BYTES: usize = 18;

pub(super) struct Signer {
    /// The current one first.
    keys: Vec<hmac::Key>,
    /// The subscription and which of its targets this is.
    scope: String,
}

impl Signer {
    pub(super) fn new(keys: &SigningKeys, scope: String) -> Self {
        let keys = std::iter::once(&keys.current).chain(&keys.previous);
        let keys = keys.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose()));
        Self {
            keys: keys.collect(),
            scope,
        }
    }

    /// Adds the headers to a request with this body, which is the event.
    pub(super) fn sign(&self, event: &Event, body: &[u8], now: SystemTime, headers: &mut HeaderMap) {
        let id = self.id(event);
        // A clock before 1970 makes a signature that every receiver refuses as too old.
        let timestamp = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
            .to_string();
        let signatures: Vec<String> = self
            .keys
            .iter()
            .map(|key| signature(key, &id, &timestamp, body))
            .collect();
        for (name, value) in [(ID, id), (TIMESTAMP, timestamp), (SIGNATURE, signatures.join(" "))] {
            let value = HeaderValue::try_from(value).expect("letters, digits and signs of base64");
            headers.insert(name, value);
        }
    }

    fn id(&self, event: &Event) -> String {
        // No attribute has a NUL in it.
        let all = [&*self.scope, event.source(), event.id()].join("\0");
        let digest = digest::digest(&digest::SHA256, all.as_bytes());
        format!("msg_{}", BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..ID_BYTES]))
    }
}

fn signature(key: &hmac::Key, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(id.as_bytes());
    context.update(b".");
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use spec::model::SecretText;

    use super::*;

    fn signer(scope: &str, keys: &[&str]) -> Signer {
        let key = |text: &&str| SecretText::new(BASE64_STANDARD.decode(text).unwrap());
        let keys = SigningKeys {
            current: key(&keys[0]),
            previous: keys.get(1).map(key),
        };
        Signer::new(&keys, scope.to_owned())
    }

    fn event(id: &str) -> Event {
        Event::builder(id, "/s", "t").finish().unwrap()
    }

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_other_implementations() {
        let signer = signer("", &["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
        let made = signature(
            &signer.keys[0],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_id_stays_the_same_in_every_attempt_and_differs_between_targets() {
        let keys = ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"];
        let headers = |scope: &str, id: &str, seconds| {
            let mut headers = HeaderMap::new();
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            signer(scope, &keys).sign(&event(id), b"{}", now, &mut headers);
            headers
        };
        let (first, second) = (
            headers("default/s subscriber", "1", 5),
            headers("default/s subscriber", "1", 6),
        );
        assert_eq!(first[ID], second[ID]);
        assert_eq!(
            (&first[TIMESTAMP], &second[TIMESTAMP]),
            (&"5".parse().unwrap(), &"6".parse().unwrap())
        );
        assert_ne!(first[SIGNATURE], second[SIGNATURE]);
        assert_eq!(
            first[SIGNATURE].to_str().unwrap().split(' ').count(),
            2,
            "one for each key"
        );
        assert!(!first[ID].as_bytes().contains(&b'.'));
        for (scope, id) in [
            ("default/s subscriber", "2"),
            ("default/s reply", "1"),
            ("default/r subscriber", "1"),
        ] {
            assert_ne!(headers(scope, id, 5)[ID], first[ID], "{scope} {id}");
        }
    }
}
