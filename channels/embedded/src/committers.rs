//! The threads that commit: as many as are busy, a handful at most, for all channels of a folder.
//!
//! A log with something to write puts itself into the queue once; whichever thread is free commits it. One thread is
//! always there; more come while several logs are busy, and go when they are idle.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::log::Log;

/// A disk serves a few syncs at once better than one; beyond that they only queue elsewhere.
const THREADS_MAX: usize = 4;
/// How long an extra thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Committers {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<Log>>,
    threads: usize,
    idle: usize,
    stopped: bool,
    handles: Vec<JoinHandle<()>>,
}

impl Committers {
    /// Starts the first thread.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let committers = Arc::new(Self::default());
        committers.state.lock().threads = 1;
        committers.clone().spawn()?;
        Ok(committers)
    }

    /// Ends the threads once what is queued is committed.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
    }

    pub(crate) fn submit(self: &Arc<Self>, log: Arc<Log>) {
        let mut state = self.state.lock();
        state.ready.push_back(log);
        if state.idle > 0 {
            drop(state);
            self.wake.notify_one();
        } else if state.threads < THREADS_MAX && state.ready.len() > 1 {
            state.threads += 1;
            drop(state);
            // Without it the threads there are do the work.
            if self.clone().spawn().is_err() {
                self.state.lock().threads -= 1;
            }
        }
    }

    fn spawn(self: Arc<Self>) -> io::Result<()> {
        let this = self.clone();
        let thread = thread::Builder::new()
            .name("headgate-commit".into())
            .spawn(move || this.work())?;
        let mut state = self.state.lock();
        state.handles.retain(|handle| !handle.is_finished());
        state.handles.push(thread);
        Ok(())
    }

    /// Waits until the threads have ended, after [`Self::stop`].
    pub(crate) fn join(&self) {
        let handles = std::mem::take(&mut self.state.lock().handles);
        for handle in handles
            .into_iter()
            .filter(|handle| handle.thread().id() != thread::current().id())
        {
            let _ = handle.join();
        }
    }

    fn work(&self) {
        while let Some(log) = self.take() {
            let outcome = catch_unwind(AssertUnwindSafe(|| log.commit()));
            let again = outcome.unwrap_or_else(|_| {
                tracing::error!(path = %log.dir().display(), "commit panicked, the log is reopened");
                log.distrust()
            });
            if again {
                self.state.lock().ready.push_back(log);
            }
        }
    }

    fn take(&self) -> Option<Arc<Log>> {
        let mut state = self.state.lock();
        loop {
            if let Some(log) = state.ready.pop_front() {
                return Some(log);
            }
            if state.stopped {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let timed_out = self.wake.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if timed_out && state.threads > 1 && state.ready.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}
