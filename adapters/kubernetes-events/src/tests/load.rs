//! Many events on bounded memory.

use std::sync::atomic::AtomicUsize;

use adapter::{Accept, Accepted, Refused};
use async_trait::async_trait;
use channel::{Durability, Offset, Stored};
use parking_lot::Mutex;
use std::collections::HashSet;

use super::*;

/// Kept as they came, they would take some 60 MiB.
const EVENTS: usize = 25_000;

/// Writers at once; more make the API server no faster on two cores.
const WRITERS: usize = 16;

/// The memory that the adapter may add to the process while it reads all of them: pages, the mark of 25 000 objects in memory
/// and as text, and what the allocator keeps of them.
const GROWTH_MAX_KIB: u64 = 48 * 1024;

/// Remembers hashes and keeps no event.
#[derive(Default)]
struct Counting {
    stored: AtomicUsize,
    ids: Mutex<HashSet<u64>>,
}

#[async_trait]
impl Accept for Counting {
    async fn accept(&self, events: Vec<Event>) -> Result<Accepted, Refused> {
        use std::hash::BuildHasher;
        let hasher = foldhash::fast::FixedState::default();
        self.ids
            .lock()
            .extend(events.iter().map(|event| hasher.hash_one(event.id())));
        self.stored.fetch_add(events.len(), Ordering::Relaxed);
        Ok(Accepted::stored(Stored::at(Durability::Process, Offset(0))))
    }
}

/// Proves: SR-5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_events_are_read_on_bounded_memory() {
    let Some(cluster) = Kubernetes::start(Setup::default()).await else {
        return;
    };
    let namespace = Arc::new(TestNamespace::in_cluster(&cluster).await);
    let outlet = Arc::new(Counting::default());
    let source = source(outlet.clone());
    // Half of them are there before, half are watched.
    write(&namespace, 0..EVENTS / 2).await;
    let before = resident_kib();
    let running = Running::start(namespace.config(), &source);
    write(&namespace, EVENTS / 2..EVENTS).await;
    until("all are stored", || outlet.stored.load(Ordering::Relaxed) >= EVENTS).await;
    running.stop().await;
    let growth = resident_kib().saturating_sub(before);
    assert!(growth < GROWTH_MAX_KIB, "resident memory grew by {growth} KiB");
    // A list of all of them brings nothing again.
    cluster.compact().await;
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    namespace.create("last", "web-0", "BackOff").await;
    until("the last is stored", || outlet.stored.load(Ordering::Relaxed) > EVENTS).await;
    running.stop().await;
    assert_eq!(outlet.stored.load(Ordering::Relaxed), EVENTS + 1);
    assert_eq!(outlet.ids.lock().len(), EVENTS + 1);
}

async fn write(namespace: &Arc<TestNamespace>, range: std::ops::Range<usize>) {
    let next = Arc::new(AtomicUsize::new(range.start));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let (namespace, next) = (namespace.clone(), next.clone());
        writers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= range.end {
                    break;
                }
                namespace
                    .create(&format!("event-{index}"), &format!("pod-{}", index % 100), "BackOff")
                    .await;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
}
