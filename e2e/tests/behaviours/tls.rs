//! TLS at the gateway's own listeners, as other people's clients see it.

mod clients;
mod files;
mod hostile;

use std::path::PathBuf;

use e2e::{
    Gateway, Request, Response, Sink,
    certificates::{Authority, Mounted},
    client::Connection,
    documents::{channel, subscription},
    eventually,
    gateway::Setup,
};
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

/// An authority, and a certificate of it for 127.0.0.1 in a folder.
struct House {
    folder: TempDir,
    authority: Authority,
    mounted: Mounted,
}

impl House {
    fn new() -> Self {
        let folder = TempDir::with_prefix("headgate-tls-").expect("a temporary folder");
        let authority = Authority::new("house");
        let mounted = Mounted::new(folder.path().join("tls"), &authority.issue(&["127.0.0.1"]));
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file");
        Self {
            folder,
            authority,
            mounted,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The authority's own certificate, as a file.
    fn ca(&self) -> String {
        self.file("ca.pem").display().to_string()
    }

    /// A gateway whose ingress has the certificate.
    fn gateway(&self) -> Setup {
        Gateway::set_up()
            .documents([channel("orders", "memory")])
            .environment("HEADGATE_TLS_CERT", &self.mounted.certificate())
            .environment("HEADGATE_TLS_KEY", &self.mounted.key())
    }

    /// Posts an event with curl. Gives the exit code of curl, and the status and the version of HTTP as it writes them.
    async fn curl(&self, gateway: &Gateway, id: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let headers = [
            format!("ce-id: {id}"),
            "ce-source: /curl".into(),
            "ce-type: t".into(),
            "ce-specversion: 1.0".into(),
        ];
        let mut command = Command::new("curl");
        command.args([
            "-s",
            "--cacert",
            &self.ca(),
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{http_version}",
        ]);
        for header in &headers {
            command.args(["-H", header]);
        }
        command.args(["-X", "POST", "--max-time", "60"]).args(arguments);
        let url = format!("https://{}/default/orders", gateway.listen());
        let output = command.arg(url).output().await.expect("curl runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

/// What `openssl s_client` prints of a handshake.
async fn s_client(to: std::net::SocketAddr, arguments: &[&str]) -> String {
    let to = to.to_string();
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &to])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .expect("openssl runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{out}\n{err}")
}

/// Proves: TL-1
#[rstest]
#[case::tls_1_2(&["--tls-max", "1.2"], "202 2")]
#[case::tls_1_3(&["--tlsv1.3"], "202 2")]
#[case::http_1_1(&["--http1.1"], "202 1.1")]
#[case::no_alpn(&["--no-alpn"], "202 1.1")]
#[tokio::test]
async fn an_event_comes_in_over_tls_and_http_2_by_alpn(#[case] arguments: &[&str], #[case] answer: &str) {
    let (house, sink) = (House::new(), Sink::start().await);
    let setup = house.gateway();
    let gateway = setup
        .documents([subscription("audit", "orders", &sink.url(), json!({}))])
        .start()
        .await;
    assert_eq!(house.curl(&gateway, "1", arguments).await, (Some(0), answer.to_owned()));
    assert_eq!(sink.wait_for_one().await.id(), "1");
}

/// Proves: TL-1
#[tokio::test]
async fn tls_before_1_2_is_refused_and_later_versions_are_not() {
    let house = House::new();
    let gateway = house.gateway().start().await;
    // OpenSSL itself offers the old versions at its lowest level of security alone.
    let old = ["-cipher", "DEFAULT:@SECLEVEL=0"];
    for version in ["-tls1", "-tls1_1"] {
        let refused = s_client(gateway.listen(), &[&[version][..], &old].concat()).await;
        assert!(
            refused.contains("Cipher is (NONE)") && refused.contains("alert"),
            "{version}: {refused}"
        );
    }
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let taken = s_client(gateway.listen(), &[flag, "-CAfile", &house.ca()]).await;
        assert!(taken.contains(&format!("New, {version}")), "{flag}: {taken}");
        assert!(taken.contains("Verification: OK"), "{flag}: {taken}");
    }
}

/// Proves: TL-1
#[tokio::test]
async fn addresses_say_https_and_plain_http_is_told_so() {
    let house = House::new();
    let gateway = house.gateway().start().await;
    let shown = gateway.wait_object("channel", "orders", |_| true).await;
    let url = format!("https://{}/default/orders", gateway.listen());
    assert_eq!(shown["status"]["address"]["url"], json!(url));
    let answer = gateway.send(&Request::event("orders", "1")).await.is(400);
    assert!(answer.text().contains("https://"), "{answer}");
    assert_eq!(answer.header("connection"), Some("close"));
    eventually("it is counted", || async {
        let metrics = gateway.admin_get("/metrics").await.text();
        metrics
            .contains(r#"headgate_requests_refused_total{reason="NeedsTLS"} 1"#)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn tls_at_a_plain_port_is_answered_or_closed_and_harms_nothing() {
    let gateway = Gateway::with([channel("orders", "memory")]).await;
    let told = s_client(gateway.listen(), &["-tls1_3"]).await;
    assert!(!told.contains("Cipher is TLS"), "{told}");
    let told = s_client(gateway.admin(), &["-tls1_3"]).await;
    assert!(!told.contains("Cipher is TLS"), "{told}");
    gateway.accept("orders", ["1"]).await;
    gateway.admin_get("/healthz").await.is(200);
}

/// Proves: TL-1
#[tokio::test]
async fn commands_talk_to_an_admin_listener_with_tls() {
    let house = House::new();
    let gateway = house
        .gateway()
        .arguments(&[
            "--admin-tls-cert",
            &house.mounted.certificate(),
            "--admin-tls-key",
            &house.mounted.key(),
        ])
        .admin_certified_by(house.authority.pem())
        .start()
        .await;
    let sent = gateway.cli(&["send", "orders", "--type", "t"]).await.exits(0);
    assert!(sent.stdout.starts_with("stored "), "{sent:?}");
    let doctor = gateway.cli(&["doctor", "-o", "json"]).await.exits(0).json();
    let findings = doctor.as_array().expect("a list").iter();
    let certificates: Vec<_> = findings.filter(|finding| finding["check"] == "certificate").collect();
    assert_eq!(certificates.len(), 2, "{doctor:#}");
    assert!(
        certificates.iter().all(|finding| finding["status"] == "ok"),
        "{doctor:#}"
    );
    let to = |url: String| async move { e2e::cli::run(&["get", "channels", "--gateway", &url]).await };
    let untrusted = to(format!("https://{}", gateway.admin())).await.exits(3);
    assert!(untrusted.stderr.contains("--gateway-ca"), "{untrusted:?}");
    let plain = to(format!("http://{}", gateway.admin())).await.exits(3);
    assert!(plain.stderr.contains("https://"), "{plain:?}");
}

/// A connection that stood open is closed, or told that the gateway drains.
///
/// Proves: OP-1, TL-1
#[tokio::test]
async fn a_gateway_drains_over_tls_as_it_does_without() {
    let (house, sink) = (House::new(), Sink::start().await);
    sink.always(Response::status(204).after(std::time::Duration::from_secs(2)));
    let mut gateway = house
        .gateway()
        .documents([subscription("slow", "orders", &sink.url(), json!({}))])
        .start()
        .await;
    let open = || Connection::open_tls(gateway.listen(), house.authority.pem());
    let (mut used, mut idle) = (open().await.expect("TLS"), open().await.expect("TLS"));
    let first = used.exchange(&Request::event("orders", "1")).await.expect("an answer");
    assert_eq!(first.status, 202);
    sink.wait_for(1).await;
    gateway.signal(rustix::process::Signal::TERM);
    eventually("/readyz is 503", || async {
        let answer = Request::new("GET", "/readyz").try_send(gateway.admin()).await;
        answer.is_ok_and(|answer| answer.status == 503).then_some(())
    })
    .await;
    for answer in [
        used.exchange(&Request::event("orders", "2")).await,
        idle.exchange(&Request::event("orders", "3")).await,
    ]
    .into_iter()
    .flatten()
    {
        assert_eq!(answer.status, 503, "{answer}");
        assert!(answer.header("retry-after").is_some(), "{answer}");
    }
    assert!(gateway.ended().await.success());
    assert_eq!(sink.ids(), ["1"], "what was in flight was finished");
}
