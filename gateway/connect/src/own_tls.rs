//! TLS with one destination: its own authorities, a certificate of the gateway, another name than the URL's host.
//!
//! The server's certificate is always verified. Connectors of different destinations share no sessions.

use std::sync::Arc;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{Connector, Dialer, tls};

/// TLS settings of one destination.
#[derive(Clone, Copy, Default)]
pub struct OwnTls<'a> {
    /// The authorities that alone are trusted, PEM. `None`: the system's.
    pub authorities: Option<&'a [u8]>,
    /// The certificate chain and the private key that are presented, PEM.
    pub certificate: Option<(&'a [u8], &'a [u8])>,
    /// The name that the server's certificate has to have. `None`: the URL's host.
    pub server_name: Option<&'a str>,
}

/// Makes a connector of one destination.
///
/// # Errors
/// A part of the settings cannot be used. The message repeats nothing of their values.
pub fn own_connector(dialer: Dialer, own: OwnTls<'_>) -> Result<Connector, String> {
    let builder = HttpsConnectorBuilder::new().with_tls_config(config(own)?).https_only();
    let builder = match own.server_name {
        Some(name) => {
            let name = ServerName::try_from(name.to_owned())
                .map_err(|_| "tls.serverName is neither a host name nor an address".to_owned())?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
        None => builder,
    };
    Ok(builder.enable_http1().enable_http2().wrap_connector(dialer))
}

fn config(own: OwnTls<'_>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = match own.authorities {
        Some(pem) => ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(pem)?)
            .with_no_client_auth(),
        // The system's authorities take 2 MB: all share them. Sessions are one destination's own.
        None => {
            let mut shared = (*tls()?).clone();
            shared.resumption = Resumption::default();
            shared
        }
    };
    if let Some((chain, key)) = own.certificate {
        let presented = presented(chain, key, &provider)?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(presented));
    }
    Ok(config)
}

fn presented(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = certificates(chain)
        .ok_or("the secret of tls.clientCertificateSecretRef has no certificate (PEM) in `tls.crt`")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(
        |_| "the secret of tls.clientCertificateSecretRef has no private key (PEM, not encrypted) in `tls.key`",
    )?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "in the secret of tls.clientCertificateSecretRef `tls.key` is not the key of the certificate in `tls.crt`"
                .to_owned()
        }
        _ => "the certificate or the key in the secret of tls.clientCertificateSecretRef cannot be used".to_owned(),
    })
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let certificates = certificates(pem).ok_or("the secret of tls.caSecretRef has no certificate (PEM)")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|_| "a certificate in the secret of tls.caSecretRef is no authority's (X.509, version 3)")?;
    }
    Ok(roots)
}

/// `None` where there is none, or one of them is broken.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty())
}
