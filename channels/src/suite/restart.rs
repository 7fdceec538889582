//! Restarts: for channels that promise more than this process's life.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Backend, kit::*};
use crate::{Attempts, Channel, Offset, Start};

/// Acknowledged events are gone, the rest comes, each once.
pub async fn after_a_clean_close_nothing_settled_comes_again_and_nothing_else_is_missing(backend: &dyn Backend) {
    let channel = backend.open().await;
    if !survives(&channel) {
        return;
    }
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..20).await;
    let mut taken = take(&mut cursor, 15).await;
    for settled in [12, 9, 8, 3, 1, 0] {
        ack(taken.remove(settled));
    }
    channel.close().await;
    drop((taken, cursor, channel));
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Earliest).await;
    let left = [2, 4, 5, 6, 7, 10, 11, 13, 14, 15, 16, 17, 18, 19];
    assert_eq!(drain(&mut cursor, left.len()).await, left);
    idle(&mut cursor).await;
    append(&channel, 20..21).await;
    assert_eq!(drain(&mut cursor, 1).await, [20]);
}

/// Three lives, each ending in a crash: all that was acknowledged is there, unchanged, with its own offset.
pub async fn after_a_crash_every_acknowledged_event_is_there_in_order(backend: &dyn Backend) {
    let mut channel = backend.open().await;
    if !survives(&channel) {
        return;
    }
    let mut known: Vec<(Offset, event::Event)> = Vec::new();
    for life in 0..3 {
        for number in 0..30 {
            let event = sized(life * 30 + number, 100 + usize::try_from(number).expect("small") * 700);
            let stored = channel
                .append(std::slice::from_ref(&event))
                .await
                .expect("a stored event");
            known.push((stored.last(), event));
        }
        backend.crash(channel).await;
        channel = backend.open().await;
        let mut kept = Vec::new();
        while let Some(from) = Some(kept.last().map_or(Offset(0), |(last, _): &(Offset, _)| last.next())) {
            let page = channel.read(from, 1000).await.expect("a page");
            if page.is_empty() {
                break;
            }
            kept.extend(page.into_iter().map(|record| (record.offset, record.event)));
        }
        assert_eq!(kept, known);
    }
}

/// At least once: nothing unsettled is missing. What was settled may come again, if it was settled a moment ago.
pub async fn after_a_crash_what_was_not_settled_comes_again(backend: &dyn Backend) {
    let channel = backend.open().await;
    if !survives(&channel) {
        return;
    }
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..20).await;
    let mut taken = take(&mut cursor, 10).await;
    ack(taken.remove(4));
    drop((taken, cursor));
    backend.crash(channel).await;
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let mut came = Vec::new();
    while came.last() != Some(&19) {
        came.extend(drain(&mut cursor, 1).await);
    }
    came.retain(|number| *number != 4);
    assert_eq!(came, (0..20).filter(|number| *number != 4).collect::<Vec<_>>());
}

/// A cursor is stored before `subscribe` returns, and its end before `delete` does.
pub async fn cursors_and_their_absence_survive_a_crash(backend: &dyn Backend) {
    let channel = backend.open().await;
    if !survives(&channel) {
        return;
    }
    append(&channel, 0..3).await;
    drop(subscribe(&channel, "kept", Start::Latest).await);
    drop(subscribe(&channel, "forgotten", Start::Latest).await);
    let owned = async |channel: &Arc<dyn Channel>, owner| {
        let cursor = channel.subscribe(&name("owned"), Some(owner), Start::Latest).await;
        cursor.expect("a cursor")
    };
    drop(owned(&channel, "one").await);
    append(&channel, 3..5).await;
    channel
        .delete(&name("forgotten"), None)
        .await
        .expect("a forgotten cursor");
    backend.crash(channel).await;
    let channel = backend.open().await;
    let mut names: Vec<_> = channel.depth().cursors.into_iter().map(|cursor| cursor.name).collect();
    names.sort();
    assert_eq!(names, [name("kept"), name("owned")]);
    // The owner survives, too: while the channel was closed, the subscription was deleted and recreated.
    let mut recreated = owned(&channel, "another").await;
    append(&channel, 5..6).await;
    let mut cursor = subscribe(&channel, "kept", Start::Latest).await;
    assert_eq!(drain(&mut cursor, 3).await, [3, 4, 5]);
    assert_eq!(drain(&mut recreated, 1).await, [5]);
}

/// An event in backoff comes back with its attempts and its offset: waiting for its time is the holder's.
pub async fn attempts_survive_a_restart_with_their_offset(backend: &dyn Backend) {
    let channel = backend.open().await;
    if !channel.promises().remembers_attempts {
        return;
    }
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..3).await;
    let mut taken = take(&mut cursor, 2).await;
    let (now, wait) = (SystemTime::now(), Duration::from_secs(600));
    let tried = Attempts {
        failed: 4,
        last_status: Some(502),
        first_at: Some(now),
        next_at: Some(now + wait),
        retry_after: Some(Duration::from_millis(2500)),
    };
    taken[0].remember(tried);
    drop((taken, cursor));
    channel.close().await;
    drop(channel);
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let again = take(&mut cursor, 3).await;
    let attempts = again[0].attempts();
    assert_eq!(
        (
            numbers(&again),
            attempts.failed,
            attempts.last_status,
            attempts.retry_after
        ),
        (vec![0, 1, 2], 4, Some(502), tried.retry_after)
    );
    let close = |a: Option<SystemTime>, b: SystemTime| {
        a.is_some_and(|a| a.duration_since(b).unwrap_or_else(|error| error.duration()) <= Duration::from_millis(2))
    };
    assert!(
        close(attempts.first_at, now) && close(attempts.next_at, now + wait),
        "{attempts:?}"
    );
}
