//! Repeats inside the dedup window, from every source of a repeat.

use std::time::Duration;

use channel::{AppendError, Channel, CursorName, Offset, Start};
use event::Event;

use super::{
    drain, event, mount, settings,
    twin::{Fault, Twin},
};
use crate::{EmbeddedChannel, Settings};

const WINDOW: Duration = Duration::from_secs(600);

fn deduped() -> Settings {
    Settings {
        dedup: Some(WINDOW),
        ..settings()
    }
}

fn events(numbers: &[u64]) -> Vec<Event> {
    numbers.iter().map(|number| event(*number, 100)).collect()
}

/// Appends as one batch; returns the offset of the last event.
async fn append(channel: &EmbeddedChannel, numbers: &[u64]) -> u64 {
    channel.append(&events(numbers)).await.unwrap().last().0
}

async fn kept(channel: &EmbeddedChannel) -> Vec<u64> {
    let page = channel.read(Offset(0), 1000).await.unwrap();
    page.iter().map(|record| super::number(&record.event)).collect()
}

/// Proves: CH-5
#[tokio::test]
async fn a_repeat_is_answered_with_the_place_of_the_first_and_reaches_nobody_again() {
    let twin = Twin::new(1);
    let channel = mount(&twin).channel("c", deduped()).unwrap();
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    assert_eq!(append(&channel, &[0]).await, 0);
    assert_eq!(append(&channel, &[1]).await, 1);
    assert_eq!(append(&channel, &[0]).await, 0);
    assert_eq!(append(&channel, &[2]).await, 2);
    assert_eq!(drain(&mut cursor, 3).await, [0, 1, 2]);
    assert_eq!(kept(&channel).await, [0, 1, 2]);
    assert_eq!((channel.stats().appends, channel.stats().repeats), (3, 1));
}

/// Proves: CH-5
#[tokio::test]
async fn a_batch_stores_what_of_it_is_new_whole_and_once() {
    let twin = Twin::new(2);
    let channel = mount(&twin).channel("c", deduped()).unwrap();
    append(&channel, &[0, 1]).await;
    assert_eq!(
        append(&channel, &[1, 2, 2, 3, 0]).await,
        0,
        "the last of it was stored before"
    );
    assert_eq!(append(&channel, &[0, 4]).await, 4);
    assert_eq!(kept(&channel).await, [0, 1, 2, 3, 4]);
    let folder = mount(&twin.crash());
    let channel = folder.channel("c", deduped()).unwrap();
    assert_eq!((kept(&channel).await, channel.gaps()), (vec![0, 1, 2, 3, 4], vec![]));
}

/// All of these wait in one batch while the first one is written.
///
/// Proves: CH-5
#[tokio::test]
async fn repeats_that_come_at_once_are_one_event_and_all_wait_until_it_is_stored() {
    let twin = Twin::new(3);
    let folder = mount(&twin);
    let channel = folder.channel("c", deduped()).unwrap();
    let (same, other) = (events(&[7]), events(&[8]));
    let appends = (0..50).map(|_| async { channel.append(&same).await.unwrap().last() });
    let other = async { channel.append(&other).await.unwrap().last() };
    let (offsets, offset) = tokio::join!(all(appends.collect()), other);
    assert!(offsets.iter().all(|offset| *offset == offsets[0]));
    assert_ne!(offset, offsets[0]);
    assert_eq!(kept(&channel).await.len(), 2);
    assert_eq!(channel.stats().repeats, 49);
}

async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Proves: CH-5, OP-2
#[tokio::test]
async fn the_window_survives_a_crash_and_a_clean_restart() {
    let mut twin = Twin::new(4);
    for round in 0..4u64 {
        let folder = mount(&twin);
        let channel = folder.channel("c", deduped()).unwrap();
        let numbers: Vec<u64> = (0..(round + 1) * 100).collect();
        for number in &numbers {
            append(&channel, &[*number]).await;
        }
        assert_eq!(kept(&channel).await, numbers, "round {round}");
        assert_eq!(channel.stats().repeats, round * 100);
        if round % 2 == 0 {
            twin = twin.crash();
        } else {
            channel.close().await;
        }
    }
}

/// Proves: IN-2, OP-4
#[tokio::test]
async fn a_repeat_of_what_could_not_be_written_is_refused_and_stored_when_it_can() {
    for fault in [Fault::Full, Fault::Broken, Fault::FullAtSync] {
        let twin = Twin::new(5);
        let channel = mount(&twin).channel("c", deduped()).unwrap();
        append(&channel, &[0]).await;
        twin.fail(Some(fault), 0);
        for _ in 0..2 {
            let refused = channel.append(&events(&[1])).await;
            assert!(
                matches!(
                    refused,
                    Err(AppendError::DiskFull { .. } | AppendError::Unavailable { .. })
                ),
                "{fault:?}"
            );
        }
        assert_eq!(
            append(&channel, &[0]).await,
            0,
            "a repeat of what is stored needs no disk"
        );
        twin.fail(None, 0);
        append(&channel, &[1]).await;
        append(&channel, &[1]).await;
        assert_eq!(kept(&channel).await, [0, 1], "{fault:?}");
    }
}

/// Proves: CH-5
#[tokio::test]
async fn a_window_that_is_switched_on_knows_what_was_stored_before_and_one_switched_off_knows_nothing() {
    let twin = Twin::new(6);
    let channel = mount(&twin).channel("c", settings()).unwrap();
    append(&channel, &[0]).await;
    append(&channel, &[0]).await;
    channel.configure(deduped());
    append(&channel, &[0]).await;
    append(&channel, &[1]).await;
    channel.configure(Settings {
        dedup: Some(WINDOW * 2),
        ..settings()
    });
    append(&channel, &[1]).await;
    assert_eq!(kept(&channel).await, [0, 0, 1]);
    channel.configure(settings());
    append(&channel, &[1]).await;
    assert_eq!(kept(&channel).await, [0, 0, 1, 1]);
}

/// Proves: CH-5
#[tokio::test]
async fn letters_are_never_taken_for_repeats() {
    let twin = Twin::new(7);
    let channel = mount(&twin).channel("c", deduped()).unwrap();
    for _ in 0..2 {
        let _ = channel
            .dead_letters()
            .store(&event(1, 10), &bytes::Bytes::new())
            .await
            .unwrap();
    }
    assert_eq!(channel.dead_letters().count(), 2);
}
