//! Measures many channels in one folder, each with a subscription and a few events a second, and the cost of one more
//! subscription.
//!
//! `cargo run --profile dist -p channel-embedded --example many -- [CHANNELS] [SECONDS] [FOLDER]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people measuring")]

#[path = "kit/mod.rs"]
mod kit;

use std::{path::Path, sync::Arc, time::Duration};

use channel::{Channel, Start};
use channel_embedded::{DataFolder, EmbeddedChannel, Settings};
use tokio::{task::JoinSet, time::Instant};

const EVENT_BYTES: usize = 1 << 10;
const PER_SECOND: u64 = 10;
/// After this long without events a channel has closed its files.
const QUIET: Duration = Duration::from_secs(12);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let channels: usize = arguments.next().map_or(500, |channels| channels.parse().unwrap());
    let seconds: u64 = arguments.next().map_or(10, |seconds| seconds.parse().unwrap());
    let parent = kit::parent(arguments.next());
    let runtime = kit::runtime();
    runtime.block_on(async {
        let root = tempfile::tempdir_in(&parent).unwrap();
        let one = load(open(root.path(), 1).await, seconds, channels as u64 * PER_SECOND).await;
        println!("one channel, {} events/s: {one}", channels as u64 * PER_SECOND);
        let root = tempfile::tempdir_in(&parent).unwrap();
        let many = load(open(root.path(), channels).await, seconds, PER_SECOND).await;
        println!("{channels} channels, {PER_SECOND} events/s each: {many}");
        for what in ["warm", "cold"] {
            if what == "cold" {
                kit::drop_caches();
            }
            let (began, cpu) = (Instant::now(), kit::cpu());
            let (_folder, again) = open(root.path(), channels).await;
            println!(
                "{channels} channels opened again, {what}: {:.0} ms, {:.0} ms of CPU, {} open files, {:.1} MiB of memory",
                began.elapsed().as_secs_f64() * 1e3,
                (kit::cpu() - cpu).as_secs_f64() * 1e3,
                kit::open_files(),
                kit::anonymous_mib()
            );
            close(again).await;
        }
        fan_out(&parent).await;
    });
}

/// Opens the channels concurrently, as the gateway does.
async fn open(root: &Path, channels: usize) -> (DataFolder, Vec<Arc<EmbeddedChannel>>) {
    let folder = DataFolder::open(root).unwrap();
    let mut opening = JoinSet::new();
    for number in 0..channels {
        let folder = folder.clone();
        opening.spawn_blocking(move || Arc::new(folder.channel(&number.to_string(), Settings::default()).unwrap()));
    }
    (folder, opening.join_all().await)
}

async fn close(channels: Vec<Arc<EmbeddedChannel>>) {
    for channel in channels {
        channel.close().await;
    }
}

struct Load {
    p50: Duration,
    p99: Duration,
    per_second: f64,
    syncs_per_second: f64,
    cpu: f64,
    files: usize,
    quiet_files: usize,
    memory_mib: f64,
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0}/s, ack p50 {} us, p99 {} us, {:.0} syncs/s, {:.0} us of CPU an event, {} open files ({} when quiet), {:.1} MiB of memory",
            self.per_second,
            self.p50.as_micros(),
            self.p99.as_micros(),
            self.syncs_per_second,
            self.cpu,
            self.files,
            self.quiet_files,
            self.memory_mib
        )
    }
}

/// Publishes a steady rate to each channel and delivers it to one subscription.
async fn load((folder, channels): (DataFolder, Vec<Arc<EmbeddedChannel>>), seconds: u64, rate: u64) -> Load {
    let count = rate * seconds;
    let mut subscribers = JoinSet::new();
    for channel in &channels {
        let channel: Arc<dyn Channel> = channel.clone();
        let subscribed = channel.clone();
        subscribers.spawn(async move { kit::settle(&channel, "s", Start::Latest, count).await });
        while subscribed.depth().cursors.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    let (began, cpu, syncs) = (Instant::now(), kit::cpu(), folder.syncs());
    let mut publishers = JoinSet::new();
    let all = channels.len() as u64 * count;
    for (index, channel) in channels.iter().cloned().enumerate() {
        // Spreads the channels evenly over one interval.
        let first = began + Duration::from_secs_f64(index as f64 / (channels.len() as f64 * rate as f64));
        publishers.spawn(async move {
            let mut waiting = JoinSet::new();
            for number in 0..count {
                tokio::time::sleep_until(first + Duration::from_secs_f64(number as f64 / rate as f64)).await;
                let channel = channel.clone();
                waiting.spawn(async move {
                    let begun = Instant::now();
                    let _ = channel.append(&[kit::event(number, EVENT_BYTES)]).await.unwrap();
                    begun.elapsed()
                });
            }
            waiting.join_all().await
        });
    }
    let mut waits = publishers.join_all().await.concat();
    subscribers.join_all().await;
    let elapsed = began.elapsed().as_secs_f64();
    let mut measured = Load {
        p50: kit::percentile(&mut waits, 500),
        p99: kit::percentile(&mut waits, 990),
        per_second: all as f64 / elapsed,
        syncs_per_second: (folder.syncs() - syncs) as f64 / elapsed,
        cpu: (kit::cpu() - cpu).as_secs_f64() * 1e6 / all as f64,
        files: kit::open_files(),
        quiet_files: 0,
        memory_mib: kit::anonymous_mib(),
    };
    tokio::time::sleep(QUIET).await;
    measured.quiet_files = kit::open_files();
    close(channels).await;
    measured
}

/// Measures the CPU cost of one more subscription that keeps up.
async fn fan_out(parent: &Path) {
    const EVENTS: u64 = 200_000;
    const BATCH: usize = 64;
    for subscriptions in [0, 1, 2, 10] {
        let root = tempfile::tempdir_in(parent).unwrap();
        let channel: Arc<dyn Channel> = open(root.path(), 1).await.1.remove(0);
        let mut subscribers = JoinSet::new();
        for number in 0..subscriptions {
            let channel = channel.clone();
            subscribers.spawn(async move { kit::settle(&channel, &number.to_string(), Start::Latest, EVENTS).await });
        }
        while channel.depth().cursors.len() < subscriptions {
            tokio::task::yield_now().await;
        }
        let (began, cpu) = (Instant::now(), kit::cpu());
        for batch in kit::batches(EVENTS, BATCH, EVENT_BYTES) {
            let _ = channel.append(&batch).await.unwrap();
        }
        subscribers.join_all().await;
        println!(
            "{subscriptions} subscriptions, batches of {BATCH}: {:.0} events/s, {:.2} us of CPU an event",
            EVENTS as f64 / began.elapsed().as_secs_f64(),
            (kit::cpu() - cpu).as_secs_f64() * 1e6 / EVENTS as f64
        );
        channel.close().await;
    }
}
