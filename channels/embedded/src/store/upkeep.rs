//! The upkeep thread of a folder: saves settlements, makes them durable, deletes old segments.
//!
//! An acknowledgement only changes memory. This thread writes many of them at once within milliseconds, and syncs once
//! a second. So a killed process repeats the events in flight and a few milliseconds of acknowledgements, a power cut
//! about a second. The thread also refills the reserved space and probes the disk. Many channels share one group
//! commit where the disk supports it (group_sync.rs).

use std::{
    io,
    sync::{Arc, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::Store;
use crate::{disk::DiskWatch, group_sync::GroupSync, reserved_space::ReservedSpace, storage::is_read_only};

/// How long changes wait to be written: at most 200 writes a second, of a few microseconds each.
const SAVE_DELAY: Duration = Duration::from_millis(5);
/// How long written changes wait for a sync.
const SYNC: Duration = Duration::from_secs(1);
/// Interval of retention. A limit may be exceeded by what arrives in this time, which is little beside a segment.
const RETENTION: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Upkeep {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    changed: Vec<Weak<Store>>,
    all: Vec<Weak<Store>>,
    stopped: bool,
}

impl Upkeep {
    pub(crate) fn start(
        reserved_space: Arc<ReservedSpace>,
        syncs: Arc<GroupSync>,
        disk: Arc<DiskWatch>,
    ) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let upkeep = Arc::new(Self::default());
        let this = upkeep.clone();
        let thread = thread::Builder::new()
            .name("headgate-upkeep".into())
            .spawn(move || this.work(&reserved_space, &syncs, &disk))?;
        Ok((upkeep, thread))
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
    }

    /// Adds a new channel.
    pub(crate) fn adopt(&self, store: Weak<Store>) {
        self.state.lock().all.push(store);
    }

    /// Schedules a save of a channel's changes.
    pub(crate) fn submit(&self, store: Weak<Store>) {
        let mut state = self.state.lock();
        state.changed.push(store);
        if state.changed.len() == 1 {
            drop(state);
            self.wake.notify_one();
        }
    }

    fn work(&self, reserved_space: &ReservedSpace, syncs: &GroupSync, disk: &DiskWatch) {
        let mut unsynced: Vec<Weak<Store>> = Vec::new();
        let (mut sync_at, mut retain_at) = (Instant::now() + SYNC, Instant::now() + RETENTION);
        // A disk that refuses events is probed with every sync.
        let is_healthy = || reserved_space.is_whole() && disk.read_only().is_none();
        while self.wait(if unsynced.is_empty() && is_healthy() {
            retain_at
        } else {
            sync_at.min(retain_at)
        }) {
            let changed = std::mem::take(&mut self.state.lock().changed);
            if !changed.is_empty() && unsynced.is_empty() {
                sync_at = Instant::now() + SYNC;
            }
            for store in &changed {
                if store.upgrade().is_some_and(|store| store.save_in_the_background(false))
                    && !unsynced.iter().any(|known| known.ptr_eq(store))
                {
                    unsynced.push(store.clone());
                }
            }
            let now = Instant::now();
            if now >= sync_at {
                sync_at = now + SYNC;
                let was_healthy = is_healthy();
                disk.probe();
                reserved_space.fill();
                if !was_healthy && is_healthy() {
                    self.stores().for_each(|store| store.log.disk_recovered());
                }
                share_sync(&mut unsynced, syncs);
                unsynced.retain(|store| store.upgrade().is_some_and(|store| store.save_in_the_background(true)));
            }
            if now >= retain_at {
                retain_at = now + RETENTION;
                self.retain();
            }
        }
    }

    /// Waits for changes, then [`SAVE_DELAY`] longer; or until a time. Returns `false` when the thread is to end.
    fn wait(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while state.changed.is_empty() && !state.stopped {
            if self.wake.wait_until(&mut state, until.into_std()).timed_out() {
                return !state.stopped;
            }
        }
        let until = Instant::now() + SAVE_DELAY;
        while !state.stopped {
            if self.wake.wait_until(&mut state, until.into_std()).timed_out() {
                return true;
            }
        }
        false
    }

    fn stores(&self) -> impl Iterator<Item = Arc<Store>> + use<> {
        let all = {
            let mut state = self.state.lock();
            state.all.retain(|store| store.strong_count() > 0);
            state.all.clone()
        };
        all.into_iter().filter_map(|store| store.upgrade())
    }

    fn retain(&self) {
        for store in self.stores() {
            store.save_in_the_background(true);
            store.dead_letters.save_if_changed();
            // A read-only folder has its own log line.
            if let Err(error) = store.retain()
                && !is_read_only(&error)
            {
                tracing::warn!(path = %store.log.dir().display(), %error, "old segments cannot be deleted");
            }
            store.rest();
        }
    }
}

/// Makes the states of several channels durable with one group commit. Leaves those that it did not make durable in
/// `unsynced`.
fn share_sync(unsynced: &mut Vec<Weak<Store>>, syncs: &GroupSync) {
    if unsynced.len() <= 1 || !syncs.prefers_syncfs() {
        return;
    }
    let (mut rest, mut saved) = (Vec::new(), Vec::new());
    for store in unsynced.iter().filter_map(Weak::upgrade) {
        store.save_in_the_background(false);
        match store.written_state() {
            Some(written) => saved.push((store, written)),
            None => rest.push(store),
        }
    }
    let dirs: Vec<_> = saved.iter().map(|(store, _)| store.log.dir()).collect();
    if dirs.len() > 1 && syncs.sync_filesystem(&dirs).is_some() {
        saved.retain(|(store, written)| !store.state_is_synced(*written));
    }
    rest.extend(saved.into_iter().map(|(store, _)| store));
    *unsynced = rest.iter().map(Arc::downgrade).collect();
}
