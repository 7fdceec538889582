//! Redrives and replays that were started in the console: how far each is, and the switch that stops it.
//!
//! The command line follows such work on its connection; a page cannot, so a task here does. The list is bounded and lives as long as
//! the process: when the gateway ends, the work does, too.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
};

use axum::http::StatusCode;
use dataplane::{Progress, RedriveCounts};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use parking_lot::Mutex;
use spec::{ObjectName, Reason};
use tokio_util::sync::CancellationToken;

use crate::{admin::Refusal, api::Counts};

/// Redrives and replays at once: each is a person's, and each has a few events in flight.
const RUNNING_MAX: usize = 16;

/// Those that have ended and are still shown.
const ENDED_MAX: usize = 32;

/// Work that a person started.
pub(super) struct Job {
    pub(super) id: u64,
    /// `Redrive` or `Replay`.
    pub(super) kind: &'static str,
    pub(super) subscription: ObjectName,
    pub(super) started: Timestamp,
    /// The command that does the same.
    pub(super) command: String,
    progress: Mutex<JobProgress>,
    stop: CancellationToken,
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub(super) struct JobProgress {
    pub(super) counts: Counts,
    pub(super) ended: Option<Timestamp>,
}

impl Job {
    pub(super) fn progress(&self) -> JobProgress {
        self.progress.lock().clone()
    }

    /// Events that are dealt with, and of how many.
    pub(super) fn done_of(&self) -> (u64, u64) {
        let counts = &self.progress.lock().counts;
        // A replay finds out while it reads how many events are meant.
        match counts.read {
            Some(read) => (read, read + counts.left),
            None => (counts.matched.saturating_sub(counts.left), counts.matched),
        }
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

/// All jobs of this process, newest last.
#[derive(Default)]
pub(super) struct Jobs {
    all: Mutex<VecDeque<Arc<Job>>>,
    last_id: AtomicU64,
}

/// The description of a new job.
pub(super) struct NewJob {
    pub(super) kind: &'static str,
    pub(super) subscription: ObjectName,
    pub(super) command: String,
}

impl Jobs {
    pub(super) fn find(&self, id: u64) -> Option<Arc<Job>> {
        self.all.lock().iter().find(|job| job.id == id).cloned()
    }

    /// The jobs of one subscription, or of all, newest first.
    pub(super) fn of(&self, subscription: Option<&ObjectName>) -> Vec<Arc<Job>> {
        let all = self.all.lock();
        let of = all
            .iter()
            .rev()
            .filter(|job| subscription.is_none_or(|name| job.subscription == *name));
        of.cloned().collect()
    }

    /// Whether another job may be started.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        let running = self
            .all
            .lock()
            .iter()
            .filter(|job| job.progress.lock().ended.is_none())
            .count();
        if running < RUNNING_MAX {
            return Ok(());
        }
        let message =
            format!("{RUNNING_MAX} redrives and replays run, as many as the console starts: wait for one, or stop one");
        Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Reason::TooManyJobs,
            message,
        ))
    }

    /// Follows work to its end. The stream's last item is flagged; dropping the stream stops the work.
    pub(super) fn start(
        &self,
        new: NewJob,
        counts: impl Stream<Item = (Counts, bool)> + Send + 'static,
        gateway_ends: &CancellationToken,
    ) -> Arc<Job> {
        let job = Arc::new(Job {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            kind: new.kind,
            subscription: new.subscription,
            started: Timestamp::now(),
            command: new.command,
            progress: Mutex::default(),
            stop: gateway_ends.child_token(),
        });
        {
            let mut all = self.all.lock();
            all.push_back(job.clone());
            while all.iter().filter(|job| job.progress.lock().ended.is_some()).count() > ENDED_MAX {
                let oldest = all.iter().position(|job| job.progress.lock().ended.is_some());
                oldest.and_then(|oldest| all.remove(oldest));
            }
        }
        tokio::spawn(follow(job.clone(), counts));
        job
    }
}

async fn follow(job: Arc<Job>, counts: impl Stream<Item = (Counts, bool)> + Send) {
    let mut counts = pin!(counts);
    loop {
        let next = tokio::select! {
            biased;
            () = job.stop.cancelled() => None,
            next = counts.next() => next,
        };
        let mut progress = job.progress.lock();
        match next {
            Some((counts, is_last)) => {
                progress.counts = counts;
                if is_last {
                    progress.ended = Some(Timestamp::now());
                    return;
                }
            }
            None => {
                progress.counts.stopped = Some("it was stopped".to_owned());
                progress.ended = Some(Timestamp::now());
                return;
            }
        }
    }
}

/// The counts of a redrive, as a job keeps them.
pub(super) fn redriven(counted: RedriveCounts) -> Counts {
    Counts {
        matched: counted.matched,
        delivered: counted.delivered,
        dead_lettered: counted.dead_lettered,
        gone: Some(counted.gone),
        left: counted.left,
        stopped: counted.stopped,
        ..Counts::default()
    }
}

/// The counts of a replay, and whether they are the last.
pub(super) fn replayed(progress: Progress) -> (Counts, bool) {
    let (counted, is_last, stopped) = match progress {
        Progress::Going(counted) => (counted, false, None),
        Progress::Done(counted) => (counted, true, None),
        Progress::Stopped(counted, why) => (counted, true, Some(why)),
    };
    let counts = Counts {
        read: Some(counted.read),
        matched: counted.matched,
        delivered: counted.delivered,
        dead_lettered: counted.dead_lettered,
        left_out: Some(counted.left_out),
        unfit: Some(counted.unfit),
        left: counted.left,
        stopped,
        ..Counts::default()
    };
    (counts, is_last)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use futures_util::stream;

    use super::*;

    fn new() -> NewJob {
        NewJob {
            kind: "Redrive",
            subscription: ObjectName::new("a", "s"),
            command: String::new(),
        }
    }

    async fn ended(job: &Job) -> JobProgress {
        loop {
            let progress = job.progress();
            if progress.ended.is_some() {
                return progress;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_job_is_followed_to_its_end_or_stopped_and_old_ones_go() {
        let (jobs, never) = (Jobs::default(), CancellationToken::new());
        let counts = |left| Counts {
            matched: 2,
            left,
            ..Counts::default()
        };
        let job = jobs.start(new(), stream::iter([(counts(1), false), (counts(0), true)]), &never);
        assert_eq!(ended(&job).await.counts.stopped, None);
        assert_eq!(job.done_of(), (2, 2));
        let endless = jobs.start(new(), stream::pending(), &never);
        endless.stop();
        assert_eq!(ended(&endless).await.counts.stopped.as_deref(), Some("it was stopped"));
        for _ in 0..2 * ENDED_MAX {
            ended(&jobs.start(new(), stream::iter([(counts(0), true)]), &never)).await;
        }
        assert!(jobs.of(None).len() <= ENDED_MAX + 1 && jobs.find(job.id).is_none());
        let running: Vec<_> = (0..RUNNING_MAX)
            .map(|_| jobs.start(new(), stream::pending(), &never))
            .collect();
        assert!(jobs.check_room().is_err());
        running[0].stop();
        ended(&running[0]).await;
        jobs.check_room().map_err(|refusal| refusal.message).unwrap();
    }
}
