//! Reads a certificate: until when it is valid, and which names it has.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// Returns when a certificate expires.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Result<Timestamp, String> {
    let (_rest, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let seconds = parsed.validity().not_after.timestamp();
    // A certificate may say the year 9999, as one without an end does.
    Ok(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

/// The certificate of a client, which an authority of `--tls-client-ca` vouches for, and whose key the client has used in the
/// handshake. It is in the extensions of each request of the connection; requests of clients without a certificate have none.
///
/// It was verified when the connection began. It may have expired since then.
#[derive(Clone)]
pub struct PeerCertificate(Arc<Names>);

struct Names {
    der: CertificateDer<'static>,
    subject: String,
    common_names: Vec<String>,
    dns_names: Vec<String>,
    uris: Vec<String>,
    email_addresses: Vec<String>,
}

impl PeerCertificate {
    /// Reads a certificate that the handshake has verified. Returns `None` for one that verifies and cannot be read, which names
    /// no client.
    pub(in crate::server) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_rest, parsed) = X509Certificate::from_der(der).ok()?;
        let names = parsed.subject_alternative_name().ok()?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let common_names = parsed.subject().iter_common_name();
        let mut read = Names {
            der: der.clone().into_owned(),
            subject: parsed.subject().to_string(),
            common_names: common_names
                .filter_map(|name| name.as_str().ok())
                .map(str::to_owned)
                .collect(),
            dns_names: Vec::new(),
            uris: Vec::new(),
            email_addresses: Vec::new(),
        };
        for name in names {
            match name {
                GeneralName::DNSName(name) => read.dns_names.push(name.to_ascii_lowercase()),
                GeneralName::URI(uri) => read.uris.push((*uri).to_owned()),
                GeneralName::RFC822Name(address) => read.email_addresses.push((*address).to_owned()),
                _ => {}
            }
        }
        Some(Self(Arc::new(read)))
    }

    /// The whole certificate.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The subject as text for people: `C=DE, O=Shop, CN=checkout`. Two subjects may have the same text, because an attribute may hold
    /// a comma; decisions use the names below.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The common names (CN) of the subject; nearly always one.
    pub fn common_names(&self) -> &[String] {
        &self.0.common_names
    }

    /// The DNS names of subjectAltName, in lower case. One may begin with `*.`.
    pub fn dns_names(&self) -> &[String] {
        &self.0.dns_names
    }

    /// The URIs of subjectAltName, such as `spiffe://cluster.local/ns/shop/sa/checkout`.
    pub fn uris(&self) -> &[String] {
        &self.0.uris
    }

    /// The addresses of electronic mail of subjectAltName.
    pub fn email_addresses(&self) -> &[String] {
        &self.0.email_addresses
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerCertificate").field(&self.0.subject).finish()
    }
}
