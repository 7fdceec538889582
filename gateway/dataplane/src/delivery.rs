//! One event to one subscriber: try, classify, wait, again, until there is an [`Outcome`].
//!
//! The loop is written out so that attempts, `Retry-After` and dead letters can be seen in one place. A wait holds no slot:
//! an event that backs off blocks nothing but its own key (CONTRACT CH-6), and where very many do, they wait in the channel. What an outcome leads to is `settlement`'s.

use std::time::{Duration, SystemTime};

use channel::{AppendError, Attempts, Delivered, Delivery, Stored};
use event::Event;
use spec::ObjectName;
use tokio::time::Instant;

use crate::{
    classify::{Reply, Verdict, classify},
    context::{Context, Slot},
    failure::{Failure, Reason},
    lineage,
    route::{self, Outbound, Route},
    sink::{HttpSink, Manner},
};

/// How the tries ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Delivered {
        taken: Taken,
        reply: Option<Event>,
    },
    /// No try is left, or none would help: a dead letter is due.
    Exhausted(Failure),
    /// The gateway drains, or the subscription was paused, during a wait: the event goes back with its attempts.
    Interrupted,
    /// Too many events wait: this one goes back with its attempts, and comes again when its next try is due.
    Parked(Duration),
}

/// Who has the event now.
#[derive(Debug)]
pub(crate) enum Taken {
    Subscriber(Delivered),
    Channel(Stored),
    /// There is no subscriber: the event itself is the reply.
    Nobody,
}

impl Taken {
    /// Of the subscriber's answer.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Subscriber(proof) => Some(proof.status()),
            Self::Channel(_) | Self::Nobody => None,
        }
    }
}

/// Tries until there is an outcome. `failed` is a try that settlement found to have failed after all (its reply could not be
/// stored): it counts as any other (RP-2).
///
/// Not cancel safe: dropped during a try, the subscriber may have the event; the delivery is then released by its own drop.
pub(crate) async fn deliver(
    delivery: &mut Delivery,
    failed: Option<Failure>,
    context: &Context,
    slot: &mut Slot,
) -> Outcome {
    if failed.is_none() && delivery.attempts().failed > 0 {
        // Tries of an earlier process life (DL-4): their count and their wait go on.
        if let Some(outcome) = resume(delivery, context, slot).await {
            return outcome;
        }
    }
    let mut failed = failed.map(|failure| (failure, None));
    loop {
        if let Some((failure, took)) = failed.take() {
            let attempts = count(delivery, &failure);
            let route = context.route();
            let policy = &route.subscription.delivery.backoff;
            let Some(wait) = policy.wait(attempts.failed, failure.retry_after, rand::random()) else {
                delivery.remember(attempts);
                context.failed(delivery, &failure, took, None);
                return Outcome::Exhausted(failure);
            };
            delivery.remember(Attempts {
                next_at: SystemTime::now().checked_add(wait),
                ..attempts
            });
            context.failed(delivery, &failure, took, Some(wait));
            if slot.parks() {
                return Outcome::Parked(wait);
            }
            if !slot.pause(wait).await {
                return Outcome::Interrupted;
            }
        }
        let (route, began) = (context.route(), Instant::now());
        let tried = attempt(delivery.event(), &route, context).await;
        let took = began.elapsed();
        match tried {
            Attempt::Taken { taken, reply } => {
                context.succeeded(delivery.event(), taken.status(), took);
                return Outcome::Delivered { taken, reply };
            }
            Attempt::Retry(failure) => failed = Some((failure, Some(took))),
            Attempt::Refused(failure) => {
                let attempts = count(delivery, &failure);
                delivery.remember(attempts);
                context.failed(delivery, &failure, Some(took), None);
                return Outcome::Exhausted(failure);
            }
        }
    }
}

async fn resume(delivery: &Delivery, context: &Context, slot: &mut Slot) -> Option<Outcome> {
    let attempts = delivery.attempts();
    let route = context.route();
    if attempts.failed > route.subscription.delivery.backoff.retry {
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
    }
    let wait = attempts
        .next_at
        .and_then(|at| at.duration_since(SystemTime::now()).ok())?;
    // A clock that was set back must not make an event wait for longer than any policy would.
    let wait = wait.min(
        route
            .subscription
            .delivery
            .backoff
            .max
            .max(route.subscription.delivery.backoff.retry_after_max),
    );
    if slot.parks() {
        return Some(Outcome::Parked(wait));
    }
    (!slot.pause(wait).await).then_some(Outcome::Interrupted)
}

fn count(delivery: &Delivery, failure: &Failure) -> Attempts {
    let before = delivery.attempts();
    Attempts {
        failed: before.failed.saturating_add(1),
        last_status: failure.code,
        first_at: before.first_at.or_else(|| Some(SystemTime::now())),
        next_at: None,
    }
}

enum Attempt {
    Taken { taken: Taken, reply: Option<Event> },
    Retry(Failure),
    Refused(Failure),
}

async fn attempt(event: &Event, route: &Route, context: &Context) -> Attempt {
    match &route.subscriber {
        Some(Outbound::Http(sink)) => {
            let began = Instant::now();
            let answer = sink.send(event, route.manner).await;
            context.metrics.attempt_seconds.observe(began.elapsed().as_secs_f64());
            match classify(answer, sink.display()) {
                Verdict::Taken { proof, reply } => with_reply(Taken::Subscriber(proof), reply, route, context),
                Verdict::Retry(failure) => Attempt::Retry(failure),
                Verdict::Refused(failure) => Attempt::Refused(failure),
            }
        }
        Some(Outbound::Channel(name)) => match Box::pin(into_channel(name, event, event, context)).await {
            Ok(stored) => Attempt::Taken {
                taken: Taken::Channel(stored),
                reply: None,
            },
            Err(refusal) => refusal.into(),
        },
        Some(Outbound::Elsewhere(name, sink)) => {
            match Box::pin(to_replica(name, sink, event, event, route.manner, context)).await {
                Ok(proof) => Attempt::Taken {
                    taken: Taken::Subscriber(proof),
                    reply: None,
                },
                Err(refusal) => refusal.into(),
            }
        }
        None => Attempt::Taken {
            taken: Taken::Nobody,
            reply: Some(event.clone()),
        },
    }
}

fn with_reply(taken: Taken, reply: Reply, route: &Route, context: &Context) -> Attempt {
    let replies = &context.metrics.replies;
    let reply = match (reply, &route.reply) {
        (Reply::None, _) => None,
        (Reply::Event(event), Some(_)) => Some(event),
        (Reply::Event(_) | Reply::TooLarge, None) => {
            replies.without_target.inc();
            None
        }
        (Reply::Malformed, _) => {
            replies.malformed.inc();
            None
        }
        (Reply::TooLarge, Some(_)) => {
            replies.too_large.inc();
            let destination = route.subscriber.as_ref().map(Outbound::display).unwrap_or_default();
            let limit = route.manner.max_reply_bytes;
            let detail = format!("its reply is larger than maxReplyBytes ({limit})");
            return Attempt::Refused(Failure::new(Reason::ReplyTooLarge, &destination, detail));
        }
    };
    Attempt::Taken { taken, reply }
}

/// Why a channel of ours did not take an event.
pub(crate) enum Refusal {
    Retry(Failure),
    ForGood(Failure),
}

impl From<Refusal> for Attempt {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Retry(failure) => Self::Retry(failure),
            Refusal::ForGood(failure) => Self::Refused(failure),
        }
    }
}

/// Stores `next`, caused by `cause`, in another channel of ours.
pub(crate) async fn into_channel(
    name: &ObjectName,
    next: &Event,
    cause: &Event,
    context: &Context,
) -> Result<Stored, Refusal> {
    let destination = route::of_channel(name);
    let Some(channel) = context.channels.get(name) else {
        let failure = Failure::new(
            Reason::SinkUnreachable,
            &destination,
            format!("{destination} is not open"),
        );
        return Err(Refusal::Retry(failure));
    };
    let next = lineage::caused(next, cause, &context.channel_name);
    match channel.append(std::slice::from_ref(&next)).await {
        Ok(stored) => Ok(stored),
        Err(error @ AppendError::TooLarge { .. }) => Err(Refusal::ForGood(Failure::new(
            Reason::SinkRejected,
            &destination,
            error.to_string(),
        ))),
        Err(error) => {
            let mut failure = Failure::new(Reason::SinkUnreachable, &destination, error.to_string());
            failure.retry_after = match error {
                AppendError::Full { retry_after }
                | AppendError::DiskFull { retry_after }
                | AppendError::Unavailable { retry_after, .. } => Some(retry_after),
                AppendError::Closed | AppendError::TooLarge { .. } => None,
            };
            Err(Refusal::Retry(failure))
        }
    }
}

/// Sends `next`, caused by `cause`, to a channel of ours that another replica has: the hop counts as it does here
/// (CONTRACT LP). The count travels as it does from anywhere, in the event: a stranger who sets it shortens his own event's way.
pub(crate) async fn to_replica(
    name: &ObjectName,
    sink: &HttpSink,
    next: &Event,
    cause: &Event,
    manner: Manner,
    context: &Context,
) -> Result<Delivered, Refusal> {
    let next = lineage::caused(next, cause, &context.channel_name);
    match classify(sink.send(&next, manner).await, &route::of_channel(name)) {
        // A channel answers 202 to what it stored: there is no reply in it.
        Verdict::Taken { proof, .. } => Ok(proof),
        Verdict::Retry(failure) => Err(Refusal::Retry(failure)),
        Verdict::Refused(failure) => Err(Refusal::ForGood(failure)),
    }
}
