//! The services that the channels of a folder share: its disk, its threads, and the names of open channels.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use channel::DiskTrouble;
use parking_lot::Mutex;

use super::upkeep::Upkeep;
use crate::{
    disk::DiskWatch, group_sync::GroupSync, log::Committers, reserved_space::ReservedSpace, storage::Storage,
    tail::Budget,
};

/// The services that the channels of a folder share.
pub(crate) struct Services {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) reserved_space: Arc<ReservedSpace>,
    pub(crate) disk: Arc<DiskWatch>,
    pub(crate) root: PathBuf,
    names: Mutex<BTreeSet<String>>,
    pub(crate) budget: Budget,
    pub(crate) committers: Arc<Committers>,
    pub(crate) upkeep: Arc<Upkeep>,
    upkeep_thread: Mutex<Option<JoinHandle<()>>>,
    /// Holds the lock of the folder; closing it releases the lock.
    _lock: Option<fs::File>,
}

impl Services {
    /// Starts the threads of a folder. `lock`: the locked file that keeps other processes out.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        root: &Path,
        lock: Option<fs::File>,
        reserved_bytes: u64,
    ) -> io::Result<Arc<Self>> {
        let reserved_space = ReservedSpace::new(storage.clone(), root, reserved_bytes);
        let group_sync = GroupSync::new(storage.clone());
        let disk = DiskWatch::new(storage.clone(), root);
        disk.probe();
        let (upkeep, upkeep_thread) = Upkeep::start(reserved_space.clone(), group_sync.clone(), disk.clone())?;
        Ok(Arc::new(Self {
            storage,
            reserved_space,
            disk,
            root: root.to_path_buf(),
            names: Mutex::default(),
            budget: Budget::default(),
            committers: Committers::start(group_sync)?,
            upkeep,
            upkeep_thread: Mutex::new(Some(upkeep_thread)),
            _lock: lock,
        }))
    }

    pub(crate) fn disk_trouble(&self) -> Option<DiskTrouble> {
        self.disk.trouble(!self.reserved_space.is_whole())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.committers.stop();
        self.upkeep.stop();
        if let Some(thread) = self.upkeep_thread.lock().take()
            // The upkeep thread itself may drop the last channel.
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
        self.committers.join();
    }
}

/// The exclusive right to open a channel of this name. Released on drop.
pub(crate) struct Claim {
    services: Arc<Services>,
    name: String,
}

impl Claim {
    /// Claims the name; `None` while another claim on it exists.
    pub(crate) fn new(services: &Arc<Services>, name: &str) -> Option<Self> {
        let name = name.to_owned();
        services.names.lock().insert(name.clone()).then(|| Self {
            services: services.clone(),
            name,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.services.names.lock().remove(&self.name);
    }
}
