//! The data folder: one owner, and a disk that may be full.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

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

/// Modes of everything in a folder, itself included.
fn modes(dir: &Path) -> BTreeMap<PathBuf, u32> {
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let mut modes = BTreeMap::from([(dir.to_owned(), mode(dir))]);
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            modes.extend(self::modes(&path));
        } else {
            modes.insert(path.clone(), mode(&path));
        }
    }
    modes
}

fn open_to_all(modes: &BTreeMap<PathBuf, u32>) -> Vec<(&PathBuf, String)> {
    let open = modes.iter().filter(|(_, mode)| *mode & 0o077 != 0);
    open.map(|(path, mode)| (path, format!("{mode:o}"))).collect()
}

#[tokio::test]
async fn the_data_folder_is_the_gateways_alone_whatever_the_umask_and_what_was_there() {
    let sink = Sink::start().await;
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "embedded"),
            subscription("audit", "orders", &sink.url(), json!({})),
        ])
        .wrapped_by(&["sh", "-c", "umask 0; exec \"$0\" \"$@\""])
        .start()
        .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    gateway.cli(&["pause", "audit"]).await.exits(0);
    let made = modes(gateway.data());
    assert!(made.keys().any(|path| path.ends_with("paused.json")), "{made:?}");
    assert!(made.len() > 6, "{made:?}");
    assert_eq!(open_to_all(&made), [], "made with umask 0");

    gateway.terminate().await;
    for (path, mode) in &made {
        let generous = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode | generous)).expect("our own");
    }
    gateway.start_again().await;
    assert_eq!(open_to_all(&modes(gateway.data())), [], "made by an earlier version");
    gateway.terminate().await;

    // Somebody else's file lies beside it: the folder is not ours to close.
    let beside = gateway.data().join("notes.txt");
    fs::write(&beside, "mine").expect("a file");
    for path in [&beside, &gateway.data().to_owned()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own");
    }
    gateway.start_again().await;
    let open = modes(gateway.data());
    let open: Vec<_> = open_to_all(&open).into_iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(open, [gateway.data().to_owned(), beside]);
}

#[tokio::test]
async fn a_taken_port_leaves_no_new_data_folder_behind() {
    let gateway = Gateway::set_up().documents([channel("orders", "embedded")]).prepare();
    let _taken = std::net::TcpListener::bind(gateway.admin()).expect("a free port");
    let output = gateway.command().output().await.expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!gateway.data().exists(), "{:?}", fs::read_dir(gateway.data()));
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

    /// Runs a command where the disk is.
    async fn run(&self, command: &[&str]) {
        let holder = self.holder();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-m", "-t", &holder]);
        if !is_root() {
            nsenter.args(["-U", "--preserve-credentials"]);
        }
        let status = nsenter.args(command).arg(self.place.path()).status().await;
        assert!(status.expect("nsenter (util-linux)").success(), "{command:?}");
    }

    async fn remount(&self, options: &str) {
        self.run(&["mount", "-o", &format!("remount,{options}")]).await;
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
    assert_eq!(reserved_used(&gateway).await, 0);
}

/// Proves: OP-3, OP-4, IN-3
#[tokio::test]
async fn on_a_read_only_disk_it_is_not_ready_says_so_delivers_and_recovers() {
    let (sink, disk) = (Sink::start().await, SmallDisk::mount().await);
    let mut gateway = disk.gateway(&sink).await;
    gateway.accept("orders", ["1", "2"]).await;
    gateway.kill().await;
    disk.remount("ro").await;
    sink.always(Response::status(204));
    gateway.start_unready("ReadOnly").await;
    let object = gateway
        .wait_object("channel", "orders", |object| {
            condition(object, "Accepting").is_some_and(|accepting| accepting["reason"] == "ReadOnly")
        })
        .await;
    assert_eq!(
        condition(&object, "Accepting").expect("just seen")["status"],
        "False",
        "{object}"
    );
    let refused = gateway.send(&large("3", 100)).await.is(503);
    assert!(refused.text().contains("read-only"), "{refused}");
    assert!(refused.header("retry-after").is_some(), "{refused}");
    all_arrive(&sink, &["1".to_owned(), "2".to_owned()]).await;
    // Not only until the documents were loaded.
    let readyz = gateway.admin_get("/readyz").await.is(503);
    assert!(readyz.text().contains("ReadOnly"), "{readyz}");

    disk.remount("rw").await;
    eventually("it is ready again", || async {
        (gateway.admin_get("/readyz").await.status == 200).then_some(())
    })
    .await;
    gateway
        .wait_object("channel", "orders", |object| {
            condition(object, "Accepting").is_some_and(|accepting| accepting["status"] == "True")
        })
        .await;
    recovers(&gateway, &sink).await;
}

/// Proves: OP-4
#[tokio::test]
async fn a_disk_that_fills_is_said_before_the_first_refusal_and_after_a_restart() {
    let (sink, disk) = (Sink::start().await, SmallDisk::mount().await);
    let mut gateway = disk.gateway(&sink).await;
    // 8 MB, of which 4 are ballast and 2 the reserved space: a tenth is 800 kB.
    let free = || async { metric(&gateway, "headgate_data_free_bytes").await };
    let mut sent = 0;
    while free().await > 800_000 {
        gateway.send(&large(&sent.to_string(), 100_000)).await.is(202);
        sent += 1;
        assert!(sent < 40, "that does not fit");
        tokio::task::yield_now().await;
    }
    let object = gateway
        .wait_object("channel", "orders", |object| condition(object, "HasRoom").is_some())
        .await;
    let (room, accepting) = (condition(&object, "HasRoom"), condition(&object, "Accepting"));
    assert_eq!(room.expect("just seen")["reason"], "DiskNearlyFull", "{object}");
    assert_eq!(accepting.expect("always there")["status"], "True", "{object}");
    assert_eq!(gateway.log().matches("nearly full").count(), 1, "{}", gateway.log());

    fill(&gateway, 100_000).await;
    gateway.kill().await;
    gateway.start_again().await;
    let is_full = |object: &Value| condition(object, "Accepting").is_some_and(|now| now["reason"] == "DiskFull");
    gateway.wait_object("channel", "orders", is_full).await;
    sink.always(Response::status(204));
    disk.make_room();
    let is_well = |object: &Value| {
        condition(object, "HasRoom").is_none()
            && condition(object, "Accepting").is_some_and(|now| now["status"] == "True")
    };
    gateway.wait_object("channel", "orders", is_well).await;
    recovers(&gateway, &sink).await;
}

async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let metrics = gateway.admin_get("/metrics").await.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no metric {name}"))
        .parse()
        .expect("a number")
}

async fn reserved_used(gateway: &Gateway) -> u64 {
    metric(gateway, "headgate_data_reserved_used_bytes").await
}

/// Refuses so many, and takes the rest.
fn refuse_first(sink: &Sink, dead_letters: usize) {
    let answers = Mutex::new(0);
    sink.answer_by(move |_| {
        let mut answers = answers.lock();
        *answers += 1;
        Some(Response::status(if *answers <= dead_letters { 400 } else { 204 }))
    });
}

/// Room is kept for letters and for what is settled; publishers do not get it.
///
/// Proves: OP-4, DL-5, IN-3
#[tokio::test]
async fn on_a_full_disk_what_is_refused_becomes_a_letter_and_the_rest_is_settled() {
    const DEAD_LETTERS: usize = 20;
    let (sink, disk) = (Sink::start().await, SmallDisk::mount().await);
    let gateway = disk.gateway(&sink).await;
    let accepted = fill(&gateway, 20_000).await;
    assert!(accepted.len() > 2 * DEAD_LETTERS, "{accepted:?}");
    refuse_first(&sink, DEAD_LETTERS);
    let object = gateway
        .wait_object("channel", "orders", |object| {
            object["status"]["deadLetters"] == DEAD_LETTERS && object["status"]["unsettledEvents"] == 0
        })
        .await;
    assert_eq!(condition(&object, "Complete"), None, "{object}");
    gateway.send(&large("still-full", 20_000)).await.is(507);
    assert!(reserved_used(&gateway).await > 0);
    let said = gateway.log();
    assert!(said.contains("reserved space is used"), "{said}");
    assert!(!said.contains("cursors cannot be saved"), "{said}");
}

/// Proves: OP-4, CH-1, CH-3, DL-5
#[tokio::test]
async fn a_gateway_killed_on_a_full_disk_starts_there_and_goes_on() {
    const DEAD_LETTERS: usize = 10;
    let (sink, disk) = (Sink::start().await, SmallDisk::mount().await);
    let mut gateway = disk.gateway(&sink).await;
    let accepted = fill(&gateway, 20_000).await;
    gateway.kill().await;
    gateway.start_again().await;
    gateway.send(&large("still-full", 20_000)).await.is(507);

    // Letters and what is settled go into the reserved space, and a second kill does not take them back.
    refuse_first(&sink, DEAD_LETTERS);
    let is_dealt_with =
        |object: &Value| object["status"]["deadLetters"] == DEAD_LETTERS && object["status"]["unsettledEvents"] == 0;
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

/// Proves: DL-5, CH-2, CH-9
#[tokio::test]
async fn a_full_dead_letter_log_keeps_events_in_the_channel_says_so_and_goes_on_when_there_is_room() {
    const EVENTS: u64 = 60;
    let (poisoned, healthy) = (Sink::start().await, Sink::start().await);
    poisoned.always(Response::status(400));
    let bounded = |bytes: u64| {
        channel_with(
            "orders",
            "embedded",
            json!({ "arguments": { "deadLetters": { "bytes": bytes } } }),
        )
    };
    let gateway = Gateway::with([
        bounded(65_536),
        channel("other", "embedded"),
        subscription("audit", "orders", &poisoned.url(), json!({})),
        subscription("fine", "orders", &healthy.url(), json!({})),
        subscription("beside", "other", &healthy.url(), json!({})),
    ])
    .await;
    for n in 0..EVENTS {
        gateway.send(&large(&n.to_string(), 3000)).await.is(202);
    }
    let is_full = |object: &Value| {
        condition(object, "KeepsDeadLetters").is_some_and(|keeps| keeps["reason"] == "DeadLettersFull")
    };
    let object = gateway.wait_object("channel", "orders", is_full).await;
    let keeps = condition(&object, "KeepsDeadLetters").expect("just seen");
    assert!(keeps["message"].to_string().contains("headgate dead drop"), "{keeps}");
    let dead_letters = |object: &Value| object["status"]["deadLetters"].as_u64().expect("a number");
    assert!((5..22).contains(&dead_letters(&object)), "{object}");
    // Whoever takes events gets them, on this channel and on others.
    healthy.wait_for(usize::try_from(EVENTS).expect("small")).await;
    gateway.accept("other", ["x"]).await;
    all_arrive(&healthy, &["x".to_owned()]).await;

    // Removed letters make room for others, and nothing is lost.
    let dropped = gateway.cli(&["dead", "drop", "audit", "--all", "--yes"]).await.exits(0);
    let dropped: u64 = dropped
        .stdout
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("a count");
    gateway
        .wait_object("channel", "orders", |object| {
            is_full(object) && dead_letters(object) >= 5
        })
        .await;
    gateway.apply(&bounded(10_000_000));
    let all_kept = |object: &Value| {
        dead_letters(object) + dropped == EVENTS
            && object["status"]["unsettledEvents"] == 0
            && condition(object, "KeepsDeadLetters").is_none()
    };
    gateway.wait_object("channel", "orders", all_kept).await;
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
