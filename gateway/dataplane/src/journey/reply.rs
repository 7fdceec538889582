//! A subscriber's reply on its way to the reply target, until the target has it (CONTRACT RP-2).
//!
//! The subscriber has the event by then. So a target that cannot take the reply now gets the reply alone again, by the
//! subscription's policy and on a budget of its own, and a pause does not give the event back: only the end of the process calls
//! the subscriber again. What is held that way is bounded by `Context::has_reply_room`.

use std::time::SystemTime;

use channel::{Delivery, Passed};
use event::Event;
use tokio::time::Instant;

use super::{
    classify::Refusal,
    context::{Context, RECHECK_AFTER},
    failure::{Failure, Reason},
    outbound::Outbound,
    slot::Slot,
};

/// How a reply ended.
pub(crate) enum ReplyEnd {
    /// The target has it.
    Passed(Passed),
    /// The subscription has no reply target any more.
    Dropped,
    /// No attempt is left, or none would help.
    Failed(Exhausted),
    /// Deliveries end: the event is released, and the process that gets it next calls the subscriber again.
    Interrupted,
}

/// A reply that no target took.
pub(crate) struct Exhausted {
    pub(crate) failure: Failure,
    pub(crate) tries: u32,
    /// When the first of them failed.
    pub(crate) first_at: SystemTime,
}

/// Passes the reply on, with as many attempts as the policy allows.
///
/// # Cancel safety
/// Not cancel safe: dropped during an attempt, the target may have the reply.
pub(crate) async fn pass(reply: &Event, delivery: &Delivery, context: &Context, slot: &mut Slot) -> ReplyEnd {
    slot.taken();
    let (mut failed, mut first_at, mut held) = (0_u32, None, None);
    loop {
        let (route, began) = (context.route(), Instant::now());
        let Some(target) = &route.reply else {
            if route.subscription.reply.is_none() {
                return ReplyEnd::Dropped;
            }
            // It is not there right now, for which all deliveries wait; that is no attempt.
            held.get_or_insert_with(|| context.hold_reply(reply));
            if !slot.pause(RECHECK_AFTER).await {
                return ReplyEnd::Interrupted;
            }
            continue;
        };
        let wait = match attempt(target, reply, delivery.event()).await {
            Ok(passed) => {
                context
                    .reports
                    .reply_passed(delivery.event(), failed, &target.display(), began.elapsed());
                return ReplyEnd::Passed(passed);
            }
            Err(Refusal::NotSent(failure)) => {
                context.reports.not_sent(&failure);
                RECHECK_AFTER
            }
            Err(refusal) => {
                failed = failed.saturating_add(1);
                let first_at = *first_at.get_or_insert_with(SystemTime::now);
                let (failure, wait) = refusal.with_wait(&route.subscription.delivery.backoff, failed);
                context
                    .reports
                    .reply_failed(delivery.event(), &failure, began.elapsed(), wait);
                match wait {
                    Some(wait) => wait,
                    None => {
                        return ReplyEnd::Failed(Exhausted {
                            failure,
                            tries: failed,
                            first_at,
                        });
                    }
                }
            }
        };
        held.get_or_insert_with(|| context.hold_reply(reply));
        if !slot.pause(wait).await {
            return ReplyEnd::Interrupted;
        }
    }
}

/// Passes the reply on once. Failures carry the reasons of replies.
pub(crate) async fn attempt(target: &Outbound, reply: &Event, cause: &Event) -> Result<Passed, Refusal> {
    let passed = target.pass(reply, Some(cause)).await;
    let because = |reason, failure| Failure { reason, ..failure };
    passed.map(|(passed, _)| passed).map_err(|refusal| match refusal {
        Refusal::Retry(failure) => Refusal::Retry(because(Reason::ReplyFailed, failure)),
        // The target was not asked: the reply has no room for its hops.
        Refusal::ForGood(failure) if failure.reason == Reason::Loop => Refusal::ForGood(failure),
        Refusal::ForGood(failure) => Refusal::ForGood(because(Reason::ReplyRefused, failure)),
        Refusal::NotSent(failure) => Refusal::NotSent(failure),
    })
}
