//! The channel suite, and what only this channel does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use channel::{AppendError, Channel, CursorName, Delivered, Disposition, Start, suite::Backend};
use event::Event;
use tokio::time::Instant;

use crate::{Budget, MemoryChannel, Settings};

struct Memory;

#[async_trait]
impl Backend for Memory {
    async fn open(&self) -> Arc<dyn Channel> {
        Arc::new(MemoryChannel::new(Settings {
            max_event_bytes: 2 << 20,
            ..Settings::default()
        }))
    }

    async fn open_small(&self) -> Option<Arc<dyn Channel>> {
        Some(Arc::new(MemoryChannel::new(Settings {
            capacity: 200,
            ..Settings::default()
        })))
    }

    async fn crash(&self, channel: Arc<dyn Channel>) {
        drop(channel);
    }
}

channel::cases!(Memory);

fn event(bytes: usize) -> Event {
    Event::builder("1", "/memory", "test")
        .data("text/plain", vec![b'x'; bytes].into())
        .finish()
        .unwrap()
}

fn small(capacity: usize) -> Arc<MemoryChannel> {
    Arc::new(MemoryChannel::new(Settings {
        capacity,
        ..Settings::default()
    }))
}

/// Proves: CH-2, CH-9
#[tokio::test]
async fn a_channel_that_nobody_reads_is_refused_at_its_share_and_the_others_go_on() {
    const EVENT: usize = 1 << 20;
    let budget = Budget::new(8 * EVENT);
    let open = || MemoryChannel::within(Settings::default(), &budget);
    let (stuck, busy, late) = (open(), open(), open());
    let name = CursorName::new("a");
    let mut cursors = Vec::new();
    for channel in [&stuck, &busy, &late] {
        cursors.push(channel.subscribe(&name, None, Start::Latest).await.unwrap());
    }
    let mut taken = 0;
    let refused = loop {
        match stuck.append(&[event(EVENT - 100)]).await {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 8, "more than there is");
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert!((2..=4).contains(&taken), "{taken}");
    let why = stuck.depth().refusing.unwrap();
    assert!(why.contains("--memory-budget"), "{why}");
    assert_eq!(busy.depth().refusing, None);
    for _ in 0..100 {
        for (channel, cursor) in [&busy, &late].into_iter().zip(&mut cursors[1..]) {
            let _ = channel.append(&[event(1000)]).await.unwrap();
            settle_one(cursor).await;
        }
    }
    assert!(budget.used() <= budget.total());
    // It accepts events again once there is space, and freed memory is returned.
    settle_one(&mut cursors[0]).await;
    assert_eq!(stuck.depth().refusing, None);
    let _ = stuck.append(&[event(1000)]).await.unwrap();
    drop((cursors, stuck, busy, late));
    assert_eq!(budget.used(), 0);
}

async fn settle_one(cursor: &mut Box<dyn channel::Cursor>) {
    for delivery in cursor.next(1).await.unwrap() {
        delivery
            .ack(Disposition::Accepted(Delivered::by_status(200).unwrap()))
            .unwrap();
    }
}

/// Proves: CH-9
#[tokio::test(start_paused = true)]
async fn a_publisher_waits_briefly_for_space_and_gets_it_when_the_subscriber_moves() {
    let channel = small(10);
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    for _ in 0..10 {
        let _ = channel.append(&[event(10)]).await.unwrap();
    }
    let waiting = {
        let channel = channel.clone();
        tokio::spawn(async move { channel.append(&[event(10)]).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    settle_one(&mut cursor).await;
    assert!(waiting.await.unwrap().is_ok());
}

/// Proves: CH-9, CH-2
#[tokio::test(start_paused = true)]
async fn after_one_vain_wait_publishers_are_refused_at_once_until_a_tenth_has_drained() {
    let channel = small(100);
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    for _ in 0..100 {
        let _ = channel.append(&[event(10)]).await.unwrap();
    }
    let started = Instant::now();
    assert!(matches!(
        channel.append(&[event(10)]).await,
        Err(AppendError::Full { .. })
    ));
    assert_eq!(started.elapsed(), crate::SPACE_WAIT);
    for _ in 0..9 {
        let started = Instant::now();
        assert!(matches!(
            channel.append(&[event(10)]).await,
            Err(AppendError::Full { .. })
        ));
        assert_eq!(started.elapsed(), Duration::ZERO);
        settle_one(&mut cursor).await;
    }
    assert!(channel.append(&[event(10)]).await.is_err());
    settle_one(&mut cursor).await;
    assert!(channel.append(&[event(10)]).await.is_ok());
}

/// Proves: CH-9
#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_too_and_an_empty_ring_takes_any_batch() {
    let channel = MemoryChannel::new(Settings {
        max_bytes: 10_000,
        ..Settings::default()
    });
    let _cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    let _ = channel.append(&[event(20_000), event(20_000)]).await.unwrap();
    assert!(matches!(
        channel.append(&[event(1)]).await,
        Err(AppendError::Full { .. })
    ));
}

/// Proves: CH-4
#[tokio::test]
async fn without_a_cursor_nothing_is_kept_and_it_is_counted() {
    let channel = small(10);
    for _ in 0..1000 {
        let _ = channel.append(&[event(10)]).await.unwrap();
    }
    assert_eq!(
        (channel.unheard(), channel.depth().bytes, channel.depth().next.0),
        (1000, Some(0), 1000)
    );
}

/// Proves: DL-5, CH-9
#[tokio::test]
async fn a_full_letter_log_refuses_and_keeps_what_it_has() {
    let channel = small(10);
    let large = event(1 << 20);
    let mut stored = 0;
    let refused = loop {
        match channel.dead_letters().store(&large, &bytes::Bytes::new()).await {
            Ok(_) => stored += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, AppendError::Full { .. }));
    assert_eq!((stored, channel.dead_letters().count()), (15, 15));
}

/// Proves: CH-2
#[tokio::test]
async fn settings_can_change_while_events_are_held() {
    let channel = small(10);
    let _cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    for _ in 0..10 {
        let _ = channel.append(&[event(10)]).await.unwrap();
    }
    channel.configure(Settings {
        capacity: 20,
        max_event_bytes: 1000,
        ..Settings::default()
    });
    let _ = channel.append(&[event(10)]).await.unwrap();
    assert!(matches!(
        channel.append(&[event(2000)]).await,
        Err(AppendError::TooLarge { .. })
    ));
    assert_eq!(channel.promises().max_event_bytes, 1000);
}

/// Proves: CH-9
#[tokio::test]
async fn a_faulty_channel_fails_by_its_script_and_is_the_real_one_otherwise() {
    use channel::faulty::{Fault, FaultyChannel};
    let faulty = FaultyChannel::new(small(10));
    let mut cursor = faulty
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    faulty.fail_appends([
        Some(Fault::Full),
        None,
        Some(Fault::StoredButUnavailable),
        Some(Fault::DiskFull),
    ]);
    faulty.fail_dead_letters([Some(Fault::Unavailable)]);
    faulty.fail_reads(1);
    assert!(matches!(
        faulty.append(&[event(1)]).await,
        Err(AppendError::Full { .. })
    ));
    assert!(faulty.append(&[event(1)]).await.is_ok());
    assert!(matches!(
        faulty.append(&[event(1)]).await,
        Err(AppendError::Unavailable { .. })
    ));
    assert!(matches!(
        faulty.append(&[event(1)]).await,
        Err(AppendError::DiskFull { .. })
    ));
    assert!(
        faulty
            .dead_letters()
            .store(&event(1), &bytes::Bytes::new())
            .await
            .is_err()
    );
    assert!(
        faulty
            .dead_letters()
            .store(&event(1), &bytes::Bytes::new())
            .await
            .is_ok()
    );
    assert!(cursor.next(10).await.is_err());
    assert_eq!(cursor.next(10).await.unwrap().len(), 2);
    assert_eq!((faulty.depth().next.0, faulty.dead_letters().count()), (2, 1));
}

/// Reading the depth must never deadlock a channel: its locks have one order.
///
/// Proves: CH-2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_can_be_looked_at_while_it_works() {
    const EVENTS: usize = 20_000;
    let channel = small(1000);
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    let queue = channel.clone();
    let watcher = std::thread::spawn(move || while queue.depth().next.0 < EVENTS as u64 {});
    let filled = channel.clone();
    let filler = tokio::spawn(async move {
        for _ in 0..EVENTS {
            while filled.append(&[event(1)]).await.is_err() {}
        }
    });
    let mut taken = 0;
    while taken < EVENTS {
        for delivery in cursor.next(64).await.unwrap() {
            delivery
                .ack(Disposition::Accepted(Delivered::by_status(202).unwrap()))
                .unwrap();
            taken += 1;
        }
    }
    filler.await.unwrap();
    watcher.join().unwrap();
}
