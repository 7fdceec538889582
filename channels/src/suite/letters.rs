//! The dead-letter log.

use super::{Backend, kit::*};
use crate::{Channel, Offset, Start};

async fn list(channel: &dyn Channel, from: Offset, max: usize) -> Vec<(u64, Offset)> {
    let page = channel.letters().list(from, max).await.expect("a page of letters");
    page.iter()
        .map(|letter| (number(&letter.event), letter.offset))
        .collect()
}

/// Stored in order, paged, removed one by one; events and letters do not mix.
pub async fn letters_are_kept_listed_and_removed(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 100..101).await;
    assert_eq!(
        (channel.letters().count(), list(&*channel, Offset(0), 10).await),
        (0, vec![])
    );
    for letter in 0..5 {
        let stored = channel.letters().store(&event(letter)).await.expect("a stored letter");
        assert_eq!(stored.durability(), channel.promises().durability);
    }
    let all = list(&*channel, Offset(0), 10).await;
    assert_eq!(
        all.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(list(&*channel, Offset(0), 2).await, all[..2]);
    assert_eq!(list(&*channel, all[1].1.next(), 10).await, all[2..]);
    let removed = channel
        .letters()
        .remove(&[all[1].1, all[3].1, all[3].1, Offset(9999)])
        .await;
    assert_eq!(removed.expect("removed letters"), 2);
    assert_eq!(list(&*channel, Offset(0), 10).await, [all[0], all[2], all[4]]);
    assert_eq!(channel.letters().count(), 3);
    let rest: Vec<Offset> = all.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(channel.letters().remove(&rest).await.expect("removed letters"), 3);
    assert_eq!(
        (channel.letters().count(), list(&*channel, Offset(0), 10).await),
        (0, vec![])
    );
    let _ = channel.letters().store(&event(7)).await.expect("a stored letter");
    assert_eq!(list(&*channel, Offset(0), 10).await.len(), 1);
    assert_eq!(drain(&mut cursor, 1).await, [100]);
    // A letter carries an answer too, so it may be larger than the largest event. Only where that is quickly tried.
    let limit = channel.promises().max_event_bytes;
    if limit <= 1 << 20 {
        let _ = channel
            .letters()
            .store(&sized(8, limit + 1000))
            .await
            .expect("a stored letter");
    }
}

/// Letters and their absence survive a clean close and a crash.
pub async fn letters_survive_a_restart(backend: &dyn Backend) {
    let mut channel = backend.open().await;
    if !survives(&channel) {
        return;
    }
    for letter in 0..4 {
        let _ = channel.letters().store(&event(letter)).await.expect("a stored letter");
    }
    let all = list(&*channel, Offset(0), 10).await;
    assert_eq!(
        channel
            .letters()
            .remove(&[all[0].1, all[2].1])
            .await
            .expect("removed letters"),
        2
    );
    for crash in [false, true, true] {
        if crash {
            backend.crash(channel).await;
        } else {
            channel.close().await;
            drop(channel);
        }
        channel = backend.open().await;
        assert_eq!(list(&*channel, Offset(0), 10).await, [all[1], all[3]]);
        assert_eq!(channel.letters().count(), 2);
    }
}
