//! The data folder: its lock, names, removal, and the cost of reopening.

use std::time::Duration;

use channel::{Channel, CursorName, Offset, Start};
use tokio::time::Instant;

use super::{ack, drain, event, settings};
use crate::{
    DataFolder, OpenError, Settings,
    inspect::{self, Finding},
    storage::Disk,
};

/// Proves: OP-5
#[test]
fn a_second_holder_is_told_which_folder_and_whose() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let Err(refused) = DataFolder::open(root.path()) else {
        panic!("a folder had two holders")
    };
    let message = refused.to_string();
    assert!(message.contains(&root.path().display().to_string()), "{message}");
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    drop(folder);
    DataFolder::open(root.path()).unwrap();
}

/// Proves: OP-5
#[tokio::test]
async fn a_folder_is_given_up_when_its_last_channel_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let channel = DataFolder::open(root.path())
        .unwrap()
        .channel("c", Settings::default())
        .unwrap();
    assert!(matches!(DataFolder::open(root.path()), Err(OpenError::Locked { .. })));
    let _ = channel.append(&[event(1, 10)]).await.unwrap();
    drop(channel);
    DataFolder::open(root.path()).unwrap();
}

#[tokio::test]
async fn a_channel_is_open_once_and_can_be_opened_again_after_its_close() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let channel = folder.channel("team/a", Settings::default()).unwrap();
    assert!(
        matches!(folder.channel("team/a", Settings::default()), Err(OpenError::InUse { name }) if name == "team/a")
    );
    assert!(matches!(folder.remove("team/a"), Err(OpenError::InUse { .. })));
    let _ = channel.append(&[event(1, 10)]).await.unwrap();
    channel.close().await;
    let again = folder.channel("team/a", Settings::default()).unwrap();
    assert_eq!(again.depth().next.0, 1);
    again.close().await;
    assert_eq!(folder.channels().unwrap(), ["team/a"]);
    folder.remove("team/a").unwrap();
    folder.remove("team/a").unwrap();
    assert_eq!(folder.channels().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_to_delete_is_no_failure() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let channel = folder.channel("unused", settings()).unwrap();
    channel.retain().unwrap();
    for number in 0..40 {
        let _ = channel.append(&[event(number, 1000)]).await.unwrap();
    }
    // Deletes a segment that retention would delete now.
    let oldest = root.path().join("channels/unused/00000000000000000000.log");
    std::fs::remove_file(oldest).unwrap();
    channel.configure(Settings {
        retention_bytes: 0,
        ..settings()
    });
    channel.retain().unwrap();
    assert!(channel.depth().earliest.0 > 0);
}

/// Proves: CH-2
#[tokio::test]
async fn channels_of_one_folder_do_not_mix() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let names = ["a", "A/b", "..", "a%2fb", "ä"];
    let mut cursors = Vec::new();
    let channels: Vec<_> = names
        .iter()
        .map(|name| folder.channel(name, settings()).unwrap())
        .collect();
    for (number, channel) in (0..).zip(&channels) {
        cursors.push(
            channel
                .subscribe(&CursorName::new("x"), None, Start::Latest)
                .await
                .unwrap(),
        );
        let _ = channel.append(&[event(number, 10)]).await.unwrap();
    }
    for (number, cursor) in (0..).zip(&mut cursors) {
        assert_eq!(drain(cursor, 1).await, [number]);
    }
}

/// Proves: OP-2
#[tokio::test]
async fn a_hundred_channels_reopen_quickly_after_a_close_and_after_a_crash() {
    let root = tempfile::tempdir().unwrap();
    for (round, close) in [true, false, true].into_iter().enumerate() {
        let folder = DataFolder::open(root.path()).unwrap();
        let started = Instant::now();
        let channels: Vec<_> = (0..100)
            .map(|i| folder.channel(&format!("c{i}"), Settings::default()).unwrap())
            .collect();
        // Generous: it takes a tenth of this, and the test must not fail on a busy machine.
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        for channel in &channels {
            assert_eq!(channel.depth().next.0, round as u64);
            let _ = channel.append(&[event(1, 100)]).await.unwrap();
            if close {
                channel.close().await;
            }
        }
    }
}

/// Proves: CH-5
#[tokio::test]
async fn acknowledgements_reach_the_disk_within_milliseconds_without_a_close() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let channel = folder.channel("c", Settings::default()).unwrap();
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    for number in 0..10 {
        let _ = channel.append(&[event(number, 10)]).await.unwrap();
    }
    for delivery in cursor.next(10).await.unwrap().into_iter().take(6) {
        ack(delivery);
    }
    // A thread saves, so its time cannot be paused: the test waits instead of measuring.
    let dir = root.path().join("channels/c");
    let saved = || {
        let mut found = 0;
        inspect::channel(&Disk::default(), &dir, "c", &mut |finding| {
            if let Finding::Cursor { settled_below, .. } = finding {
                found = settled_below;
            }
        })
        .unwrap();
        found
    };
    let patience = Instant::now() + Duration::from_secs(10);
    while saved() < 6 {
        assert!(Instant::now() < patience, "nothing was saved");
        tokio::task::yield_now().await;
    }
    drop((cursor, channel, folder));
    let channel = DataFolder::open(root.path())
        .unwrap()
        .channel("c", Settings::default())
        .unwrap();
    let status = channel.depth().cursors.remove(0);
    assert_eq!((status.settled_below.0, status.unsettled), (6, 4));
}

/// Proves: OP-2
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_quiet_channel_has_no_file_open_and_goes_on_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let channel = folder.channel("c", Settings::default()).unwrap();
    let dir = root.path().join("channels/c");
    let open_files = || {
        let opened = std::fs::read_dir("/proc/self/fd").unwrap();
        opened
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .filter(|path| path.starts_with(&dir))
            .count()
    };
    let mut cursor = channel
        .subscribe(&CursorName::new("a"), None, Start::Latest)
        .await
        .unwrap();
    for round in 0..3 {
        let _ = channel.append(&[event(round, 10)]).await.unwrap();
        let dead_letters = channel.dead_letters();
        let _ = dead_letters
            .store(&event(round, 10), &bytes::Bytes::new())
            .await
            .unwrap();
        assert_eq!(drain(&mut cursor, 1).await, [round]);
        channel.store.save(true).unwrap();
        channel.store.dead_letters.save_if_changed();
        assert_eq!(open_files(), 4, "a log and its state, and the letters'");
        channel.store.rest();
        channel.store.rest();
        assert_eq!(open_files(), 0);
    }
    assert_eq!(
        std::fs::read_dir(&dir).unwrap().count(),
        4,
        "no segment was begun for a rest"
    );
    drop((cursor, channel, folder));
    let channel = DataFolder::open(root.path())
        .unwrap()
        .channel("c", Settings::default())
        .unwrap();
    assert_eq!(channel.depth().next.0, 3);
    assert_eq!(channel.depth().cursors[0].unsettled, 0);
    assert_eq!(channel.dead_letters().list(Offset(0), 10).await.unwrap().len(), 3);
}
