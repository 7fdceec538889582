//! The commands as a person types them: output, exit codes, habits.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use e2e::{
    Gateway, Request, Sink, cli,
    documents::{channel, subscription},
    eventually, ports,
};
use rstest::rstest;
use rustix::process::Signal;
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

#[tokio::test]
async fn the_demo_without_a_temporary_folder_says_how_to_name_one() {
    let mut demo = cli::command();
    let output = demo
        .arg("demo")
        .env("TMPDIR", "/not/there")
        .output()
        .await
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/not/there") && said.contains("TMPDIR="), "{said}");
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
async fn only_global_flags_and_those_of_run_have_environment_twins() {
    let (gateway, _sink) = orders().await;
    gateway.accept("orders", ["1"]).await;
    let output = cli::command()
        .args(["get", "channels", "-o", "json"])
        .env("HEADGATE_GATEWAY", format!("http://{}", gateway.admin()))
        .env("HEADGATE_OUTPUT", "nonsense")
        .env("HEADGATE_NAMESPACE", "elsewhere")
        .output()
        .await
        .expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        list["items"].as_array().map(Vec::len),
        Some(1),
        "the environment narrowed it: {list}"
    );
    let mut drop = cli::command();
    let drop = drop
        .args(["dead", "drop", "audit", "--all"])
        .env("HEADGATE_GATEWAY", format!("http://{}", gateway.admin()))
        .env("HEADGATE_YES", "true");
    let output = drop.output().await.expect("it runs");
    assert_ne!(output.status.code(), Some(0), "the environment confirmed it");
}

/// Proves: OP-3
#[tokio::test]
async fn addresses_may_be_ports_and_names() {
    for address in ["%", ":%", "localhost:%"] {
        let port = ports::free().port().to_string();
        let address = address.replace('%', &port);
        let mut sink = cli::command();
        let mut sink = sink.args(["sink", "--listen", &address]).spawn().expect("it starts");
        let request = Request::event("any", "1");
        let to = ([127, 0, 0, 1], port.parse().expect("a port")).into();
        eventually("it listens", || async {
            request.try_send(to).await.ok().map(|answer| answer.is(202))
        })
        .await;
        sink.kill().await.expect("it is ours");
    }
    for bad in ["http://localhost:9000", "no-such-name.invalid:9000", "127.0.0.1"] {
        for arguments in [&["sink", "--listen", bad][..], &["run", ".", "--admin", bad]] {
            let error = cli::run(arguments).await.exits(2).stderr;
            assert!(error.contains("127.0.0.1:9000"), "{error}");
        }
    }
}

/// Proves: OP-3
#[tokio::test]
async fn the_ingress_in_place_of_the_admin_address_is_named() {
    let (gateway, _sink) = orders().await;
    let ingress = format!("http://{}", gateway.listen());
    for arguments in [
        &["get", "channels"][..],
        &["pause", "audit"],
        &["tail", "orders"],
        &["dead", "list"],
    ] {
        let all = [arguments, &["--gateway", &ingress]].concat();
        let found = cli::run(&all).await;
        assert_ne!(found.code, 0, "{found:?}");
        assert!(
            found.stderr.contains("ingress") && found.stderr.contains(&gateway.admin().to_string()),
            "{found:?}"
        );
    }
}

/// A closed terminal, a log rotation and `systemctl reload` send them.
///
/// Proves: OP-1
#[tokio::test]
async fn signals_that_mean_no_end_are_survived_and_hangup_reads_the_documents() {
    let (mut gateway, sink) = orders().await;
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::HUP] {
        gateway.signal(signal);
    }
    eventually("the signals are logged", || async {
        let log = gateway.log();
        ["SIGHUP", "SIGUSR1", "SIGUSR2"]
            .iter()
            .all(|name| log.contains(name))
            .then_some(())
    })
    .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for_one().await;
    assert_eq!(gateway.terminate().await.code(), Some(0));

    let mut adapter = Gateway::set_up().adapter("githubsource", &sink.url()).prepare();
    adapter.start_again().await;
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        adapter.signal(signal);
    }
    eventually("the signals are logged", || async {
        adapter.log().contains("SIGUSR2").then_some(())
    })
    .await;
    assert_eq!(adapter.terminate().await.code(), Some(0));
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
#[case::it_is_a_text_that_is_no_truth_value(
    "UPPER(tier)",
    1,
    "FALSE\nerror       generic: it yields 'GOLD', and a filter is true or false, at UPPER(tier)\n"
)]
#[case::it_is_a_text_that_is_one("CONCAT('tr', 'ue')", 0, "TRUE\ndecided by  CONCAT('tr', 'ue')\n")]
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
#[rstest]
#[case::a_number("1 + 1", "no filter: the expression yields a number")]
#[case::a_length("LENGTH(type)", "no filter: the expression yields a number")]
#[case::an_unknown_function("LENGHT(type) > 1", "there is no function LENGHT, did you mean `LENGTH`?")]
#[case::a_function_of_others(
    "STARTS_WITH(type, 'a')",
    "there is no function STARTS_WITH: write attribute LIKE 'text%'"
)]
#[case::too_many_arguments("ABS(1, 2) = 1", "ABS takes 1 argument, found 2")]
#[tokio::test]
async fn filter_refuses_what_can_never_be_a_filter(#[case] expression: &str, #[case] said: &str) {
    let found = cli::run(&["filter", expression]).await.exits(1);
    assert!(found.stderr.contains(said) && found.stderr.contains('^'), "{found:?}");
    assert!(!found.stderr.contains("(kind:") && found.stdout.is_empty(), "{found:?}");
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
