//! Two thousand subscriptions: what they cost in memory and in requests, and that nothing is written when nothing happens.

use std::{fs, time::Duration};

use e2e::{
    Gateway, Sink,
    documents::{channel, subscription},
    holds, wait,
};
use serde_json::{Value, json};
use servers::{
    Kubernetes,
    kubernetes::{ADMIN, Setup},
};

use super::{apply, define, requests};

const CHANNELS: usize = 20;
const SUBSCRIPTIONS: usize = 2_000;

/// Creating and reporting two thousand objects takes a debug build on two cores a minute or two.
const PATIENCE: Duration = Duration::from_secs(400);

/// For a debug build; a release build takes half of it.
const MEMORY_MAX_KIB: u64 = 200 * 1024;

/// Longer than every pause of the loops that write.
const IDLE: Duration = Duration::from_secs(10);

/// Resident memory of a process.
fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().split(' ').next());
    number.and_then(|number| number.parse().ok()).expect("Linux tells it")
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "what was measured")]
async fn two_thousand_subscriptions_cost_a_write_each_and_idle_costs_none() {
    let Some(cluster) = Kubernetes::start(Setup::default()).await else {
        return;
    };
    define(&cluster).await;
    let mut gateway = Gateway::set_up().in_cluster(&cluster, ADMIN).prepare();
    gateway.start_again().await;
    let empty = memory_kib(gateway.pid());
    let sink = Sink::start().await;
    let mut documents: Vec<Value> = (0..CHANNELS)
        .map(|index| channel(&format!("c{index}"), "memory"))
        .collect();
    documents.extend((0..SUBSCRIPTIONS).map(|index| {
        let channel = format!("c{}", index % CHANNELS);
        subscription(&format!("s{index}"), &channel, &sink.url(), json!({}))
    }));
    let (writes_before, _) = requests(&cluster).await;
    apply(&cluster, "default", &documents).await;
    let start = tokio::time::Instant::now();
    let status = r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    wait::within(PATIENCE, "every subscription is Ready", || async {
        let shown = cluster.kubectl(&["get", "subscriptions", "-o", status]).await;
        (shown.lines().filter(|line| *line == "True").count() == SUBSCRIPTIONS).then_some(())
    })
    .await;
    let took = start.elapsed();
    // The channels' lists of subscribers follow.
    let mut now = requests(&cluster).await;
    loop {
        holds(Duration::from_secs(3), "a while passes", || true).await;
        let before = std::mem::replace(&mut now, requests(&cluster).await);
        if before.0 == now.0 {
            break;
        }
    }
    let (writes, all) = now;
    let memory = memory_kib(gateway.pid());
    holds(IDLE, "the gateway idles", || true).await;
    let (writes_idle, all_idle) = requests(&cluster).await;
    eprintln!(
        "{SUBSCRIPTIONS} subscriptions: ready {took:.1?} after they were applied, {} writes in all (half of them kubectl's), {} requests; {} MiB more than empty ({} MiB); idle for {IDLE:?}: {} writes, {} requests",
        writes - writes_before,
        all,
        (memory - empty) / 1024,
        empty / 1024,
        writes_idle - writes,
        all_idle - all,
    );
    assert_eq!(writes_idle, writes, "an idle gateway writes nothing");
    assert!(memory < MEMORY_MAX_KIB, "{memory} KiB");
    gateway.accept("c0", ["1"]).await;
    sink.wait_for(SUBSCRIPTIONS / CHANNELS).await;
}
