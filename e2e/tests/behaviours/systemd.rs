//! deploy/systemd: what the gateway reports to systemd, and that its unit gives it little else.

use std::{
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr},
    time::Duration,
};

use e2e::{
    Gateway, Response, Sink,
    binary::workspace,
    documents::{channel, subscription},
};
use rstest::rstest;
use rustix::process::Signal;
use serde_json::json;
use tokio::{net::UnixDatagram, process::Command, time::timeout};

/// As `WatchdogSec=`, much shorter: the test waits for several reports.
const WATCHDOG: Duration = Duration::from_millis(600);

/// More than the gateway needs for any report, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The socket on which systemd waits for reports.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn listening(is_abstract: bool) -> (Self, Option<tempfile::TempDir>) {
        let folder = tempfile::TempDir::with_prefix("headgate-systemd-").expect("a temporary folder");
        let path = folder.path().join("notify");
        let path = path.to_str().expect("a temporary folder's name is text");
        let (address, name, kept) = match is_abstract {
            true => (SocketAddr::from_abstract_name(path), format!("@{path}"), None),
            false => (SocketAddr::from_pathname(path), path.to_owned(), Some(folder)),
        };
        let socket = std::os::unix::net::UnixDatagram::bind_addr(&address.expect("an address")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket can be polled");
        let socket = UnixDatagram::from_std(socket).expect("a socket for tokio");
        (Self { socket, name }, kept)
    }

    async fn message(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.socket.recv(&mut buffer).await.expect("a report");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Waits for a report; those that say that the gateway is alive may come before it.
    async fn reports(&self, expected: &str) {
        let reported = timeout(PATIENCE, async {
            loop {
                let message = self.message().await;
                if message == expected {
                    return;
                }
                assert_eq!(message, "WATCHDOG=1", "while waiting for {expected}");
            }
        });
        reported.await.unwrap_or_else(|_| panic!("{expected} is not reported"));
    }

    /// Reads what was reported and not read.
    fn forget(&self) {
        while self.socket.try_recv(&mut [0; 256]).is_ok() {}
    }
}

/// Proves: OP-1, OP-2
#[rstest]
#[case::path(false)]
#[case::abstract_name(true)]
#[tokio::test]
async fn systemd_hears_of_start_reload_life_and_end(#[case] is_abstract: bool) {
    let (manager, _folder) = Manager::listening(is_abstract);
    let sink = Sink::start().await;
    sink.always(Response::status(204).after(WATCHDOG * 2));
    let documents = [
        channel("orders", "embedded"),
        subscription("slow", "orders", &sink.url(), json!({})),
    ];
    let mut gateway = Gateway::set_up()
        .documents(documents)
        .environment("NOTIFY_SOCKET", &manager.name)
        .environment("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
        .prepare();
    gateway.start_again().await;
    manager.reports("READY=1").await;
    gateway.settled().await;

    // A process that does not run is not alive, and is again when it runs.
    gateway.signal(Signal::STOP);
    tokio::time::sleep(WATCHDOG / 4).await;
    manager.forget();
    let silent = timeout(WATCHDOG, manager.message()).await;
    assert!(silent.is_err(), "a stopped process reports {silent:?}");
    gateway.signal(Signal::CONT);
    for _ in 0..3 {
        let message = timeout(PATIENCE, manager.message()).await;
        assert_eq!(message.as_deref(), Ok("WATCHDOG=1"));
    }

    gateway.signal(Signal::HUP);
    manager.reports("RELOADING=1").await;
    manager.reports("READY=1").await;

    // The drain waits for the sink; the watchdog is fed meanwhile.
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    gateway.signal(Signal::TERM);
    manager.reports("STOPPING=1").await;
    manager.reports("WATCHDOG=1").await;
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn the_unit_is_exposed_by_2_0_of_10_at_most() {
    let unit = workspace().join("deploy/systemd/headgate.service");
    let analyzed = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
        .arg(&unit)
        .output()
        .await
        .expect("systemd-analyze is there: apt-get install systemd");
    let report = String::from_utf8_lossy(&analyzed.stdout);
    assert!(analyzed.status.success(), "{report}");
    assert!(
        report.contains("Overall exposure level for headgate.service"),
        "{report}"
    );
    // Without one of its settings it is more.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = folder.path().join("headgate.service");
    let text = e2e::tree::read(&unit).replace("CapabilityBoundingSet=\n", "");
    std::fs::write(&open, text).expect("a unit");
    let analyzed = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
        .arg(&open)
        .status();
    assert!(!analyzed.await.expect("systemd-analyze runs").success());
}
