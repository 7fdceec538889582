//! A disk that is full, broken, read-only or damaged.

use std::{path::PathBuf, time::Duration};

use channel::{AppendError, Attempts, Channel, CursorName, GapReason, Offset, Start, Stored};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    ack, drain, event, mount, number, settings,
    twin::{Fault, Operation, Trouble, Twin},
};
use crate::{DataFolder, EmbeddedChannel, Settings};

async fn append(channel: &EmbeddedChannel, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let _ = channel.append(&[event(number, 500)]).await.unwrap();
    }
}

async fn kept(channel: &EmbeddedChannel) -> Vec<u64> {
    let (mut from, mut kept) = (Offset(0), Vec::new());
    loop {
        let page = channel.read(from, 1000).await.unwrap();
        let Some(last) = page.last() else { return kept };
        from = last.offset.next();
        kept.extend(page.iter().map(|record| number(&record.event)));
    }
}

fn bytes(channel: &impl Channel) -> u64 {
    channel.depth().bytes.unwrap()
}

/// Proves: OP-4, IN-3
#[tokio::test]
async fn a_full_disk_refuses_events_delivers_what_is_stored_and_recovers_by_itself() {
    let twin = Twin::new(5);
    let channel = mount(&twin).channel("c", settings()).unwrap();
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    append(&channel, 0..10).await;
    twin.fail(Some(Fault::Full), 0);
    for _ in 0..3 {
        let refused = channel.append(&[event(99, 500)]).await;
        assert!(matches!(refused, Err(AppendError::DiskFull { retry_after }) if !retry_after.is_zero()));
    }
    assert!(channel.depth().refusing.is_some());
    assert_eq!(drain(&mut cursor, 10).await, (0..10).collect::<Vec<_>>());
    twin.fail(None, 0);
    // The upkeep thread finds the space. Its time cannot be paused, so the test waits for it.
    let patience = Instant::now() + Duration::from_secs(20);
    while channel.append(&[event(10, 500)]).await.is_err() {
        assert!(Instant::now() < patience, "{:?}", channel.depth());
        tokio::task::yield_now().await;
    }
    append(&channel, 11..20).await;
    assert_eq!(channel.depth().refusing, None);
    assert_eq!(drain(&mut cursor, 10).await, (10..20).collect::<Vec<_>>());
    assert_eq!(kept(&channel).await, (0..20).collect::<Vec<_>>());
    assert!(channel.stats().failed_writes >= 3);
}

/// Appends one event to each channel, all at the same time.
async fn append_to_each(
    folder: &DataFolder,
    channels: &[EmbeddedChannel],
    number: u64,
) -> Vec<Result<Stored, AppendError>> {
    let event = [event(number, 500)];
    folder.hold(true);
    let appends = join_all(channels.iter().map(|channel| channel.append(&event)));
    tokio::join!(appends, async { folder.hold(false) }).0
}

/// Channels that write at the same time share one group commit. If it fails, each syncs by itself, which finds the
/// ones that fail.
///
/// Proves: OP-2
#[tokio::test]
async fn channels_share_a_sync_and_part_when_it_fails() {
    let mut twin = Twin::new(3);
    let folder = mount(&twin);
    let channels: Vec<_> = (0..20)
        .map(|number: u32| folder.channel(&number.to_string(), settings()).unwrap())
        .collect();
    let all = |twin: &Twin| {
        let folder = mount(twin);
        (0..20)
            .map(|number: u32| folder.channel(&number.to_string(), settings()).unwrap())
            .collect::<Vec<_>>()
    };
    for number in 0..3 {
        let synced = (twin.whole_syncs(), folder.syncs());
        let stored = append_to_each(&folder, &channels, number).await;
        assert!(stored.iter().all(Result::is_ok), "{stored:?}");
        assert_eq!((twin.whole_syncs(), folder.syncs()), (synced.0 + 1, synced.1 + 1));
    }
    twin.trouble(Trouble {
        fault: Fault::Broken,
        after: 0,
        times: Some(1),
        only: Some(Operation::SyncWhole),
    });
    let stored = append_to_each(&folder, &channels, 3).await;
    let lost = stored.iter().filter(|stored| stored.is_err()).count();
    assert!(
        (1..20).contains(&lost),
        "the device lost what some wrote, and not all: {lost}"
    );
    // It is not trusted again.
    let synced = twin.whole_syncs();
    let again = append_to_each(&folder, &channels, 4).await;
    assert!(again.iter().all(Result::is_ok), "{again:?}");
    assert_eq!(twin.whole_syncs(), synced);
    twin = twin.crash();
    drop((channels, folder));
    for (channel, stored) in all(&twin).iter().zip(stored) {
        let kept = kept(channel).await;
        match stored {
            Ok(_) => assert_eq!(kept, [0, 1, 2, 3, 4]),
            Err(_) => assert_eq!(kept, [0, 1, 2, 4]),
        }
    }
}

/// Wherever the state file is cut, no cursor is beyond an unrecorded gap that a limit made.
///
/// Proves: CH-9
#[tokio::test]
async fn no_cursor_steps_over_a_gap_that_is_not_stored() {
    for after in 0..10 {
        let twin = Twin::new(after);
        let limited = Settings {
            limit_bytes: Some(20_000),
            ..settings()
        };
        let channel = mount(&twin).channel("c", limited.clone()).unwrap();
        let cursor = channel
            .subscribe(&CursorName::new("a"), None, Start::Latest)
            .await
            .unwrap();
        append(&channel, 0..60).await;
        twin.trouble(Trouble {
            fault: Fault::Broken,
            after,
            times: None,
            only: Some(Operation::Write),
        });
        let retained = channel.retain();
        let twin = twin.kill();
        drop((cursor, channel));
        let depth = mount(&twin).channel("c", limited).unwrap().depth();
        let gone = depth.gaps.first().map_or(0, |gap| gap.to.0);
        assert_eq!(retained.is_ok(), gone > 0 && depth.earliest.0 > 0, "{after}: {depth:?}");
        assert!(depth.cursors[0].settled_below.0 <= gone, "{after}: {depth:?}");
    }
}

/// Segments are deleted oldest first, each durably before the next: a crash in between leaves no hole, whatever failed
/// before it.
///
/// Proves: CH-7, CH-9
#[tokio::test]
async fn what_retention_deletes_leaves_no_hole_wherever_it_is_cut_off() {
    let tight = Settings {
        retention_bytes: 1,
        ..settings()
    };
    for (seed, after) in (0..8).flat_map(|seed| (0..4).map(move |after| (seed, after))) {
        let mut twin = Twin::new(seed);
        let mut channel = mount(&twin).channel("c", tight.clone()).unwrap();
        append(&channel, 0..100).await;
        for (after, killed) in [(after, false), (0, true), (0, true), (1, false)] {
            if killed {
                twin = twin.kill();
                drop(channel);
                channel = mount(&twin).channel("c", tight.clone()).unwrap();
            }
            twin.trouble(Trouble {
                fault: Fault::Broken,
                after,
                times: None,
                only: Some(Operation::SyncDir),
            });
            assert!(channel.retain().is_err());
        }
        twin = twin.crash();
        drop(channel);
        let channel = mount(&twin).channel("c", tight.clone()).unwrap();
        let earliest = channel.depth().earliest.0;
        assert_eq!(
            kept(&channel).await,
            (earliest..100).collect::<Vec<_>>(),
            "seed {seed}, {after}"
        );
        assert_eq!(channel.depth().gaps, []);
    }
}

/// After a failed sync and a kill, the next process reads data that only the page cache holds, header and cursors
/// included. Whatever it reports is durable.
///
/// Proves: OP-2
#[tokio::test]
async fn what_was_read_after_a_kill_is_there_after_a_crash() {
    let mut shown = 0;
    for seed in 0..200 {
        let mut twin = Twin::new(seed);
        let channel = mount(&twin).channel("c", settings()).unwrap();
        twin.trouble(Trouble {
            fault: Fault::Broken,
            after: 0,
            times: None,
            only: Some(Operation::Sync),
        });
        assert!(channel.append(&[event(0, 500)]).await.is_err());
        twin = twin.kill();
        drop(channel);
        let channel = mount(&twin).channel("c", settings()).unwrap();
        let before = kept(&channel).await;
        shown += before.len();
        twin = twin.crash();
        drop(channel);
        let after = kept(&mount(&twin).channel("c", settings()).unwrap()).await;
        assert!(
            before.is_empty() || after == before,
            "seed {seed}: {before:?} and then {after:?}"
        );
    }
    assert!(shown > 20, "{shown}");
}

/// A log that has deleted everything, and whose new segment was lost, still knows its offset and misses nothing.
///
/// Proves: CH-7, CH-9
#[tokio::test]
async fn a_log_without_segments_misses_nothing_that_was_deleted() {
    let tight = Settings {
        retention_bytes: 1,
        ..settings()
    };
    let twin = Twin::new(1);
    let channel = mount(&twin).channel("c", tight.clone()).unwrap();
    append(&channel, 0..10).await;
    channel.store.log.seal().unwrap();
    channel.retain().unwrap();
    channel.close().await;
    let mut files = twin.contents();
    drop(channel);
    // Twice: the second process relies on the checkpoint that the first one wrote without segments.
    for _ in 0..2 {
        files.retain(|path, _| !path.to_string_lossy().contains("0.log"));
        let twin = Twin::holding(&files);
        let channel = mount(&twin).channel("c", tight.clone()).unwrap();
        assert_eq!(channel.depth().gaps, []);
        channel.close().await;
        files = twin.contents();
    }
    let channel = mount(&Twin::holding(&files)).channel("c", tight).unwrap();
    let stored = channel.append(&[event(10, 500)]).await.unwrap();
    assert_eq!(stored.last(), Offset(10));
}

/// Settlements, attempts, dead letters and a new cursor are still saved; then the power fails.
///
/// Proves: OP-4, DL-4, DL-5
#[tokio::test]
async fn on_a_full_disk_cursors_attempts_and_letters_are_still_stored() {
    let mut twin = Twin::new(11);
    let folder = mount(&twin);
    let channel = folder.channel("c", settings()).unwrap();
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    append(&channel, 0..10).await;
    twin.room(Some(100));
    let refused = channel.append(&[event(99, 500)]).await;
    assert!(matches!(refused, Err(AppendError::DiskFull { .. })), "{refused:?}");
    let mut page = cursor.next(10).await.unwrap();
    page.drain(1..4).for_each(ack);
    page[0].remember(Attempts {
        failed: 7,
        ..Attempts::default()
    });
    for number in 100..110 {
        let _ = channel
            .dead_letters()
            .store(&event(number, 3000), &bytes::Bytes::new())
            .await
            .unwrap();
    }
    channel.dead_letters().remove(&[Offset(3)]).await.unwrap();
    let _late = channel
        .subscribe(&CursorName::new("late"), None, Start::Latest)
        .await
        .unwrap();
    channel.store.save(true).unwrap();
    // Freed space is not for events: one that would fit is refused while the reserved space is incomplete.
    assert!(matches!(
        channel.append(&[event(99, 1)]).await,
        Err(AppendError::DiskFull { .. })
    ));
    // In the end there is no space for dead letters either. They are refused, not lost.
    let mut stored = 10;
    while channel
        .dead_letters()
        .store(&event(200 + stored, 3000), &bytes::Bytes::new())
        .await
        .is_ok()
    {
        stored += 1;
    }
    assert_eq!(channel.dead_letters().count(), stored - 1);
    twin = twin.crash();
    twin.room(None);
    drop((page, cursor, channel, folder));
    let channel = mount(&twin).channel("c", settings()).unwrap();
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    let page = cursor.next(10).await.unwrap();
    let came: Vec<_> = page
        .iter()
        .map(|delivery| (number(delivery.event()), delivery.attempts().failed))
        .collect();
    assert_eq!(came, [(0, 7), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0)]);
    assert_eq!(channel.dead_letters().count(), stored - 1);
    assert_eq!(channel.depth().cursors.len(), 2);
    let _ = channel.append(&[event(99, 500)]).await.unwrap();
}

/// Proves: OP-4
#[tokio::test]
async fn after_a_failed_sync_the_log_goes_on_in_a_new_segment_and_trusts_nothing_of_the_old_handle() {
    let mut twin = Twin::new(6);
    let folder = mount(&twin);
    let channel = folder.channel("c", Settings::default()).unwrap();
    append(&channel, 0..5).await;
    // The write succeeds, the sync fails.
    twin.fail(Some(Fault::Broken), 1);
    let refused = channel.append(&[event(5, 500)]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })));
    twin.fail(None, 0);
    append(&channel, 6..10).await;
    assert_eq!(channel.stats().segments, 2);
    twin = twin.crash();
    drop((channel, folder));
    let channel = mount(&twin).channel("c", Settings::default()).unwrap();
    assert_eq!(kept(&channel).await, [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!(channel.gaps(), []);
}

/// Preallocated zeros are not part of the log, and no damage after a kill.
///
/// Proves: OP-2
#[tokio::test]
async fn room_behind_the_records_is_used_after_a_kill_and_given_back_at_the_end() {
    let log = |twin: &Twin| {
        let log = |(path, _): &(PathBuf, usize)| path.ends_with("00000000000000000000.log");
        twin.files().into_iter().find(log).unwrap().1
    };
    let mut twin = Twin::new(9);
    let folder = mount(&twin);
    let channel = folder.channel("c", Settings::default()).unwrap();
    append(&channel, 0..20).await;
    let reserved = log(&twin);
    assert!(reserved as u64 > bytes(&channel), "{reserved}");
    twin = twin.kill();
    drop((channel, folder));
    let folder = mount(&twin);
    let channel = folder.channel("c", Settings::default()).unwrap();
    assert_eq!((channel.stats().cut_bytes, channel.gaps()), (0, vec![]));
    assert_eq!(log(&twin), reserved);
    append(&channel, 20..21).await;
    assert_eq!(log(&twin), reserved, "the room is used");
    assert_eq!(kept(&channel).await, (0..21).collect::<Vec<_>>());
    channel.close().await;
    assert!(log(&twin) < reserved, "a closed log ends with its last record");
    drop((channel, folder));
    let channel = mount(&twin).channel("c", Settings::default()).unwrap();
    assert_eq!(channel.stats().recovered_records, 0, "a clean end needs no recovery");
    assert_eq!(kept(&channel).await, (0..21).collect::<Vec<_>>());
}

/// Proves: OP-4
#[tokio::test]
async fn a_disk_with_room_for_the_record_alone_takes_it() {
    let twin = Twin::new(10);
    let channel = mount(&twin).channel("c", Settings::default()).unwrap();
    append(&channel, 0..1).await;
    // The next write of the record succeeds, the one of the zeros behind it fails.
    while twin
        .files()
        .iter()
        .any(|(path, length)| path.ends_with("00000000000000000000.log") && *length < 3000)
    {
        append(&channel, 1..2).await;
    }
    twin.fail(Some(Fault::Full), 1);
    let _ = channel.append(&[event(2, 8000)]).await.unwrap();
    twin.fail(None, 0);
    append(&channel, 3..6).await;
    let kept = kept(&channel).await;
    assert_eq!(kept[kept.len() - 4..], [2, 3, 4, 5]);
    assert_eq!(channel.stats().failed_writes, 0);
}

/// Proves: OP-4
#[tokio::test]
async fn a_disk_that_became_read_only_delivers_and_refuses() {
    let twin = Twin::new(7);
    let channel = mount(&twin).channel("c", settings()).unwrap();
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    append(&channel, 0..10).await;
    twin.fail(Some(Fault::ReadOnly), 0);
    assert!(matches!(
        channel.append(&[event(99, 10)]).await,
        Err(AppendError::Unavailable { .. })
    ));
    assert_eq!(drain(&mut cursor, 10).await, (0..10).collect::<Vec<_>>());
    twin.fail(None, 0);
    append(&channel, 10..11).await;
    assert_eq!(drain(&mut cursor, 1).await, [10]);
}

/// Proves: CH-9, OP-2
#[tokio::test]
async fn a_flipped_bit_costs_one_event_and_is_a_visible_gap() {
    let twin = Twin::new(8);
    {
        let channel = mount(&twin).channel("c", settings()).unwrap();
        append(&channel, 0..40).await;
        let _cursor = channel
            .subscribe(&CursorName::new("a"), None, Start::Offset(Offset(0)))
            .await
            .unwrap();
        channel.close().await;
    }
    let (segment, length) = twin
        .files()
        .into_iter()
        .find(|(path, _)| path.ends_with("00000000000000000000.log"))
        .unwrap();
    twin.flip(&segment, length / 2);
    let folder = mount(&twin);
    let channel = folder.channel("c", settings()).unwrap();
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    let came = drain(&mut cursor, 39).await;
    let lost: Vec<u64> = (0..40).filter(|number| !came.contains(number)).collect();
    let gaps = channel.gaps();
    assert_eq!((lost.len(), gaps.len(), gaps[0].reason), (1, 1, GapReason::Damage));
    assert_eq!((gaps[0].from.0, gaps[0].to.0), (lost[0], lost[0] + 1));
    assert_eq!(channel.depth().cursors[0].unsettled, 0, "a gap holds nothing up");
    // The gap stays recorded, and is not found a second time.
    channel.close().await;
    drop((cursor, channel));
    let channel = folder.channel("c", settings()).unwrap();
    assert_eq!(kept(&channel).await.len(), 39);
    assert_eq!(channel.gaps().len(), 1);
}

/// Proves: CH-9
#[tokio::test]
async fn retention_deletes_what_everybody_settled_and_nothing_else() {
    let twin = Twin::new(9);
    let folder = mount(&twin);
    let channel = folder
        .channel(
            "c",
            Settings {
                retention_bytes: 0,
                segment_bytes: 2000,
                ..settings()
            },
        )
        .unwrap();
    let mut quick = channel
        .subscribe(&CursorName::new("quick"), None, Start::Latest)
        .await
        .unwrap();
    let mut slow = channel
        .subscribe(&CursorName::new("slow"), None, Start::Latest)
        .await
        .unwrap();
    append(&channel, 0..4000 / 500 * 40).await;
    let total = 320;
    assert_eq!(drain(&mut quick, total).await.len(), total);
    channel.retain().unwrap();
    assert_eq!(channel.depth().earliest, Offset(0));
    let before = bytes(&channel);
    assert_eq!(drain(&mut slow, total).await.len(), total);
    channel.retain().unwrap();
    assert!(bytes(&channel) < before / 2, "{} of {before}", bytes(&channel));
    assert_eq!(channel.gaps(), []);
    append(&channel, 1000..1001).await;
    assert_eq!(
        (drain(&mut quick, 1).await, drain(&mut slow, 1).await),
        (vec![1000], vec![1000])
    );
}

/// Proves: CH-9
#[tokio::test]
async fn a_hard_limit_drops_the_oldest_records_the_gap_and_lets_cursors_go_on() {
    let twin = Twin::new(10);
    let limited = Settings {
        limit_bytes: Some(1 << 20),
        ..Settings::default()
    };
    let channel = mount(&twin).channel("c", limited).unwrap();
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    for number in 0..40 {
        let _ = channel.append(&[event(number, 100 << 10)]).await.unwrap();
    }
    channel.retain().unwrap();
    let gap = channel.gaps()[0];
    assert_eq!((gap.from, gap.reason), (Offset(0), GapReason::Limit));
    assert!(bytes(&channel) <= 1 << 20);
    let left = usize::try_from(40 - gap.to.0).unwrap();
    assert_eq!(drain(&mut cursor, left).await, (gap.to.0..40).collect::<Vec<_>>());
    assert_eq!(channel.depth().cursors[0].unsettled, 0);
}
