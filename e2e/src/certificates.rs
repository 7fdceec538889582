//! An authority of a test's own, and the certificates that it issues.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// An authority that no machine trusts by itself.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// # Panics
    /// When no certificate can be made.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// For a server with these names, or a client.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, Duration::from_secs(90 * 86_400))
    }

    /// [`Self::issue`] with another time to live.
    ///
    /// # Panics
    /// When a name is none.
    pub fn issue_for(&self, names: &[&str], lifetime: Duration) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "headgate e2e");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
        params.not_after = (SystemTime::now() + lifetime).into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The TLS of a server with this name. With `clients` it takes connections of those alone that have a certificate of that authority.
    ///
    /// # Panics
    /// When a certificate cannot be used.
    pub fn server(&self, name: &str, clients: Option<&Self>) -> ServerConfig {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring knows them");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate(&clients.pem)).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let issued = self.issue(&[name]);
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let mut config = builder
            .with_single_cert(vec![certificate(&issued.certificate)], key)
            .expect("its own key");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// A folder with `tls.crt` and `tls.key`, replaced together as a Secret of Kubernetes is: by the swap of one link.
#[derive(Debug)]
pub struct Mounted {
    folder: PathBuf,
    versions: u32,
}

impl Mounted {
    /// # Panics
    /// When the folder cannot be written.
    pub fn new(folder: PathBuf, issued: &Issued) -> Self {
        fs::create_dir_all(&folder).expect("a folder");
        for name in ["tls.crt", "tls.key"] {
            std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name)).expect("a link");
        }
        let mut mounted = Self { folder, versions: 0 };
        mounted.swap(&issued.certificate, &issued.key);
        mounted
    }

    /// Replaces both files at once.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn swap(&mut self, certificate: &str, key: &str) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        let files = self.folder.join(&version);
        fs::create_dir(&files).expect("a folder");
        fs::write(files.join("tls.crt"), certificate).expect("a file");
        fs::write(files.join("tls.key"), key).expect("a file");
        let draft = self.folder.join("..draft");
        std::os::unix::fs::symlink(version, &draft).expect("a link");
        fs::rename(draft, self.folder.join("..data")).expect("the link is moved");
    }

    /// The path of `tls.crt`.
    pub fn certificate(&self) -> String {
        self.folder.join("tls.crt").display().to_string()
    }

    /// The path of `tls.key`.
    pub fn key(&self) -> String {
        self.folder.join("tls.key").display().to_string()
    }
}
