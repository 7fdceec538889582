//! Compares appends with a bare loop of write and fdatasync, SQLite and redb: same batches, same run, same disk.
//!
//! Every batch is durable before the next one begins. SQLite uses a write-ahead log and `synchronous = FULL`, redb its
//! default durability. Both commit one transaction a batch through a prepared statement; the key is a number, the
//! value the event's bytes.
//!
//! `cargo run --profile dist -p channel-embedded --example compare -- [SECONDS] [FOLDER]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people measuring")]

#[path = "kit/mod.rs"]
mod kit;

use std::{fs, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use channel::Channel;
use channel_embedded::{DataFolder, Settings};
use tokio::time::Instant;

const EVENT_BYTES: usize = 1 << 10;
const ROUNDS: usize = 3;

/// Batches, how long each took, and what they cost.
struct Run {
    batches: Vec<Duration>,
    elapsed: Duration,
    cpu: Duration,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(2, |seconds| seconds.parse().unwrap());
    let parent = kit::parent(arguments.next());
    let time = Duration::from_secs(seconds);
    println!(
        "{:22} {:>6} {:>10} {:>8} {:>9} {:>9} {:>10}",
        "", "batch", "events/s", "to bare", "p50 us", "p99 us", "cpu us/ev"
    );
    for batch in [1, 16, 64, 256] {
        for _ in 0..ROUNDS {
            let bare = bare(&parent, batch, time);
            show("write + fdatasync", batch, &bare, &bare);
            show("log, batches", batch, &by_batch(&parent, batch, time), &bare);
            show("log, tasks", batch, &by_tasks(&parent, batch, time), &bare);
            show("SQLite WAL FULL", batch, &sqlite(&parent, batch, time), &bare);
            show("redb", batch, &redb(&parent, batch, time), &bare);
        }
    }
}

fn show(name: &str, batch: usize, run: &Run, bare: &Run) {
    let rate = |run: &Run| (run.batches.len() * batch) as f64 / run.elapsed.as_secs_f64();
    let mut times = run.batches.clone();
    println!(
        "{name:22} {batch:>6} {:>10.0} {:>8.2} {:>9} {:>9} {:>10.2}",
        rate(run),
        rate(run) / rate(bare),
        kit::percentile(&mut times, 500).as_micros(),
        kit::percentile(&mut times, 990).as_micros(),
        run.cpu.as_secs_f64() * 1e6 / (run.batches.len() * batch) as f64,
    );
}

/// Runs batches one after the other for `time`.
fn run(time: Duration, mut one: impl FnMut(u64)) -> Run {
    let (began, cpu, mut batches) = (Instant::now(), kit::cpu(), Vec::new());
    while began.elapsed() < time {
        let begun = Instant::now();
        one(batches.len() as u64);
        batches.push(begun.elapsed());
    }
    Run {
        batches,
        elapsed: began.elapsed(),
        cpu: kit::cpu() - cpu,
    }
}

fn bare(parent: &Path, batch: usize, time: Duration) -> Run {
    let folder = tempfile::tempdir_in(parent).unwrap();
    let file = fs::File::create(folder.path().join("bare")).unwrap();
    let record = kit::event(0, EVENT_BYTES).size() + 40;
    let buffer = vec![b'x'; record * batch];
    run(time, |number| {
        file.write_all_at(&buffer, number * buffer.len() as u64).unwrap();
        file.sync_data().unwrap();
    })
}

/// One publisher that appends whole batches.
fn by_batch(parent: &Path, batch: usize, time: Duration) -> Run {
    let folder = tempfile::tempdir_in(parent).unwrap();
    let channel = DataFolder::open(folder.path())
        .unwrap()
        .channel("c", Settings::default())
        .unwrap();
    let events: Vec<_> = (0..batch as u64)
        .map(|number| kit::event(number, EVENT_BYTES))
        .collect();
    let runtime = kit::runtime();
    let measured = run(time, |_| {
        let _ = runtime.block_on(channel.append(&events)).unwrap();
    });
    runtime.block_on(channel.close());
    measured
}

/// As many publishers as a batch has events, each appending one after the other.
fn by_tasks(parent: &Path, batch: usize, time: Duration) -> Run {
    let folder = tempfile::tempdir_in(parent).unwrap();
    let channel: Arc<dyn Channel> = Arc::new(
        DataFolder::open(folder.path())
            .unwrap()
            .channel("c", Settings::default())
            .unwrap(),
    );
    let runtime = kit::runtime();
    let (began, cpu) = (Instant::now(), kit::cpu());
    let waits = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..batch as u64 {
            let (channel, event) = (channel.clone(), kit::event(number, EVENT_BYTES));
            tasks.spawn(async move {
                let mut waits = Vec::new();
                while began.elapsed() < time {
                    let begun = Instant::now();
                    let _ = channel.append(std::slice::from_ref(&event)).await.unwrap();
                    waits.push(begun.elapsed());
                }
                waits
            });
        }
        tasks.join_all().await.concat()
    });
    let (elapsed, cpu) = (began.elapsed(), kit::cpu() - cpu);
    runtime.block_on(channel.close());
    Run {
        // Samples one wait per batch.
        batches: waits.into_iter().step_by(batch).collect(),
        elapsed,
        cpu,
    }
}

fn sqlite(parent: &Path, batch: usize, time: Duration) -> Run {
    let folder = tempfile::tempdir_in(parent).unwrap();
    let mut database = rusqlite::Connection::open(folder.path().join("events.db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "synchronous", "FULL").unwrap();
    database
        .execute_batch("CREATE TABLE events (place INTEGER PRIMARY KEY, stored INTEGER, event BLOB)")
        .unwrap();
    let event = encoded();
    run(time, |_| {
        let transaction = database.transaction().unwrap();
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO events (stored, event) VALUES (?, ?)")
                .unwrap();
            for _ in 0..batch {
                insert.execute((1_700_000_000_000_i64, &event)).unwrap();
            }
        }
        transaction.commit().unwrap();
    })
}

fn redb(parent: &Path, batch: usize, time: Duration) -> Run {
    const EVENTS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("events");
    let folder = tempfile::tempdir_in(parent).unwrap();
    let database = redb::Database::create(folder.path().join("events.redb")).unwrap();
    let event = encoded();
    run(time, |number| {
        let transaction = database.begin_write().unwrap();
        {
            let mut events = transaction.open_table(EVENTS).unwrap();
            for at in 0..batch as u64 {
                events.insert(number * batch as u64 + at, &event[..]).unwrap();
            }
        }
        transaction.commit().unwrap();
    })
}

fn encoded() -> Vec<u8> {
    let mut bytes = Vec::new();
    kit::event(0, EVENT_BYTES).encode(&mut bytes);
    bytes
}
