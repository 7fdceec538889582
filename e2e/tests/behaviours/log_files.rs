//! The files of embedded channels, looked at from outside and damaged from outside.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use e2e::{
    Gateway, Response, Sink, cli,
    documents::{channel, subscription},
    eventually,
    gateway::condition,
};
use serde_json::{Value, json};

/// A channel with a cursor, settled events, and one letter.
async fn stopped() -> (Gateway, Sink) {
    let sink = Sink::start().await;
    let retried = json!({ "delivery": { "retry": 0 } });
    let mut gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), retried),
    ])
    .await;
    gateway.accept("orders", (0..5).map(|n| n.to_string())).await;
    sink.wait_for(5).await;
    sink.always(Response::status(400));
    gateway.accept("orders", ["bad"]).await;
    eventually("the letter is there", || async {
        let listed = gateway.cli(&["dead", "list"]).await;
        listed.stdout.contains("bad").then_some(())
    })
    .await;
    sink.always(Response::status(204));
    gateway.terminate().await;
    (gateway, sink)
}

fn folder(gateway: &Gateway) -> PathBuf {
    gateway.data().join("channels/default%2forders")
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("a segment");
    bytes[at] ^= 0x10;
    fs::write(file, bytes).expect("a segment");
}

async fn look(what: &str, dir: &Path, more: &[&str]) -> cli::Finished {
    let dir = dir.to_string_lossy();
    cli::run(&[&["log", what, &dir], more].concat()).await
}

/// Proves: OP-5, CH-9
#[tokio::test]
async fn files_are_checked_and_printed_without_a_gateway_and_not_while_one_has_them() {
    let (mut gateway, _sink) = stopped().await;
    let checked = look("check", gateway.data(), &["-o", "json"]).await.exits(0).json();
    assert_eq!((&checked["damaged"], &checked["faults"]), (&json!(0), &json!([])));
    assert_eq!(checked["channels"][0]["name"], "default/orders");
    assert_eq!(checked["channels"][0]["events"]["records"], 6);
    assert_eq!(checked["channels"][0]["deadLetters"]["records"], 1);
    let printed = look("check", &folder(&gateway), &[]).await.exits(0);
    assert!(printed.stdout.contains("1 channels, no damage"), "{printed:?}");

    let dumped = look("dump", gateway.data(), &["-o", "json"]).await.exits(0);
    let lines: Vec<Value> = dumped
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let ids: Vec<&Value> = lines
        .iter()
        .filter(|line| line["kind"] == "event")
        .map(|line| &line["event"]["id"])
        .collect();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "bad"]);
    let cursor = lines.iter().find(|line| line["kind"] == "cursor").expect("a cursor");
    assert_eq!(
        (&cursor["name"], &cursor["settledBelow"]),
        (&json!("default/audit"), &json!(6))
    );
    let dead_letter = lines
        .iter()
        .find(|line| line["kind"] == "deadLetter")
        .expect("a letter");
    assert_eq!(dead_letter["facts"]["reason"], "SinkRejected");
    assert!(
        look("dump", gateway.data(), &[])
            .await
            .exits(0)
            .stdout
            .contains("settled below 6")
    );

    for nothing in [gateway.documents(), Path::new("/no/such/folder")] {
        let refused = look("check", nothing, &[]).await.exits(1);
        assert!(refused.stderr.contains(&*nothing.to_string_lossy()), "{refused:?}");
    }
    gateway.start_again().await;
    for dir in [gateway.data().to_path_buf(), folder(&gateway)] {
        let refused = look("check", &dir, &[]).await.exits(1);
        assert!(
            refused.stderr.contains(&format!("pid {}", gateway.pid())),
            "{refused:?}"
        );
    }
}

/// Proves: CH-9, OP-2, CH-1
#[tokio::test]
async fn a_flipped_bit_is_found_with_file_and_place_costs_one_event_and_shows_in_status() {
    let (mut gateway, sink) = stopped().await;
    let segment = folder(&gateway).join("00000000000000000000.log");
    let dead_letters = folder(&gateway).join("letters/00000000000000000000.log");
    // Behind the segment's header and the first record's: the first event.
    flip(&segment, 64 + 36 + 5);
    flip(&dead_letters, 64 + 36 + 5);
    let checked = look("check", gateway.data(), &["-o", "json"]).await.exits(1).json();
    let faults = checked["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), 2, "{checked:#}");
    for fault in faults {
        assert_eq!(
            (&fault["offset"], &fault["from"], &fault["to"]),
            (&json!(64), &json!(0), &json!(1))
        );
        assert!(
            fault["file"]
                .as_str()
                .is_some_and(|file| file.ends_with("00000000000000000000.log"))
        );
    }
    let said = look("check", gateway.data(), &[]).await.exits(1).stdout;
    assert!(
        said.contains("damage  channels/default%2forders/00000000000000000000.log at 64"),
        "{said}"
    );

    gateway.apply(&subscription(
        "late",
        "orders",
        &sink.url(),
        json!({ "startFrom": "earliest" }),
    ));
    let before = sink.count();
    gateway.start_again().await;
    sink.wait_for(before + 5).await;
    let came: BTreeSet<String> = sink.ids().split_off(before).into_iter().collect();
    assert_eq!(came, ["1", "2", "3", "4", "bad"].map(str::to_owned).into());
    gateway.cli(&["dead", "list"]).await;
    let object = gateway
        .wait_object("channel", "orders", |object| {
            object["status"]["missingEvents"] == 1 && object["status"]["missingDeadLetters"] == 1
        })
        .await;
    let complete = condition(&object, "Complete").expect("a condition");
    assert_eq!(
        (&complete["status"], &complete["reason"]),
        (&json!("False"), &json!("EventsMissing"))
    );
    gateway.accept("orders", ["after"]).await;
}
