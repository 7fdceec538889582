//! The upkeep thread of a folder: saves what cursors settled, makes it durable, deletes what is old.
//!
//! Acknowledgements only mark memory; this writes them within milliseconds, many at once, and syncs once a second. So a
//! killed process repeats what was in flight and a few milliseconds of acknowledgements, a power cut about a second. It
//! also fills the headroom again. Many channels share one sync where the disk can do that (syncs.rs).

use std::{
    io,
    sync::{Arc, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use crate::{headroom::Headroom, store::Store, syncs::Syncs};

/// How long changes gather before they are written: 200 writes a second at most, each a few microseconds.
const GATHER: Duration = Duration::from_millis(5);
/// How long written changes wait for a sync.
const SYNC: Duration = Duration::from_secs(1);
/// How often retention is looked at. Segments are large, so a limit is passed by what arrives in this time.
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
    pub(crate) fn start(headroom: Arc<Headroom>, syncs: Arc<Syncs>) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let upkeep = Arc::new(Self::default());
        let this = upkeep.clone();
        let thread = thread::Builder::new()
            .name("headgate-upkeep".into())
            .spawn(move || this.work(&headroom, &syncs))?;
        Ok((upkeep, thread))
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
    }

    /// Takes a new channel into care.
    pub(crate) fn adopt(&self, store: Weak<Store>) {
        self.state.lock().all.push(store);
    }

    /// A channel has something to save.
    pub(crate) fn submit(&self, store: Weak<Store>) {
        let mut state = self.state.lock();
        state.changed.push(store);
        if state.changed.len() == 1 {
            drop(state);
            self.wake.notify_one();
        }
    }

    fn work(&self, headroom: &Headroom, syncs: &Syncs) {
        let mut unsynced: Vec<Weak<Store>> = Vec::new();
        let (mut sync_at, mut retain_at) = (Instant::now() + SYNC, Instant::now() + RETENTION);
        // Short headroom is looked at with every sync.
        while self.wait(match unsynced.is_empty() && headroom.is_whole() {
            true => retain_at,
            false => sync_at.min(retain_at),
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
                headroom.fill();
                share_sync(&mut unsynced, syncs);
                unsynced.retain(|store| store.upgrade().is_some_and(|store| store.save_in_the_background(true)));
            }
            if now >= retain_at {
                retain_at = now + RETENTION;
                self.retain();
            }
        }
    }

    /// Waits for changes to gather, or until a time; `false` when it is over.
    fn wait(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while state.changed.is_empty() && !state.stopped {
            if self.wake.wait_until(&mut state, until.into_std()).timed_out() {
                return !state.stopped;
            }
        }
        let until = Instant::now() + GATHER;
        while !state.stopped {
            if self.wake.wait_until(&mut state, until.into_std()).timed_out() {
                return true;
            }
        }
        false
    }

    fn retain(&self) {
        let all = {
            let mut state = self.state.lock();
            state.all.retain(|store| store.strong_count() > 0);
            state.all.clone()
        };
        for store in all.iter().filter_map(Weak::upgrade) {
            store.save_in_the_background(true);
            store.letters.keep();
            if let Err(error) = store.retain() {
                tracing::warn!(path = %store.log.dir().display(), %error, "old segments cannot be deleted");
            }
            store.rest();
        }
    }
}

/// Makes the states of several channels durable with one sync; whatever it did not make durable is left.
fn share_sync(unsynced: &mut Vec<Weak<Store>>, syncs: &Syncs) {
    if unsynced.len() <= 1 || !syncs.are_shared() {
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
    if dirs.len() > 1 && syncs.whole(&dirs).is_some() {
        saved.retain(|(store, written)| !store.state_is_synced(*written));
    }
    rest.extend(saved.into_iter().map(|(store, _)| store));
    *unsynced = rest.iter().map(Arc::downgrade).collect();
}
