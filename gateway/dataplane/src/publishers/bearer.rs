//! Bearer tokens (RFC 6750): a secret that the publisher and the gateway share, sent with each request.

use http::{HeaderMap, header::AUTHORIZATION};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN};
use spec::{Cause, model::SecretText};
use subtle::{Choice, ConstantTimeEq};

use super::lines::lines;

/// A token as it is kept and compared.
pub(super) type Digest = [u8; SHA256_OUTPUT_LEN];

/// The tokens of a publisher. Kept as digests, which have one length: a comparison tells nothing about a token, not even how
/// long it is.
pub(super) struct Tokens(Vec<Digest>);

impl Tokens {
    /// # Errors
    /// The secret holds no token.
    pub(super) fn read(secret: &SecretText) -> Result<Self, Cause> {
        let lines = lines(secret, "token")?;
        Ok(Self(lines.into_iter().map(digest).collect()))
    }

    /// Whether a token is one of these. Takes the same time whatever the token is.
    pub(super) fn hold(&self, token: &Digest) -> bool {
        let found = self
            .0
            .iter()
            .fold(Choice::from(0), |found, known| found | known.ct_eq(token));
        found.into()
    }
}

pub(super) fn digest(token: &[u8]) -> Digest {
    let digest = ring::digest::digest(&SHA256, token);
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// The bearer token of a request. Two `Authorization` headers are none: a proxy may have looked at the other one.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use http::HeaderValue;

    use super::*;

    /// Proves: PU-1, PU-2
    #[test]
    fn each_token_of_the_secret_is_good_and_no_other() {
        let tokens = Tokens::read(&SecretText::new(*b"new\nold\n")).unwrap();
        let good = |token: &str| tokens.hold(&digest(token.as_bytes()));
        assert!(good("new") && good("old"));
        for other in ["", "ne", "newold", "new\nold", "NEW", "x"] {
            assert!(!good(other), "{other}");
        }
    }

    #[test]
    fn a_request_has_one_bearer_token() {
        let of = |values: &[&'static str]| {
            let values = values
                .iter()
                .map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            values.for_each(|(name, value)| {
                headers.append(name, value);
            });
            token(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(of(&["bearer  abc"]).as_deref(), Some("abc"));
        for none in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic abc"],
            &["abc"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
