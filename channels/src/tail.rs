//! A tail shows the events stored from now on to people who watch a channel. No cursor is affected by it.
//!
//! Most channels keep what every cursor settled for a while, so a tail reads on from their end, partition by partition. A channel
//! that drops settled events at once hands them to its [`Watch`]es as they come. Either way a tail waits where there is nothing to
//! read: it never spins. A reader that is too slow is told how many events it missed.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Channel, Offset, ReadError, Record, Start};

/// How much one page of a tail holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Events of a page at most.
    pub events: usize,
    /// Sum of the events' sizes; a first event that is larger makes a page of its own.
    pub bytes: usize,
}

/// A page of a tail.
#[derive(Debug, Default)]
pub struct TailPage {
    /// Events that were stored before these records and were gone before they were read.
    pub missed: u64,
    /// The events, oldest first.
    pub records: Vec<Record>,
}

/// A reader that its channel hands new events to, for channels that drop what every cursor settled at once.
#[async_trait]
pub trait Watch: Send {
    /// Waits until there is something. Cancel safe.
    async fn next(&mut self, limit: PageLimit) -> Result<TailPage, ReadError>;
}

/// How long a tail pauses when there should be something and nothing can be read: a record that is no event, or one that was
/// removed meanwhile. Also how often a channel with partitions is asked for its ends, because [`Channel::grown`] waits for one
/// partition only.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads a channel from where it ended when the tail was opened.
pub struct Tail {
    channel: Arc<dyn Channel>,
    source: Source,
}

enum Source {
    Watch(Box<dyn Watch>),
    /// The next offset of each partition.
    Read {
        next: Vec<Offset>,
        /// Events a read asks for: fewer when events are large, so that a page costs little more than its limit.
        ask: usize,
    },
}

impl Tail {
    /// Opens a tail. Every event stored after this returned is shown, or counted as missed.
    pub async fn open(channel: Arc<dyn Channel>) -> Result<Self, ReadError> {
        let source = match channel.watch() {
            Some(watch) => Source::Watch(watch),
            None => {
                let ends = channel.ranges(Start::Latest).await?;
                let next = ends.into_iter().map(|range| range.end).collect();
                Source::Read { next, ask: 1 }
            }
        };
        Ok(Self { channel, source })
    }

    /// Waits until there is something, oldest first. Fails when the channel is closed or cannot be read. Cancel safe.
    pub async fn next(&mut self, limit: PageLimit) -> Result<TailPage, ReadError> {
        let (next, ask) = match &mut self.source {
            Source::Watch(watch) => return watch.next(limit).await,
            Source::Read { next, ask } => (next, ask),
        };
        let mut is_empty = false;
        loop {
            let ends = match next.len() {
                // Nothing lies behind the end of the only one.
                1 => vec![next[0]..Offset(u64::MAX)],
                _ => ends(&*self.channel, next).await?,
            };
            for (next, range) in next.iter_mut().zip(ends) {
                let page = page(&*self.channel, &range, ask, limit).await?;
                if let Some(last) = page.records.last() {
                    *next = last.offset.next();
                    return Ok(page);
                }
                // The rest of a partition whose end is known holds no events.
                if range.end < Offset(u64::MAX) {
                    *next = range.end;
                }
            }
            match &next[..] {
                // Woken, and there was nothing: waiting for growth again could return at once, and so on.
                [_] if is_empty => tokio::time::sleep(PAUSE).await,
                [only] => self.channel.grown(*only).await,
                _ => tokio::time::sleep(PAUSE).await,
            }
            is_empty = true;
        }
    }
}

/// Returns the range of each partition that can be read now.
async fn ends(channel: &dyn Channel, next: &[Offset]) -> Result<Vec<Range<Offset>>, ReadError> {
    let ends = channel.ranges(Start::Latest).await?;
    Ok(next
        .iter()
        .zip(ends)
        .map(|(next, end)| *next..end.end.max(*next))
        .collect())
}

async fn page(
    channel: &dyn Channel,
    range: &Range<Offset>,
    ask: &mut usize,
    limit: PageLimit,
) -> Result<TailPage, ReadError> {
    if range.is_empty() {
        return Ok(TailPage::default());
    }
    let read = channel.read(range.start, (*ask).clamp(1, limit.events.max(1))).await?;
    let (mut page, mut bytes) = (TailPage::default(), 0);
    for record in read {
        bytes += record.event.size();
        let fits = page.records.is_empty() || bytes <= limit.bytes;
        if record.offset >= range.end || !fits {
            break;
        }
        page.records.push(record);
    }
    let Some(first) = page.records.first() else {
        return Ok(page);
    };
    *ask = if bytes > limit.bytes {
        page.records.len()
    } else {
        page.records.len() * 2
    };
    // Retention was faster. Only where offsets are one order is each offset an event.
    if range.end == Offset(u64::MAX) && first.offset > range.start {
        let earliest = channel.depth().earliest.min(first.offset);
        page.missed = earliest.0.saturating_sub(range.start.0);
    }
    Ok(page)
}
