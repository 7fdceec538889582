//! A redrive delivers the events of dead letters again, to their subscription alone, by the same path as any delivery.
//!
//! Dead letters are read page by page in the order of their offsets, a few events are in flight, and dead letters of settled events are removed
//! in batches while the next ones are delivered: the cost of one letter does not grow with their number. A letter is removed once
//! its event is settled: delivered, or written as a new letter that describes the new attempts.
//!
//! While the sink is down one letter at a time is delivered, as a probe (CONTRACT DL-8).

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use channel::{Offset, ReadError, Record};
use futures_util::{Stream, stream};
use spec::ObjectName;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{DeadLetter, DeadLetterError, Redrive, offsets};
use crate::{
    Plane,
    journey::{
        context::Context,
        gate::Gate,
        redelivery::{REPORT_EVERY, Reading, Redelivery, Step, poll},
        settlement::End,
    },
    plane::PlaneInner,
};

/// Letters read at once: as many as are delivered while the next ones are read. The log bounds their bytes.
const AHEAD: usize = 64;

/// Letters removed at once at most, with one write.
const REMOVED_AT_ONCE: usize = 1024;

/// The counts of a redrive so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedriveCounts {
    /// Letters that are meant.
    pub matched: u64,
    /// Events that were delivered.
    pub delivered: u64,
    /// Failed again: each has a new letter.
    pub dead_lettered: u64,
    /// Removed by another request meanwhile, or being delivered by another redrive.
    pub gone: u64,
    /// Not delivered yet, or not at all when it ended.
    pub left: u64,
    /// Why it ended early.
    pub stopped: Option<String>,
}

/// A handle on a redrive. Dropping it does not stop the redrive; dropping the stream of [`Self::follow`] does.
#[derive(Debug)]
pub struct RunningRedrive {
    counts: watch::Receiver<RedriveCounts>,
    stop: CancellationToken,
}

impl RunningRedrive {
    /// Letters that are meant.
    pub fn matched(&self) -> u64 {
        self.counts.borrow().matched
    }

    /// Reports the counts twice a second; the last item is flagged. If the stream is dropped earlier, the redrive ends: events in
    /// flight are given up between attempts, and their dead letters stay.
    pub fn follow(self) -> impl Stream<Item = (RedriveCounts, bool)> + Send {
        let guard = self.stop.drop_guard();
        stream::unfold(Some((self.counts, guard)), |following| async move {
            let (mut counts, guard): (watch::Receiver<RedriveCounts>, DropGuard) = following?;
            // Its sender goes when it has ended.
            let has_ended = tokio::select! {
                () = async { while counts.changed().await.is_ok() {} } => true,
                () = tokio::time::sleep(REPORT_EVERY) => false,
            };
            let mut counted = counts.borrow_and_update().clone();
            if has_ended && counted.left > 0 {
                // Abandoned, after the grace period of a drain.
                counted.stopped.get_or_insert_with(|| "the gateway ended".to_owned());
            }
            Some(((counted, has_ended), (!has_ended).then_some((counts, guard))))
        })
    }
}

impl Plane {
    /// Delivers the events of dead letters again, to that subscription alone. Returns when they are counted and goes on in the background;
    /// `NoDeadLetter` when an id is not there. A dry run ends at once.
    pub async fn redrive(&self, subscription: &ObjectName, what: Redrive) -> Result<RunningRedrive, DeadLetterError> {
        let running = self
            .0
            .runtime
            .state
            .lock()
            .live(subscription)
            .map(|running| running.context.clone());
        let Some(context) = running else {
            return Err(if self.spec().subscriptions.contains_key(subscription) {
                DeadLetterError::NotRunning(subscription.clone())
            } else {
                DeadLetterError::NoSubscription(subscription.clone())
            });
        };
        let is_match = |dead_letter: &DeadLetter| {
            let (filter, group) = (what.filter.as_ref(), what.group.as_ref());
            group.is_none_or(|group| group.has(dead_letter))
                && filter.is_none_or(|filter| filter.evaluate(&dead_letter.event).unwrap_or(false))
        };
        let offsets = offsets(
            self,
            &context.channel_name,
            &*context.channel,
            subscription,
            &what.ids,
            is_match,
        )
        .await?;
        let matched = offsets.len() as u64;
        let (counts, receiver) = watch::channel(RedriveCounts {
            matched,
            left: if what.dry_run { 0 } else { matched },
            ..RedriveCounts::default()
        });
        let stop = self.0.runtime.draining.child_token();
        if !what.dry_run {
            self.0
                .requests
                .redrives
                .lock()
                .push((subscription.clone(), receiver.clone()));
            let redrive = RedriveTask::new(self.clone(), context, offsets, what.rate, counts, stop.clone());
            let abandoning = self.0.runtime.abandoning.clone();
            self.0
                .runtime
                .tasks
                .spawn(abandoning.run_until_cancelled_owned(redrive.run()));
        }
        Ok(RunningRedrive { counts: receiver, stop })
    }
}

impl PlaneInner {
    /// Returns the sums of the counts of all redrives to this subscription that run now.
    pub(crate) fn redrives_of(&self, subscription: &ObjectName) -> Option<RedriveCounts> {
        let running = self.requests.redrives.lock();
        let of = running.iter().filter(|(name, _)| name == subscription);
        of.map(|(_, counts)| counts.borrow().clone())
            .reduce(|all, one| RedriveCounts {
                matched: all.matched + one.matched,
                delivered: all.delivered + one.delivered,
                dead_lettered: all.dead_lettered + one.dead_lettered,
                gone: all.gone + one.gone,
                left: all.left + one.left,
                stopped: None,
            })
    }
}

type Removing = Pin<Box<dyn Future<Output = Result<usize, ReadError>> + Send>>;

struct RedriveTask {
    plane: Plane,
    context: Arc<Context>,
    counts: watch::Sender<RedriveCounts>,
    stop: CancellationToken,
    so_far: RedriveCounts,
    /// Offsets of the letters to redrive that were not read yet.
    offsets: BTreeSet<Offset>,
    redelivery: Redelivery,
    /// Settled, and still in the log.
    settled: Vec<Offset>,
    removing: Option<(Removing, Vec<Offset>)>,
}

impl RedriveTask {
    fn new(
        plane: Plane,
        context: Arc<Context>,
        offsets: BTreeSet<Offset>,
        rate: Option<f64>,
        counts: watch::Sender<RedriveCounts>,
        stop: CancellationToken,
    ) -> Self {
        let so_far = counts.borrow().clone();
        tracing::info!(subscription = %context.name, dead_letters = so_far.matched, "redrive begins");
        // Those that wait for another attempt are not counted against the others: the gate holds them all when the sink is down.
        let redelivery = Redelivery::new(context.clone(), stop.clone(), Gate::start_redrive, usize::MAX, rate);
        Self {
            plane,
            context,
            counts,
            stop,
            so_far,
            offsets,
            redelivery,
            settled: Vec::new(),
            removing: None,
        }
    }

    async fn run(mut self) {
        let stop = self.stop.clone();
        loop {
            let is_stopped = stop.is_cancelled() || self.so_far.stopped.is_some();
            let mut due = None;
            if is_stopped {
                self.redelivery.reading = None;
                self.give_up_waiting();
            } else {
                due = self.redelivery.start(false);
                if self.redelivery.needs_page() {
                    self.redelivery.reading = self.next_page();
                }
            }
            self.remove();
            let is_read = is_stopped || self.offsets.is_empty();
            if is_read && self.redelivery.is_idle() && self.removing.is_none() {
                return self.ended();
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if !is_stopped => {}
                removed = poll(self.removing.as_mut().map(|(removing, _)| removing)), if self.removing.is_some() => self.removed(removed),
                step = self.redelivery.step(due) => match step {
                    Step::Ended(offset, end) => self.arrived(offset, end),
                    Step::Read(Ok(page)) => self.take(page),
                    Step::Read(Err(error)) => self.fail(&format!("its dead letters cannot be read: {}", crate::chain(&error))),
                    Step::Due => {}
                },
            }
            self.report();
        }
    }

    fn next_page(&self) -> Option<Reading> {
        let (from, channel) = (*self.offsets.first()?, self.context.channel.clone());
        // When a few letters among many are asked for, the ones in between are not worth reading.
        let max = self.offsets.len().min(AHEAD);
        Some(Box::pin(async move {
            let page = channel.dead_letters().list(from, max).await?;
            let records = page.into_iter().map(|dead_letter| Record {
                offset: dead_letter.offset,
                stored_at: dead_letter.stored_at,
                event: dead_letter.event,
            });
            Ok(records.collect())
        }))
    }

    fn take(&mut self, page: Vec<Record>) {
        let rest = match page.last() {
            Some(last) => self.offsets.split_off(&last.offset.next()),
            None => BTreeSet::new(),
        };
        let mut meant = std::mem::replace(&mut self.offsets, rest);
        let mut redriving = self.plane.0.requests.redriving.lock();
        for dead_letter in page {
            if !meant.remove(&dead_letter.offset) {
                continue;
            }
            if redriving.insert((self.context.channel_name.clone(), dead_letter.offset.0)) {
                self.redelivery.waiting.push_back(dead_letter);
            } else {
                // Another redrive has it.
                self.so_far.gone += 1;
            }
        }
        // Removed by a person since they were counted.
        self.so_far.gone += meant.len() as u64;
    }

    fn arrived(&mut self, offset: Offset, end: End) {
        match end {
            End::Delivered | End::Forwarded | End::Replied => self.so_far.delivered += 1,
            End::DeadLettered(_) => self.so_far.dead_lettered += 1,
            End::Filtered | End::Released => return self.release(&[offset]),
        }
        self.settled.push(offset);
    }

    /// Starts to remove the dead letters of settled events, unless a removal is under way: the next one takes all that were settled meanwhile.
    fn remove(&mut self) {
        if self.removing.is_some() || self.settled.is_empty() {
            return;
        }
        let rest = self.settled.split_off(self.settled.len().min(REMOVED_AT_ONCE));
        let offsets = std::mem::replace(&mut self.settled, rest);
        let (channel, removed) = (self.context.channel.clone(), offsets.clone());
        let removing = Box::pin(async move { channel.dead_letters().remove(&removed).await });
        self.removing = Some((removing, offsets));
    }

    fn removed(&mut self, removed: Result<usize, ReadError>) {
        let Some((_, offsets)) = self.removing.take() else {
            return;
        };
        self.release(&offsets);
        if let Err(error) = removed {
            self.context
                .reports
                .not_redriven(offsets.first().map_or(0, |offset| offset.0), &error);
            let count = offsets.len();
            let settled = std::mem::take(&mut self.settled);
            self.release(&settled);
            self.fail(&format!(
                "dead letters of {count} settled events cannot be removed, and would be delivered again: {}",
                crate::chain(&error)
            ));
        }
    }

    /// Lets another redrive deliver them.
    fn release(&self, offsets: &[Offset]) {
        let mut redriving = self.plane.0.requests.redriving.lock();
        for offset in offsets {
            redriving.remove(&(self.context.channel_name.clone(), offset.0));
        }
    }

    fn give_up_waiting(&mut self) {
        let waiting: Vec<Offset> = self
            .redelivery
            .waiting
            .drain(..)
            .map(|dead_letter| dead_letter.offset)
            .collect();
        self.release(&waiting);
    }

    fn fail(&mut self, why: &str) {
        self.so_far.stopped.get_or_insert_with(|| why.to_owned());
        self.stop.cancel();
    }

    fn report(&mut self) {
        let ended = self.so_far.delivered + self.so_far.dead_lettered + self.so_far.gone;
        self.so_far.left = self.so_far.matched.saturating_sub(ended);
        let so_far = &self.so_far;
        self.counts.send_if_modified(|known| {
            let is_new = known != so_far;
            if is_new {
                known.clone_from(so_far);
            }
            is_new
        });
    }

    fn ended(mut self) {
        self.report();
        if self.so_far.left > 0 {
            let why = if self.plane.0.runtime.draining.is_cancelled() {
                "the gateway ends"
            } else {
                "who asked for it is gone"
            };
            self.fail(why);
            self.report();
        }
        let RedriveCounts {
            matched,
            delivered,
            dead_lettered,
            gone,
            left,
            stopped,
        } = &self.so_far;
        let subscription = &self.context.name;
        match stopped {
            None => tracing::info!(%subscription, matched, delivered, dead_lettered, gone, "redrive ended"),
            // Letters whose events were not settled are still in the log.
            Some(stopped) => tracing::warn!(
                %subscription, matched, delivered, dead_lettered, gone, left, stopped,
                "redrive is not finished: letters that were not delivered are still in the log"
            ),
        }
    }
}

impl Drop for RedriveTask {
    fn drop(&mut self) {
        let counts = self.counts.subscribe();
        self.plane
            .0
            .requests
            .redrives
            .lock()
            .retain(|(_, known)| !known.same_channel(&counts));
        self.give_up_waiting();
        // Abandoned in flight, after the grace period.
        let abandoned = std::mem::take(&mut self.settled);
        self.release(&abandoned);
    }
}
