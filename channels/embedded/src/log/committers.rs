//! The committer threads: a few threads that write and sync the logs of one folder.
//!
//! A log with something to write enters the queue once, and the next free thread commits it. One thread always runs.
//! When several logs are ready, group_sync.rs decides: either one thread takes all of them, writes each, and syncs
//! them with one group commit while later appends wait in the queue; or up to [`THREADS_MAX`] threads sync them in
//! parallel and end when they are idle.

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

use super::{
    Log,
    commit::{CommitMode, CommitStep, UnsyncedBatch},
};
use crate::group_sync::GroupSync;

/// A disk serves a few concurrent syncs better than one; more of them only queue in the kernel.
const THREADS_MAX: usize = 4;
/// Logs in one group commit at most. Bounds how long the first log waits for the write of the last one.
const SHARED_MAX: usize = 256;
/// How long a ready log waits for the running group commit before another thread takes it, so that a disk that hangs
/// does not block every log behind one sync.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long an extra thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) struct Committers {
    state: Mutex<State>,
    wake: Condvar,
    syncs: Arc<GroupSync>,
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
    /// Tests only: no thread takes a log while this is set.
    #[cfg(test)]
    held: bool,
    handles: Vec<JoinHandle<()>>,
}

impl Committers {
    /// Starts the first thread.
    pub(crate) fn start(syncs: Arc<GroupSync>) -> io::Result<Arc<Self>> {
        let committers = Arc::new(Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            syncs,
        });
        committers.state.lock().threads = 1;
        committers.clone().spawn()?;
        Ok(committers)
    }

    pub(crate) fn syncs(&self) -> &GroupSync {
        &self.syncs
    }

    /// Makes ready logs wait in the queue until it is called with `false`.
    #[cfg(test)]
    pub(crate) fn hold(&self, held: bool) {
        self.state.lock().held = held;
        self.wake.notify_all();
    }

    /// Makes the threads end once the queue is empty.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
    }

    pub(crate) fn submit(self: &Arc<Self>, log: Arc<Log>) {
        let mut state = self.state.lock();
        state.ready.push_back(log);
        let is_soon = state.began.is_some_and(|began| began.elapsed() < PATIENCE);
        if state.busy > 0 && is_soon && self.syncs.prefers_syncfs() {
            // The busy thread takes this log next, in one group with all that arrive until then.
        } else if state.idle > 0 {
            drop(state);
            self.wake.notify_one();
        } else if state.threads < THREADS_MAX && state.ready.len() > 1 {
            state.threads += 1;
            drop(state);
            // If no thread can be spawned, the existing ones do the work.
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

    /// Waits for ready logs; `None` when this thread is to end.
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
    /// How many of the ready logs one thread takes.
    fn takes(&self, syncs: &GroupSync) -> usize {
        #[cfg(test)]
        if self.held {
            return 0;
        }
        match self.ready.len() {
            ready @ 0..=1 => ready,
            ready if syncs.prefers_syncfs() => ready.min(SHARED_MAX),
            _ => 1,
        }
    }
}

/// Writes and syncs the pending batch of each log; returns the logs that have a new one. Blocks.
fn commit(logs: &[Arc<Log>], syncs: &GroupSync) -> Vec<Arc<Log>> {
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
    let mut written: Vec<(&Arc<Log>, UnsyncedBatch<'_>)> = Vec::new();
    for log in logs {
        match guarded(log, || log.begin(CommitMode::Group)) {
            Some(CommitStep::Unsynced(one)) => written.push((log, one)),
            Some(CommitStep::Done(more)) => over(log, more),
            None => {}
        }
    }
    let shared = match written.len() {
        0..=1 => None,
        _ => syncs.sync_filesystem(&written.iter().map(|(log, _)| log.dir()).collect::<Vec<_>>()),
    };
    for (log, one) in written {
        over(log, guarded(log, || one.finish(shared)).unwrap_or_default());
    }
    again
}

/// Runs one log's part of a commit. A panic makes only that log reopen its file.
fn guarded<T>(log: &Arc<Log>, work: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    if outcome.is_err() {
        tracing::error!(path = %log.dir().display(), "commit panicked, the log is reopened");
        log.invalidate();
    }
    outcome.ok()
}
