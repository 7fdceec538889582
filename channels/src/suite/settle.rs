//! Settling: what is not settled comes back, in time and in order, to one hand at a time.

use std::time::Duration;

use super::{Backend, kit::*};
use crate::{Attempts, Start};

/// Dropped is released.
pub async fn what_is_dropped_comes_back(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..3).await;
    drop(take(&mut cursor, 3).await);
    assert_eq!(drain(&mut cursor, 3).await, [0, 1, 2]);
    idle(&mut cursor).await;
}

/// A release is a promise about time; other events go on meanwhile.
pub async fn what_is_released_comes_back_after_its_time_and_not_before(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..2).await;
    let mut taken = take(&mut cursor, 2).await;
    // Not before: a client that talks to a server meanwhile would time out at once.
    tokio::time::pause();
    ack(taken.pop().expect("the second"));
    taken.pop().expect("the first").release(Duration::from_secs(60));
    nothing(&mut cursor, Duration::from_millis(59_900)).await;
    let again = tokio::time::timeout(Duration::from_millis(200), take(&mut cursor, 1))
        .await
        .expect("in time");
    assert_eq!(numbers(&again), [0]);
}

/// Two released and two new: the released first, lowest offset first.
pub async fn released_events_come_before_new_ones_in_stored_order(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..4).await;
    let mut taken = take(&mut cursor, 2).await;
    taken.pop().expect("the second").release(Duration::ZERO);
    taken.pop().expect("the first").release(Duration::ZERO);
    assert_eq!(drain(&mut cursor, 4).await, [0, 1, 2, 3]);
}

/// An event in flight is handed to no other caller; once released, to exactly one.
pub async fn an_event_is_in_flight_only_once(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..3).await;
    let mut held = take(&mut cursor, 3).await;
    idle(&mut cursor).await;
    held.remove(1).release(Duration::ZERO);
    let again = take(&mut cursor, 1).await;
    assert_eq!(numbers(&again), [1]);
    idle(&mut cursor).await;
    discard(again);
    discard(held);
    append(&channel, 3..4).await;
    assert_eq!(drain(&mut cursor, 1).await, [3]);
}

/// The next holder gets what the last one took and did not settle; what the last one still gives back is no second copy.
pub async fn a_cursor_dropped_with_events_in_flight_gives_them_to_the_next_holder(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..4).await;
    let mut taken = take(&mut cursor, 3).await;
    ack(taken.remove(1));
    drop(cursor);
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let again = take(&mut cursor, 3).await;
    assert_eq!(numbers(&again), [0, 2, 3]);
    drop(taken);
    idle(&mut cursor).await;
    discard(again);
}

/// An acknowledgement counts although its cursor was dropped before: the subscriber has the event.
pub async fn an_event_acknowledged_late_is_settled(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..2).await;
    let mut taken = take(&mut cursor, 2).await;
    drop(cursor);
    ack(taken.remove(0));
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    discard(taken);
    idle(&mut cursor).await;
    append(&channel, 2..3).await;
    assert_eq!(drain(&mut cursor, 1).await, [2]);
}

/// Whatever the order of settling, in the end all are settled and none came twice.
pub async fn settling_out_of_order_loses_nothing(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..64).await;
    let first = channel.depth().cursors[0].settled_below;
    let mut taken = take(&mut cursor, 64).await;
    while !taken.is_empty() {
        // 37 and 64 have no common divisor, so this walks about.
        ack(taken.remove(37 % taken.len()));
    }
    let status = channel.depth().cursors.remove(0);
    assert_eq!((status.settled_below.0, status.unsettled), (first.0 + 64, 0));
    idle(&mut cursor).await;
}

/// A released event comes with what was remembered of it, another with nothing.
pub async fn attempts_are_remembered_while_the_process_lives(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    append(&channel, 0..2).await;
    let mut taken = take(&mut cursor, 2).await;
    let tried = Attempts {
        failed: 2,
        last_status: Some(503),
        ..Attempts::default()
    };
    taken[1].remember(tried);
    assert_eq!(taken[1].attempts(), tried);
    drop(taken);
    let again = take(&mut cursor, 2).await;
    assert_eq!([again[0].attempts(), again[1].attempts()], [Attempts::default(), tried]);
}

/// Cancelled at every poll it makes, `next` neither loses nor repeats an event.
pub async fn next_can_be_cancelled_at_any_moment(backend: &dyn Backend) {
    let channel = backend.open().await;
    let mut cursor = subscribe(&channel, "a", Start::Latest).await;
    let mut got = Vec::new();
    let writer = {
        let channel = channel.clone();
        tokio::spawn(async move { append(&channel, 0..100).await })
    };
    while got.len() < 100 {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            page = cursor.next(3) => {
                let page = page.expect("deliveries");
                got.extend(numbers(&page));
                discard(page);
            }
        }
        // Every other round begins with a call that is dropped at its first wait.
        let polled = futures_poll_once(cursor.next(3)).await;
        if let Some(page) = polled {
            let page = page.expect("deliveries");
            got.extend(numbers(&page));
            discard(page);
        }
    }
    writer.await.expect("a writer that ended");
    assert_eq!(got, (0..100).collect::<Vec<_>>());
}

async fn futures_poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
