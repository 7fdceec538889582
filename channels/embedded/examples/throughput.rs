//! Appends through the channel against a bare loop of write and fdatasync, in the same run on the same disk.
//!
//! `cargo run --profile dist -p channel-embedded --example throughput -- [SECONDS] [FOLDER] [TASKS]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people measuring")]

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use channel::{Channel, CursorName, Delivered, Disposition, Start};
use channel_embedded::{DataFolder, Settings};
use event::Event;
use tokio::time::Instant;

const ROUNDS: usize = 3;

struct Measured {
    per_second: f64,
    micros_of_cpu: f64,
    p50: Duration,
    p99: Duration,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(2, |seconds| seconds.parse().unwrap());
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let only: Option<usize> = arguments.next().map(|tasks| tasks.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    println!(
        "{:28} {:>10} {:>8} {:>10} {:>9} {:>9}",
        "", "events/s", "ratio", "cpu us/ev", "p50 us", "p99 us"
    );
    for bytes in [1 << 10, 30 << 10] {
        for tasks in [1, 16, 64, 256]
            .into_iter()
            .filter(|tasks| only.is_none_or(|only| only == *tasks))
        {
            for _ in 0..ROUNDS {
                let time = Duration::from_secs(seconds);
                let bare = bare(&parent, bytes, tasks, time);
                show(&format!("{bytes} B, bare, batches of {tasks}"), &bare, &bare);
                for cursors in [0, 1] {
                    let channel = runtime.block_on(through_channel(&parent, bytes, tasks, cursors, time));
                    show(&format!("{bytes} B, {tasks} tasks, {cursors} cursors"), &channel, &bare);
                }
            }
        }
    }
}

fn show(name: &str, measured: &Measured, bare: &Measured) {
    let ratio = measured.per_second / bare.per_second;
    let Measured {
        per_second,
        micros_of_cpu,
        p50,
        p99,
    } = measured;
    println!(
        "{name:28} {per_second:>10.0} {ratio:>8.2} {micros_of_cpu:>10.2} {:>9} {:>9}",
        p50.as_micros(),
        p99.as_micros()
    );
}

fn event(bytes: usize) -> Event {
    Event::builder(
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "/bench/throughput",
        "dev.headgate.bench",
    )
    .data("application/json", Bytes::from(vec![b'x'; bytes]))
    .finish()
    .unwrap()
}

/// One file, one write and one fdatasync a batch.
fn bare(parent: &Path, bytes: usize, batch: usize, time: Duration) -> Measured {
    let folder = tempfile::tempdir_in(parent).unwrap();
    let file = fs::File::create(folder.path().join("bare")).unwrap();
    let record = event(bytes).size() + 40;
    let buffer = vec![b'x'; record * batch];
    let (started, cpu) = (Instant::now(), cpu());
    let (mut at, mut count, mut times) = (0, 0, Vec::new());
    while started.elapsed() < time {
        let begun = Instant::now();
        file.write_all_at(&buffer, at).unwrap();
        file.sync_data().unwrap();
        times.push(begun.elapsed());
        at += buffer.len() as u64;
        count += batch as u64;
    }
    measured(count, started, cpu, times)
}

async fn through_channel(parent: &Path, bytes: usize, tasks: usize, cursors: usize, time: Duration) -> Measured {
    let root = tempfile::tempdir_in(parent).unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let channel: Arc<dyn Channel> = Arc::new(folder.channel("bench", Settings::default()).unwrap());
    for cursor in 0..cursors {
        let mut cursor = channel
            .subscribe(&CursorName::new(cursor.to_string()), None, Start::Latest)
            .await
            .unwrap();
        tokio::spawn(async move {
            while let Ok(page) = cursor.next(256).await {
                for delivery in page {
                    let _ = delivery.ack(Disposition::Accepted(Delivered::by_status(200).unwrap()));
                }
            }
        });
    }
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let event = event(bytes);
    let (started, cpu) = (Instant::now(), cpu());
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (channel, stop, count, event) = (channel.clone(), stop.clone(), count.clone(), event.clone());
        writers.spawn(async move {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let _ = channel.append(std::slice::from_ref(&event)).await.unwrap();
                times.push(begun.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
            }
            times
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let times = writers.join_all().await.concat();
    let measured = measured(count.load(Ordering::Relaxed), started, cpu, times);
    channel.close().await;
    measured
}

fn measured(count: u64, started: Instant, cpu_before: Duration, mut times: Vec<Duration>) -> Measured {
    let (elapsed, cpu) = (started.elapsed(), cpu() - cpu_before);
    times.sort_unstable();
    Measured {
        per_second: count as f64 / elapsed.as_secs_f64(),
        micros_of_cpu: cpu.as_secs_f64() * 1e6 / count as f64,
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    }
}

/// User and system time of this process, to a hundredth of a second.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
