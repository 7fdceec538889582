//! Flips every byte of a small folder, and cuts every file at every length: the damage is noticed, costs only the
//! record that was hit, becomes a gap, and the channel goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use channel::{Channel, CursorName, GapReason, Offset, Start};
use parking_lot::Mutex;

use super::{ack, event, mount, number, twin::Twin};
use crate::{
    EmbeddedChannel, Settings,
    format::{SegmentHeader, put_record},
    inspect::{self, Fault, Finding},
};

const EVENTS: u64 = 12;
const SETTLED: u64 = 3;
const DEAD_LETTERS: u64 = 3;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn small() -> Settings {
    Settings {
        segment_bytes: 900,
        ..Settings::default()
    }
}

/// Builds a folder with two cursors, one of them ahead, dead letters and several segments; closed cleanly or killed.
async fn sample(is_closed: bool) -> Files {
    let twin = Twin::new(3);
    let folder = mount(&twin);
    let channel = folder.channel("c", small()).unwrap();
    let mut ahead = channel
        .subscribe(&CursorName::new("ahead"), None, Start::Latest)
        .await
        .unwrap();
    let _behind = channel
        .subscribe(&CursorName::new("behind"), None, Start::Latest)
        .await
        .unwrap();
    for number in 0..EVENTS {
        let _ = channel.append(&[event(number, 60)]).await.unwrap();
    }
    for number in 0..DEAD_LETTERS {
        let _ = channel
            .dead_letters()
            .store(&event(number, 60), &bytes::Bytes::new())
            .await
            .unwrap();
    }
    let page = ahead.next(usize::try_from(SETTLED).unwrap()).await.unwrap();
    page.into_iter().for_each(ack);
    channel.dead_letters().remove(&[Offset(0)]).await.unwrap();
    if is_closed {
        channel.close().await;
    } else {
        // The upkeep thread does this within milliseconds.
        channel.store.save(true).unwrap();
        channel.store.dead_letters.save_if_changed();
    }
    let twin = twin.kill();
    let mut files = twin.contents();
    files.retain(|path, _| !path.ends_with("reserved-space"));
    files
}

struct Recovery {
    events: BTreeSet<u64>,
    dead_letters: BTreeSet<u64>,
    /// Numbers delivered, by cursor.
    came: BTreeMap<&'static str, BTreeSet<u64>>,
    /// Offsets that are gaps.
    gaps: BTreeSet<u64>,
    missing_dead_letters: u64,
    faults: Vec<Fault>,
}

fn faults(twin: &Twin) -> Vec<Fault> {
    let mut faults = Vec::new();
    let dir = Path::new("/data/channels/c");
    inspect::channel(twin, dir, "c", &mut |finding| {
        if let Finding::Fault(fault) = finding {
            faults.push(fault);
        }
    })
    .unwrap();
    faults
}

/// Opens a folder and reads everything.
async fn open(files: &Files) -> Recovery {
    let twin = Twin::holding(files);
    let faults = faults(&twin);
    let folder = mount(&twin);
    let channel = folder.channel("c", small()).unwrap();
    let mut came = BTreeMap::new();
    for name in ["ahead", "behind"] {
        came.insert(name, drain(&channel, name).await);
    }
    let mut events = BTreeSet::new();
    for record in channel.read(Offset(0), usize::MAX).await.unwrap() {
        assert_eq!(record.event, event(record.offset.0, 60), "an event changed");
        assert_eq!(number(&record.event), record.offset.0);
        events.insert(record.offset.0);
    }
    let page = channel.dead_letters().list(Offset(0), usize::MAX).await.unwrap();
    let dead_letters = page.iter().map(|dead_letter| number(&dead_letter.event)).collect();
    let damaged = |gap: &channel::Gap| {
        assert_eq!(gap.reason, GapReason::Damage);
        gap.from.0..gap.to.0
    };
    // The channel goes on.
    let _ = channel.append(&[event(99, 10)]).await.unwrap();
    let _ = channel
        .dead_letters()
        .store(&event(99, 10), &bytes::Bytes::new())
        .await
        .unwrap();
    assert_eq!(drain(&channel, "ahead").await, [99].into());
    Recovery {
        events,
        dead_letters,
        came,
        gaps: channel.gaps().iter().flat_map(damaged).collect(),
        missing_dead_letters: channel.dead_letters().missing(),
        faults,
    }
}

/// Takes and settles everything of a cursor, which must exist.
async fn drain(channel: &EmbeddedChannel, name: &str) -> BTreeSet<u64> {
    let known = channel
        .depth()
        .cursors
        .iter()
        .any(|cursor| cursor.name.as_str() == name);
    assert!(known, "cursor {name} is gone");
    let mut cursor = channel
        .subscribe(&CursorName::new(name), None, Start::Latest)
        .await
        .unwrap();
    let mut came = BTreeSet::new();
    let unsettled = || {
        channel
            .depth()
            .cursors
            .iter()
            .find(|c| c.name.as_str() == name)
            .unwrap()
            .unsettled
    };
    while unsettled() > 0 {
        // A gap settles itself while the cursor looks for the next event, and delivers nothing.
        let next = tokio::time::timeout(std::time::Duration::from_millis(20), cursor.next(100)).await;
        for delivery in next.into_iter().flat_map(Result::unwrap) {
            came.insert(number(delivery.event()));
            ack(delivery);
        }
    }
    came
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log") && !path.ends_with("cursors.log")
}

fn is_of_dead_letters(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir.ends_with("letters"))
}

/// Asserts what holds after any single change to a file.
fn assert_little_was_lost(found: &Recovery, path: &Path, lost_at_most: u64, what: &str) {
    let lost: BTreeSet<u64> = (0..EVENTS).filter(|number| !found.events.contains(number)).collect();
    let lost_dead_letters = (1..DEAD_LETTERS)
        .filter(|number| !found.dead_letters.contains(number))
        .count() as u64;
    let (events_hit, dead_letters_hit) = (
        is_log(path) && !is_of_dead_letters(path),
        is_log(path) && is_of_dead_letters(path),
    );
    assert!(
        lost.len() as u64 <= if events_hit { lost_at_most } else { 0 },
        "{what}: {lost:?}"
    );
    assert!(
        lost_dead_letters <= if dead_letters_hit { lost_at_most } else { 0 },
        "{what}: {lost_dead_letters} letters"
    );
    assert_eq!(found.gaps, lost, "{what}: lost and gaps");
    assert!(
        found.missing_dead_letters >= lost_dead_letters,
        "{what}: {}",
        found.missing_dead_letters
    );
    let owed = |from: u64| {
        (from..EVENTS)
            .filter(|number| !lost.contains(number))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(found.came["behind"], owed(0), "{what}");
    // Settled events may come again if the record of it is damaged; no other event may be left out.
    assert!(
        found.came["ahead"].is_superset(&owed(SETTLED)),
        "{what}: {:?}",
        found.came
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Proves: OP-2, CH-9, CH-1
#[test]
fn any_flipped_bit_is_reported_with_its_file_and_place_and_costs_the_record_it_hit() {
    let runtime = runtime();
    for is_closed in [true, false] {
        let files = runtime.block_on(sample(is_closed));
        assert!(
            files.keys().filter(|path| is_log(path)).count() > 3,
            "{:?}",
            files.keys()
        );
        assert_eq!(faults(&Twin::holding(&files)), [], "closed: {is_closed}");
        for (path, bytes) in &files {
            for at in 0..bytes.len() {
                let mut flipped = files.clone();
                flipped.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
                let found = runtime.block_on(open(&flipped));
                let what = format!("{} byte {at}, closed: {is_closed}", path.display());
                let near = |fault: &Fault| fault.file == *path && fault.at <= at as u64 && at as u64 - fault.at < 400;
                assert!(found.faults.iter().any(near), "{what}: {:?}", found.faults);
                assert_little_was_lost(&found, path, 1, &what);
            }
        }
    }
}

/// Proves: OP-2, CH-9, CH-1
#[test]
fn a_file_cut_at_any_length_costs_what_was_behind_the_cut_and_says_so() {
    let runtime = runtime();
    let files = runtime.block_on(sample(true));
    for (path, bytes) in &files {
        for length in 0..bytes.len() {
            let mut cut = files.clone();
            cut.get_mut(path).unwrap().truncate(length);
            let found = runtime.block_on(open(&cut));
            let what = format!("{} cut at {length}", path.display());
            assert_little_was_lost(&found, path, EVENTS, &what);
        }
        let mut gone = files.clone();
        gone.remove(path);
        let found = runtime.block_on(open(&gone));
        assert_little_was_lost(&found, path, EVENTS, &format!("{} gone", path.display()));
    }
}

/// An attacker who can write the folder can compute checksums, so a checksum does not prove that an offset is right.
///
/// Proves: OP-2, CH-9, CH-1
#[test]
fn a_record_at_a_place_it_cannot_have_is_reported_and_costs_no_other() {
    let runtime = runtime();
    for is_closed in [true, false] {
        let files = runtime.block_on(sample(is_closed));
        let segments: Vec<&PathBuf> = files.keys().filter(|path| is_log(path)).collect();
        for path in segments {
            for offset in [u64::MAX, u64::MAX - 1, 1 << 62, 1 << 40, EVENTS + 1000, 0] {
                let mut forged = files.clone();
                let bytes = forged.get_mut(path).unwrap();
                let salt = SegmentHeader::decode(bytes).unwrap().salt;
                while bytes.last() == Some(&0) {
                    bytes.pop();
                }
                put_record(bytes, salt, offset, 1, 7, |out| event(7, 60).encode(out));
                let found = runtime.block_on(open(&forged));
                let what = format!("place {offset} in {}, closed: {is_closed}", path.display());
                let is_it = |fault: &Fault| fault.file == *path && !fault.is_harmless && fault.bytes > 0;
                assert!(found.faults.iter().any(is_it), "{what}: {:?}", found.faults);
                assert_little_was_lost(&found, path, 0, &what);
            }
        }
    }
}

/// Proves: OP-2
#[test]
fn a_recovery_says_what_it_found_in_one_line() {
    let runtime = runtime();
    let mut files = runtime.block_on(sample(false));
    let last = files
        .keys()
        .rfind(|path| is_log(path) && !is_of_dead_letters(path))
        .unwrap()
        .clone();
    files.get_mut(&last).unwrap().extend_from_slice(b"half a record");
    let state = files
        .keys()
        .find(|path| path.ends_with("c/cursors.log"))
        .unwrap()
        .clone();
    files.get_mut(&state).unwrap()[20] ^= 1;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let channel = tracing::subscriber::with_default(Lines(lines.clone()), || {
        mount(&Twin::holding(&files)).channel("c", small()).unwrap()
    });
    let logged = lines.lock().clone();
    assert_eq!(logged.len(), 1, "{logged:?}");
    for part in [
        "channel recovered",
        "cut_bytes=13",
        "path=/data/channels/c",
        "cursors_from_copy=1",
    ] {
        assert!(logged[0].contains(part), "{logged:?} without {part}");
    }
    drop(channel);
}

/// Collects log lines of level info and above.
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}
