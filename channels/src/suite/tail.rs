//! Tails: readers without a cursor, on channels with and without cursors.

use std::{sync::Arc, time::Duration};

use super::{Backend, kit::*};
use crate::{Channel, PageLimit, ReadError, Start, Tail};

const PAGE: PageLimit = PageLimit {
    events: 7,
    bytes: 1 << 20,
};

async fn tailed(tail: &mut Tail, count: usize) -> Vec<u64> {
    let mut shown = Vec::new();
    while shown.len() < count {
        let page = tail.next(PAGE).await.expect("a page");
        assert_eq!(page.missed, 0, "nothing was missed");
        assert!(page.records.len() <= PAGE.events);
        shown.extend(page.records.iter().map(|record| number(&record.event)));
    }
    shown
}

/// Asserts that the tail has nothing to show right now, and that it lets others run meanwhile.
async fn waits(tail: &mut Tail) {
    let page = tokio::time::timeout(Duration::from_millis(1), tail.next(PAGE)).await;
    assert!(page.is_err(), "nothing more was stored, and {page:?} came");
}

async fn open(channel: &Arc<dyn Channel>) -> Tail {
    Tail::open(channel.clone()).await.expect("a tail")
}

/// Events that no cursor keeps are not readable, so a reader must keep waiting: one that is woken for nothing spins.
pub async fn without_a_cursor_a_reader_waits_and_never_spins(backend: &dyn Backend) {
    let channel = backend.open().await;
    let end = channel.depth().next;
    append(&channel, 0..3).await;
    let mut rounds = 0;
    let reading = async {
        while channel.read(end, 1).await.expect("a page").is_empty() {
            rounds += 1;
            assert!(rounds < 100, "the reader spins");
            channel.grown(end).await;
        }
    };
    // Either it is kept and read, or there is nothing and the reader waits.
    let _ = tokio::time::timeout(Duration::from_millis(1), reading).await;
}

/// A tail shows events also while the channel has no cursor.
pub async fn a_tail_without_cursors_shows_every_event(backend: &dyn Backend) {
    let channel = backend.open().await;
    append(&channel, 100..103).await;
    let (mut tail, mut other) = (open(&channel).await, open(&channel).await);
    waits(&mut tail).await;
    append(&channel, 0..20).await;
    assert_eq!(tailed(&mut tail, 20).await, (0..20).collect::<Vec<_>>());
    waits(&mut tail).await;
    append(&channel, 20..21).await;
    assert_eq!(tailed(&mut tail, 1).await, [20]);
    assert_eq!(tailed(&mut other, 21).await, (0..21).collect::<Vec<_>>());
}

/// The cursor settles each event before the tail reads it.
pub async fn a_tail_beside_a_fast_cursor_shows_every_event(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let mut tail = open(&channel).await;
    for number in 0..20 {
        append(&channel, number..number + 1).await;
        assert_eq!(drain(&mut cursor, 1).await, [number]);
    }
    assert_eq!(tailed(&mut tail, 20).await, (0..20).collect::<Vec<_>>());
    waits(&mut tail).await;
}

/// A tail that waits ends when its channel is closed.
pub async fn a_tail_ends_with_its_channel(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut tail = open(&channel).await;
    let ((), page) = tokio::join!(channel.close(), tail.next(PAGE));
    assert!(matches!(page, Err(ReadError::Closed)), "{page:?}");
}
