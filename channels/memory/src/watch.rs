//! The watches of a memory channel: each is a bounded queue of events that were stored and not read yet, and counts
//! what did not fit.

use std::collections::VecDeque;

use async_trait::async_trait;
use channel::{PageLimit, ReadError, Record, TailPage, Watch};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Events held for one reader at most: a burst of a tenth of a second at 10 000 a second.
const EVENTS_MAX: usize = 1024;

/// Bytes held for one reader at most. Usually shared with the ring; 16 readers take 16 MiB if no cursor holds the
/// events.
const BYTES_MAX: usize = 1 << 20;

/// One reader's queue, filled under the ring's lock.
#[derive(Default)]
pub(crate) struct WatchQueue {
    queue: Mutex<Queue>,
    shown: Notify,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Record>,
    bytes: usize,
    /// Events dropped before the first record.
    missed: u64,
    has_ended: bool,
}

impl WatchQueue {
    /// Adds records, dropping the oldest beyond the bounds: an old event is worth less to a person who watches. A
    /// record larger than the bound is kept alone.
    pub(crate) fn push(&self, records: impl Iterator<Item = Record>) {
        let mut queue = self.queue.lock();
        for record in records {
            let size = record.event.size();
            while queue.records.len() >= EVENTS_MAX || queue.bytes + size > BYTES_MAX {
                let Some(oldest) = queue.records.pop_front() else { break };
                queue.bytes -= oldest.event.size();
                queue.missed += 1;
            }
            queue.bytes += size;
            queue.records.push_back(record);
        }
        drop(queue);
        self.shown.notify_one();
    }

    pub(crate) fn end(&self) {
        self.queue.lock().has_ended = true;
        self.shown.notify_one();
    }

    fn take(&self, limit: PageLimit) -> Result<Option<TailPage>, ReadError> {
        let mut queue = self.queue.lock();
        let mut page = TailPage {
            missed: std::mem::take(&mut queue.missed),
            records: Vec::new(),
        };
        let mut bytes = 0;
        while let Some(record) = queue.records.front() {
            let size = record.event.size();
            let is_full = page.records.len() >= limit.events.max(1) || bytes + size > limit.bytes;
            if is_full && !page.records.is_empty() {
                break;
            }
            bytes += size;
            page.records.extend(queue.records.pop_front());
        }
        queue.bytes -= bytes;
        match (page.records.is_empty(), queue.has_ended) {
            (false, _) => Ok(Some(page)),
            (true, true) => Err(ReadError::Closed),
            (true, false) => Ok(None),
        }
    }
}

/// A reader. Events it has not received are dropped with it.
pub(crate) struct MemoryWatch(std::sync::Arc<WatchQueue>);

impl MemoryWatch {
    pub(crate) fn new(queue: std::sync::Arc<WatchQueue>) -> Self {
        Self(queue)
    }
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self, limit: PageLimit) -> Result<TailPage, ReadError> {
        loop {
            if let Some(page) = self.0.take(limit)? {
                return Ok(page);
            }
            self.0.shown.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{sync::Arc, time::SystemTime};

    use bytes::Bytes;
    use channel::Offset;
    use event::Event;

    use super::*;

    fn record(offset: u64, bytes: usize) -> Record {
        let data = Bytes::from(vec![b'x'; bytes]);
        Record {
            offset: Offset(offset),
            stored_at: SystemTime::UNIX_EPOCH,
            event: Event::builder("1", "/s", "t")
                .data("text/plain", data)
                .finish()
                .unwrap(),
        }
    }

    const PAGE: PageLimit = PageLimit {
        events: 100,
        bytes: 1 << 20,
    };

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_it_missed_and_gets_the_newest() {
        let queue = Arc::new(WatchQueue::default());
        queue.push((0..2000).map(|offset| record(offset, 1)));
        let mut watch = MemoryWatch::new(queue.clone());
        let page = watch.next(PAGE).await.unwrap();
        assert_eq!((page.missed, page.records[0].offset), (976, Offset(976)));
        assert_eq!(page.records.len(), 100);
        assert_eq!(watch.next(PAGE).await.unwrap().missed, 0, "told once");
        queue.push((2000..2003).map(|offset| record(offset, BYTES_MAX)));
        let page = watch.next(PAGE).await.unwrap();
        assert_eq!(
            (page.missed, page.records.len()),
            (824 + 2, 1),
            "the largest fits alone"
        );
        assert_eq!(queue.queue.lock().bytes, 0);
    }
}
