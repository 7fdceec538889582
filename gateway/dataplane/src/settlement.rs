//! The only file in which a delivery is acknowledged: consequences first, then the acknowledgement.
//!
//! A reply is stored, or taken by its target, before the event is settled (CONTRACT RP-2); a letter is stored, or taken by the
//! dead-letter sink, before the original is (DL-5). When neither can be, the event is not settled: it is tried again or
//! goes back to its channel.

use std::time::Duration;

use channel::{Delivery, Discard, Disposition, Passed};
use event::Event;

use crate::{
    classify::{Verdict, classify},
    context::{Context, Slot},
    delivery::{Outcome, Refusal, Taken, into_channel, to_replica},
    failure::{Failure, Reason},
    letter::{self, Facts},
    route::{Outbound, Route},
};

/// How often storing a letter is tried again while the log refuses: it refuses because its disk is full or broken, which
/// people mend in minutes.
const LETTER_RETRY: Duration = Duration::from_secs(5);

/// The reply could not be stored now: the whole delivery is tried again, subscriber call included (RP-2).
pub(crate) struct Again {
    pub(crate) delivery: Delivery,
    pub(crate) failure: Failure,
}

/// Stores what follows from the outcome, then settles the delivery.
///
/// Everything but the plain acknowledgement is boxed: it is rare, and every delivery's future has room for it.
///
/// Cancel safe in the sense that matters: dropped anywhere before the acknowledgement, the event comes back.
pub(crate) async fn settle(delivery: Delivery, outcome: Outcome, context: &Context, slot: &mut Slot) -> Option<Again> {
    match outcome {
        Outcome::Interrupted => delivery.release(Duration::ZERO),
        Outcome::Parked(wait) => delivery.release(wait),
        Outcome::Delivered { taken, reply: None } => {
            let disposition = match taken {
                Taken::Subscriber(proof) => Disposition::Accepted(proof),
                Taken::Channel(stored) => Disposition::Forwarded(stored),
                // Without a subscriber the event is the reply, so there always is one.
                Taken::Nobody => Disposition::Discarded(Discard::Filtered),
            };
            acknowledge(delivery, disposition, context);
        }
        Outcome::Delivered { reply: Some(reply), .. } => {
            let route = context.route();
            match Box::pin(pass_reply(&reply, delivery.event(), &route, context)).await {
                Ok(passed) => {
                    context.metrics.replies.passed.inc();
                    acknowledge(delivery, Disposition::Replied(passed), context);
                }
                Err(Refusal::Retry(failure)) => return Some(Again { delivery, failure }),
                Err(Refusal::ForGood(failure)) => Box::pin(bury(delivery, failure, context, slot)).await,
            }
        }
        Outcome::Exhausted(failure) => Box::pin(bury(delivery, failure, context, slot)).await,
    }
    None
}

/// The subscription's filter said no.
pub(crate) fn discard(delivery: Delivery, context: &Context) {
    context.metrics.filtered.inc();
    let _ = delivery.ack(Disposition::Discarded(Discard::Filtered));
}

fn acknowledge(delivery: Delivery, disposition: Disposition, context: &Context) {
    let offset = delivery.offset();
    if let Err(error) = delivery.ack(disposition) {
        // The subscription was removed meanwhile, or another replica has it: whoever has it now delivers again.
        tracing::debug!(subscription = %context.name, %offset, %error, "acknowledgement came too late");
    }
    context.metrics.delivered.inc();
}

async fn pass_reply(reply: &Event, cause: &Event, route: &Route, context: &Context) -> Result<Passed, Refusal> {
    match &route.reply {
        Some(Outbound::Channel(name)) => match into_channel(name, reply, cause, context).await {
            Ok(stored) => Ok(Passed::Stored(stored)),
            Err(refusal) => Err(as_reply_failure(refusal)),
        },
        Some(Outbound::Elsewhere(name, sink)) => {
            match to_replica(name, sink, reply, cause, route.manner, context).await {
                Ok(proof) => Ok(Passed::Accepted(proof)),
                Err(refusal) => Err(as_reply_failure(refusal)),
            }
        }
        Some(Outbound::Http(sink)) => {
            let reply = crate::lineage::caused(reply, cause, &context.channel_name);
            match classify(sink.send(&reply, route.manner).await, sink.display()) {
                Verdict::Taken { proof, .. } => Ok(Passed::Accepted(proof)),
                Verdict::Retry(failure) => Err(as_reply_failure(Refusal::Retry(failure))),
                Verdict::Refused(failure) => Err(as_reply_failure(Refusal::ForGood(failure))),
            }
        }
        // The target was taken away between the answer and now: the next try sees the new route.
        None => Err(Refusal::Retry(Failure::new(
            Reason::ReplyFailed,
            "",
            "the reply target was removed",
        ))),
    }
}

fn as_reply_failure(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Retry(failure) => Refusal::Retry(Failure {
            reason: Reason::ReplyFailed,
            ..failure
        }),
        Refusal::ForGood(failure) => Refusal::ForGood(Failure {
            reason: Reason::ReplyRefused,
            ..failure
        }),
    }
}

/// Writes the dead letter to where it belongs, then settles the original (DL-5).
pub(crate) async fn bury(mut delivery: Delivery, failure: Failure, context: &Context, slot: &mut Slot) {
    let mut attempts = delivery.attempts();
    if matches!(failure.reason, Reason::ReplyRefused) {
        // The subscriber took it; its try counts all the same.
        attempts.failed = attempts.failed.saturating_add(1);
        attempts.last_status = failure.code;
        delivery.remember(attempts);
    }
    let facts = Facts {
        subscription: &context.name,
        failure: &failure,
        attempts,
    };
    let passed = match send_letter(&delivery, &facts, context, slot).await {
        Sent::Accepted(passed) => Some(passed),
        Sent::Interrupted => None,
        Sent::Refused => keep_letter(&delivery, &facts, context, slot).await,
    };
    match passed {
        Some(passed) => {
            context.buried(&failure, attempts.failed, delivery.event());
            let _ = delivery.ack(Disposition::DeadLettered(passed));
        }
        None => delivery.release(Duration::ZERO),
    }
}

enum Sent {
    Accepted(Passed),
    /// There is no dead-letter sink, or it would not take the letter.
    Refused,
    Interrupted,
}

/// To the dead-letter sink, by the same policy as the event (DL-5).
async fn send_letter(delivery: &Delivery, facts: &Facts<'_>, context: &Context, slot: &mut Slot) -> Sent {
    let mut failed = 0;
    loop {
        let route = context.route();
        let Some(target) = &route.dead_letter else {
            return Sent::Refused;
        };
        let letter = letter::to_send(delivery.event(), facts);
        let refusal = match target {
            Outbound::Channel(name) => match into_channel(name, &letter, delivery.event(), context).await {
                Ok(stored) => return Sent::Accepted(Passed::Stored(stored)),
                Err(refusal) => refusal,
            },
            Outbound::Elsewhere(name, sink) => {
                match to_replica(name, sink, &letter, delivery.event(), route.manner, context).await {
                    Ok(proof) => return Sent::Accepted(Passed::Accepted(proof)),
                    Err(refusal) => refusal,
                }
            }
            Outbound::Http(sink) => match classify(sink.send(&letter, route.manner).await, sink.display()) {
                Verdict::Taken { proof, .. } => return Sent::Accepted(Passed::Accepted(proof)),
                Verdict::Retry(failure) => Refusal::Retry(failure),
                Verdict::Refused(failure) => Refusal::ForGood(failure),
            },
        };
        let (failure, wait) = match refusal {
            Refusal::ForGood(failure) => (failure, None),
            Refusal::Retry(failure) => {
                failed += 1;
                let wait = route
                    .subscription
                    .delivery
                    .backoff
                    .wait(failed, failure.retry_after, rand::random());
                (failure, wait)
            }
        };
        context.letter_refused(&failure, wait);
        match wait {
            None => return Sent::Refused,
            Some(wait) if !slot.pause(wait).await => return Sent::Interrupted,
            Some(_) => {}
        }
    }
}

/// Into the channel's own log; tried until it works or the delivery is interrupted, because there is nowhere else to go.
async fn keep_letter(delivery: &Delivery, facts: &Facts<'_>, context: &Context, slot: &mut Slot) -> Option<Passed> {
    let letter = letter::to_keep(delivery.event(), facts);
    loop {
        match context.channel.letters().store(&letter).await {
            Ok(stored) => return Some(Passed::Stored(stored)),
            Err(error) => context.log_refused(&error),
        }
        if !slot.pause(LETTER_RETRY).await {
            return None;
        }
    }
}
