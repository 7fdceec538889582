//! Storing: who gets it, all or none, limits, and a full channel.

use std::sync::Arc;

use super::{Backend, kit::*};
use crate::{AppendError, Channel, Offset, ReadError, Record, Start};

/// Every cursor gets every event once, in stored order, whatever the others do.
pub async fn every_event_reaches_every_cursor_once(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursors = Vec::new();
    for cursor in ["a", "b", "c"] {
        cursors.push(subscribe(&channel, cursor, Start::Latest).await);
    }
    append(&channel, 0..50).await;
    for cursor in &mut cursors {
        assert_eq!(drain(cursor, 50).await, (0..50).collect::<Vec<_>>());
        idle(cursor).await;
    }
}

/// A batch has neighbouring offsets in its own order; the proof names the last.
pub async fn a_batch_is_stored_whole_and_side_by_side(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..1).await;
    let batch: Vec<_> = (1..8).map(event).collect();
    let stored = channel.append(&batch).await.expect("a stored batch");
    append(&channel, 8..9).await;
    let taken = take(&mut cursor, 9).await;
    assert_eq!(numbers(&taken), (0..9).collect::<Vec<_>>());
    let offsets: Vec<u64> = taken.iter().map(|delivery| delivery.offset().0).collect();
    assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + 1), "{offsets:?}");
    assert_eq!(stored.last().0, offsets[7]);
}

/// One event too large refuses the batch.
pub async fn an_event_over_the_limit_is_refused_and_nothing_of_its_batch_stored(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let limit = channel.promises().max_event_bytes;
    let refused = channel.append(&[event(0), sized(1, limit + 1)]).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { bytes, limit: named }) if bytes > limit && named == limit));
    append(&channel, 2..3).await;
    assert_eq!(drain(&mut cursor, 1).await, [2]);
}

/// Attributes and data, empty, small and large, as they were given.
pub async fn an_event_comes_back_byte_for_byte(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let with_extensions = event(3)
        .edit()
        .set("partitionkey", "ключ €")
        .set("traceparent", "00-1-2-03")
        .finish();
    let events = [
        event(0),
        sized(1, 1 << 20),
        sized(2, 70_001),
        with_extensions.expect("a valid event"),
    ];
    let _ = channel.append(&events).await.expect("stored events");
    for (taken, given) in take(&mut cursor, events.len()).await.iter().zip(&events) {
        assert_eq!(taken.event(), given);
    }
}

/// Full is an answer, not a loss: what was accepted is there, and settling makes room.
pub async fn a_full_channel_refuses_and_takes_events_again_when_there_is_space(backend: &dyn Backend) {
    let Some(channel) = backend.open_small().await else {
        return;
    };
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let mut accepted = 0;
    let refused = loop {
        assert!(accepted < 100_000, "a small channel never became full");
        match channel.append(&[event(accepted)]).await {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, AppendError::Full { retry_after } if !retry_after.is_zero()));
    assert!(channel.depth().refusing.is_some());
    let count = usize::try_from(accepted).expect("a small number");
    assert_eq!(drain(&mut cursor, count).await, (0..accepted).collect::<Vec<_>>());
    assert_eq!(channel.depth().refusing, None);
    let again = 1_000_000;
    let _ = channel
        .append(&[event(again)])
        .await
        .expect("space after everything was settled");
    assert_eq!(drain(&mut cursor, 1).await, [again]);
}

/// Another cursor gets everything while one holds its first event for ever.
pub async fn a_cursor_that_does_nothing_disturbs_no_other(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut stuck = subscribe(&channel, "stuck", Start::Latest).await;
    let mut quick = subscribe(&channel, "quick", Start::Latest).await;
    append(&channel, 0..1).await;
    let held = take(&mut stuck, 1).await;
    append(&channel, 1..200).await;
    assert_eq!(drain(&mut quick, 200).await, (0..200).collect::<Vec<_>>());
    drop(held);
    assert_eq!(drain(&mut stuck, 200).await, (0..200).collect::<Vec<_>>());
}

/// Places are given in one order, and it is the order everybody reads.
pub async fn concurrent_appends_arrive_in_offset_order(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursors = [
        subscribe(&channel, "a", Start::Latest).await,
        subscribe(&channel, "b", Start::Latest).await,
    ];
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let channel: Arc<dyn Channel> = channel.clone();
        writers.spawn(async move {
            for i in 0..25 {
                append(&channel, writer * 25 + i..writer * 25 + i + 1).await;
            }
        });
    }
    let mut orders = Vec::new();
    for cursor in &mut cursors {
        let taken = take(cursor, 200).await;
        assert!(taken.windows(2).all(|pair| pair[0].offset() < pair[1].offset()));
        orders.push(numbers(&taken));
    }
    writers.join_all().await;
    assert_eq!(orders[0], orders[1]);
    for writer in 0..8 {
        let own: Vec<_> = orders[0]
            .iter()
            .copied()
            .filter(|number| number / 25 == writer)
            .collect();
        assert_eq!(own, (writer * 25..writer * 25 + 25).collect::<Vec<_>>());
    }
}

/// Each event lies at the offset that its publisher received, and no other event does, also when publishers disconnect.
pub async fn each_of_many_appends_has_its_own_offset(backend: &dyn Backend) {
    let channel = backend.open().await;
    // For whom they are kept.
    let _cursor = subscribe(&channel, "a", Start::Latest).await;
    append_many_at_once(&channel, 4, 64).await;
}

/// Appends rounds of events, each in a task of its own, and drops some of the tasks. All that the channel has then, which must
/// have been empty.
///
/// # Panics
/// When an event that was not dropped is not where its task was told.
pub async fn append_many_at_once(channel: &Arc<dyn Channel>, rounds: u64, at_once: u64) -> Vec<Record> {
    let mut offsets = Vec::new();
    for round in 0..rounds {
        let (mut kept, mut dropped) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
        for index in 0..at_once {
            let (channel, appended) = (channel.clone(), round * at_once + index);
            let append = async move {
                let stored = channel.append(&[event(appended)]).await.expect("space for an event");
                (appended, stored.last())
            };
            // The first of each round often sends for others.
            let tasks = if index % 7 == 0 { &mut dropped } else { &mut kept };
            tasks.spawn(append);
        }
        tokio::task::yield_now().await;
        dropped.abort_all();
        offsets.extend(kept.join_all().await);
    }
    let max = usize::try_from(rounds * at_once).expect("a page's length") + 1;
    let page = channel.read(Offset(0), max).await.expect("a page");
    for (appended, offset) in offsets {
        let record = page.iter().find(|record| record.offset == offset).expect("its place");
        assert_eq!(number(&record.event), appended);
    }
    page
}

/// Appends, cursors, letters and waiting readers are told; what is in flight cannot be settled any more.
pub async fn a_closed_channel_says_so_everywhere(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..1).await;
    let mut taken = take(&mut cursor, 1).await;
    let end = channel.depth().next;
    let (closing, watching, waiting) = tokio::join!(channel.close(), channel.grown(end), cursor.next(1));
    assert_eq!((closing, watching), ((), ()));
    assert!(matches!(waiting, Err(ReadError::Closed)));
    channel.close().await;
    assert!(matches!(channel.append(&[event(1)]).await, Err(AppendError::Closed)));
    assert!(matches!(
        channel.subscribe(&name("b"), None, Start::Latest).await,
        Err(ReadError::Closed)
    ));
    assert!(matches!(channel.delete(&name("a"), None).await, Err(ReadError::Closed)));
    assert!(matches!(channel.read(end, 1).await, Err(ReadError::Closed)));
    assert!(matches!(
        channel.dead_letters().store(&event(2), &bytes::Bytes::new()).await,
        Err(AppendError::Closed)
    ));
    assert!(
        taken
            .pop()
            .expect("one")
            .ack(crate::Disposition::Discarded(crate::Discard::Filtered))
            .is_err()
    );
}
