//! Crash safety as a property: random work, random faults, random ends, and an oracle.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use channel::{AppendError, Channel, Cursor, CursorName, Delivery, Offset, Start};
use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    ack, event, mount, number,
    twin::{Fault, Twin, next},
};
use crate::{DataFolder, EmbeddedChannel, Settings};

/// What is known about an append.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    /// The last event's place.
    Stored(u64),
    Refused,
    Unknown,
}

struct World {
    random: u64,
    twin: Twin,
    settings: Settings,
    open: Option<Open>,
    /// First number, how many, and what became of them.
    appends: Vec<(u64, u64, Fate)>,
    /// Numbers from here on were stored while the cursor existed.
    owed_from: Option<u64>,
    settled: BTreeSet<u64>,
}

struct Open {
    in_flight: Vec<Delivery>,
    cursor: Option<Box<dyn Cursor>>,
    channel: EmbeddedChannel,
    _folder: DataFolder,
}

/// The bytes of an event are a function of its number.
fn numbered(number: u64) -> event::Event {
    event(number, usize::try_from(number * 7919 % 2500).unwrap())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = seed;
        let retention_bytes = if next(&mut random).is_multiple_of(2) {
            1 << 30
        } else {
            1
        };
        Self {
            random,
            twin: Twin::new(seed),
            settings: Settings {
                segment_bytes: 10_000,
                retention_bytes,
                ..Settings::default()
            },
            open: None,
            appends: Vec::new(),
            owed_from: None,
            settled: BTreeSet::new(),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        next(&mut self.random) % sides
    }

    async fn open(&mut self) -> &mut Open {
        if self.open.is_none() {
            let folder = mount(&self.twin);
            let channel = folder.channel("c", self.settings.clone()).unwrap();
            self.open = Some(Open {
                in_flight: Vec::new(),
                cursor: None,
                channel,
                _folder: folder,
            });
        }
        let open = self.open.as_mut().unwrap();
        if open.cursor.is_none() {
            // On a disk that refuses it there may be no new cursor now.
            open.cursor = open
                .channel
                .subscribe(&CursorName::new("a"), Start::Earliest)
                .await
                .ok();
        }
        open
    }

    async fn step(&mut self) {
        match self.roll(20) {
            0..=6 => self.append().await,
            7..=10 => self.take().await,
            11..=14 => self.settle().await,
            15 => {
                let faults = [Fault::Full, Fault::FullAtSync, Fault::Broken, Fault::ReadOnly];
                let fault = faults[usize::try_from(self.roll(4)).unwrap()];
                let after = self.roll(12);
                self.twin.fail(Some(fault), after);
            }
            16 | 17 => self.twin.fail(None, 0),
            18 => {
                let open = self.open().await;
                let _ = open.channel.store.save(true);
                let _ = open.channel.retain();
            }
            _ => self.end().await,
        }
    }

    async fn append(&mut self) {
        let count = 1 + self.roll(4);
        let first = self.appends.last().map_or(0, |(first, count, _)| first + count);
        let events: Vec<_> = (first..first + count).map(numbered).collect();
        let more: Vec<_> = (first + count..first + 2 * count).map(numbered).collect();
        if self.open().await.cursor.is_some() {
            self.owed_from.get_or_insert(first);
        }
        let channel = &self.open().await.channel;
        let results = <[_; 2]>::from(tokio::join!(channel.append(&events), channel.append(&more)));
        for (result, first) in results.into_iter().zip([first, first + count]) {
            let fate = match result {
                Ok(stored) => Fate::Stored(stored.last().0),
                Err(AppendError::DiskFull { .. }) => Fate::Refused,
                Err(AppendError::Unavailable { .. }) => Fate::Unknown,
                Err(other) => panic!("{other}"),
            };
            self.appends.push((first, count, fate));
        }
    }

    async fn take(&mut self) {
        let max = 1 + usize::try_from(self.roll(6)).unwrap();
        let open = self.open().await;
        let Some(cursor) = &mut open.cursor else { return };
        if let Ok(Ok(page)) = tokio::time::timeout(Duration::from_millis(2), cursor.next(max)).await {
            open.in_flight.extend(page);
        }
    }

    async fn settle(&mut self) {
        let (pick, keep) = (self.roll(1000), self.roll(4) == 0);
        let open = self.open().await;
        if open.in_flight.is_empty() {
            return;
        }
        let delivery = open
            .in_flight
            .swap_remove(usize::try_from(pick).unwrap() % open.in_flight.len());
        if keep {
            drop(delivery);
        } else {
            let settled = number(delivery.event());
            ack(delivery);
            self.settled.insert(settled);
        }
    }

    /// Ends this life in one of three ways, and checks the next.
    async fn end(&mut self) {
        match self.roll(3) {
            0 => self.twin = self.twin.crash(),
            1 => self.twin = self.twin.kill(),
            _ => {
                self.twin.fail(None, 0);
                self.open().await.channel.close().await;
            }
        }
        self.open = None;
        self.check().await;
    }

    /// Everything on the disk, by number.
    async fn kept(&mut self) -> BTreeMap<u64, u64> {
        let channel = &self.open().await.channel;
        let (mut from, mut kept, mut last) = (Offset(0), BTreeMap::new(), None);
        loop {
            let page = channel.read(from, 1000).await.unwrap();
            if page.is_empty() {
                return kept;
            }
            for record in page {
                assert!(last < Some(record.offset), "places go up");
                last = Some(record.offset);
                from = record.offset.next();
                let number = number(&record.event);
                assert_eq!(record.event, numbered(number), "an event changed");
                assert_eq!(kept.insert(number, record.offset.0), None, "{number} is there twice");
            }
        }
    }

    async fn check(&mut self) {
        let kept = self.kept().await;
        let earliest = self.open().await.channel.depth().earliest.0;
        for (first, count, fate) in &self.appends {
            let found: Vec<u64> = (*first..first + count)
                .filter_map(|number| kept.get(&number).copied())
                .collect();
            match fate {
                Fate::Stored(last) => {
                    // What retention deleted was settled, which is checked below by what is delivered.
                    let expected: Vec<u64> = (last + 1 - count..=*last).filter(|place| *place >= earliest).collect();
                    assert_eq!(found, expected, "acknowledged append of {first}..+{count}");
                }
                Fate::Refused => assert_eq!(found, Vec::<u64>::new(), "refused append of {first}..+{count}"),
                Fate::Unknown => {
                    let whole = found.len() as u64 == *count || found.is_empty();
                    assert!(whole || earliest > 0, "{first}..+{count} is there in part: {found:?}");
                }
            }
        }
        // Recovery is idempotent: a second one right after finds the same and changes nothing.
        self.open = None;
        self.twin = self.twin.kill();
        let before = self.twin.contents();
        let again = self.kept().await;
        assert_eq!(again, kept);
        let logs = |contents: BTreeMap<std::path::PathBuf, Vec<u8>>| -> Vec<_> {
            contents
                .into_iter()
                .filter(|(path, _)| !path.ends_with("cursors.log"))
                .collect()
        };
        assert_eq!(logs(self.twin.contents()), logs(before));
    }

    /// In the end, on a disk that works, everything acknowledged and not settled comes.
    async fn drain(&mut self) {
        self.twin.fail(None, 0);
        let mut came = BTreeSet::new();
        {
            let open = self.open().await;
            open.in_flight.clear();
            let cursor = open.cursor.as_mut().unwrap();
            let patience = Instant::now() + Duration::from_secs(20);
            while open.channel.depth().cursors[0].unsettled > 0 {
                assert!(
                    Instant::now() < patience,
                    "{:?} and nothing comes",
                    open.channel.depth()
                );
                // What is left may be gaps, which settle without being handed out.
                let Ok(page) = tokio::time::timeout(Duration::from_millis(30), cursor.next(100)).await else {
                    continue;
                };
                let page = page.unwrap();
                for delivery in page {
                    came.insert(number(delivery.event()));
                    ack(delivery);
                }
            }
        }
        for (first, count, fate) in &self.appends {
            for number in *first..first + count {
                match fate {
                    Fate::Stored(_) => {
                        assert!(
                            self.owed_from.is_none_or(|from| number < from)
                                || came.contains(&number)
                                || self.settled.contains(&number),
                            "{number} was acknowledged and is lost"
                        );
                    }
                    Fate::Refused => assert!(!came.contains(&number), "{number} was refused and came"),
                    Fate::Unknown => {}
                }
            }
        }
    }
}

fn run(seed: u64, steps: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step().await;
        }
        world.twin.fail(None, 0);
        world.open = None;
        world.twin = world.twin.crash();
        world.check().await;
        world.drain().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves: OP-2, OP-4, CH-1, CH-3, CH-9
    #[test]
    fn whatever_fails_every_acknowledged_event_is_delivered_or_settled(seed: u64) {
        run(seed, 120);
    }
}
