//! The data folder: one owner, and a disk that may be full.

use std::{fs, process::Stdio};

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, channel_with, subscription},
    eventually,
    gateway::condition,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Proves: OP-5
#[tokio::test]
async fn a_second_process_on_the_data_folder_says_so_and_ends() {
    let first = Gateway::with([channel("orders", "embedded")]).await;
    let second = Gateway::set_up()
        .documents([channel("orders", "embedded")])
        .data(first.data())
        .prepare();
    let output = second.command().output().await.expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&first.data().to_string_lossy().to_lowercase()),
        "the folder is not named: {said}"
    );
    first.accept("orders", ["1"]).await;
}

/// Half of it is filled already. It says so, and stays until its input ends.
const SMALL_DISK: &str = r#"set -e
mount -t tmpfs -o size=8m tmpfs "$0"
head -c 4000000 /dev/zero > "$0/ballast"
echo mounted
exec cat"#;

/// A small file system in a mount namespace of its own, which is there as long as this.
struct SmallDisk {
    place: TempDir,
    holder: Child,
}

impl SmallDisk {
    async fn mount() -> Self {
        let place = tempfile::tempdir().expect("a mount point");
        let mut holder = Command::new("unshare")
            .args(if is_root() { &["-m"][..] } else { &["-r", "-m"] })
            .args(["sh", "-c", SMALL_DISK])
            .arg(place.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("unshare (util-linux)");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut said).await.expect("a line");
        assert_eq!(
            said, "mounted\n",
            "no tmpfs in a mount namespace: it needs root or user namespaces"
        );
        Self { place, holder }
    }

    fn holder(&self) -> String {
        self.holder.id().expect("it runs").to_string()
    }

    /// A gateway that sees the disk, with a subscription that is refused and tries again for long.
    async fn gateway(&self, sink: &Sink) -> Gateway {
        sink.always(Response::status(503));
        let more = json!({ "delivery": { "retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT0.2S" } });
        let holder = self.holder();
        let mut enter = vec!["nsenter", "-m", "-t", &holder];
        if !is_root() {
            enter.extend(["-U", "--preserve-credentials"]);
        }
        Gateway::set_up()
            .documents([
                channel("orders", "embedded"),
                subscription("audit", "orders", &sink.url(), more),
            ])
            .data(&self.place.path().join("data"))
            .wrapped_by(&enter)
            .start()
            .await
    }

    fn make_room(&self) {
        let place = self.place.path().display();
        let ballast = format!("/proc/{}/root{place}/ballast", self.holder());
        fs::remove_file(ballast).expect("the ballast goes");
    }
}

/// Root mounts in a namespace of its own; anybody else needs a user namespace for that.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn large(id: &str, bytes: usize) -> Request {
    Request::event("orders", id).body(vec![b'1'; bytes])
}

/// Sends events until one is refused; returns the ids of the others.
async fn fill(gateway: &Gateway, bytes: usize) -> Vec<String> {
    let mut accepted = Vec::new();
    loop {
        let id = accepted.len().to_string();
        let answer = gateway.send(&large(&id, bytes)).await;
        if answer.status != 202 {
            let refused = answer.is(507);
            assert!(!refused.body.is_empty(), "{refused}");
            return accepted;
        }
        accepted.push(id);
        assert!(accepted.len() * bytes < 20_000_000, "that does not fit on 8 MiB");
    }
}

async fn all_arrive(sink: &Sink, accepted: &[String]) {
    eventually("all accepted events arrive", || async {
        let ids = sink.ids();
        accepted.iter().all(|id| ids.contains(id)).then_some(())
    })
    .await;
}

async fn recovers(gateway: &Gateway, sink: &Sink) {
    eventually("events are accepted again", || async {
        let answer = gateway.send(&large("after", 100_000)).await;
        (answer.status == 202).then_some(())
    })
    .await;
    all_arrive(sink, &["after".to_owned()]).await;
}

/// Proves: OP-4, IN-3
#[tokio::test]
async fn a_full_disk_is_507_deliveries_go_on_and_it_recovers_by_itself() {
    let (sink, disk) = (Sink::start().await, SmallDisk::mount().await);
    let gateway = disk.gateway(&sink).await;
    let accepted = fill(&gateway, 100_000).await;
    assert!(!accepted.is_empty(), "nothing fits");
    gateway.send(&large("still-full", 100_000)).await.is(507);

    // What is stored is delivered while the disk is full.
    sink.always(Response::status(204));
    all_arrive(&sink, &accepted).await;
    disk.make_room();
    recovers(&gateway, &sink).await;
    assert_eq!(headroom_used(&gateway).await, 0);
}

async fn headroom_used(gateway: &Gateway) -> u64 {
    let metrics = gateway.admin_get("/metrics").await.text();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("headgate_data_headroom_used_bytes "));
    line.expect("a metric").parse().expect("a number")
}

/// Refuses so many, and takes the rest.
fn refuse_first(sink: &Sink, letters: usize) {
    let answers = Mutex::new(0);
    sink.answer_by(move |_| {
        let mut answers = answers.lock();
        *answers += 1;
        Some(Response::status(if *answers <= letters { 400 } else { 204 }))
    });
}

/// Room is kept for letters and for what is settled; publishers do not get it.
///
/// Proves: OP-4, DL-5, IN-3
#[tokio::test]
async fn on_a_full_disk_what_is_refused_becomes_a_letter_and_the_rest_is_settled() {
    const LETTERS: usize = 20;
    let (sink, disk) = (Sink::start().await, SmallDisk::mount().await);
    let gateway = disk.gateway(&sink).await;
    let accepted = fill(&gateway, 20_000).await;
    assert!(accepted.len() > 2 * LETTERS, "{accepted:?}");
    refuse_first(&sink, LETTERS);
    let object = gateway
        .wait_object("channel", "orders", |object| {
            object["status"]["deadLetters"] == LETTERS && object["status"]["unsettledEvents"] == 0
        })
        .await;
    assert_eq!(condition(&object, "Complete"), None, "{object}");
    gateway.send(&large("still-full", 20_000)).await.is(507);
    assert!(headroom_used(&gateway).await > 0);
    let said = gateway.log();
    assert!(said.contains("headroom is used"), "{said}");
    assert!(!said.contains("cursors cannot be saved"), "{said}");
}

/// Proves: OP-4, CH-1, CH-3, DL-5
#[tokio::test]
async fn a_gateway_killed_on_a_full_disk_starts_there_and_goes_on() {
    const LETTERS: usize = 10;
    let (sink, disk) = (Sink::start().await, SmallDisk::mount().await);
    let mut gateway = disk.gateway(&sink).await;
    let accepted = fill(&gateway, 20_000).await;
    gateway.kill().await;
    gateway.start_again().await;
    gateway.send(&large("still-full", 20_000)).await.is(507);

    // Letters and what is settled go into the headroom, and a second kill does not take them back.
    refuse_first(&sink, LETTERS);
    let is_dealt_with =
        |object: &Value| object["status"]["deadLetters"] == LETTERS && object["status"]["unsettledEvents"] == 0;
    gateway.wait_object("channel", "orders", is_dealt_with).await;
    gateway.kill().await;
    gateway.start_again().await;
    let object = gateway.wait_object("channel", "orders", is_dealt_with).await;
    assert_eq!(condition(&object, "Complete"), None, "{object}");
    all_arrive(&sink, &accepted).await;
    gateway.send(&large("full-again", 20_000)).await.is(507);
    disk.make_room();
    recovers(&gateway, &sink).await;
}

/// Proves: CH-9
#[tokio::test]
async fn a_hard_limit_leaves_a_gap_that_is_shown() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel_with(
            "orders",
            "embedded",
            json!({ "arguments": { "limit": { "bytes": 524_288 } } }),
        ),
        subscription("audit", "orders", &sink.url(), json!({ "paused": true })),
    ])
    .await;
    for n in 0..30 {
        let body = vec![b'x'; 100_000];
        gateway
            .send(&Request::event("orders", &n.to_string()).body(body))
            .await
            .is(202);
    }
    let object = gateway
        .wait_object("channel", "orders", |object| {
            object["status"]["missingEvents"]
                .as_u64()
                .is_some_and(|missing| missing > 0)
        })
        .await;
    assert!(
        object["status"]["conditions"].to_string().contains("EventsMissing"),
        "{object}"
    );
    let missing = object["status"]["missingEvents"].as_u64().expect("a number");
    let resumed = json!({ "paused": false });
    gateway.apply(&subscription("audit", "orders", &sink.url(), resumed));
    let kept = usize::try_from(30 - missing).expect("small");
    sink.wait_for(kept).await;
    assert!(
        gateway
            .admin_get("/metrics")
            .await
            .text()
            .contains("headgate_channel_missing_events")
    );
}
