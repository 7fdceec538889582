//! How the gateway identifies itself to a destination: the fields of the document with the values of the secrets that they name.

use base64::{Engine, prelude::BASE64_STANDARD};
use status::{Cause, Reason};
use url::Url;

use crate::{
    model::{Access, Auth, ClientCertificate, OAuth2, SecretText, SigningKeys, Tls},
    resolver::Resolver,
    resource::{self, Destination, SecretName, SecretSelector, Unread},
    secrets,
    set::Set,
};

/// The secrets that a document may name: those of its own namespace.
pub(super) struct Secrets<'a> {
    pub(super) set: &'a Set,
    pub(super) resolver: Resolver<'a>,
    pub(super) namespace: &'a str,
}

/// A destination that cannot be used as it is written, and the field to blame, below the destination.
pub(super) struct Refused {
    pub(super) field: String,
    pub(super) why: Cause,
}

/// The key that `caSecretRef` means when it names none.
const AUTHORITIES_KEY: &str = "ca.crt";

/// Standard Webhooks asks for keys of 24 to 64 bytes.
const SIGNING_KEY_MIN_BYTES: usize = 24;

/// Returns what the document says of a destination at this URL; `None` where it says nothing.
///
/// # Errors
/// A secret is not there or cannot be used, or the URL cannot have what is asked for.
pub(super) fn access(secrets: &Secrets<'_>, written: &Destination, url: &Url) -> Result<Option<Access>, Refused> {
    let access = Access {
        headers: written.headers.clone(),
        auth: written.auth.as_ref().map(|auth| secrets.auth(auth, url)).transpose()?,
        tls: written.tls.as_ref().map(|tls| secrets.tls(tls, url)).transpose()?,
        sign: written
            .sign
            .as_ref()
            .map(|sign| secrets.signing_keys(sign))
            .transpose()?,
    };
    Ok((access != Access::default()).then_some(access))
}

impl Secrets<'_> {
    fn auth(&self, auth: &resource::Auth, url: &Url) -> Result<Auth, Refused> {
        if !url.username().is_empty() || url.password().is_some() {
            let message = "the URL has a user and a password, and `auth` is a second credential: remove one of the two";
            return Err(refused("auth", Reason::InvalidTarget, message));
        }
        if let Some(token) = &auth.bearer {
            let field = "auth.bearer.secretKeyRef";
            let token = self.text(field, &token.secret_key_ref)?;
            if !token.expose().iter().all(u8::is_ascii_graphic) {
                let message =
                    "the token cannot be sent in a header: it has white space or characters that are not ASCII";
                return Err(refused(field, Reason::CredentialsInvalid, message));
            }
            return Ok(Auth::Bearer(token));
        }
        if let Some(basic) = &auth.basic {
            let field = "auth.basic.secretRef";
            let username = self.text(field, &key_of(&basic.secret_ref, "username"))?;
            if username.expose().contains(&b':') {
                let message = "the user name has a colon, which ends a user name in Basic authentication";
                return Err(refused(field, Reason::CredentialsInvalid, message));
            }
            let password = self.text(field, &key_of(&basic.secret_ref, "password"))?;
            return Ok(Auth::Basic { username, password });
        }
        let Some(client) = &auth.oauth2 else {
            return Err(refused("auth", Reason::InvalidTarget, "names no credential"));
        };
        Ok(Auth::OAuth2(OAuth2 {
            token_url: client.token_url.clone(),
            client_id: client.client_id.clone(),
            client_secret: self.text("auth.oauth2.clientSecretKeyRef", &client.client_secret_key_ref)?,
            scopes: client.scopes.clone(),
            audience: client.audience.clone(),
        }))
    }

    fn tls(&self, tls: &resource::DestinationTls, url: &Url) -> Result<Tls, Refused> {
        if url.scheme() != "https" {
            let message = format!(
                "`tls` needs an https URL, and the scheme of this one is {}",
                url.scheme()
            );
            return Err(refused("tls", Reason::InvalidTarget, message));
        }
        let authorities = tls.ca_secret_ref.as_ref();
        let authorities = authorities.map(|selector| self.value("tls.caSecretRef", selector, AUTHORITIES_KEY));
        let certificate = tls.client_certificate_secret_ref.as_ref().map(|secret| {
            let value = |key| self.value("tls.clientCertificateSecretRef", &key_of(secret, key), key);
            Ok(ClientCertificate {
                chain: value("tls.crt")?,
                key: value("tls.key")?,
            })
        });
        Ok(Tls {
            authorities: authorities.transpose()?,
            certificate: certificate.transpose()?,
            server_name: tls.server_name.clone(),
        })
    }

    fn signing_keys(&self, sign: &resource::EventSignature) -> Result<SigningKeys, Refused> {
        let keys = &sign.standard_webhooks;
        let key = |name: &str, selector| {
            let field = format!("sign.standardWebhooks.{name}");
            let text = self.text(&field, selector)?;
            decoded(&text).map_err(|message| refused(&field, Reason::CredentialsInvalid, message))
        };
        let previous = keys.previous_secret_key_ref.as_ref();
        Ok(SigningKeys {
            current: key("secretKeyRef", &keys.secret_key_ref)?,
            previous: previous
                .map(|selector| key("previousSecretKeyRef", selector))
                .transpose()?,
        })
    }

    /// A value that people type or paste, without the line break that editors put behind it.
    fn text(&self, field: &str, selector: &SecretSelector) -> Result<SecretText, Refused> {
        let value = self.value(field, selector, "")?;
        let trimmed = value.expose().trim_ascii();
        if trimmed.is_empty() {
            return Err(refused(
                field,
                Reason::CredentialsInvalid,
                "the secret holds nothing but white space",
            ));
        }
        Ok(SecretText::new(trimmed))
    }

    fn value(&self, field: &str, selector: &SecretSelector, default_key: &str) -> Result<SecretText, Refused> {
        let reason = Reason::CredentialsNotFound;
        secrets::find(self.set, self.resolver, self.namespace, selector, default_key, reason).map_err(|why| Refused {
            field: field.to_owned(),
            why,
        })
    }
}

/// `whsec_` and base64, as other implementations print keys; the prefix may be left out.
fn decoded(text: &SecretText) -> Result<SecretText, String> {
    let bytes = text.expose();
    let encoded = bytes.strip_prefix(b"whsec_").unwrap_or(bytes);
    let key = BASE64_STANDARD
        .decode(encoded)
        .map_err(|_| "the key of the signature is not `whsec_` and base64".to_owned())?;
    if key.len() < SIGNING_KEY_MIN_BYTES {
        return Err(format!(
            "the key of the signature has {} bytes, and Standard Webhooks asks for {SIGNING_KEY_MIN_BYTES} at least: \
             `echo whsec_$(openssl rand -base64 32)` makes one",
            key.len()
        ));
    }
    Ok(SecretText::new(key))
}

fn key_of(secret: &SecretName, key: &str) -> SecretSelector {
    SecretSelector {
        name: secret.name.clone(),
        key: Some(key.to_owned()),
        optional: Unread,
    }
}

fn refused(field: &str, reason: Reason, message: impl Into<String>) -> Refused {
    Refused {
        field: field.to_owned(),
        why: Cause::new(reason, message),
    }
}
