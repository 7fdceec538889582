//! The main jobs of the console done in a real Chromium. Screenshots of each page are in `target/console`.

use std::fs;

use e2e::{
    Response,
    binary::workspace,
    peers::{self, Peer},
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::{shop, until};

/// Proves: CH-7, DL-6, OP-3
#[tokio::test]
async fn the_main_jobs_are_done_in_chromium_and_axe_finds_nothing() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let (gateway, good, bad) = shop(&["--admin-token", "operate-it"]).await;
    gateway.accept("orders", ["order-16", "order-17"]).await;
    good.wait_for(2).await;
    until(&gateway, "/ui/deadletters", "data-label=\"Count\">2<").await;
    bad.always(Response::status(204));
    let shots = workspace().join("target/console");
    fs::create_dir_all(&shots).expect("a folder for screenshots");
    let admin = format!("http://{}", gateway.admin());
    let arguments = [&*admin, "operate-it", &*shots.to_string_lossy()];
    let mut driver = peers::command(Peer::Node, "console.mjs", &arguments)
        .await
        .spawn()
        .expect("node starts");
    let mut errors = BufReader::new(driver.stderr.take().expect("piped")).lines();
    let mut log = Vec::new();
    while let Some(line) = errors.next_line().await.expect("readable") {
        if line == "send" {
            gateway.accept("orders", ["order-live"]).await;
        }
        log.push(line);
    }
    let mut output = String::new();
    driver
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut output)
        .await
        .expect("readable");
    let status = driver.wait().await.expect("it ends");
    assert!(
        status.success(),
        "{}\ninstall Debian's chromium, or name one in CHROMIUM",
        log.join("\n")
    );
    let report: Value = serde_json::from_str(&output).expect("one line of JSON");
    assert_eq!(report["violations"], json!([]), "{report:#}");
    assert_eq!(
        (&report["errors"], &report["foreign"]),
        (&json!([]), &json!([])),
        "{report:#}"
    );
    assert_eq!(report["checked"], 4 * 13, "{report:#}");
}
