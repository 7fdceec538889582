//! Measures opening a large log, after a clean close and after a kill, and seeking to an offset and to a time in it.
//! Nothing of the log is in the system's cache (as root) or in the memory of this process.
//!
//! `cargo run --profile dist -p channel-embedded --example seek -- [GIB] [FOLDER]`; deletes the log at the end.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people measuring")]

#[path = "kit/mod.rs"]
mod kit;

use std::{path::Path, time::Duration};

use channel::{Channel, Offset, Start};
use channel_embedded::{DataFolder, EmbeddedChannel, Settings};
use tokio::time::Instant;

const EVENT_BYTES: usize = 1 << 10;
const BATCH: u64 = 256;
const SEEKS: u64 = 200;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let gib: f64 = arguments.next().map_or(2.0, |gib| gib.parse().unwrap());
    let parent = kit::parent(arguments.next());
    let root = tempfile::tempdir_in(&parent).unwrap();
    kit::runtime().block_on(async {
        let channel = open(root.path());
        let began = Instant::now();
        let mut number = 0;
        while (channel.depth().bytes.unwrap() as f64) < gib * f64::from(1 << 30) {
            let events: Vec<_> = (number..number + BATCH)
                .map(|number| kit::event(number, EVENT_BYTES))
                .collect();
            let _ = channel.append(&events).await.unwrap();
            number += BATCH;
        }
        println!(
            "{number} events, {gib} GiB written in {:.1} s",
            began.elapsed().as_secs_f64()
        );
        // Simulates a kill: nothing is saved, and the newest segment is read from its beginning.
        drop(channel);
        seeks("after a kill", root.path(), number).await;
        seeks("after a clean close", root.path(), number).await;
        scan(root.path(), number).await;
    });
}

fn open(root: &Path) -> EmbeddedChannel {
    let everything = Settings {
        retention_bytes: u64::MAX,
        ..Settings::default()
    };
    DataFolder::open(root).unwrap().channel("c", everything).unwrap()
}

/// Times the first seeks of a process, each to another part of the log.
async fn seeks(what: &str, root: &Path, count: u64) {
    let cold = kit::drop_caches();
    let began = Instant::now();
    let channel = open(root);
    println!(
        "{what}{}: opened in {:.1} ms",
        if cold { ", cold" } else { "" },
        began.elapsed().as_secs_f64() * 1e3
    );
    let (mut offsets, mut times) = (Vec::new(), Vec::new());
    for seek in 0..SEEKS {
        // Visits the log in a scattered order.
        let offset = (seek * 7919 % SEEKS) * (count / SEEKS);
        let begun = Instant::now();
        let page = channel.read(Offset(offset), 1).await.unwrap();
        offsets.push(begun.elapsed());
        assert_eq!(page[0].offset.0, offset);
        let time = page[0].stored_at;
        let begun = Instant::now();
        let found = channel.ranges(Start::Time(time)).await.unwrap();
        times.push(begun.elapsed());
        assert!(found[0].start.0 <= offset);
    }
    for (what, times) in [("place", &mut offsets), ("time", &mut times)] {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "  seek by {what}: first {:.2} ms, p50 {:.2}, p99 {:.2}, longest {:.2}",
            millis(times[0]),
            millis(kit::percentile(times, 500)),
            millis(kit::percentile(times, 990)),
            millis(kit::percentile(times, 1000))
        );
    }
    channel.close().await;
}

/// Reads the whole log, page by page.
async fn scan(root: &Path, count: u64) {
    let channel = open(root);
    for round in ["first", "second"] {
        let (began, mut from, mut bytes) = (Instant::now(), Offset(0), 0);
        while from.0 < count {
            let page = channel.read(from, 10_000).await.unwrap();
            bytes += page.iter().map(|record| record.event.size()).sum::<usize>();
            from = page.last().unwrap().offset.next();
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{round} scan: {:.0} events/s, {:.0} MiB/s",
            count as f64 / seconds,
            bytes as f64 / seconds / f64::from(1 << 20)
        );
    }
}
