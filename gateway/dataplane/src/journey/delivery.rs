//! One event to one subscriber: try, classify, wait, again, until there is an [`Outcome`].
//!
//! The loop is written out so that attempts, `Retry-After` and dead letters can be seen in one place. A wait holds no slot:
//! an event that backs off blocks only its own key (CONTRACT CH-6), and where very many do, they wait in the channel. `settlement`
//! acts on the outcome.

use std::time::{Duration, SystemTime};

use channel::{Attempts, Delivery, Disposition, Passed};
use event::Event;
use tokio::time::Instant;

use super::{
    classify::{Refusal, Reply},
    context::{Context, RECHECK_AFTER},
    failure::{Failure, Reason},
    lineage,
    outbound::Outbound,
    reply,
    route::Route,
    slot::Slot,
};

/// The jitter of the longest wait that a policy gives.
const LONGEST: f64 = 1.0;

/// How the attempts ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The event is taken, as the proof says.
    Delivered { proof: Disposition, reply: Option<Event> },
    /// No attempt is left, or none would help: a dead letter is due.
    Exhausted(Failure),
    /// The gateway drains, or the subscription was paused, during a wait: the event goes back with its attempts.
    Interrupted,
    /// Too many events wait: this one goes back with its attempts, and comes again when its next attempt is due.
    Parked(Duration),
}

/// An attempt that succeeded.
struct Succeeded {
    proof: Disposition,
    reply: Option<Event>,
    /// The fault of a reply that was dropped.
    fault: Option<Box<str>>,
}

/// Tries until there is an outcome.
///
/// # Cancel safety
/// Not cancel safe: dropped during an attempt, the subscriber may have the event; the delivery is then released by its own drop.
pub(crate) async fn deliver(delivery: &mut Delivery, context: &Context, slot: &mut Slot) -> Outcome {
    if delivery.attempts().failed > 0 {
        // Attempts of an earlier process life (DL-4): their count and their wait go on.
        if let Some(outcome) = resume(delivery, context, slot).await {
            return outcome;
        }
    }
    loop {
        if !context.has_reply_room() {
            // The answer could be one more reply to hold: replies that wait go first.
            match wait(RECHECK_AFTER, slot).await {
                Some(outcome) => return outcome,
                None => continue,
            }
        }
        let (route, began) = (context.route(), Instant::now());
        let tried = attempt(delivery.event(), &route, context).await;
        let took = began.elapsed();
        if route.subscriber.as_ref().is_some_and(Outbound::is_http) {
            context.reports.metrics.attempt_seconds.observe(took.as_secs_f64());
        }
        let refusal = match tried {
            Ok(Succeeded { proof, reply, fault }) => {
                let status = match &proof {
                    Disposition::Accepted(answer) => Some(answer.status()),
                    _ => None,
                };
                context.succeeded(delivery.event(), status, took, fault);
                return Outcome::Delivered { proof, reply };
            }
            Err(refusal) => refusal,
        };
        let pause = match refusal {
            Refusal::NotSent(failure) => {
                context.reports.not_sent(&failure);
                RECHECK_AFTER
            }
            refusal => {
                let policy = &route.subscription.delivery.backoff;
                let (failure, pause) = refusal.with_wait(policy, delivery.attempts().failed.saturating_add(1));
                let attempts = count(delivery, &failure, pause);
                delivery.remember(attempts);
                context.failed(delivery, &failure, took, pause);
                match pause {
                    Some(pause) => pause,
                    None => return Outcome::Exhausted(failure),
                }
            }
        };
        if let Some(outcome) = wait(pause, slot).await {
            return outcome;
        }
    }
}

/// Waits before the next attempt. `Some`: the event goes back instead.
async fn wait(pause: Duration, slot: &mut Slot) -> Option<Outcome> {
    if slot.parks() {
        return Some(Outcome::Parked(pause));
    }
    (!slot.pause(pause).await).then_some(Outcome::Interrupted)
}

async fn resume(delivery: &Delivery, context: &Context, slot: &mut Slot) -> Option<Outcome> {
    let attempts = delivery.attempts();
    let route = context.route();
    let policy = &route.subscription.delivery.backoff;
    let Some(longest) = policy.wait(attempts.failed, attempts.retry_after, LONGEST) else {
        // The letter was due when the process ended; the answer's body went with it, its status did not.
        let reason = if attempts.last_status.is_some() {
            Reason::SinkError
        } else {
            Reason::SinkUnreachable
        };
        let mut failure = Failure::new(
            reason,
            &route.destination(),
            "no attempt was left when the process ended",
        );
        failure.code = attempts.last_status;
        return Some(Outcome::Exhausted(failure));
    };
    wait(rest(attempts, longest, SystemTime::now())?, slot).await
}

/// Returns the rest of a wait that began before a restart; `None`: it is over. A clock that was set back meanwhile must not
/// make an event wait longer than it would have waited without the restart.
fn rest(attempts: Attempts, longest: Duration, now: SystemTime) -> Option<Duration> {
    let rest = attempts.next_at?.duration_since(now).ok()?;
    Some(rest.min(longest))
}

fn count(delivery: &Delivery, failure: &Failure, pause: Option<Duration>) -> Attempts {
    let (before, now) = (delivery.attempts(), SystemTime::now());
    Attempts {
        failed: before.failed.saturating_add(1),
        last_status: failure.code,
        first_at: before.first_at.or(Some(now)),
        next_at: pause.and_then(|pause| now.checked_add(pause)),
        retry_after: failure.retry_after,
    }
}

async fn attempt(event: &Event, route: &Route, context: &Context) -> Result<Succeeded, Refusal> {
    let Some(subscriber) = &route.subscriber else {
        // The event itself is the reply: its attempts are the event's own.
        let Some(target) = &route.reply else {
            let failure = Failure::new(Reason::ReplyFailed, "", "the reply target was removed");
            return Err(Refusal::Retry(failure));
        };
        let passed = Box::pin(reply::attempt(target, event, event)).await?;
        context.reports.metrics.replies.passed.inc();
        return Ok(Succeeded {
            proof: Disposition::Replied(passed),
            reply: None,
            fault: None,
        });
    };
    let (passed, reply) = subscriber.pass(event, None).await?;
    let proof = match passed {
        Passed::Accepted(answer) => Disposition::Accepted(answer),
        Passed::Stored(stored) => Disposition::Forwarded(stored),
    };
    let replies = &context.reports.metrics.replies;
    let (reply, fault) = match (reply, &route.reply) {
        (Reply::None, _) => (None, None),
        (Reply::Event(event), Some(_)) => (Some(lineage::from_outside(event)), None),
        (Reply::Event(_) | Reply::TooLarge, None) => {
            replies.without_target.inc();
            (None, None)
        }
        (Reply::Malformed(fault), _) => {
            context.reports.malformed_reply(event, &subscriber.display(), &fault);
            (None, Some(fault))
        }
        (Reply::TooLarge, Some(_)) => {
            replies.too_large.inc();
            let limit = route.subscription.delivery.max_reply_bytes;
            let detail = format!("its reply is larger than maxReplyBytes ({limit})");
            let failure = Failure::new(Reason::ReplyTooLarge, &subscriber.display(), detail);
            return Err(Refusal::ForGood(failure));
        }
    };
    Ok(Succeeded { proof, reply, fault })
}

#[cfg(test)]
mod tests {
    use backoff::{Growth, Policy};

    use super::*;

    /// Proves: DL-4
    #[test]
    fn a_clock_that_was_set_back_prolongs_no_wait() {
        let policy = Policy {
            growth: Growth::Linear,
            delay: Duration::from_secs(1),
            ..Policy::default()
        };
        let hour = Duration::from_secs(3600);
        let failed_at = SystemTime::UNIX_EPOCH + 1000 * hour;
        let rest = |retry_after: Option<u64>, now| {
            let retry_after = retry_after.map(Duration::from_secs);
            let wait = policy.wait(1, retry_after, LONGEST);
            let attempts = Attempts {
                failed: 1,
                next_at: wait.map(|wait| failed_at + wait),
                retry_after,
                ..Attempts::default()
            };
            let longest = policy.wait(attempts.failed, attempts.retry_after, LONGEST);
            rest(attempts, longest.unwrap_or_default(), now).map(|rest| rest.as_secs())
        };
        assert_eq!(rest(None, failed_at - hour), Some(1), "what the policy gives");
        assert_eq!(rest(Some(30), failed_at - hour), Some(30), "what the sink asked for");
        assert_eq!(rest(Some(3000), failed_at - hour), Some(300), "up to retryAfterMax");
        assert_eq!(rest(Some(30), failed_at + Duration::from_secs(10)), Some(20));
        assert_eq!(rest(Some(30), failed_at + hour), None);
    }
}
