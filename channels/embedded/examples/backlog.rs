//! Measures memory while a backlog grows: small events, one subscription that keeps up, one that takes nothing, then
//! one that catches up.
//!
//! `cargo run --profile dist -p channel-embedded --example backlog -- [EVENTS] [FOLDER]`; deletes the log at the end.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people measuring")]

#[path = "kit/mod.rs"]
mod kit;

use std::sync::Arc;

use channel::{Attempts, Channel, CursorName, Start};
use channel_embedded::{DataFolder, Settings};
use tokio::time::Instant;

const EVENT_BYTES: usize = 32;
const BATCH: usize = 500;
/// Events in backoff at once in the last part.
const IN_BACKOFF: usize = 100_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let events: u64 = arguments.next().map_or(10_000_000, |events| events.parse().unwrap());
    let root = tempfile::tempdir_in(kit::parent(arguments.next())).unwrap();
    kit::runtime().block_on(async {
        let folder = DataFolder::open(root.path()).unwrap();
        let channel: Arc<dyn Channel> = Arc::new(folder.channel("c", Settings::default()).unwrap());
        show("empty", &channel, None);
        let idle = channel
            .subscribe(&CursorName::new("idle"), None, Start::Latest)
            .await
            .unwrap();
        let keeping_up = {
            let channel = channel.clone();
            tokio::spawn(async move { kit::settle(&channel, "quick", Start::Latest, events).await })
        };
        while channel.depth().cursors.len() < 2 {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        let mut stored = 0;
        for batch in kit::batches(events, BATCH, EVENT_BYTES) {
            let _ = channel.append(&batch).await.unwrap();
            stored += batch.len() as u64;
            if stored % (events / 5) == 0 {
                show(&format!("{stored} in the backlog"), &channel, Some((stored, began)));
            }
        }
        keeping_up.await.unwrap();
        show("the quick one is done", &channel, Some((events, began)));
        drop(idle);
        let began = Instant::now();
        kit::settle(&channel, "idle", Start::Latest, events / 2).await;
        show(
            "the idle one has caught up by half",
            &channel,
            Some((events / 2, began)),
        );
        backoff(&channel).await;
        channel.close().await;
    });
}

/// Puts many events into a backoff of one hour.
async fn backoff(channel: &Arc<dyn Channel>) {
    let mut cursor = channel
        .subscribe(&CursorName::new("idle"), None, Start::Latest)
        .await
        .unwrap();
    let (began, mut parked) = (Instant::now(), 0);
    while parked < IN_BACKOFF {
        for mut delivery in cursor.next(256).await.unwrap() {
            delivery.remember(Attempts {
                failed: 1,
                last_status: Some(503),
                ..Attempts::default()
            });
            delivery.release(std::time::Duration::from_secs(3600));
            parked += 1;
        }
    }
    show(&format!("{parked} in backoff"), channel, Some((parked as u64, began)));
}

fn show(what: &str, channel: &Arc<dyn Channel>, rate: Option<(u64, Instant)>) {
    let rate = rate.map_or(String::new(), |(count, began)| {
        format!("{:>9.0}/s", count as f64 / began.elapsed().as_secs_f64())
    });
    println!(
        "{what:40} {:>6.1} MiB of memory {:>7.0} MiB on disk {rate}",
        kit::anonymous_mib(),
        channel.depth().bytes.unwrap() as f64 / f64::from(1 << 20)
    );
}
