//! TLS to other replicas of the gateway, which are reached by names and addresses that no certificate may have.
//!
//! All replicas are given the same certificate, so the one that this process serves is the one that it trusts, whatever name it
//! is for. While files are being replaced, replicas may be a minute apart: the certificates that this process served before are
//! trusted, too, and those that the authorities of `--gateway-ca` vouch for under the replica's name. Nothing else is.

use std::{path::PathBuf, sync::Arc};

use hyper_rustls::HttpsConnectorBuilder;
use parking_lot::RwLock;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{Connector, Dialer, authorities};

/// The certificates and authorities that this process trusts.
static TRUSTED: RwLock<Trusted> = RwLock::new(Trusted {
    certificates: Vec::new(),
    authorities: None,
});

struct Trusted {
    certificates: Vec<CertificateDer<'static>>,
    authorities: Option<PathBuf>,
}

/// Trusts replicas that serve one of these certificates, and no longer those of an earlier call.
pub fn trust_replicas(certificates: Vec<CertificateDer<'static>>) {
    TRUSTED.write().certificates = certificates;
}

/// Trusts replicas whose certificate an authority in this file vouches for.
pub fn trust_replicas_of(authorities: PathBuf) {
    TRUSTED.write().authorities = Some(authorities);
}

/// Connects to replicas by `http` or `https`, with HTTP/1.1.
pub fn replica_connector(dialer: Dialer) -> Connector {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites of both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    builder.https_or_http().enable_http1().wrap_connector(dialer)
}

#[derive(Debug)]
struct Verifier(Arc<CryptoProvider>);

impl Verifier {
    /// Verifies a certificate that this process never served.
    fn verify_by_authority(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let path = TRUSTED.read().authorities.clone();
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        // Read each time: this is rare, and the file may be new as well.
        let certificates = authorities(&path.ok_or_else(unknown)?).map_err(|_unreadable| unknown())?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.0.clone()).build();
        let verifier = verifier.map_err(|_empty| unknown())?;
        verifier.verify_server_cert(certificate, intermediates, name, &[], now)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if TRUSTED.read().certificates.iter().any(|trusted| trusted == certificate) {
            return Ok(ServerCertVerified::assertion());
        }
        self.verify_by_authority(certificate, intermediates, name, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
