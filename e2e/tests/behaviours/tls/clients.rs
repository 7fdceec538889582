//! Certificates of clients: asked for, not demanded, and refused when nobody vouches for them.

use e2e::certificates::Authority;

use super::{House, s_client};

/// Proves: TL-1
#[tokio::test]
async fn a_client_certificate_is_asked_for_and_not_demanded() {
    let house = House::new();
    let ca = house.ca();
    let gateway = house.gateway().arguments(&["--tls-client-ca", &ca]).start().await;
    let stranger = Authority::new("stranger");
    let (good, bad) = (house.authority.issue(&["client"]), stranger.issue(&["client"]));
    let file = |name: &str, text: &str| {
        std::fs::write(house.file(name), text).expect("a file");
        house.file(name).display().to_string()
    };
    let (good, good_key) = (file("good.crt", &good.certificate), file("good.key", &good.key));
    let (bad, bad_key) = (file("bad.crt", &bad.certificate), file("bad.key", &bad.key));
    for version in ["1.2", "1.3"] {
        let versions = ["--tls-max", version];
        let taken = (Some(0), "202 2".to_owned());
        assert_eq!(house.curl(&gateway, "without", &versions).await, taken, "TLS {version}");
        let with = [&versions[..], &["--cert", &good, "--key", &good_key]].concat();
        assert_eq!(house.curl(&gateway, "with", &with).await, taken, "TLS {version}");
        let with = [&versions[..], &["--cert", &bad, "--key", &bad_key]].concat();
        let (code, answer) = house.curl(&gateway, "stranger", &with).await;
        assert!(
            code != Some(0) && answer.starts_with("000"),
            "TLS {version}: {code:?} {answer}"
        );
    }
    let asked = s_client(gateway.listen(), &["-CAfile", &ca]).await;
    assert!(asked.contains("Acceptable client certificate CA names"), "{asked}");
}
