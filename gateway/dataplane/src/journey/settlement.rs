//! The only file in which a delivery is acknowledged: consequences first, then the acknowledgement.
//!
//! A reply is stored, or taken by its target, before the event is settled (CONTRACT RP-2); a letter is stored, or taken by the
//! dead-letter sink, before the original is (DL-5). When neither can be, the event is not settled: it goes back to its channel.

use std::time::Duration;

use channel::{Attempts, Delivery, Discard, Disposition, Passed};

use super::{
    classify::Refusal,
    context::{Context, RECHECK_AFTER},
    delivery::Outcome,
    failure::{Failure, Reason},
    reply,
    slot::Slot,
};
use crate::dead_letters::encoding::{self, DeadLetterDetails};

/// The wait between attempts to store a letter while the log refuses it: its disk is full or broken, which people repair in
/// minutes.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(5);

/// How the journey of an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The subscriber took it.
    Delivered,
    /// The channel that is the subscriber stored it.
    Forwarded,
    /// The subscriber took it, and the reply's target has the reply.
    Replied,
    /// A letter about it is where it belongs.
    DeadLettered(Reason),
    /// The subscription's filters left it out.
    Filtered,
    /// It went back to its channel and comes again.
    Released,
}

/// Stores what follows from the outcome, then settles the delivery.
///
/// All but the plain acknowledgement is boxed: it is rare, and the future of every delivery has room for it.
///
/// # Cancel safety
/// Dropped before the acknowledgement, the event comes back; what it led to may then be there twice.
pub(crate) async fn settle(delivery: Delivery, outcome: Outcome, context: &Context, slot: &mut Slot) -> End {
    match outcome {
        Outcome::Interrupted => release(delivery, Duration::ZERO),
        Outcome::Parked(wait) => release(delivery, wait),
        Outcome::Delivered { proof, reply: None } => taken(delivery, proof, context),
        Outcome::Delivered {
            proof,
            reply: Some(reply),
        } => match Box::pin(reply::pass(&reply, &delivery, context, slot)).await {
            reply::ReplyEnd::Passed(passed) => taken(delivery, Disposition::Replied(passed), context),
            reply::ReplyEnd::Dropped => {
                context.reports.metrics.replies.without_target.inc();
                taken(delivery, proof, context)
            }
            reply::ReplyEnd::Failed(exhausted) => Box::pin(bury_reply(delivery, exhausted, context, slot)).await,
            reply::ReplyEnd::Interrupted => release(delivery, Duration::ZERO),
        },
        Outcome::Exhausted(failure) => Box::pin(bury(delivery, failure, context, slot)).await,
    }
}

/// Settles an event that the subscription's filters left out.
pub(crate) fn discard(delivery: Delivery, context: &Context) {
    acknowledge(
        delivery,
        Disposition::Discarded(Discard::Filtered),
        End::Filtered,
        context,
    );
}

fn taken(delivery: Delivery, proof: Disposition, context: &Context) -> End {
    let end = match proof {
        Disposition::Forwarded(_) => End::Forwarded,
        Disposition::Replied(_) => End::Replied,
        _ => End::Delivered,
    };
    acknowledge(delivery, proof, end, context)
}

fn acknowledge(delivery: Delivery, proof: Disposition, end: End, context: &Context) -> End {
    let (offset, stored_at) = (delivery.offset(), delivery.stored_at());
    if let Err(error) = delivery.ack(proof) {
        // The subscription was removed meanwhile, or another replica has it now and delivers the event again.
        tracing::debug!(subscription = %context.name, %offset, %error, "acknowledgement came too late");
    }
    context.reports.metrics.ended(end, stored_at);
    end
}

fn release(delivery: Delivery, after: Duration) -> End {
    delivery.release(after);
    End::Released
}

/// Writes the dead letter to where it belongs, then settles the original (DL-5).
pub(crate) async fn bury(delivery: Delivery, failure: Failure, context: &Context, slot: &mut Slot) -> End {
    let attempts = delivery.attempts();
    write_dead_letter(delivery, &failure, attempts, context, slot).await
}

/// Dead-letters an event that the subscriber took and whose reply no target took: the letter describes the attempts of the reply.
async fn bury_reply(delivery: Delivery, exhausted: reply::Exhausted, context: &Context, slot: &mut Slot) -> End {
    let attempts = Attempts {
        failed: exhausted.tries,
        last_status: exhausted.failure.code,
        first_at: Some(exhausted.first_at),
        ..Attempts::default()
    };
    write_dead_letter(delivery, &exhausted.failure, attempts, context, slot).await
}

async fn write_dead_letter(
    delivery: Delivery,
    failure: &Failure,
    attempts: Attempts,
    context: &Context,
    slot: &mut Slot,
) -> End {
    let facts = DeadLetterDetails {
        subscription: &context.name,
        failure,
        attempts,
    };
    let passed = match send_dead_letter(&delivery, &facts, context, slot).await {
        Sent::Accepted(passed) => Some(passed),
        Sent::Interrupted => None,
        Sent::Refused => keep_dead_letter(&delivery, &facts, context, slot).await,
    };
    let Some(passed) = passed else {
        return release(delivery, Duration::ZERO);
    };
    context.reports.buried(failure, attempts.failed, delivery.event());
    let end = End::DeadLettered(failure.reason);
    acknowledge(delivery, Disposition::DeadLettered(passed), end, context)
}

enum Sent {
    Accepted(Passed),
    /// There is no dead-letter sink, or it would not take the letter.
    Refused,
    Interrupted,
}

/// Sends the letter to the dead-letter sink, by the same policy as the event (DL-5).
async fn send_dead_letter(
    delivery: &Delivery,
    facts: &DeadLetterDetails<'_>,
    context: &Context,
    slot: &mut Slot,
) -> Sent {
    let mut failed = 0;
    loop {
        let route = context.route();
        let Some(target) = &route.dead_letter else {
            return Sent::Refused;
        };
        let dead_letter = match encoding::to_send(delivery.event(), facts) {
            Ok(dead_letter) => dead_letter,
            Err(error) => {
                // The channel's log needs no room in the event.
                let detail = format!("the event has no room for what a letter says: {error}");
                let failure = Failure::new(Reason::SinkRejected, &target.display(), detail);
                context.reports.dead_letter_refused(&failure, None);
                return Sent::Refused;
            }
        };
        let wait = match target.pass(&dead_letter, None).await {
            Ok((passed, _)) => return Sent::Accepted(passed),
            Err(Refusal::NotSent(failure)) => {
                context.reports.not_sent(&failure);
                RECHECK_AFTER
            }
            Err(refusal) => {
                failed += 1;
                let (failure, wait) = refusal.with_wait(&route.subscription.delivery.backoff, failed);
                context.reports.dead_letter_refused(&failure, wait);
                match wait {
                    Some(wait) => wait,
                    None => return Sent::Refused,
                }
            }
        };
        if !slot.pause(wait).await {
            return Sent::Interrupted;
        }
    }
}

/// Stores the letter in the channel's own log. Retries until it works or the delivery is interrupted: there is no other target.
async fn keep_dead_letter(
    delivery: &Delivery,
    facts: &DeadLetterDetails<'_>,
    context: &Context,
    slot: &mut Slot,
) -> Option<Passed> {
    let kept = facts.to_keep();
    loop {
        match context.channel.dead_letters().store(delivery.event(), &kept).await {
            Ok(stored) => return Some(Passed::Stored(stored)),
            Err(error) => context.reports.log_refused(&error),
        }
        if !slot.pause(DEAD_LETTER_RETRY).await {
            return None;
        }
    }
}
