//! Cursors: where they begin, one holder, forgetting, and looking without one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Backend, kit::*};
use crate::{Attempts, Channel, Delivery, Offset, ReadError, SettlementState, Start};

/// Events stored before the cursor was created are not handed to it.
pub async fn a_cursor_from_latest_gets_only_what_comes_after(backend: &dyn Backend) {
    let channel = backend.open().await;
    let _keeps = subscribe(&channel, "keeps", Start::Latest).await;
    append(&channel, 0..5).await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 5..7).await;
    assert_eq!(drain(&mut cursor, 2).await, [5, 6]);
}

/// Everything where settled events can be replayed, else what another cursor still holds.
pub async fn a_cursor_from_earliest_gets_all_that_is_kept(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut first = subscribe(&channel, "first", Start::Latest).await;
    append(&channel, 0..5).await;
    assert_eq!(drain(&mut first, 2).await, [0, 1]);
    let kept = if channel.promises().replay { 0..5 } else { 2..5 };
    let mut cursor = subscribe(&channel, "a", Start::Earliest).await;
    assert_eq!(drain(&mut cursor, kept.clone().count()).await, kept.collect::<Vec<_>>());
    idle(&mut cursor).await;
}

/// A kept offset, one before everything, and one not reached yet.
pub async fn a_cursor_from_an_offset_begins_there(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut keeps = subscribe(&channel, "keeps", Start::Latest).await;
    append(&channel, 0..5).await;
    let third = take(&mut keeps, 5).await[2].offset();
    let mut cursor = subscribe(&channel, "a", Start::Offset(third)).await;
    assert_eq!(drain(&mut cursor, 3).await, [2, 3, 4]);
    let mut early = subscribe(&channel, "early", Start::Offset(Offset(0))).await;
    assert_eq!(drain(&mut early, 5).await, [0, 1, 2, 3, 4]);
    let mut late = subscribe(&channel, "late", Start::Offset(Offset(u64::MAX))).await;
    append(&channel, 5..6).await;
    assert_eq!(drain(&mut late, 1).await, [5]);
}

/// The events 0 to 2, and 3 and 4 later.
async fn append_at_two_times(channel: &Arc<dyn Channel>) {
    append(channel, 0..3).await;
    // The wall clock is not paused by anything, and stored times may be as coarse as a millisecond.
    let before = SystemTime::now();
    while SystemTime::now() < before + Duration::from_millis(3) {
        tokio::task::yield_now().await;
    }
    append(channel, 3..5).await;
}

/// The times are those the channel itself gave.
pub async fn a_cursor_from_a_time_begins_with_the_first_event_stored_then(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut keeps = subscribe(&channel, "keeps", Start::Latest).await;
    append_at_two_times(&channel).await;
    let times: Vec<SystemTime> = take(&mut keeps, 5)
        .await
        .iter()
        .map(|delivery| delivery.stored_at())
        .collect();
    assert!(times[2] < times[3]);
    let mut cursor = subscribe(&channel, "a", Start::Time(times[3])).await;
    assert_eq!(drain(&mut cursor, 2).await, [3, 4]);
    let mut all = subscribe(&channel, "all", Start::Time(SystemTime::UNIX_EPOCH)).await;
    assert_eq!(drain(&mut all, 5).await, [0, 1, 2, 3, 4]);
    let mut none = subscribe(&channel, "none", Start::Time(SystemTime::now() + LONG)).await;
    append(&channel, 5..6).await;
    assert_eq!(drain(&mut none, 1).await, [5]);
}

/// Where a start lies, without a cursor: what a replay reads.
pub async fn ranges_bound_the_events_kept_from_a_start_on(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut keeps = subscribe(&channel, "keeps", Start::Latest).await;
    append_at_two_times(&channel).await;
    let taken = take(&mut keeps, 5).await;
    let (third, time) = (taken[2].offset(), taken[3].stored_at());
    let within = async |start| {
        let mut found = Vec::new();
        for range in channel.ranges(start).await.expect("stretches") {
            let page = channel.read(range.start, 100).await.expect("a page");
            found.extend(
                page.iter()
                    .filter(|record| range.contains(&record.offset))
                    .map(|record| number(&record.event)),
            );
        }
        found
    };
    assert_eq!(within(Start::Earliest).await, [0, 1, 2, 3, 4]);
    assert_eq!(within(Start::Offset(third)).await, [2, 3, 4]);
    assert_eq!(within(Start::Time(time)).await, [3, 4]);
    assert!(within(Start::Time(SystemTime::now() + LONG)).await.is_empty());
    assert!(within(Start::Latest).await.is_empty());
    channel.close().await;
    assert!(matches!(channel.ranges(Start::Earliest).await, Err(ReadError::Closed)));
}

/// A start is for a new cursor only.
pub async fn an_existing_cursor_goes_on_where_it_was_whatever_the_start_says(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..3).await;
    assert_eq!(drain(&mut cursor, 1).await, [0]);
    drop(cursor);
    append(&channel, 3..4).await;
    for start in [Start::Latest, Start::Earliest, Start::Offset(Offset(0))] {
        let mut cursor = subscribe(&channel, "a", start).await;
        assert_eq!(numbers(&take(&mut cursor, 3).await), [1, 2, 3]);
    }
}

/// Deleting a cursor ends its holder and frees its events; the name can be used again.
pub async fn a_deleted_cursor_frees_its_events_and_starts_again(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut other = subscribe(&channel, "other", Start::Latest).await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..5).await;
    let taken = take(&mut cursor, 1).await;
    assert_eq!(drain(&mut other, 5).await, [0, 1, 2, 3, 4]);
    assert_eq!(channel.depth().unsettled, 5);
    channel.delete(&name("a"), None).await.expect("a forgotten cursor");
    assert_eq!((channel.depth().unsettled, channel.depth().cursors.len()), (0, 1));
    assert!(matches!(cursor.next(1).await, Err(ReadError::Closed)));
    drop((taken, cursor));
    channel.delete(&name("a"), None).await.expect("nothing to forget");
    let mut second = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 5..6).await;
    assert_eq!(drain(&mut second, 1).await, [5]);
}

/// The subscription was deleted and recreated: neither resumes the cursor of the other.
pub async fn a_cursor_of_another_owner_is_not_resumed(backend: &dyn Backend) {
    let channel = backend.open().await;
    let of = async |owner: Option<&str>| {
        channel
            .subscribe(&name("a"), owner, Start::Latest)
            .await
            .expect("a cursor")
    };
    drop(of(None).await);
    append(&channel, 0..1).await;
    // An unowned cursor becomes its first owner's as it is, and stays it, also for callers without an owner.
    for owner in [Some("one"), Some("one"), None] {
        let mut cursor = of(owner).await;
        assert_eq!(numbers(&take(&mut cursor, 1).await), [0], "{owner:?}");
    }
    let mut before = of(Some("one")).await;
    let held = take(&mut before, 1).await;
    let mut second = of(Some("another")).await;
    append(&channel, 1..3).await;
    assert_eq!(numbers(&take(&mut second, 2).await), [1, 2]);
    assert!(matches!(before.next(1).await, Err(ReadError::Closed)));
    drop((held, before));
    // The deletion of the former one comes late.
    channel
        .delete(&name("a"), Some("one"))
        .await
        .expect("nothing to forget");
    drop(second);
    let mut second = of(Some("another")).await;
    assert_eq!(drain(&mut second, 2).await, [1, 2]);
    assert_eq!(channel.depth().cursors.len(), 1);
    channel
        .delete(&name("a"), Some("another"))
        .await
        .expect("a forgotten cursor");
    assert!(matches!(second.next(1).await, Err(ReadError::Closed)));
    assert_eq!(channel.depth().cursors.len(), 0);
}

/// A second holder is refused until the first lets go.
pub async fn a_cursor_has_one_holder_at_a_time(backend: &dyn Backend) {
    let channel = backend.open().await;
    let cursor = subscribe(&channel, "a", Start::Latest).await;
    let refused = channel.subscribe(&name("a"), None, Start::Latest).await;
    assert!(matches!(refused, Err(ReadError::InUse { name }) if name == "a"));
    let _other = subscribe(&channel, "b", Start::Latest).await;
    drop(cursor);
    let _again = subscribe(&channel, "a", Start::Latest).await;
}

/// In flight counts as unsettled, settled does not, and each cursor is counted for itself.
pub async fn depth_counts_what_each_cursor_has_to_do(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut quick = subscribe(&channel, "quick", Start::Latest).await;
    let mut slow = subscribe(&channel, "slow", Start::Latest).await;
    append(&channel, 0..10).await;
    let mut taken = take(&mut quick, 10).await;
    let _held = take(&mut slow, 1).await;
    ack(taken.remove(5));
    discard(taken.drain(..3).collect());
    let depth = channel.depth();
    let status = |name: &str| {
        depth
            .cursors
            .iter()
            .find(|cursor| cursor.name.as_str() == name)
            .cloned()
    };
    let (quick, slow) = (status("quick").expect("quick"), status("slow").expect("slow"));
    assert_eq!((quick.unsettled, slow.unsettled, depth.unsettled), (6, 10, 10));
    assert_eq!(quick.settled_below.0, slow.settled_below.0 + 3);
    assert!(slow.oldest.is_some_and(|oldest| oldest <= SystemTime::now()));
    assert!(depth.bytes.is_none_or(|bytes| bytes > 0) && depth.next.0 >= 10 && depth.refusing.is_none());
}

/// One event, one cursor: settled, tried, or not looked at yet.
pub async fn the_settlement_state_of_one_event_is_known(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut quick = subscribe(&channel, "quick", Start::Latest).await;
    let mut slow = subscribe(&channel, "slow", Start::Latest).await;
    append(&channel, 0..3).await;
    let mut taken = take(&mut quick, 3).await;
    let _held = take(&mut slow, 1).await;
    let offsets: Vec<Offset> = taken.iter().map(Delivery::offset).collect();
    let tried = Attempts {
        failed: 2,
        last_status: Some(503),
        ..Attempts::default()
    };
    taken[1].remember(tried);
    ack(taken.remove(2));
    let settlement_state = |cursor: &str| {
        let of = |offset: &Offset| channel.settlement_state(&name(cursor), *offset);
        offsets.iter().map(of).collect::<Vec<_>>()
    };
    let untouched = Some(SettlementState::Open(Attempts::default()));
    let settled = Some(SettlementState::Settled);
    assert_eq!(
        settlement_state("quick"),
        [untouched, Some(SettlementState::Open(tried)), settled]
    );
    assert_eq!(settlement_state("slow"), [untouched; 3]);
    assert_eq!(settlement_state("nobody"), [None; 3]);
    ack(taken.remove(1));
    assert_eq!(settlement_state("quick"), [untouched, settled, settled]);
    let next = channel.depth().next;
    assert_ne!(
        channel.settlement_state(&name("quick"), next),
        settled,
        "it is not stored yet"
    );
}

/// Pages of the log for people: bounded, repeatable, without effect.
pub async fn reading_shows_what_is_kept_and_settles_nothing(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let first = channel.depth().next;
    append(&channel, 0..10).await;
    for _ in 0..2 {
        let page = channel.read(first, 4).await.expect("a page");
        assert_eq!(
            page.iter().map(|record| number(&record.event)).collect::<Vec<_>>(),
            [0, 1, 2, 3]
        );
        let rest = channel.read(page[3].offset.next(), 100).await.expect("a page");
        assert_eq!(
            rest.iter().map(|record| number(&record.event)).collect::<Vec<_>>(),
            [4, 5, 6, 7, 8, 9]
        );
    }
    assert!(
        channel
            .read(channel.depth().next, 10)
            .await
            .expect("an empty page")
            .is_empty()
    );
    assert_eq!(drain(&mut cursor, 10).await, (0..10).collect::<Vec<_>>());
}

/// Waits for what is not there yet, and not for what is.
pub async fn growth_is_announced(backend: &dyn Backend) {
    let channel = backend.open().await;
    let _cursor = subscribe(&channel, "a", Start::Latest).await;
    let end = channel.depth().next;
    let watcher = {
        let channel = channel.clone();
        tokio::spawn(async move { channel.grown(end).await })
    };
    tokio::task::yield_now().await;
    assert!(!watcher.is_finished());
    append(&channel, 0..1).await;
    watcher.await.expect("an announcement");
    channel.grown(end).await;
    assert_eq!(channel.read(end, 1).await.expect("a page").len(), 1);
}
