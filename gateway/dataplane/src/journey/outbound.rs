//! One hop: passes an event, a reply or a dead letter to one target.
//!
//! The three kinds of target differ in two things only: who stores the event, and whether the hop counts (CONTRACT LP).
//!
//! | target | taken when | the hop counts |
//! |--|--|--|
//! | an HTTP sink | it answers 2xx | for replies: a sink may send them back to a channel of ours |
//! | a channel of this process | it stored the event | always |
//! | a channel of another replica | it answers 2xx | always; that replica trusts this one's count |

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use channel::{AppendError, Channel, Passed, Stored};
use event::Event;
use spec::{Cause, ObjectName, model};

use super::{
    classify::{Refusal, Reply, classify},
    failure::{Failure, Reason},
    lineage,
    sink::{HttpSink, Peer, Secured, SendOptions, Unsendable},
};

/// A target that the events of one channel are passed to.
pub(crate) struct Outbound {
    target: Target,
    /// The channel that the events come from, which is counted as a hop.
    from: ObjectName,
    channels: Channels,
    options: SendOptions,
}

enum Target {
    Http(HttpSink),
    Channel(ObjectName),
    /// A channel that another replica serves, reached by HTTP.
    Elsewhere(ObjectName, HttpSink),
}

/// The part that a target plays for its subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Subscriber,
    Reply,
    DeadLetter,
}

impl Role {
    /// The word is part of the ids of signed messages: it must not change.
    fn as_str(self) -> &'static str {
        match self {
            Self::Subscriber => "subscriber",
            Self::Reply => "reply",
            Self::DeadLetter => "deadLetterSink",
        }
    }
}

/// The channels that are open, by name: how an event gets from one to the next without HTTP. Looked up per event, so that
/// a channel that is opened again is found again.
#[derive(Clone, Default)]
pub(crate) struct Channels(Arc<ArcSwap<HashMap<ObjectName, Arc<dyn Channel>>>>);

impl Channels {
    pub(crate) fn get(&self, name: &ObjectName) -> Option<Arc<dyn Channel>> {
        self.0.load().get(name).cloned()
    }

    pub(crate) fn publish(&self, all: HashMap<ObjectName, Arc<dyn Channel>>) {
        self.0.store(Arc::new(all));
    }
}

impl Outbound {
    /// A target of the subscription, by what it is to it.
    ///
    /// # Errors
    /// When the target is not there, or its URL cannot be sent to.
    pub(crate) fn new(
        target: &model::Target,
        role: Role,
        of: &model::Subscription,
        channels: &Channels,
    ) -> Result<Self, Cause> {
        let because = |why: Unsendable| Cause {
            reason: why.reason,
            message: why.to_string(),
        };
        let sink = |url, peer| HttpSink::new(url, peer, of.max_in_flight).map_err(because);
        let target = match target {
            model::Target::Channel(name) => Target::Channel(name.clone()),
            model::Target::Elsewhere { channel, url } => Target::Elsewhere(channel.clone(), sink(url, Peer::Replica)?),
            model::Target::Unresolved(why) => return Err(why.clone()),
            model::Target::Uri { url, access: None } => Target::Http(sink(url, Peer::Subscriber)?),
            model::Target::Uri {
                url,
                access: Some(access),
            } => {
                let scope = format!("{} {}", of.name, role.as_str());
                let secured = Secured { access, scope };
                Target::Http(HttpSink::secured(url, of.max_in_flight, secured).map_err(because)?)
            }
        };
        Ok(Self {
            target,
            from: of.channel.clone(),
            channels: channels.clone(),
            options: SendOptions {
                format: of.delivery.format,
                timeout: of.delivery.timeout,
                max_reply_bytes: of.delivery.max_reply_bytes,
            },
        })
    }

    pub(crate) fn is_http(&self) -> bool {
        matches!(self.target, Target::Http(_))
    }

    /// As it is shown in dead letters and status: a URL without credentials, or `channel NAMESPACE/NAME`.
    pub(crate) fn display(&self) -> String {
        match &self.target {
            Target::Http(sink) => sink.display().to_owned(),
            Target::Channel(name) | Target::Elsewhere(name, _) => format!("channel {name}"),
        }
    }

    /// Passes `next` to the target, once. Returns the proof that the target has it, and what an HTTP sink answered.
    ///
    /// `cause` is the event that a reply answers, and whose hops the reply continues. It is `None` for the event itself and for
    /// its dead letter, which carry their own count.
    ///
    /// # Errors
    /// The [`Refusal`] says whether another attempt may help. An event without room for its count is refused for good.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped during the attempt, the target may have the event.
    pub(crate) async fn pass(&self, next: &Event, cause: Option<&Event>) -> Result<(Passed, Reply), Refusal> {
        match &self.target {
            Target::Http(sink) => {
                let next = match cause {
                    Some(cause) => Cow::Owned(self.counted(next, cause)?),
                    None => Cow::Borrowed(next),
                };
                let (proof, reply) = classify(sink.send(&next, self.options).await, sink.display())?;
                Ok((Passed::Accepted(proof), reply))
            }
            // Boxed: the future of every delivery has room for these two, and most deliveries go to an HTTP sink.
            Target::Channel(name) => {
                let stored = Box::pin(self.store(name, next, cause)).await?;
                Ok((Passed::Stored(stored), Reply::None))
            }
            Target::Elsewhere(_, sink) => {
                let next = self.counted(next, cause.unwrap_or(next))?;
                // A channel answers 202 to what it stored: there is no reply in it.
                let (proof, _) = classify(Box::pin(sink.send(&next, self.options)).await, &self.display())?;
                Ok((Passed::Accepted(proof), Reply::None))
            }
        }
    }

    async fn store(&self, name: &ObjectName, next: &Event, cause: Option<&Event>) -> Result<Stored, Refusal> {
        let unreachable = |detail| Failure::new(Reason::SinkUnreachable, &self.display(), detail);
        let Some(channel) = self.channels.get(name) else {
            return Err(Refusal::Retry(unreachable(format!("{} is not open", self.display()))));
        };
        let next = self.counted(next, cause.unwrap_or(next))?;
        channel.append(std::slice::from_ref(&next)).await.map_err(|error| {
            let mut failure = unreachable(error.to_string());
            match error {
                AppendError::Full { retry_after }
                | AppendError::DiskFull { retry_after }
                | AppendError::Unavailable { retry_after, .. } => failure.retry_after = Some(retry_after),
                AppendError::Closed => {}
                AppendError::TooLarge { .. } => {
                    failure.reason = Reason::SinkRejected;
                    return Refusal::ForGood(failure);
                }
            }
            Refusal::Retry(failure)
        })
    }

    /// Returns `next` with one hop more than `cause`. An event that cannot be counted must not go on, or a loop would never end.
    fn counted(&self, next: &Event, cause: &Event) -> Result<Event, Refusal> {
        lineage::caused(next, cause, &self.from).map_err(|error| {
            let detail = format!("the channels it passes cannot be counted, the event has no room for it: {error}");
            Refusal::ForGood(Failure::new(Reason::Loop, &self.display(), detail))
        })
    }
}
