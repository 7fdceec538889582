//! Reads the files of a listener's certificate, and makes of them the configuration of rustls.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::certificate;

/// Larger than any chain of certificates; the authorities of a whole system are some 200 KiB.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// A file, and the flag that names it.
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// Such as `--tls-cert`.
    pub flag: &'static str,
    /// The path that the flag was given.
    pub path: PathBuf,
}

/// The files of a listener, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, followed by those of intermediate authorities.
    pub certificate: NamedFile,
    /// The key of the first certificate.
    pub key: NamedFile,
    /// The authorities of client certificates; without it none is asked for.
    pub client_ca: Option<NamedFile>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {}: {problem}; {remedy}", path.display())]
pub struct TlsFileError {
    flag: &'static str,
    path: PathBuf,
    problem: String,
    remedy: String,
}

impl NamedFile {
    fn error(&self, problem: impl Into<String>, remedy: impl Into<String>) -> TlsFileError {
        TlsFileError {
            flag: self.flag,
            path: self.path.clone(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    fn read(&self) -> Result<Vec<u8>, TlsFileError> {
        read(&self.path).map_err(|error| {
            let remedy = "name a readable PEM file, which the gateway's user may read";
            self.error(format!("it cannot be read: {error}"), remedy)
        })
    }
}

/// Reads a regular file: a pipe or a device might be read for ever.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {FILE_MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

impl TlsFiles {
    pub(super) fn read(&self) -> Result<Content, TlsFileError> {
        Ok(Content {
            certificate: self.certificate.read()?,
            key: self.key.read()?,
            client_ca: self.client_ca.as_ref().map(NamedFile::read).transpose()?,
        })
    }
}

/// The bytes of the files. Has no `Debug`: one of them is a key.
#[derive(PartialEq, Eq)]
pub(super) struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Content that can be put into force.
pub(super) struct Usable {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) not_after: Timestamp,
}

impl Content {
    pub(super) fn usable(&self, files: &TlsFiles) -> Result<Usable, TlsFileError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&files.certificate, &self.certificate)?;
        let certificate = chain[0].clone();
        let not_after = certificate::not_after(&certificate).map_err(|problem| {
            let remedy = "have it issued again";
            files
                .certificate
                .error(format!("the first certificate cannot be read: {problem}"), remedy)
        })?;
        let key = key(&files.key, &self.key)?;
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => files.key.error(
                format!(
                    "it is not the key of the certificate in {}",
                    files.certificate.path.display()
                ),
                "name the key that the certificate was issued for",
            ),
            rustls::Error::InvalidCertificate(_) => files.certificate.error(
                "the first certificate cannot be used",
                "have it issued again, as X.509 version 3 with a subjectAltName",
            ),
            other => files.key.error(
                format!("its key cannot be used: {other}"),
                "use an RSA key of at least 2048 bits, or one of ECDSA P-256, P-384 or Ed25519",
            ),
        })?;
        let clients = match (&files.client_ca, &self.client_ca) {
            (Some(file), Some(bytes)) => clients(file, bytes, &provider)?,
            _ => Arc::new(NoClientAuth),
        };
        // The versions are named, so that another default of the library changes nothing.
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .expect("ring has cipher suites of both versions");
        let mut config = builder
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Usable {
            config: Arc::new(config),
            certificate,
            not_after,
        })
    }
}

/// Returns the certificates of a file; there is at least one.
fn certificates(file: &NamedFile, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    // The library's words might quote the file, which may be a key by mistake.
    let certificates = parsed.map_err(|_why| {
        let remedy = "expected certificates in PEM, BEGIN CERTIFICATE to END CERTIFICATE";
        file.error("it is no PEM", remedy)
    })?;
    if certificates.is_empty() {
        let remedy = "expected PEM with a block BEGIN CERTIFICATE";
        return Err(file.error("there is no certificate in it", remedy));
    }
    Ok(certificates)
}

fn key(file: &NamedFile, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        const ENCRYPTED: &[u8] = b"ENCRYPTED";
        if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
            let remedy = "decrypt it (openssl pkey -in FILE -out FILE) and let the gateway's user alone read it";
            return file.error("the key in it is encrypted", remedy);
        }
        // The library's words might quote the file.
        let problem = match error {
            rustls::pki_types::pem::Error::NoItemsFound => "there is no private key in it",
            _ => "it is no PEM",
        };
        file.error(problem, "expected PEM with a block BEGIN PRIVATE KEY")
    })
}

/// Asks clients for a certificate and demands none: a channel may be open to clients without one.
fn clients(
    file: &NamedFile,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(file, pem)? {
        roots.add(authority).map_err(|_why| {
            let remedy = "expected certificates of authorities (CA:TRUE) in PEM";
            file.error("a certificate in it cannot be used", remedy)
        })?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build();
    verifier.map_err(|error| file.error(error.to_string(), "expected certificates of authorities in PEM"))
}
