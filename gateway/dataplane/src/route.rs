//! Where the events of one subscription go, built once per spec and not per event.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use channel::Channel;
use spec::{ObjectName, model};

use crate::sink::{HttpSink, Manner};

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

/// One hop.
#[derive(Clone)]
pub(crate) enum Outbound {
    Http(Arc<HttpSink>),
    Channel(ObjectName),
    /// A channel that another replica has: by HTTP, and counted as a hop from channel to channel.
    Elsewhere(ObjectName, Arc<HttpSink>),
}

impl Outbound {
    fn new(target: &model::Target, idle_max: usize) -> Result<Self, model::Unresolved> {
        let sink = |url| match HttpSink::new(url, idle_max) {
            Ok(sink) => Ok(Arc::new(sink)),
            Err(why) => Err(model::Unresolved {
                reason: "InvalidTarget",
                message: why.to_string(),
            }),
        };
        match target {
            model::Target::Channel(name) => Ok(Self::Channel(name.clone())),
            model::Target::Elsewhere { channel, url } => Ok(Self::Elsewhere(channel.clone(), sink(url)?)),
            model::Target::Unresolved(why) => Err(why.clone()),
            model::Target::Uri(url) => sink(url).map(Self::Http),
        }
    }

    /// As it is shown in dead letters and status.
    pub(crate) fn display(&self) -> String {
        match self {
            Self::Http(sink) => sink.display().to_owned(),
            Self::Channel(name) | Self::Elsewhere(name, _) => of_channel(name),
        }
    }
}

/// A channel of ours as a destination is shown.
pub(crate) fn of_channel(name: &ObjectName) -> String {
    format!("channel {name}")
}

pub(crate) struct Route {
    pub(crate) subscription: Arc<model::Subscription>,
    /// `None`: the subscription has a reply target alone, and the event itself goes there (v0.2).
    pub(crate) subscriber: Option<Outbound>,
    pub(crate) reply: Option<Outbound>,
    pub(crate) dead_letter: Option<Outbound>,
    pub(crate) manner: Manner,
    /// Why nothing is delivered: a target that is not there. Events wait in the channel meanwhile.
    pub(crate) blocked: Option<model::Unresolved>,
    /// Why letters go to the channel's log although there is a dead-letter sink.
    pub(crate) unsendable: Option<model::Unresolved>,
}

impl Route {
    pub(crate) fn new(subscription: Arc<model::Subscription>) -> Self {
        let idle_max = subscription.max_in_flight;
        let mut blocked = None;
        let mut resolve = |target: &Option<model::Target>| match target.as_ref().map(|t| Outbound::new(t, idle_max)) {
            None => None,
            Some(Ok(outbound)) => Some(outbound),
            Some(Err(why)) => {
                blocked.get_or_insert(why);
                None
            }
        };
        let subscriber = resolve(&subscription.subscriber);
        let reply = resolve(&subscription.reply);
        let delivery = &subscription.delivery;
        // A dead-letter sink that is not there does not stop deliveries: letters go to the channel's log meanwhile.
        let dead_letter = delivery.dead_letter_sink.as_ref();
        let dead_letter = dead_letter.map(|target| Outbound::new(target, idle_max)).transpose();
        let (dead_letter, unsendable) = match dead_letter {
            Ok(outbound) => (outbound, None),
            Err(why) => (None, Some(why)),
        };
        let manner = Manner {
            format: delivery.format,
            timeout: delivery.timeout,
            max_reply_bytes: delivery.max_reply_bytes,
        };
        Self {
            subscription,
            subscriber,
            reply,
            dead_letter,
            manner,
            blocked,
            unsendable,
        }
    }

    /// Where events go first, as it is shown.
    pub(crate) fn destination(&self) -> String {
        let first = self.subscriber.as_ref().or(self.reply.as_ref());
        first.map(Outbound::display).unwrap_or_default()
    }

    /// Whether the filters let the event through.
    pub(crate) fn admits(&self, event: &event::Event) -> Result<bool, cesql::FilterError> {
        for filter in &self.subscription.filters {
            if !filter.evaluate(event)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
