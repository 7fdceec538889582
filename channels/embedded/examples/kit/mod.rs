//! Helpers of the measuring programs: events, a subscriber, and what the process costs.
#![allow(dead_code, reason = "each program uses a part of it")]
#![expect(clippy::unwrap_used, reason = "programs for people measuring")]

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use channel::{Channel, CursorName, Delivered, Disposition, Start};
use event::Event;

/// Builds an event with `bytes` bytes of data and its number as `id`.
pub(crate) fn event(number: u64, bytes: usize) -> Event {
    Event::builder(&number.to_string(), "/bench", "dev.headgate.bench")
        .data("application/json", Bytes::from(vec![b'x'; bytes]))
        .finish()
        .unwrap()
}

pub(crate) fn accepted() -> Disposition {
    Disposition::Accepted(Delivered::by_status(200).unwrap())
}

/// Takes and settles events until `count` of them have come.
pub(crate) async fn settle(channel: &Arc<dyn Channel>, name: &str, start: Start, count: u64) {
    let mut cursor = channel.subscribe(&CursorName::new(name), None, start).await.unwrap();
    let mut taken = 0;
    while taken < count {
        for delivery in cursor.next(256).await.unwrap() {
            taken += 1;
            delivery.ack(accepted()).unwrap();
        }
    }
}

/// User and system time of this process, to a hundredth of a second.
pub(crate) fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of this process in MiB, without the pages of files.
pub(crate) fn anonymous_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap();
    kib / 1024.0
}

/// Number of open files of this process.
pub(crate) fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Drops the system's page cache; returns `false` where this process may not (it needs root).
pub(crate) fn drop_caches() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

/// The duration that `permille` of 1000 measurements did not exceed.
pub(crate) fn percentile(times: &mut [Duration], per_mille: usize) -> Duration {
    times.sort_unstable();
    let at = times.len() * per_mille / 1000;
    let last = times.len().saturating_sub(1);
    times.get(at.min(last)).copied().unwrap_or_default()
}

/// Numbered events, in batches of one size.
pub(crate) fn batches(count: u64, batch: usize, bytes: usize) -> impl Iterator<Item = Vec<Event>> {
    let mut numbers = 0..count;
    std::iter::from_fn(move || {
        let events: Vec<Event> = numbers
            .by_ref()
            .take(batch)
            .map(|number| event(number, bytes))
            .collect();
        (!events.is_empty()).then_some(events)
    })
}

/// The folder to work in: the one named on the command line, else the system's folder for temporary files.
pub(crate) fn parent(argument: Option<String>) -> PathBuf {
    argument.map_or_else(std::env::temp_dir, PathBuf::from)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
