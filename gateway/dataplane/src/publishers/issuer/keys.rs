//! The keys of an issuer: a JSON Web Key Set (RFC 7517), and how they verify signatures (RFC 7518, 3.1; RFC 8037).
//!
//! Written on ring, as all of the gateway's cryptography: the current versions of `jsonwebtoken` have no ring, and the last one
//! that has it takes a claim of a wrong type for one that is absent (GHSA-h395-gr6q-cpjc).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

/// Issuers have two to a dozen. A token without a key's id is verified with each.
const KEYS_MAX: usize = 64;

/// The signatures that are verified. Never `none`, and never a shared secret, with which anyone who verifies could sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    const ALL: [(&str, Self); 9] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    /// Returns the algorithm with this name in the head of a token.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, algorithm)| *algorithm)
    }

    /// Keys have 2048 bits at least: shorter ones can be broken.
    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::EdDsa => None,
        }
    }
}

/// A public key. Each kind of key makes its own signatures and no other's.
#[derive(Clone)]
enum PublicKey {
    /// Modulus and exponent, big-endian.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, uncompressed: 4, x, y.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// `None` for a key of another kind.
    fn read(key: &Value) -> Option<Self> {
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
        // Some issuers write a zero before a number, which means nothing and which ring refuses.
        let number = |name: &str| bytes(name).map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect());
        let point = || Some([vec![4], bytes("x")?, bytes("y")?].concat());
        match (key["kty"].as_str()?, key["crv"].as_str()) {
            ("RSA", _) => Some(Self::Rsa {
                n: number("n")?,
                e: number("e")?,
            }),
            ("EC", Some("P-256")) => point().map(Self::P256),
            ("EC", Some("P-384")) => point().map(Self::P384),
            ("OKP", Some("Ed25519")) => bytes("x").map(Self::Ed25519),
            _ => None,
        }
    }

    fn makes(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa { .. } => algorithm.rsa().is_some(),
            Self::P256(_) => algorithm == Algorithm::Es256,
            Self::P384(_) => algorithm == Algorithm::Es384,
            Self::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key)
                .verify(message, signature)
                .is_ok()
        };
        match (self, algorithm) {
            (Self::Rsa { n, e }, _) => algorithm
                .rsa()
                .is_some_and(|rsa| RsaPublicKeyComponents { n, e }.verify(rsa, message, signature).is_ok()),
            (Self::P256(point), Algorithm::Es256) => by(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Self::P384(point), Algorithm::Es384) => by(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Self::Ed25519(key), Algorithm::EdDsa) => by(&signature::ED25519, key),
            _ => false,
        }
    }
}

/// A key that signs tokens.
#[derive(Clone)]
pub(crate) struct SigningKey {
    id: Option<String>,
    /// The only algorithm it is for, where the issuer says so.
    algorithm: Option<Algorithm>,
    key: PublicKey,
}

impl SigningKey {
    /// `None` for a key that signs no tokens, or in a way that is not verified.
    fn read(key: &Value) -> Option<Self> {
        if key.get("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let algorithm = match key.get("alg") {
            Some(stated) => Some(Algorithm::find(stated.as_str()?)?),
            None => None,
        };
        let read = Self {
            id: key["kid"].as_str().map(str::to_owned),
            algorithm,
            key: PublicKey::read(key)?,
        };
        algorithm
            .is_none_or(|algorithm| read.key.makes(algorithm))
            .then_some(read)
    }

    /// Whether this key made the signature of a message.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.makes(algorithm) && self.key.verifies(algorithm, message, signature)
    }

    fn makes(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|stated| stated == algorithm) && self.key.makes(algorithm)
    }
}

/// The keys that sign an issuer's tokens.
#[derive(Clone, Default)]
pub(crate) struct KeySet(Vec<SigningKey>);

impl KeySet {
    /// Reads a key set. Keys of other kinds and for other purposes are left out.
    ///
    /// # Errors
    /// It is no key set, or has no key to verify a signature with.
    pub(crate) fn read(document: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(document).map_err(|_| "its key set is no JSON".to_owned())?;
        let keys = document["keys"].as_array().ok_or("its key set has no list of keys")?;
        let keys: Vec<_> = keys.iter().filter_map(SigningKey::read).take(KEYS_MAX).collect();
        if keys.is_empty() {
            return Err("its key set has no key to verify a signature with (RSA, P-256, P-384 or Ed25519)".to_owned());
        }
        Ok(Self(keys))
    }

    /// The keys that may have made a signature. A key without an id may have made any.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<SigningKey> {
        let is_meant = |key: &&SigningKey| {
            let same_id = match (id, &key.id) {
                (Some(id), Some(known)) => id == known,
                _ => true,
            };
            same_id && key.makes(algorithm)
        };
        self.0.iter().filter(is_meant).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::publishers::testing::TestKey;

    fn read(keys: &[Value]) -> Result<KeySet, String> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    /// Proves: PU-1
    #[test]
    fn keys_for_other_purposes_are_left_out() {
        let good = TestKey::p256("1").public;
        let changed = |name: &str, value: &str| {
            let mut key = good.clone();
            key[name] = value.into();
            key
        };
        let unusable = [
            changed("use", "enc"),
            changed("alg", "HS256"),
            changed("alg", "RS256"),
            changed("crv", "secp256k1"),
            changed("x", "not base64"),
            json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }),
            json!({ "kty": "AKP" }),
            json!(7),
        ];
        assert!(read(&unusable).err().unwrap().contains("no key to verify"));
        let all: Vec<Value> = unusable.into_iter().chain([good]).collect();
        let keys = read(&all).unwrap();
        assert_eq!(keys.find(Some("1"), Algorithm::Es256).len(), 1);
        assert_eq!(keys.find(None, Algorithm::Es256).len(), 1);
        assert_eq!(keys.find(Some("2"), Algorithm::Es256).len(), 0);
        for other in [Algorithm::Rs256, Algorithm::Es384, Algorithm::EdDsa] {
            assert_eq!(keys.find(Some("1"), other).len(), 0, "{other:?}");
        }
    }

    /// The example of RFC 7515, A.2: RS256.
    ///
    /// Proves: PU-1
    #[test]
    fn an_rsa_signature_of_the_specification_is_verified() {
        let key = json!({
            "kty": "RSA", "e": "AQAB",
            "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        });
        let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let keys = read(&[key]).unwrap();
        let verified = |algorithm, message: &str| {
            let found = keys.find(None, algorithm);
            found
                .iter()
                .any(|key| key.verifies(algorithm, message.as_bytes(), &signature))
        };
        assert!(verified(Algorithm::Rs256, message));
        assert!(!verified(Algorithm::Rs256, &message.replace('9', "8")));
        assert!(!verified(Algorithm::Ps256, message));
        assert!(!verified(Algorithm::Es256, message));
    }

    #[test]
    fn what_is_no_key_set_is_said() {
        for (document, words) in [
            ("", "no JSON"),
            ("{}", "no list of keys"),
            (r#"{"keys":[]}"#, "no key to verify"),
        ] {
            let why = KeySet::read(document.as_bytes()).err().unwrap();
            assert!(why.contains(words), "{why}");
        }
    }
}
