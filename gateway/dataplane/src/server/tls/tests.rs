//! Tests of the files of a certificate, read again and again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use super::*;

/// A certificate and its key, in PEM.
fn issued(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn open(&self) -> Result<Tls, TlsFileError> {
        let file = |flag, name| NamedFile {
            flag,
            path: self.path(name),
        };
        let files = TlsFiles {
            certificate: file("--tls-cert", "tls.crt"),
            key: file("--tls-key", "tls.key"),
            client_ca: None,
        };
        Tls::open(ListenerName::Admin, files, TlsMetrics::default())
    }
}

fn in_force(tls: &Tls) -> CertificateDer<'static> {
    tls.0.in_force.load().certificate.clone()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Proves: TL-1
#[tokio::test]
async fn a_certificate_and_its_key_may_be_replaced_one_after_the_other() {
    let (files, old, new) = (Files::new(), issued("old"), issued("new"));
    files.write("tls.crt", &old.0);
    files.write("tls.key", &old.1);
    let tls = files.open().unwrap();
    let config = tls.config();
    tls.poll();
    assert!(Arc::ptr_eq(&config, &tls.config()), "nothing has changed");
    files.write("tls.crt", &new.0);
    tls.poll();
    assert_eq!(tls.state().trouble, None, "half of a change is not reported");
    assert_eq!(in_force(&tls), der(&old.0));
    files.write("tls.key", &new.1);
    tls.poll();
    assert_eq!(in_force(&tls), der(&new.0));
    assert_eq!(tls.0.metrics.reload_failures.get_or_create(&tls.label()).get(), 0);
    assert_eq!(tls.0.in_force.load().former, [der(&old.0)]);
}

/// Proves: TL-1
#[tokio::test]
async fn trouble_that_lasts_is_reported_once_and_ends_with_good_files() {
    let (files, old) = (Files::new(), issued("old"));
    files.write("tls.crt", &old.0);
    files.write("tls.key", &old.1);
    let tls = files.open().unwrap();
    let failures = || tls.0.metrics.reload_failures.get_or_create(&tls.label()).get();
    for broken in ["no PEM", &issued("other").0] {
        let before = failures();
        files.write("tls.crt", broken);
        tls.poll();
        assert_eq!(tls.state().trouble, None);
        tls.poll();
        tls.poll();
        assert!(tls.state().trouble.is_some());
        assert_eq!(failures(), before + 1);
    }
    fs::remove_file(files.path("tls.crt")).unwrap();
    tls.poll();
    tls.poll();
    let trouble = tls.state().trouble.unwrap();
    assert!(
        trouble.contains("--tls-cert") && trouble.contains("cannot be read"),
        "{trouble}"
    );
    assert_eq!(in_force(&tls), der(&old.0));
    files.write("tls.crt", &old.0);
    tls.poll();
    assert_eq!(tls.state().trouble, None, "the files are those in force");
}

#[test]
fn a_pipe_is_no_file_of_a_certificate() {
    let files = Files::new();
    let made = std::process::Command::new("mkfifo").arg(files.path("tls.crt")).status();
    assert!(made.unwrap().success());
    files.write("tls.key", "");
    let error = files.open().unwrap_err().to_string();
    assert!(error.contains("it is no regular file"), "{error}");
}

#[test]
fn names_of_a_client_are_read_from_its_certificate() {
    let mut params = CertificateParams::new(["Shop.Internal".to_owned(), "*.pods.internal".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::OrganizationName, "Shop");
    params.distinguished_name.push(DnType::CommonName, "checkout");
    for name in [
        SanType::URI("spiffe://cluster.local/ns/shop/sa/checkout".try_into().unwrap()),
        SanType::Rfc822Name("shop@example.org".try_into().unwrap()),
    ] {
        params.subject_alt_names.push(name);
    }
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let peer = PeerCertificate::read(certificate.der()).unwrap();
    assert_eq!(peer.dns_names(), ["shop.internal", "*.pods.internal"]);
    assert_eq!(peer.uris(), ["spiffe://cluster.local/ns/shop/sa/checkout"]);
    assert_eq!(peer.email_addresses(), ["shop@example.org"]);
    assert!(peer.common_names().contains(&"checkout".to_owned()));
    assert!(peer.subject().contains("O=Shop"), "{}", peer.subject());
    assert_eq!(peer.der(), &**certificate.der());
    assert!(PeerCertificate::read(&CertificateDer::from_slice(b"no DER")).is_none());
}
