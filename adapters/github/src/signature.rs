//! `X-Hub-Signature-256`: HMAC-SHA256 over the raw body, compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::Secret;

const PREFIX: &str = "sha256=";

/// With which of the secrets the body was signed: the first of its place. All of them are tried, so that the time tells nothing.
pub(crate) fn signer(header: Option<&str>, body: &[u8], secrets: &[Secret]) -> Option<usize> {
    let sent = header?.strip_prefix(PREFIX)?;
    let sent = hex::decode(sent).ok()?;
    let matches = |secret: &Secret| -> Choice {
        // With an empty secret anybody could sign. A key of any length is a key (RFC 2104).
        match Hmac::<Sha256>::new_from_slice(secret.bytes()) {
            Ok(mut mac) if !secret.bytes().is_empty() => {
                mac.update(body);
                mac.finalize().into_bytes().as_slice().ct_eq(&sent)
            }
            _ => Choice::from(0),
        }
    };
    let found: Vec<Choice> = secrets.iter().map(matches).collect();
    found.into_iter().position(bool::from)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn is_valid(header: Option<&str>, body: &[u8], secrets: &[Secret]) -> bool {
        signer(header, body, secrets).is_some()
    }

    fn sign(secret: &[u8], body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(body);
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    }

    /// The example of GitHub's documentation, "Validating webhook deliveries".
    #[test]
    fn the_documented_example_is_valid() {
        let secret = Secret::new(*b"It's a Secret to Everybody");
        let header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(is_valid(Some(header), b"Hello, World!", &[secret]));
    }

    #[test]
    fn nobody_signs_with_an_empty_secret() {
        let secrets = [Secret::new(*b"")];
        assert!(!is_valid(Some(&sign(b"", b"{}")), b"{}", &secrets));
    }

    #[test]
    fn what_is_no_signature_is_never_valid() {
        let secrets = [Secret::new(*b"s")];
        let good = sign(b"s", b"{}");
        let digest = &good[PREFIX.len()..];
        for not in [
            "",
            "sha256=",
            "sha256=zz",
            digest,
            &good[..good.len() - 2],
            &format!("{good}00"),
            &format!("sha1={digest}"),
        ] {
            assert!(!is_valid(Some(not), b"{}", &secrets), "{not}");
        }
        assert!(!is_valid(None, b"{}", &secrets));
    }

    proptest! {
        #[test]
        fn a_changed_body_or_secret_is_never_valid(body: Vec<u8>, other: Vec<u8>, flipped: prop::sample::Index, secret in "[a-z]{1,20}") {
            let header = sign(secret.as_bytes(), &body);
            let secrets = [Secret::new(*b"PREVIOUS"), Secret::new(secret.as_bytes())];
            prop_assert_eq!(signer(Some(&header), &body, &secrets), Some(1));
            prop_assert_eq!(is_valid(Some(&header), &other, &secrets), other == body);
            prop_assert!(!is_valid(Some(&header), &body, &secrets[..1]));
            if !body.is_empty() {
                let mut changed = body.clone();
                changed[flipped.index(body.len())] ^= 1;
                prop_assert!(!is_valid(Some(&header), &changed, &secrets));
            }
        }
    }
}
