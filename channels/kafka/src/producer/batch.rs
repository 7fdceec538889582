//! Records that are written next to each other, and groups of such batches: when the client reports what became of a record, its batch
//! counts it, and the last report of a batch completes it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::record::Written;

pub(crate) type Done = oneshot::Sender<BatchResult>;

/// Records that are written next to each other.
pub(crate) struct Batch {
    left: AtomicUsize,
    /// The group that waits for it.
    group: Option<Arc<Group>>,
    outcome: Mutex<Outcome>,
}

struct Outcome {
    last: Option<Written>,
    failed: Option<KafkaError>,
    done: Option<Done>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Leads from the report of a record to its batch.
pub(crate) struct Ticket {
    batch: Arc<Batch>,
    is_last: bool,
}

impl Ticket {
    /// For a record of a batch; `is_last`: no record of the batch follows.
    pub(super) fn new(batch: &Arc<Batch>, is_last: bool) -> Self {
        Self {
            batch: batch.clone(),
            is_last,
        }
    }

    /// Reports the result of its record.
    pub(crate) fn report(&self, result: Result<Written, KafkaError>) {
        self.batch.report(self.is_last, result);
    }
}

impl Batch {
    /// `done` is told when the reports of so many records are in; until then the permit is kept.
    pub(super) fn new(records: usize, permit: OwnedSemaphorePermit, done: Done) -> Self {
        Self {
            left: AtomicUsize::new(records),
            group: None,
            outcome: Mutex::new(Outcome {
                last: None,
                failed: None,
                done: Some(done),
                permit: Some(permit),
            }),
        }
    }

    #[must_use]
    pub(crate) fn of(mut self, group: &Arc<Group>) -> Self {
        self.group = Some(group.clone());
        self
    }

    fn report(&self, is_last: bool, result: Result<Written, KafkaError>) {
        let mut outcome = self.outcome.lock();
        match result {
            Ok(written) if is_last => outcome.last = Some(written),
            Ok(_) => {}
            Err(error) => outcome.failed = Some(error),
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        outcome.permit = None;
        let result = match (outcome.failed.take(), outcome.last) {
            (None, Some(written)) => Ok(written),
            (Some(error), _) => Err(error),
            (None, None) => Err(KafkaError::Canceled),
        };
        match (outcome.done.take(), &self.group) {
            (Some(done), Some(group)) => group.report(done, result),
            // The caller may have gone away.
            (Some(done), None) => drop(done.send(result)),
            (None, _) => {}
        }
    }
}

/// All its reports are in, or it was never enqueued.
impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            group.one_less();
        }
    }
}

/// The result of a batch.
pub(crate) type BatchResult = Result<Written, KafkaError>;

/// Appends that were handed over in one go.
pub(crate) struct Group {
    reports: Mutex<Reports>,
    news: Notify,
}

struct Reports {
    /// Appends that are not done.
    left: usize,
    /// Bytes of further appends that may join.
    room: usize,
    /// Results that were not reported to their callers yet.
    result: Vec<(Done, BatchResult)>,
}

impl Group {
    pub(super) fn of(appends: usize, room: usize) -> Self {
        Self {
            reports: Mutex::new(Reports {
                left: appends,
                room,
                result: Vec::with_capacity(appends),
            }),
            news: Notify::new(),
        }
    }

    /// Records the result of one of its appends.
    pub(crate) fn report(&self, done: Done, result: BatchResult) {
        self.reports.lock().result.push((done, result));
    }

    /// Lets another append join, unless the group is done or full.
    pub(super) fn one_more(&self, bytes: usize) -> bool {
        let mut reports = self.reports.lock();
        match reports.room.checked_sub(bytes) {
            Some(room) if reports.left > 0 => {
                reports.room = room;
                reports.left += 1;
                true
            }
            _ => false,
        }
    }

    /// One of its appends is done.
    pub(crate) fn one_less(&self) {
        self.reports.lock().left -= 1;
        self.news.notify_one();
    }

    /// Reports results to the callers until all are reported. Cancel safe.
    pub(super) async fn report_all(&self) {
        loop {
            let (result, left) = {
                let mut reports = self.reports.lock();
                (std::mem::take(&mut reports.result), reports.left)
            };
            for (done, result) in result {
                // An error means that the caller is gone.
                let _ = done.send(result);
            }
            if left == 0 {
                return;
            }
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn callers_are_told_as_reports_come_and_others_go_along_until_the_last() {
        let group = Group::of(2, 9);
        let written = Written {
            partition: 0,
            offset: 7,
        };
        let report = |group: &Group| {
            let (done, result) = oneshot::channel();
            group.report(done, Ok(written));
            group.one_less();
            result
        };
        let mut result = report(&group);
        assert!(group.report_all().now_or_never().is_none(), "one has no report");
        assert_eq!(result.try_recv(), Ok(Ok(written)));
        assert!(!group.one_more(10), "it is too large");
        assert!(group.one_more(9));
        let mut others = [report(&group), report(&group)];
        assert!(group.report_all().now_or_never().is_some());
        for result in &mut others {
            assert_eq!(result.try_recv(), Ok(Ok(written)));
        }
        assert!(!group.one_more(0), "it is over");
    }

    #[test]
    fn appends_that_were_never_handed_over_hold_up_nobody() {
        let group = Group::of(1, 0);
        group.one_less();
        assert!(group.report_all().now_or_never().is_some());
    }
}
