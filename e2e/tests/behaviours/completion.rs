//! What a shell offers at TAB, and the manual pages.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use e2e::{
    Gateway, Request,
    binary::headgate,
    cli,
    documents::{channel, subscription},
    eventually, ports,
};
use serde_json::json;
use tokio::{net::TcpListener, time::Instant};

/// A gateway with a dead letter `lost-1` of `shipping`, and one whose id a shell would act on.
async fn gateway() -> Gateway {
    let refusing = format!("http://{}/", ports::free());
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("shipping", "orders", &refusing, json!({ "delivery": { "retry": 0 } })),
        subscription(
            "stock",
            "orders",
            &refusing,
            json!({ "filters": [{ "exact": { "type": "none" } }] }),
        ),
    ])
    .await;
    gateway.accept("orders", ["lost-1"]).await;
    let hostile = Request::event("orders", "1").header("ce-id", "lost-$(reboot)");
    gateway.send(&hostile).await.is(202);
    eventually("both events are dead letters", || async {
        let letters = gateway.cli(&["dead", "list", "-o", "json"]).await.json();
        (letters.as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;
    gateway
}

/// Waits until the completion engine offers these words for the last one of a line. It gives a gateway 300 ms, which may be too few
/// for a debug build on a busy machine: then it offers none, and is asked again.
async fn offers(admin: &str, line: &[&str], expected: &BTreeSet<String>) {
    eventually(&format!("{expected:?} for {line:?}"), || async {
        (offered(admin, line).await == *expected).then_some(())
    })
    .await;
}

/// The words that the completion engine offers for the last one of a line.
async fn offered(admin: &str, line: &[&str]) -> BTreeSet<String> {
    let output = cli::command()
        .env("HEADGATE_COMPLETE", "bash")
        .env("HEADGATE_GATEWAY", admin)
        .env("_CLAP_COMPLETE_INDEX", line.len().to_string())
        .args(["--", "headgate"])
        .args(line)
        .output()
        .await
        .expect("the binary starts");
    assert!(output.status.success(), "{line:?}: {output:?}");
    let words = String::from_utf8(output.stdout).expect("words are text");
    let words = words.lines().filter(|word| !word.is_empty() && !word.starts_with('-'));
    words.map(str::to_owned).collect()
}

fn words<const N: usize>(words: [&str; N]) -> BTreeSet<String> {
    words.map(str::to_owned).into()
}

#[tokio::test]
async fn names_of_a_running_gateway_complete() {
    let gateway = gateway().await;
    let admin = format!("http://{}", gateway.admin());
    for (line, expected) in [
        (&["dead", "sh"][..], words(["show"])),
        (&["dead", "show", ""], words(["shipping", "stock"])),
        (&["dead", "show", "sh"], words(["shipping"])),
        (&["dead", "show", "default/st"], words(["default/stock"])),
        (&["dead", "show", "shipping", ""], words(["lost-1"])),
        (&["dead", "show", "stock", ""], words([])),
        (&["dead", "redrive", "shipping", "lost-1", "lo"], words(["lost-1"])),
        (&["explain", "lo"], words(["lost-1"])),
        (&["pause", "s"], words(["shipping", "stock"])),
        (&["send", ""], words(["orders"])),
        (&["filter", "TRUE", "--against", ""], words(["orders"])),
        (
            &["get", "s"],
            words(["secrets", "services", "sources", "sub", "subscriptions"]),
        ),
        (&["get", "sub", ""], words(["shipping", "stock"])),
        (&["get", "channels", "o"], words(["orders"])),
        (&["get", "all", "-n", ""], words(["default"])),
        (&["adapter", "git"], words(["githubsources"])),
    ] {
        offers(&admin, line, &expected).await;
    }
    // The flag of the line goes before the variable.
    let line = ["--gateway", &admin, "send", ""];
    offers("http://127.0.0.1:1", &line, &words(["orders"])).await;
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_offers_nothing_and_nobody_waits() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let admin = format!("http://{}", silent.local_addr().expect("its address"));
    let start = Instant::now();
    assert_eq!(offered(&admin, &["dead", "show", ""]).await, words([]));
    // The limit is 300 ms; the rest is a debug build's start on a busy machine.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "it took {:?}",
        start.elapsed()
    );
    assert_eq!(offered("http://127.0.0.1:1", &["send", ""]).await, words([]));
}

#[tokio::test]
async fn bash_completes_by_the_script_that_is_printed() {
    let gateway = gateway().await;
    let folder = headgate()
        .parent()
        .expect("the binary is in a folder")
        .display()
        .to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let script = r#"
        source <(headgate completions bash) || exit
        complete=$(complete -p headgate) && [[ $complete =~ -F\ ([^ ]+) ]] || exit
        COMP_WORDS=(headgate dead show s) COMP_CWORD=3 COMP_TYPE=9
        "${BASH_REMATCH[1]}" headgate s show 2>/dev/null
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    eventually("bash offers both subscriptions", || async {
        let output = tokio::process::Command::new("bash")
            .args(["--norc", "-c", script])
            .env("PATH", format!("{folder}:{path}"))
            .env("HEADGATE_GATEWAY", format!("http://{}", gateway.admin()))
            .stderr(Stdio::inherit())
            .output()
            .await
            .expect("bash starts");
        let offered = String::from_utf8_lossy(&output.stdout).into_owned();
        (offered.split_whitespace().collect::<Vec<_>>() == ["shipping", "stock"]).then_some(())
    })
    .await;
}

/// Every command that `--help` lists has a page.
#[tokio::test]
async fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let man = folder.path().join("man1");
    cli::run(&["man", &man.display().to_string()]).await.exits(0);
    let help = cli::run(&["--help"]).await.exits(0).stdout;
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        // What is indented further goes on about the command above.
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|line| !line.starts_with(' '))?
                .split_whitespace()
                .next()
        })
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.contains(&"run") && commands.len() > 15, "{commands:?}");
    let pages = commands.iter().map(|command| format!("headgate-{command}"));
    for page in pages.chain(["headgate".to_owned(), "headgate-dead-show".to_owned()]) {
        let text = e2e::tree::read(&man.join(format!("{page}.1")));
        assert!(text.contains(&format!(".TH {page} 1")), "{page}: {text}");
    }
    let run = e2e::tree::read(&man.join("headgate-run.1"));
    assert!(
        run.contains("HEADGATE_LISTEN") && run.contains("127.0.0.1:8080"),
        "{run}"
    );
    // A file where the folder should be.
    let refused = cli::run(&["man", &man.join("headgate.1").display().to_string()])
        .await
        .exits(1);
    assert!(refused.stderr.contains("cannot be written"), "{}", refused.stderr);
}
