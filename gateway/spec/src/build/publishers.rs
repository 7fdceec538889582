//! The publishers of a channel, with the secrets that they name.

use status::Reason;

use super::Building;
use crate::{
    document::Document,
    model::{
        Credential, Hmac, HmacAlgorithm, Jwt, Limits, Publisher, Publishing, Signature, SignatureEncoding,
        SignatureScheme, Signed,
    },
    resource,
};

impl Building<'_> {
    pub(super) fn publishing(&mut self, document: &Document, written: &resource::Channel) -> Publishing {
        let mut publishers = Vec::with_capacity(written.publishers.len());
        for (index, publisher) in written.publishers.iter().enumerate() {
            if let Some(credential) = self.credential(document, index, publisher) {
                let name = publisher.name.clone();
                publishers.push(Publisher { name, credential });
            }
        }
        let limits = written.limits.as_ref().map(|limits| Limits {
            events_per_second: limits.events_per_second,
            bytes_per_second: limits.bytes_per_second,
        });
        Publishing { publishers, limits }
    }

    /// `None` for a publisher without a credential, which no valid document has.
    fn credential(&mut self, document: &Document, index: usize, publisher: &resource::Publisher) -> Option<Credential> {
        let mut secret = |field: &str, selector| {
            let field = format!("publishers[{index}].{field}.secretKeyRef");
            self.secret(document, &field, selector, ("", Reason::SecretNotFound))
        };
        if let Some(token) = &publisher.bearer {
            return Some(Credential::Bearer(secret("bearer", &token.secret_key_ref)));
        }
        if let Some(jwt) = &publisher.jwt {
            return Some(Credential::Jwt(Jwt {
                issuer: jwt.issuer.clone(),
                audience: jwt.audience.clone(),
                claims: jwt.claims.clone(),
            }));
        }
        let signature = publisher.signature.as_ref()?;
        Some(Credential::Signature(Signature {
            scheme: signed(signature),
            secret: secret("signature", &signature.secret_key_ref),
        }))
    }
}

fn signed(written: &resource::Signature) -> Signed {
    match written.scheme {
        SignatureScheme::StandardWebhooks => Signed::StandardWebhooks,
        SignatureScheme::GitHub => Signed::GitHub,
        SignatureScheme::Hmac => Signed::Hmac(Hmac {
            header: written.header.clone().unwrap_or_default(),
            algorithm: written.algorithm.unwrap_or(HmacAlgorithm::Sha256),
            encoding: written.encoding.unwrap_or(SignatureEncoding::Hex),
            prefix: written.prefix.clone().unwrap_or_default(),
        }),
    }
}
