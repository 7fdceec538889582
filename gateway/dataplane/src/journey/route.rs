//! Where the events of one subscription go, built once per spec and not per event.

use std::sync::Arc;

use cesql::Budget;
use spec::{Cause, model};

use super::outbound::{Channels, Outbound, Role};

pub(crate) struct Route {
    pub(crate) subscription: Arc<model::Subscription>,
    /// `None`: the subscription has a reply target alone, and the event itself goes there (v0.2).
    pub(crate) subscriber: Option<Outbound>,
    pub(crate) reply: Option<Outbound>,
    pub(crate) dead_letter: Option<Outbound>,
    /// Why nothing is delivered: a target that is not there. Events wait in the channel meanwhile.
    pub(crate) blocked: Option<Cause>,
    /// Why letters go to the channel's log although there is a dead-letter sink.
    pub(crate) unsendable: Option<Cause>,
}

impl Route {
    pub(crate) fn new(subscription: Arc<model::Subscription>, channels: &Channels) -> Self {
        let outbound = |target: &model::Target, role| Outbound::new(target, role, &subscription, channels);
        let mut blocked = None;
        let mut resolve = |target: &Option<model::Target>, role| match target.as_ref().map(|it| outbound(it, role)) {
            None => None,
            Some(Ok(outbound)) => Some(outbound),
            Some(Err(why)) => {
                blocked.get_or_insert(why);
                None
            }
        };
        let subscriber = resolve(&subscription.subscriber, Role::Subscriber);
        let reply = resolve(&subscription.reply, Role::Reply);
        let delivery = &subscription.delivery;
        // A dead-letter sink that is not there does not stop deliveries: letters go to the channel's log meanwhile.
        let dead_letter = delivery.dead_letter_sink.as_ref();
        let dead_letter = dead_letter.map(|it| outbound(it, Role::DeadLetter)).transpose();
        let (dead_letter, unsendable) = match dead_letter {
            Ok(outbound) => (outbound, None),
            Err(why) => (None, Some(why)),
        };
        Self {
            subscription,
            subscriber,
            reply,
            dead_letter,
            blocked,
            unsendable,
        }
    }

    /// Returns the target that events go to first, as it is shown.
    pub(crate) fn destination(&self) -> String {
        let first = self.subscriber.as_ref().or(self.reply.as_ref());
        first.map(Outbound::display).unwrap_or_default()
    }

    /// Whether the filters let the event through. They share what one event may cost.
    pub(crate) fn admits(&self, event: &event::Event, budget: &Budget) -> Result<bool, cesql::FilterError> {
        for filter in &self.subscription.filters {
            if !filter.evaluate_within(event, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
