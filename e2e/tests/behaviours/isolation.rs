//! A subscription that is slow, dead or poisoned is nobody else's business.

use std::{fs, sync::Arc, time::Duration};

use e2e::{
    Gateway, Request, Response, Sink,
    client::Connection,
    documents::{channel, subscription},
    ports,
};
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

/// Proves: CH-2
#[rstest]
#[tokio::test]
async fn a_slow_and_a_dead_subscriber_delay_neither_acceptance_nor_others(#[values("memory", "embedded")] kind: &str) {
    let (healthy, slow, poisoned) = (Sink::start().await, Sink::start().await, Sink::start().await);
    slow.always(Response::status(204).after(Duration::from_secs(25)));
    poisoned.always(Response::status(500));
    let dead = format!("http://{}/", ports::free());
    let gateway = Gateway::with([
        channel("orders", kind),
        subscription("healthy", "orders", &healthy.url(), json!({})),
        subscription("slow", "orders", &slow.url(), json!({})),
        subscription("poisoned", "orders", &poisoned.url(), json!({})),
        subscription("dead", "orders", &dead, json!({})),
    ])
    .await;
    let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
    let mut sent = Vec::new();
    let mut slowest = Duration::ZERO;
    for n in 0..300 {
        let start = Instant::now();
        let answer = connection
            .exchange(&Request::event("orders", &n.to_string()))
            .await
            .expect("an answer");
        assert_eq!(answer.status, 202, "{answer}");
        slowest = slowest.max(start.elapsed());
        sent.push(start);
    }
    let received = healthy.wait_for(300).await;
    let late = received.iter().map(|request| {
        let n: usize = request.id().parse().expect("a number");
        request.at.duration_since(sent[n])
    });
    let late = late.max().unwrap_or_default();
    // Far from the 25 s that one waiting turn at the slow subscriber would cost, far above a busy machine's noise.
    assert!(slowest < Duration::from_secs(10), "a publisher waited {slowest:?}");
    assert!(late < Duration::from_secs(10), "the healthy subscriber waited {late:?}");
}

/// Proves: CH-2
#[tokio::test]
async fn memory_stays_bounded_while_a_backlog_of_256_mib_grows() {
    const EVENTS: usize = 4096;
    const SIZE: usize = 64 << 10;
    let sink = Sink::start().await;
    sink.always(Response::never());
    let gateway = Arc::new(
        Gateway::with([
            channel("orders", "embedded"),
            subscription("stuck", "orders", &sink.url(), json!({})),
        ])
        .await,
    );
    let body = vec![b'7'; SIZE];
    let senders = (0..4).map(|sender| {
        let (gateway, body) = (Arc::clone(&gateway), body.clone());
        tokio::spawn(async move {
            let mut connection = Connection::open(gateway.listen()).await.expect("the gateway listens");
            for n in 0..EVENTS / 4 {
                let request = Request::event("orders", &format!("{sender}-{n}")).body(&body);
                assert_eq!(connection.exchange(&request).await.expect("an answer").status, 202);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("every event is accepted");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("the process's status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    assert!(
        peak < 128 << 10,
        "{} MiB of memory for a backlog of 256 MiB",
        peak >> 10
    );
}
