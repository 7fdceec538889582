//! The commands as a person types them: output, exit codes, habits.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use e2e::{
    Gateway, Request, Sink, cli,
    documents::{channel, subscription},
    eventually, ports,
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

async fn orders() -> (Gateway, Sink) {
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ];
    (Gateway::with(documents).await, sink)
}

/// Proves: OP-3
#[rstest]
#[case::no_such_command(&["frobnicate"], 2)]
#[case::no_such_flag(&["get", "--frobnicate"], 2)]
#[case::run_without_a_path(&["run"], 2)]
#[case::help(&["--help"], 0)]
#[case::version(&["--version"], 0)]
#[case::help_of_a_command(&["send", "--help"], 0)]
#[tokio::test]
async fn usage_is_told_from_success(#[case] arguments: &[&str], #[case] code: i32) {
    cli::run(arguments).await.exits(code);
}

/// Proves: OP-3
#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_3_and_named() {
    let nobody = format!("http://{}", ports::free());
    for arguments in [
        &["get", "channels"][..],
        &["dead", "list"],
        &["pause", "x"],
        &["send", "orders", "--type", "t", "--source", "/s"],
    ] {
        let all: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(["--gateway", nobody.as_str()])
            .collect();
        let found = cli::run(&all).await.exits(3);
        assert!(found.stderr.contains(&nobody), "{found:?}");
    }
}

/// Proves: OP-3
#[tokio::test]
async fn a_missing_path_or_a_taken_port_ends_run_with_1_and_its_name() {
    let missing = cli::run(&["run", "no-such-folder-anywhere"]).await.exits(1);
    assert!(missing.stderr.contains("no-such-folder-anywhere"), "{missing:?}");

    let (gateway, _sink) = orders().await;
    let taken = gateway.listen().to_string();
    let second = Gateway::set_up().documents([channel("x", "memory")]).prepare();
    let output = second
        .command()
        .args(["--listen", &taken])
        .output()
        .await
        .expect("the binary starts");
    // Named twice is a fault of usage for some parsers: then the environment's twin says the same.
    if output.status.code() == Some(2) {
        let folder = second.documents().to_string_lossy().into_owned();
        let data = second.data().to_string_lossy().into_owned();
        let found = cli::run(&[
            "run",
            &folder,
            "--data",
            &data,
            "--listen",
            &taken,
            "--admin",
            &second.admin().to_string(),
        ])
        .await;
        assert!(found.exits(1).stderr.contains(&taken));
    } else {
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&taken));
    }
}

/// Proves: OP-3
#[tokio::test]
async fn get_shows_tables_and_whole_objects() {
    let (gateway, _sink) = orders().await;
    let table = gateway.cli(&["get", "channels"]).await.exits(0).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].contains("NAME") && lines[0].contains("READY") && lines[0].contains("AGE"),
        "{table}"
    );
    assert!(lines[1].contains("orders") && lines[1].contains("True"), "{table}");
    assert!(!table.contains('\u{1b}'), "colour is for terminals only: {table:?}");
    for kind in ["channel", "chan", "channels", "Channel"] {
        gateway.cli(&["get", kind]).await.exits(0);
    }

    let object = gateway
        .cli(&["get", "channel", "orders", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&object["kind"], &object["metadata"]["name"]),
        (&json!("Channel"), &json!("orders"))
    );
    let url = object["status"]["address"]["url"].as_str().expect("an address");
    assert!(url.ends_with("/default/orders"), "{url}");

    let list = gateway
        .cli(&["get", "subscriptions", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("v1"), &json!("List")));
    let conditions = list["items"][0]["status"]["conditions"]
        .as_array()
        .expect("conditions")
        .clone();
    let kinds: Vec<&str> = conditions
        .iter()
        .filter_map(|condition| condition["type"].as_str())
        .collect();
    let mut sorted = kinds.clone();
    sorted.sort_unstable();
    assert_eq!(kinds, sorted, "conditions are sorted by type");
    for kind in ["Ready", "Resolved", "ChannelReady"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let physical = &list["items"][0]["status"]["physicalSubscription"];
    assert!(
        physical["subscriberURI"]
            .as_str()
            .is_some_and(|uri| uri.starts_with("http://127.0.0.1:")),
        "{physical}"
    );

    let yaml = gateway
        .cli(&["get", "channel", "orders", "-o", "yaml"])
        .await
        .exits(0)
        .stdout;
    assert!(yaml.contains("kind: Channel"), "{yaml}");
    gateway.cli(&["get", "channel", "orders", "-o", "wide"]).await.exits(0);
    gateway.cli(&["get", "channel", "no-such-channel"]).await.exits(1);
}

/// Proves: IN-2, IN-7
#[tokio::test]
async fn send_puts_one_event_in_and_says_what_it_was_promised() {
    let (gateway, sink) = orders().await;
    let arguments = [
        "send",
        "orders",
        "--type",
        "e2e.sent",
        "--source",
        "/cli",
        "--id",
        "by-hand",
        "--data",
        "{\"n\": 1.0}",
        "--ext",
        "team=octo",
    ];
    let sent = gateway.cli(&arguments).await.exits(0);
    assert!(sent.stdout.contains("disk"), "{sent:?}");
    let event = sink.wait_for(1).await.remove(0);
    for (name, value) in [
        ("id", "by-hand"),
        ("type", "e2e.sent"),
        ("source", "/cli"),
        ("team", "octo"),
    ] {
        assert_eq!(event.attribute(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(&event.body[..], b"{\"n\": 1.0}");

    gateway
        .cli_with(
            &[
                "send",
                "default/orders",
                "--type",
                "t",
                "--source",
                "/cli",
                "--data",
                "-",
            ],
            b"from stdin",
        )
        .await
        .exits(0);
    assert_eq!(&sink.wait_for(2).await[1].body[..], b"from stdin");
    gateway
        .cli(&["send", "missing", "--type", "t", "--source", "/cli"])
        .await
        .exits(1);
}

/// Proves: CH-1
#[tokio::test]
async fn tail_shows_live_events_and_disturbs_nobody() {
    let (gateway, sink) = orders().await;
    let url = format!("http://{}", gateway.admin());
    let mut tail = cli::command()
        .args(["tail", "orders", "-o", "json", "--gateway", &url])
        .spawn()
        .expect("tail starts");
    let mut lines = BufReader::new(tail.stdout.take().expect("piped")).lines();
    // It may take a moment until it listens: events are sent until it shows one.
    let shown = tokio::select! {
        line = lines.next_line() => line.expect("its output can be read").expect("a line"),
        () = async {
            for n in 0.. {
                gateway.accept("orders", [n.to_string()]).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        } => unreachable!("sends until tail shows something"),
    };
    let event: Value = serde_json::from_str(&shown).expect("one event a line");
    assert_eq!(
        (&event["type"], &event["data"]),
        (&json!("e2e.test"), &json!({ "n": 1 }))
    );
    tail.kill().await.expect("tail ends");
    let ids: BTreeSet<String> = sink.ids().into_iter().collect();
    assert!(!ids.is_empty());
    assert_eq!(gateway.list("subscription").await.len(), 1);
}

/// Proves: DL-2
#[tokio::test]
async fn the_sink_command_is_a_scriptable_subscriber() {
    let address = ports::free();
    let mut sink = cli::command();
    sink.args([
        "sink",
        "--listen",
        &address.to_string(),
        "--status",
        "201",
        "--fail-first",
        "2",
    ])
    .stdout(Stdio::piped());
    let mut child = sink.spawn().expect("sink starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
    eventually("the sink listens", || async {
        tokio::net::TcpStream::connect(address).await.ok()
    })
    .await;
    let post = Request::event("orders", "shown-by-sink").to("/");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(post.send(address).await.status);
    }
    assert!(
        statuses[0] >= 500 && statuses[1] >= 500 && statuses[2] == 201,
        "{statuses:?}"
    );
    let shown = async {
        while let Some(line) = output.next_line().await.expect("its output can be read") {
            if line.contains("shown-by-sink") {
                return true;
            }
        }
        false
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(10), shown)
            .await
            .unwrap_or(false),
        "the event is displayed"
    );
    child.kill().await.expect("it ends");
}

/// Proves: OP-3
#[tokio::test]
async fn crds_and_completions_are_printed() {
    let crds = cli::run(&["crds"]).await.exits(0).stdout;
    for name in [
        "channels",
        "subscriptions",
        "clusterchannelprovisioners",
        "kuberneteseventsources",
        "githubsources",
        "gcppubsubsources",
        "containersources",
    ] {
        assert!(crds.contains(&format!("plural: {name}")), "{name} is missing");
    }
    assert!(crds.contains("apiextensions.k8s.io/v1"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            cli::run(&["completions", shell])
                .await
                .exits(0)
                .stdout
                .contains("headgate"),
            "{shell}"
        );
    }
    cli::run(&["completions", "no-shell"]).await.exits(2);
}

/// Proves: OP-3
#[tokio::test]
async fn every_flag_has_an_environment_twin() {
    let (gateway, _sink) = orders().await;
    let output = cli::command()
        .args(["get", "channels"])
        .env("HEADGATE_GATEWAY", format!("http://{}", gateway.admin()))
        .output()
        .await
        .expect("it runs");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Proves: OP-2, CH-1
#[tokio::test]
async fn the_demo_runs_to_its_end_by_itself() {
    let found = cli::run(&["demo"]).await.exits(0);
    assert!(found.stdout.lines().count() > 5, "{found:?}");
}

/// Proves: OP-3
#[rstest]
#[case::it_passes(
    "subject LIKE '%/eu' AND tier = 'gold'",
    0,
    "TRUE\ndecided by  subject LIKE '%/eu' AND tier = 'gold'\n"
)]
#[case::it_does_not("subject LIKE '%/eu' AND tier = 'silver'", 0, "FALSE\ndecided by  tier = 'silver'\n")]
#[case::it_has_another_type("LENGTH(tier)", 0, "4\ndecided by  LENGTH(tier)\n")]
#[case::an_attribute_is_missing(
    "absent = 'x'",
    1,
    "FALSE\nerror       missingAttribute: the event has no attribute `absent`, at absent\n"
)]
#[tokio::test]
async fn filter_tries_an_expression_on_an_event(#[case] expression: &str, #[case] code: i32, #[case] said: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("event.json");
    let event =
        json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "a/eu", "tier": "gold" });
    std::fs::write(&file, event.to_string()).expect("a file");
    let file = file.to_string_lossy();
    let found = cli::run(&["filter", expression, "--event", &*file]).await.exits(code);
    assert_eq!(found.stdout, said);
}

/// Proves: OP-3
#[tokio::test]
async fn filter_points_at_what_is_no_expression() {
    let found = cli::run(&["filter", "type = = 'a'"]).await.exits(1);
    assert!(found.stderr.contains("type = = 'a'\n       ^"), "{found:?}");
    assert!(found.stderr.contains("found `=`"), "{found:?}");
}

/// Proves: OP-3
#[tokio::test]
async fn filter_counts_what_it_would_have_done_with_a_channels_last_events() {
    let (gateway, sink) = orders().await;
    for (id, tier) in [
        ("1", Some("gold")),
        ("2", Some("silver")),
        ("3", None),
        ("4", Some("gold")),
    ] {
        let mut request = Request::event("orders", id);
        if let Some(tier) = tier {
            request = request.header("ce-tier", tier);
        }
        gateway.send(&request).await.is(202);
    }
    sink.wait_for(4).await;
    let admin = format!("http://{}", gateway.admin());
    let run = |expression: &'static str, last: &'static str| {
        let admin = admin.clone();
        async move {
            let arguments = [
                "filter",
                expression,
                "--against",
                "orders",
                "--last",
                last,
                "-o",
                "json",
                "--gateway",
                &admin,
            ];
            let found = cli::run(&arguments).await.exits(0);
            serde_json::from_str::<Value>(&found.stdout).expect("JSON")
        }
    };
    let said = run("EXISTS tier AND tier = 'gold'", "100").await;
    assert_eq!(
        (&said["events"], &said["matched"], &said["failed"]),
        (&json!(4), &json!(2), &json!(0))
    );
    let clauses: BTreeSet<&str> = said["leftOut"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["clause"].as_str())
        .collect();
    assert_eq!(clauses, BTreeSet::from(["EXISTS tier", "tier = 'gold'"]));
    let said = run("tier = 'gold'", "2").await;
    assert_eq!(
        (&said["events"], &said["matched"], &said["failed"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(said["failures"][0]["event"], "3");
}
