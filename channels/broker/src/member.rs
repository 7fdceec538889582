//! The member of a cursor: the task that talks to the servers for it, and how it ends.

use std::{sync::Arc, time::Duration};

use channel::{Gap, supervised};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

use crate::cursor::BrokerCursor;

/// How a member's task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It saves what is settled, and returns the rest to the servers.
    Cleanly,
    /// It saves nothing: the cursor is deleted, or the process plays dead.
    AtOnce,
}

/// Tells a member that it is to end, and how.
pub struct StopSignal(watch::Receiver<Option<Stop>>);

/// A sender and the signal that it sends. Dropping the sender stops the member, too.
pub fn stop_signal() -> (watch::Sender<Option<Stop>>, StopSignal) {
    let (sender, receiver) = watch::channel(None);
    (sender, StopSignal(receiver))
}

impl StopSignal {
    /// Returns when the member is to end. Cancel safe.
    pub async fn stopped(&mut self) {
        // An error means that the sender is gone, which ends the member, too.
        let _ = self.0.wait_for(Option::is_some).await;
    }

    /// Waits that long; `true` as soon as the member is to end. Cancel safe.
    pub async fn is_stopped_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stopped()).await.is_ok()
    }
}

/// Consumes for one cursor.
pub trait Member: Send + 'static {
    /// Works until it is stopped.
    fn work(&mut self) -> impl Future<Output = ()> + Send;

    /// Leaves the servers. `stop` says how it was stopped; `None` after a panic, when what the member holds may say more than
    /// was settled.
    fn leave(self, stop: Option<Stop>) -> impl Future<Output = ()> + Send;
}

/// A cursor that has a member.
pub struct OpenCursor<C> {
    /// The servers' identity of the cursor.
    pub id: String,
    /// The uid of the Subscription that it serves, where that is known.
    pub owner: Option<String>,
    /// The broker's own part of the cursor.
    pub cursor: Arc<C>,
    stop: watch::Sender<Option<Stop>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl<C: BrokerCursor> OpenCursor<C> {
    /// Spawns the member's task. A panic of the member ends the cursor, too, so that the data plane opens it again (CONTRACT
    /// OP-3).
    pub fn start(
        id: String,
        owner: Option<String>,
        cursor: Arc<C>,
        stop: watch::Sender<Option<Stop>>,
        member: impl Member,
    ) -> Arc<Self> {
        let task = tokio::spawn(run(cursor.clone(), stop.subscribe(), member));
        Arc::new(Self {
            id,
            owner,
            cursor,
            stop,
            task: Mutex::new(Some(task)),
        })
    }

    /// Whether the member has not ended.
    pub fn is_running(&self) -> bool {
        !self.cursor.core().lease.has_ended()
    }

    /// Ends the cursor and waits for its member, at most [`BrokerCursor::END_MAX`].
    pub async fn end(&self, stop: Stop) {
        self.cursor.core().lease.end();
        self.stop.send_replace(Some(stop));
        let task = self.task.lock().take();
        let Some(mut task) = task else { return };
        let name = self.cursor.core().name.as_str();
        match tokio::time::timeout(C::END_MAX, &mut task).await {
            Ok(ended) => {
                supervised::joined(C::MEMBER, name, ended);
            }
            Err(_) => {
                tracing::warn!(
                    cursor = name,
                    member = C::MEMBER,
                    "the servers do not answer while a cursor ends, going on without waiting: what was settled last may come again"
                );
                if C::ABORTS_LATE {
                    task.abort();
                }
            }
        }
    }

    /// Ends the cursor without waiting, unless it is ending already.
    pub(crate) fn abandon(&self) {
        self.cursor.core().lease.end();
        self.stop.send_if_modified(|stop| {
            let runs = stop.is_none();
            stop.get_or_insert(Stop::AtOnce);
            runs
        });
    }

    /// Ends the cursor that was open under a name before another is opened. Returns its gaps if the other one is the same
    /// cursor again, because its member panicked or its owner became known.
    pub async fn retire(before: Option<Arc<Self>>, is_same: impl FnOnce(&Self) -> bool) -> Vec<Gap> {
        let Some(before) = before else { return Vec::new() };
        if is_same(&before) {
            before.end(Stop::Cleanly).await;
            return before.cursor.core().gaps();
        }
        before.end(Stop::AtOnce).await;
        Vec::new()
    }

    /// Keeps the gaps that [`Self::retire`] returned.
    pub fn inherit(&self, gaps: Vec<Gap>) {
        self.cursor.core().inherit(gaps);
    }
}

async fn run<C: BrokerCursor>(cursor: Arc<C>, stop: watch::Receiver<Option<Stop>>, mut member: impl Member) {
    let core = cursor.core();
    let _ends = supervised::at_end(|| core.lease.end());
    let worked = supervised::catch(C::MEMBER, core.name.as_str(), member.work()).await;
    core.lease.end();
    // A sender that is gone stopped it without a word.
    let stop = worked.map(|()| stop.borrow().unwrap_or(Stop::AtOnce));
    supervised::catch(C::MEMBER, core.name.as_str(), member.leave(stop)).await;
}
