//! The data folder: one owner, and a disk that may be full.

use std::{fs, path::PathBuf};

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, channel_with, subscription},
    eventually,
    gateway::condition,
};
use parking_lot::Mutex;
use serde_json::json;

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

/// A small file system of the gateway's own, in a mount namespace that ends with it; half of it is filled already.
const SMALL_DISK: &str = r#"set -e
mount -t tmpfs -o size=8m tmpfs "$0"
head -c 4000000 /dev/zero > "$0/ballast"
exec "$@""#;

fn on_a_small_disk(place: &str) -> Vec<String> {
    // Root mounts in a namespace of its own; anybody else needs a user namespace for that.
    let namespace: &[&str] = if rustix::process::geteuid().is_root() {
        &["-m"]
    } else {
        &["-r", "-m"]
    };
    let wrapper = [&["unshare"], namespace, &["sh", "-c", SMALL_DISK, place]].concat();
    wrapper.into_iter().map(str::to_owned).collect()
}

/// Proves: OP-4, IN-3
#[tokio::test]
async fn a_full_disk_is_507_deliveries_go_on_and_it_recovers_by_itself() {
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let mount = tempfile::tempdir().expect("a mount point");
    let place = mount.path().to_string_lossy().into_owned();
    let wrapper = on_a_small_disk(&place);
    let more = json!({ "delivery": { "retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT0.2S" } });
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "embedded"),
            subscription("audit", "orders", &sink.url(), more),
        ])
        .data(&mount.path().join("data"))
        .wrapped_by(&wrapper.iter().map(String::as_str).collect::<Vec<_>>())
        .start()
        .await;
    let mut accepted = Vec::new();
    let mut refused = None;
    for n in 0..200 {
        let answer = gateway
            .send(&Request::event("orders", &n.to_string()).body(vec![b'1'; 100_000]))
            .await;
        match answer.status {
            202 => accepted.push(n.to_string()),
            _ => {
                refused = Some(answer);
                break;
            }
        }
    }
    let refused = refused.expect("20 MB do not fit on 8 MiB").is(507);
    assert!(!refused.body.is_empty(), "{refused}");
    assert!(!accepted.is_empty(), "nothing fits");
    gateway
        .send(&Request::event("orders", "still-full").body(vec![b'1'; 100_000]))
        .await
        .is(507);

    // What is stored is delivered while the disk is full.
    sink.always(Response::status(204));
    eventually("all accepted events arrive", || async {
        let ids = sink.ids();
        accepted.iter().all(|id| ids.contains(id)).then_some(())
    })
    .await;

    let ballast = PathBuf::from(format!("/proc/{}/root{place}/ballast", gateway.pid()));
    fs::remove_file(&ballast).expect("the ballast goes");
    eventually("events are accepted again", || async {
        let answer = gateway
            .send(&Request::event("orders", "after").body(vec![b'1'; 100_000]))
            .await;
        (answer.status == 202).then_some(())
    })
    .await;
    eventually("and delivered", || async {
        sink.ids().contains(&"after".to_owned()).then_some(())
    })
    .await;
}

/// Room is kept for letters and for what is settled; publishers do not get it.
///
/// Proves: OP-4, DL-5, IN-3
#[tokio::test]
async fn on_a_full_disk_what_is_refused_becomes_a_letter_and_the_rest_is_settled() {
    const LETTERS: usize = 20;
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let mount = tempfile::tempdir().expect("a mount point");
    let place = mount.path().to_string_lossy().into_owned();
    let wrapper = on_a_small_disk(&place);
    let more = json!({ "delivery": { "retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT0.2S" } });
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "embedded"),
            subscription("audit", "orders", &sink.url(), more),
        ])
        .data(&mount.path().join("data"))
        .wrapped_by(&wrapper.iter().map(String::as_str).collect::<Vec<_>>())
        .start()
        .await;
    let event = |id: &str| Request::event("orders", id).body(vec![b'1'; 20_000]);
    let mut accepted = 0;
    while gateway.send(&event(&accepted.to_string())).await.status == 202 {
        accepted += 1;
    }
    gateway.send(&event("full")).await.is(507);
    assert!(accepted > 2 * LETTERS, "{accepted}");
    let answers = Mutex::new(0);
    sink.answer_by(move |_| {
        let mut answers = answers.lock();
        *answers += 1;
        Some(Response::status(if *answers <= LETTERS { 400 } else { 204 }))
    });
    let object = gateway
        .wait_object("channel", "orders", |object| {
            object["status"]["deadLetters"] == LETTERS && object["status"]["unsettledEvents"] == 0
        })
        .await;
    assert_eq!(condition(&object, "Complete"), None, "{object}");
    gateway.send(&event("still-full")).await.is(507);
    let said = gateway.log();
    assert!(said.contains("headroom is used"), "{said}");
    assert!(!said.contains("cursors cannot be saved"), "{said}");
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
