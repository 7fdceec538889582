//! The threads that commit: as many as are busy, a handful at most, for all channels of a folder.
//!
//! A log with something to write puts itself into the queue once; whichever thread is free commits it. One thread is
//! always there. What happens when several logs are ready depends on the disk (syncs.rs): either one thread takes all of them,
//! writes each, and has one sync for all, while the next gather in the queue; or more threads come and sync them side by side,
//! and go when they are idle.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use crate::{
    log::{Begun, Company, Log, Written},
    syncs::Syncs,
};

/// A disk serves a few syncs at once better than one; beyond that they only queue elsewhere.
const THREADS_MAX: usize = 4;
/// Logs that share a sync at most: it bounds how long the first of them waits for the last one's write.
const SHARED_MAX: usize = 256;
/// How long a log that is ready waits for the logs before it; then another thread takes it. A disk that hangs is worse with
/// everybody behind one sync.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long an extra thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) struct Committers {
    state: Mutex<State>,
    wake: Condvar,
    syncs: Arc<Syncs>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<Log>>,
    threads: usize,
    idle: usize,
    /// Threads at work, and when the last of them began.
    busy: usize,
    began: Option<Instant>,
    stopped: bool,
    /// Nothing is taken for as long.
    #[cfg(test)]
    held: bool,
    handles: Vec<JoinHandle<()>>,
}

impl Committers {
    /// Starts the first thread.
    pub(crate) fn start(syncs: Arc<Syncs>) -> io::Result<Arc<Self>> {
        let committers = Arc::new(Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            syncs,
        });
        committers.state.lock().threads = 1;
        committers.clone().spawn()?;
        Ok(committers)
    }

    pub(crate) fn syncs(&self) -> &Syncs {
        &self.syncs
    }

    /// Lets logs gather in the queue until it is called again.
    #[cfg(test)]
    pub(crate) fn hold(&self, held: bool) {
        self.state.lock().held = held;
        self.wake.notify_all();
    }

    /// Ends the threads once what is queued is committed.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
    }

    pub(crate) fn submit(self: &Arc<Self>, log: Arc<Log>) {
        let mut state = self.state.lock();
        state.ready.push_back(log);
        let is_soon = state.began.is_some_and(|began| began.elapsed() < PATIENCE);
        if state.busy > 0 && is_soon && self.syncs.are_shared() {
            // Whoever is at work takes it next, with all that come until then.
        } else if state.idle > 0 {
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
        while let Some(logs) = self.take() {
            let again = commit(&logs, &self.syncs);
            let mut state = self.state.lock();
            state.busy -= 1;
            state.ready.extend(again);
        }
    }

    /// Waits for logs that are ready; `None` when it is over for this thread.
    fn take(&self) -> Option<Vec<Arc<Log>>> {
        let mut state = self.state.lock();
        loop {
            let ready = state.takes(&self.syncs);
            if ready > 0 {
                state.busy += 1;
                state.began = Some(Instant::now());
                return Some(state.ready.drain(..ready).collect());
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

impl State {
    /// How many of the logs that are ready one thread takes.
    fn takes(&self, syncs: &Syncs) -> usize {
        #[cfg(test)]
        if self.held {
            return 0;
        }
        match self.ready.len() {
            ready @ 0..=1 => ready,
            ready if syncs.are_shared() => ready.min(SHARED_MAX),
            _ => 1,
        }
    }
}

/// Writes what has gathered in each log and makes it durable; returns those where more has gathered meanwhile. Blocks.
fn commit(logs: &[Arc<Log>], syncs: &Syncs) -> Vec<Arc<Log>> {
    let mut again = Vec::new();
    let mut over = |log: &Arc<Log>, more: bool| {
        if more {
            again.push(log.clone());
        }
    };
    if let [log] = logs {
        over(log, guarded(log, || log.commit()).unwrap_or_default());
        return again;
    }
    let mut written: Vec<(&Arc<Log>, Written<'_>)> = Vec::new();
    for log in logs {
        match guarded(log, || log.begin(Company::Others)) {
            Some(Begun::Written(one)) => written.push((log, one)),
            Some(Begun::Over(more)) => over(log, more),
            None => {}
        }
    }
    let shared = match written.len() {
        0..=1 => None,
        _ => syncs.whole(&written.iter().map(|(log, _)| log.dir()).collect::<Vec<_>>()),
    };
    for (log, one) in written {
        over(log, guarded(log, || one.finish(shared)).unwrap_or_default());
    }
    again
}

/// A log whose commit panics is opened anew, and no other suffers.
fn guarded<T>(log: &Arc<Log>, work: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    if outcome.is_err() {
        tracing::error!(path = %log.dir().display(), "commit panicked, the log is reopened");
        log.distrust();
    }
    outcome.ok()
}
