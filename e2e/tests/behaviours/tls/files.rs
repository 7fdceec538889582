//! The files of a certificate: replaced while connections are open, and files that cannot be used.

use std::time::Duration;

use e2e::{Gateway, Request, certificates::Authority, cli, client::Connection, eventually, wait::within};
use rstest::rstest;
use serde_json::Value;

use super::House;

/// New files are in force within this (CONTRACT TL-1).
const PROMISED: Duration = Duration::from_secs(10);

async fn certificate(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/v1/info").await.json()["tls"][0].take()
}

async fn finding(gateway: &Gateway) -> Value {
    let doctor = gateway.cli(&["doctor", "-o", "json"]).await.json();
    let mut findings = doctor.as_array().expect("a list").iter();
    findings
        .find(|finding| finding["check"] == "certificate")
        .expect("a finding about the certificate")
        .clone()
}

/// Proves: TL-1
#[tokio::test]
async fn new_files_are_in_force_in_time_and_break_no_connection() {
    let mut house = House::new();
    let gateway = house.gateway().start().await;
    let mut open = Connection::open_tls(gateway.listen(), house.authority.pem())
        .await
        .expect("TLS");
    let event = |id| Request::event("orders", id);
    assert_eq!(open.exchange(&event("1")).await.expect("an answer").status, 202);
    let before = certificate(&gateway).await;
    let other = Authority::new("other");
    let issued = other.issue_for(&["127.0.0.1"], Duration::from_secs(40 * 86_400));
    house.mounted.swap(&issued.certificate, &issued.key);
    let mut new = within(PROMISED, "the new certificate is in force", || async {
        Connection::open_tls(gateway.listen(), other.pem()).await.ok()
    })
    .await;
    assert_eq!(new.exchange(&event("2")).await.expect("an answer").status, 202);
    assert_eq!(
        open.exchange(&event("3")).await.expect("the old connection").status,
        202
    );
    let old_trust = Connection::open_tls(gateway.listen(), house.authority.pem()).await;
    assert!(old_trust.is_err(), "the old certificate is still served");
    let after = certificate(&gateway).await;
    assert_ne!(before["notAfter"], after["notAfter"]);
    let metrics = gateway.admin_get("/metrics").await.text();
    let name = r#"headgate_tls_certificate_expiry_timestamp_seconds{listener="ingress"} "#;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("the metric");
    let expires: jiff::Timestamp = after["notAfter"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(value.parse::<f64>().expect("a number"), expires.as_second() as f64);
}

/// Proves: TL-1
#[rstest]
#[case::the_key_of_another("foreign", "not the key of the certificate")]
#[case::no_pem("rubbish", "there is no certificate")]
#[tokio::test]
async fn unusable_new_files_leave_the_old_in_force_and_are_reported(#[case] how: &str, #[case] words: &str) {
    let mut house = House::new();
    let gateway = house.gateway().start().await;
    let (one, other) = (
        house.authority.issue(&["127.0.0.1"]),
        house.authority.issue(&["127.0.0.1"]),
    );
    match how {
        "foreign" => house.mounted.swap(&one.certificate, &other.key),
        _ => house.mounted.swap("not a certificate", &one.key),
    }
    eventually("the trouble is shown", || async {
        let trouble = certificate(&gateway).await["trouble"].take();
        trouble
            .as_str()
            .is_some_and(|trouble| trouble.contains(words))
            .then_some(())
    })
    .await;
    let open = || Connection::open_tls(gateway.listen(), house.authority.pem());
    let mut connection = open().await.expect("the old certificate");
    let sent = connection.exchange(&Request::event("orders", "1")).await;
    assert_eq!(sent.expect("an answer").status, 202);
    let ready = gateway.admin_get("/readyz").await.is(200).json();
    assert!(ready["degraded"].to_string().contains(words), "{ready}");
    assert!(gateway.log().contains("new certificate files cannot be used"));
    let metrics = gateway.admin_get("/metrics").await.text();
    assert!(metrics.contains(r#"headgate_tls_reload_failures_total{listener="ingress"} 1"#));
    let found = finding(&gateway).await;
    assert_eq!(found["status"], "failed", "{found}");
    gateway.cli(&["doctor"]).await.exits(1);
    house.mounted.swap(&one.certificate, &one.key);
    eventually("good files end the trouble", || async {
        certificate(&gateway).await["trouble"].is_null().then_some(())
    })
    .await;
    assert_eq!(finding(&gateway).await["status"], "ok");
    let keys = [&one.key, &other.key].map(|key| key.lines().nth(1).expect("a line").to_owned());
    assert!(
        !keys.iter().any(|key| gateway.log().contains(key)),
        "a key is in the log"
    );
}

/// Proves: TL-1
#[tokio::test]
async fn a_certificate_that_expires_soon_is_a_finding() {
    let mut house = House::new();
    let soon = house
        .authority
        .issue_for(&["127.0.0.1"], Duration::from_secs(20 * 86_400));
    house.mounted.swap(&soon.certificate, &soon.key);
    let gateway = house.gateway().start().await;
    let found = finding(&gateway).await;
    assert_eq!(found["status"], "warning", "{found}");
    assert!(found["fix"].as_str().expect("a text").contains("renew"), "{found}");
    gateway.cli(&["doctor"]).await.exits(0);
}

/// Proves: TL-1
#[rstest]
#[case::no_key(&["--tls-cert", "tls.crt"], 2, "--tls-key")]
#[case::no_certificate(&["--admin-tls-key", "tls.key"], 2, "--admin-tls-cert")]
#[case::a_client_ca_alone(&["--tls-client-ca", "ca.pem"], 2, "--tls-cert")]
#[case::no_file(&["--tls-cert", "nowhere.crt", "--tls-key", "tls.key"], 1, "--tls-cert nowhere.crt: it cannot be read")]
#[case::a_folder(&["--tls-cert", "tls.crt", "--tls-key", "."], 1, "--tls-key .: it cannot be read")]
#[case::swapped(&["--tls-cert", "tls.key", "--tls-key", "tls.crt"], 1, "--tls-cert tls.key: there is no certificate")]
#[case::two_certificates(&["--tls-cert", "tls.crt", "--tls-key", "tls.crt"], 1, "--tls-key tls.crt: there is no private key")]
#[case::another_key(&["--tls-cert", "tls.crt", "--tls-key", "other.key"], 1, "--tls-key other.key: it is not the key of the certificate")]
#[case::an_encrypted_key(&["--tls-cert", "tls.crt", "--tls-key", "encrypted.key"], 1, "the key in it is encrypted; decrypt it")]
#[case::no_authority(
    &["--tls-cert", "tls.crt", "--tls-key", "tls.key", "--tls-client-ca", "tls.key"], 1, "--tls-client-ca tls.key: there is no certificate"
)]
#[tokio::test]
async fn a_start_without_usable_files_names_them_and_the_remedy(
    #[case] arguments: &[&str],
    #[case] code: i32,
    #[case] words: &str,
) {
    let house = House::new();
    let (one, other) = (
        house.authority.issue(&["127.0.0.1"]),
        house.authority.issue(&["127.0.0.1"]),
    );
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (name, text) in [
        ("tls.crt", &*one.certificate),
        ("tls.key", &one.key),
        ("other.key", &other.key),
        ("encrypted.key", encrypted),
        (
            "channel.yaml",
            "{apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, metadata: {name: a}}",
        ),
    ] {
        std::fs::write(house.file(name), text).expect("a file");
    }
    let run = [
        "run",
        "channel.yaml",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let ended = cli::headgate_in(house.folder.path(), &[&run[..], arguments].concat(), b"").await;
    assert!(ended.stderr.contains(words), "{ended:?}");
    ended.exits(code);
}
