//! `kill -9`, again and again: nothing that was answered 202 is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use e2e::{
    Gateway, Request, Response, Sink, cli,
    client::Connection,
    documents::{channel, subscription},
    eventually,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

/// Sends unique ids until told to stop, over any number of restarts; gives those that were answered 202.
pub(crate) async fn send_until(stop: CancellationToken, to: SocketAddr, prefix: String) -> BTreeSet<String> {
    let mut accepted = BTreeSet::new();
    let mut connection = None;
    for n in 0_u64.. {
        if stop.is_cancelled() {
            break;
        }
        let id = format!("{prefix}-{n}");
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(to).await,
        };
        let Ok(mut open) = open else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        if let Ok(answer) = open.exchange(&Request::event("orders", &id)).await {
            if answer.status == 202 {
                accepted.insert(id);
            }
            if answer.header("connection") != Some("close") {
                connection = Some(open);
            }
        }
    }
    accepted
}

/// Kills of one run, `HEADGATE_KILLS` for more.
const KILLS: u64 = 6;
/// Repeats that one kill may cause: what is in flight (64), and what was settled and not yet written down. That is 5 ms of
/// events by the clock, and more where the machine is busy with other tests.
const REPEATS_MAX: usize = 2000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `HEADGATE_SEED` repeats the moments of a run, as far as a machine can.
///
/// Proves: OP-2, CH-1, CH-3, CH-5, IN-2, DL-5
#[tokio::test]
async fn every_accepted_event_survives_kills_at_random_moments() {
    const SENDERS: usize = 8;
    let kills = setting("HEADGATE_KILLS").unwrap_or(KILLS);
    let seed = setting("HEADGATE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let mut random = seed;
    let (steady, shaky) = (Sink::start().await, Sink::start().await);
    let counter = Arc::new(Mutex::new(0_u64));
    shaky.answer_by(move |_| {
        let mut count = counter.lock();
        *count += 1;
        Some(Response::status(if count.is_multiple_of(7) { 503 } else { 204 }))
    });
    let mut gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("steady", "orders", &steady.url(), json!({})),
        subscription("shaky", "orders", &shaky.url(), json!({ "delivery": { "retry": 3 } })),
    ])
    .await;
    let stop = CancellationToken::new();
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(send_until(stop.clone(), gateway.listen(), format!("s{sender}")));
    }
    for _ in 0..kills {
        // Spread over a few commits, attempts and answers; the exact moment is the machine's.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_micros(100_000 + (random >> 33) % 400_000)).await;
        gateway.kill().await;
        gateway.start_again().await;
    }
    sleep(Duration::from_millis(200)).await;
    stop.cancel();
    let accepted: BTreeSet<String> = senders.join_all().await.into_iter().flatten().collect();
    assert!(
        accepted.len() > 100,
        "only {} events were accepted, seed {seed}",
        accepted.len()
    );
    for (name, sink) in [("steady", &steady), ("shaky", &shaky)] {
        eventually(
            &format!("all accepted events at {name}, or in its dead-letter log (seed {seed})"),
            || async {
                let mut seen: BTreeSet<String> = sink.ids().into_iter().collect();
                if !accepted.is_subset(&seen) {
                    let list = gateway.cli(&["dead", "list", name, "-o", "json"]).await.stdout;
                    seen.extend(
                        accepted
                            .iter()
                            .filter(|id| list.contains(&format!("\"{id}\"")))
                            .cloned(),
                    );
                }
                accepted.is_subset(&seen).then_some(())
            },
        )
        .await;
    }
    // At most what was in flight or not yet written down as settled may come twice, each time.
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for id in steady.ids() {
        *times.entry(id).or_default() += 1;
    }
    let repeats: usize = times.values().map(|times| times - 1).sum();
    let most = REPEATS_MAX * usize::try_from(kills).expect("a few");
    assert!(
        repeats <= most,
        "{repeats} repeats of {} events, seed {seed}",
        accepted.len()
    );
    // Nothing is wrong with the files, and nothing is called missing.
    let object = gateway.wait_object("channel", "orders", |_| true).await;
    assert_eq!(object["status"]["missingEvents"], serde_json::Value::Null, "{object}");
    gateway.terminate().await;
    let checked = cli::run(&["log", "check", &gateway.data().to_string_lossy()]).await;
    assert_eq!(checked.code, 0, "{checked:?}");
}

/// Proves: OP-2
#[tokio::test]
async fn a_start_after_a_kill_says_what_it_found() {
    let sink = Sink::start().await;
    let mut gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    // A start reads the log from its last checkpoint on. When one was written between the answer and the kill, there is
    // nothing to be found, and nothing to say.
    let mut says_so = false;
    for id in 0..10 {
        gateway.accept("orders", [id.to_string()]).await;
        gateway.kill().await;
        let before = gateway.log().len();
        gateway.start_again().await;
        gateway.settled().await;
        says_so = gateway.log()[before..].contains("channel recovered");
        if says_so {
            break;
        }
    }
    assert!(says_so, "ten kills, and no word of what was found");
}
