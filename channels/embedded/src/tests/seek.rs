//! Seeks by offset and time: correct whatever the index beside a segment contains, and short if it is intact.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use channel::{Channel, Offset, Start};

use super::{RealDisk, event, number};
use crate::{
    EmbeddedChannel, Settings,
    index::Index,
    segment::{Mark, Segment},
    storage::Disk,
};

/// Several segments with several marks each.
fn large() -> Settings {
    Settings {
        segment_bytes: 300 << 10,
        ..Settings::default()
    }
}

const EVENTS: u64 = 1200;

async fn filled(disk: &RealDisk) -> EmbeddedChannel {
    let channel = disk.channel(large());
    for first in (0..EVENTS).step_by(100) {
        let events: Vec<_> = (first..first + 100).map(|number| event(number, 1000)).collect();
        let _ = channel.append(&events).await.unwrap();
        // The batches have different times.
        let begun = std::time::SystemTime::now();
        while begun.elapsed().unwrap() < Duration::from_millis(3) {
            tokio::task::yield_now().await;
        }
    }
    channel
}

/// Checks that the offset and the time of every event lead to it.
async fn check(channel: &EmbeddedChannel) {
    let (mut from, mut records) = (Offset(0), Vec::new());
    while records.len() < usize::try_from(EVENTS).unwrap() {
        records.extend(channel.read(from, 1000).await.unwrap());
        from = records.last().unwrap().offset.next();
    }
    // From the end, so that no earlier seek has read the range.
    for record in records.iter().rev().step_by(7) {
        let page = channel.read(record.offset, 1).await.unwrap();
        assert_eq!(number(&page[0].event), record.offset.0);
        let first = records
            .iter()
            .find(|first| first.stored_at >= record.stored_at)
            .unwrap();
        let found = channel.ranges(Start::Time(record.stored_at)).await.unwrap();
        assert_eq!(found[0].start, first.offset);
    }
    assert_eq!(channel.gaps(), []);
}

/// Reopens the channel after `change` was applied to its files.
async fn reopened(disk: &RealDisk, channel: EmbeddedChannel, change: impl Fn(PathBuf)) -> EmbeddedChannel {
    let dir = channel.store.log.dir().to_path_buf();
    channel.close().await;
    drop(channel);
    for entry in fs::read_dir(dir).unwrap() {
        change(entry.unwrap().path());
    }
    disk.channel(large())
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "idx")
}

/// Proves: CH-4, CH-7
#[tokio::test]
async fn every_place_and_time_is_found_with_a_good_a_missing_a_torn_and_a_foreign_index() {
    let disk = RealDisk::new();
    let channel = filled(&disk).await;
    assert!(channel.stats().segments >= 4);
    check(&channel).await;
    let found = std::cell::Cell::new(0);
    let channel = reopened(&disk, channel, |path| {
        found.set(found.get() + u64::from(is_index(&path)));
    })
    .await;
    assert_eq!(found.get(), channel.stats().segments, "one for each, the last one too");
    check(&channel).await;
    let channel = reopened(&disk, channel, |path| {
        if is_index(&path) {
            fs::remove_file(path).unwrap();
        }
    })
    .await;
    check(&channel).await;
    let channel = reopened(&disk, channel, |path| {
        if is_index(&path) {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }
    })
    .await;
    check(&channel).await;
    let channel = reopened(&disk, channel, |path| {
        if is_index(&path) {
            fs::write(&path, b"something else").unwrap();
        }
    })
    .await;
    check(&channel).await;
}

/// An index with a valid checksum and false contents: positions, offsets, and times.
///
/// Proves: CH-4, CH-7
#[tokio::test]
async fn an_index_that_lies_is_found_out_and_made_again() {
    let lies: [fn(Mark) -> Mark; 4] = [
        |mark| Mark {
            position: mark.position + 1,
            ..mark
        },
        |mark| Mark {
            offset: mark.offset + 1,
            ..mark
        },
        |mark| Mark {
            stored_ms: mark.stored_ms - 5,
            ..mark
        },
        |mark| Mark {
            position: mark.position + (1 << 40),
            ..mark
        },
    ];
    let disk = RealDisk::new();
    let mut channel = filled(&disk).await;
    let salt = channel.store.log.salt();
    for lie in lies {
        channel = reopened(&disk, channel, |path| {
            let Some(base) = path
                .file_name()
                .and_then(|name| Segment::parse_index_name(name.to_str()?))
            else {
                return;
            };
            let length = fs::metadata(path.with_extension("log")).unwrap().len();
            let segment = Segment::new(path.parent().unwrap(), base, length);
            let mut index = Index::read(&Disk::default(), &segment, salt).unwrap();
            index.marks = index.marks.into_iter().map(lie).collect();
            index.write(&Disk::default(), &path, base, salt).unwrap();
        })
        .await;
        check(&channel).await;
    }
}

/// Proves: CH-9
#[tokio::test]
async fn an_index_goes_with_its_segment_and_one_without_a_segment_at_the_next_start() {
    let disk = RealDisk::new();
    let channel = filled(&disk).await;
    channel.close().await;
    drop(channel);
    let channel = disk.channel(Settings {
        retention_age: Duration::ZERO,
        ..large()
    });
    channel.retain().unwrap();
    let segments = channel.stats().segments;
    assert!(segments <= 2, "{segments}");
    let indexes = |path: &Path| {
        fs::read_dir(path)
            .unwrap()
            .filter(|entry| is_index(&entry.as_ref().unwrap().path()))
            .count()
    };
    let dir = channel.store.log.dir().to_path_buf();
    assert!(indexes(&dir) as u64 <= segments);
    fs::write(dir.join(Segment::name(7777)).with_extension("idx"), b"left over").unwrap();
    channel.close().await;
    drop(channel);
    let channel = disk.channel(large());
    assert!(indexes(&dir) as u64 <= channel.stats().segments);
    assert!(!dir.join(Segment::name(7777)).with_extension("idx").exists());
}
