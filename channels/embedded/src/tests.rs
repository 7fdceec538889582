//! The channel suite on a real disk and on the twin, and what only this channel does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod damage;
mod dedup;
mod disk;
mod folder;
mod oracle;
mod seek;
pub(crate) mod twin;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use channel::{Channel, Cursor, Delivered, Delivery, Disposition, suite::Backend};
use event::Event;
use parking_lot::Mutex;

use self::twin::Twin;
use crate::{DataFolder, EmbeddedChannel, Settings};

/// A temporary folder on the real disk.
struct RealDisk {
    root: tempfile::TempDir,
    folder: Mutex<Option<DataFolder>>,
}

impl RealDisk {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            folder: Mutex::new(None),
        }
    }

    fn channel(&self, settings: Settings) -> EmbeddedChannel {
        let mut folder = self.folder.lock();
        let folder = folder.get_or_insert_with(|| DataFolder::open(self.root.path()).unwrap());
        folder.channel("team/orders", settings).unwrap()
    }
}

#[async_trait]
impl Backend for RealDisk {
    async fn open(&self) -> Arc<dyn Channel> {
        Arc::new(self.channel(settings()))
    }

    async fn open_small(&self) -> Option<Arc<dyn Channel>> {
        None
    }

    async fn crash(&self, channel: Arc<dyn Channel>) {
        drop(channel);
        *self.folder.lock() = None;
    }
}

mod on_a_real_disk {
    channel::cases!(super::RealDisk::new());
}

/// The twin, which loses what was not synced at every crash.
struct ForgetfulDisk {
    twin: Mutex<Twin>,
    folder: Mutex<Option<DataFolder>>,
}

impl ForgetfulDisk {
    fn new() -> Self {
        Self {
            twin: Mutex::new(Twin::new(1)),
            folder: Mutex::new(None),
        }
    }
}

#[async_trait]
impl Backend for ForgetfulDisk {
    async fn open(&self) -> Arc<dyn Channel> {
        let mut folder = self.folder.lock();
        let folder = folder.get_or_insert_with(|| mount(&self.twin.lock()));
        Arc::new(folder.channel("team/orders", settings()).unwrap())
    }

    async fn open_small(&self) -> Option<Arc<dyn Channel>> {
        None
    }

    async fn crash(&self, channel: Arc<dyn Channel>) {
        let mut twin = self.twin.lock();
        *twin = twin.crash();
        drop(channel);
        *self.folder.lock() = None;
    }
}

mod on_a_forgetful_disk {
    channel::cases!(super::ForgetfulDisk::new());
}

/// Smaller than in production: the tests create thousands of folders.
const RESERVED_BYTES: u64 = 128 << 10;

/// Opens a folder on the twin. The twin has no lock: a test has one process at a time.
fn mount(twin: &Twin) -> DataFolder {
    DataFolder::with(Arc::new(twin.clone()), Path::new("/data"), None, RESERVED_BYTES).unwrap()
}

/// Small segments, so that every case spans several of them.
fn settings() -> Settings {
    Settings {
        max_event_bytes: 2 << 20,
        segment_bytes: 8 << 10,
        ..Settings::default()
    }
}

fn event(number: u64, bytes: usize) -> Event {
    let fill = u8::try_from(number % 251).unwrap();
    Event::builder(&number.to_string(), "/embedded", "test")
        .data("application/octet-stream", Bytes::from(vec![fill; bytes]))
        .finish()
        .unwrap()
}

fn number(event: &Event) -> u64 {
    event.id().parse().unwrap()
}

fn ack(delivery: Delivery) {
    delivery
        .ack(Disposition::Accepted(Delivered::by_status(200).unwrap()))
        .unwrap();
}

/// Takes and settles `count` events; returns their numbers.
async fn drain(cursor: &mut Box<dyn Cursor>, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        for delivery in cursor.next(count - numbers.len()).await.unwrap() {
            numbers.push(number(delivery.event()));
            ack(delivery);
        }
    }
    numbers
}
