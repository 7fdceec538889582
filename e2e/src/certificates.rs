//! An authority of a test's own, and the certificates that it issues.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

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
