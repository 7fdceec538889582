//! Which replica does what. Pure: from the whole spec to the part of one replica, and where to find the rest.
//!
//! Channels on disk and in memory, and what sends to them, are with the pod of ordinal 0, whose volume it is. Channels on
//! brokers are in every replica: the broker shares their events out. Sources of those, and what belongs to nobody else, are
//! with whoever holds the lease. Each object has one replica that writes its status: the one that can see it.

use std::{collections::HashMap, sync::Arc};

use spec::{
    Kind, ObjectKey, ObjectName, Spec,
    model::{Arguments, Channel, Source, Subscription, Target},
};
use url::Url;

/// Where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the pod of ordinal 0.
    First,
    /// With whoever holds the lease.
    Leader,
    /// In every replica; its status is written by whoever holds the lease.
    Everywhere,
}

/// What one replica is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// It is the pod of ordinal 0.
    pub is_first: bool,
    /// It is, and nobody else can believe to be: it may do what must be done once.
    pub acts_as_first: bool,
    /// It holds the lease.
    pub leads: bool,
}

/// Where the others are: `http://HOST:PORT`, no trailing slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Of the pod of ordinal 0; `None` for that one itself.
    pub first: Option<String>,
    /// Of the lease's holder, if there is one.
    pub leader: Option<String>,
    /// Of sources that are called and run in pods of their own.
    pub pods: HashMap<ObjectKey, String>,
}

/// By the path of a request, without its first slash: who answers it; `None` while nobody does.
pub type Elsewhere = HashMap<String, Option<Arc<str>>>;

impl Replica {
    /// The only one there is.
    pub fn alone() -> Self {
        Self {
            is_first: true,
            acts_as_first: true,
            leads: true,
        }
    }

    fn has(&self, place: Place) -> bool {
        match place {
            Place::First => self.is_first,
            Place::Leader => self.leads,
            Place::Everywhere => true,
        }
    }

    /// For what is done once.
    pub fn acts_at(&self, place: Place) -> bool {
        match place {
            Place::First => self.acts_as_first,
            Place::Leader | Place::Everywhere => self.leads,
        }
    }

    /// Whether this replica writes the object's status.
    pub fn writes_status(&self, spec: &Spec, key: &ObjectKey) -> bool {
        self.acts_at(place(spec, key))
    }

    /// The part of the spec that this replica runs. Documents stay whole: nothing that is elsewhere is taken for deleted.
    pub fn share(&self, spec: &Spec, others: &Others) -> Spec {
        let mut mine = spec.clone();
        mine.channels.retain(|_, channel| self.has(of_channel(channel)));
        mine.subscriptions
            .retain(|_, subscription| self.has(of_subscription(spec, subscription)));
        for subscription in mine.subscriptions.values_mut() {
            if let Some(moved) = self.with_targets_elsewhere(spec, subscription, others) {
                *subscription = Arc::new(moved);
            }
        }
        mine.sources.retain(|_, source| self.acts_at(of_source(spec, source)));
        mine
    }

    /// Where requests go that this replica has nothing for.
    pub fn elsewhere(&self, spec: &Spec, others: &Others) -> Elsewhere {
        let url = |place: Place| match place {
            Place::First => others.first.as_deref().map(Arc::from),
            Place::Leader | Place::Everywhere => others.leader.as_deref().map(Arc::from),
        };
        let mut elsewhere = Elsewhere::new();
        for channel in spec.channels.values().filter(|channel| !channel.implicit) {
            let place = of_channel(channel);
            if !self.has(place) {
                elsewhere.insert(channel.name.to_string(), url(place));
            }
        }
        for (key, source) in &spec.sources {
            let place = of_source(spec, source);
            let (path, pod) = (source_path(key), others.pods.get(key));
            if !self.acts_at(place) {
                elsewhere.insert(format!("sources/{}", key.name), url(place));
                elsewhere.extend(path.filter(|_| pod.is_none()).map(|path| (path, url(place))));
            }
            if let Some(pod) = pod {
                elsewhere.insert(format!("hooks/{}", key.name), Some(Arc::from(&**pod)));
            }
        }
        elsewhere
    }

    /// Who is asked about a path that this replica does not know, for it may hear later than others of what is new: those who
    /// write that something is Ready, which they do when they answer for it themselves. `None` while nobody knows who leads.
    pub fn asked(&self, others: &Others) -> Vec<Option<Arc<str>>> {
        let leader = (!self.leads).then_some(others.leader.as_deref());
        // Where there is no pod of ordinal 0, nothing of its has become Ready for a while.
        let first = others.first.as_deref().filter(|_| !self.is_first).map(Some);
        let first = first.filter(|first| Some(first) != leader.as_ref());
        let asked = leader.into_iter().chain(first);
        asked.map(|url| url.map(Arc::from)).collect()
    }

    /// A channel that is not here is reached by HTTP, and still is one of ours: hops into it count.
    fn with_targets_elsewhere(
        &self,
        spec: &Spec,
        subscription: &Subscription,
        others: &Others,
    ) -> Option<Subscription> {
        let first = others.first.as_deref()?;
        let is_elsewhere = |name: &ObjectName| {
            let channel = spec.channels.get(name);
            channel.is_some_and(|channel| !self.has(of_channel(channel)))
        };
        let mut moved = subscription.clone();
        let mut changed = false;
        let targets = [
            &mut moved.subscriber,
            &mut moved.reply,
            &mut moved.delivery.dead_letter_sink,
        ];
        for target in targets.into_iter().flatten() {
            if let Target::Channel(name) = target
                && is_elsewhere(name)
                && let Ok(url) = Url::parse(&format!("{first}/{name}"))
            {
                let channel = name.clone();
                *target = Target::Elsewhere { channel, url };
                changed = true;
            }
        }
        changed.then_some(moved)
    }
}

/// Where an object is.
pub fn place(spec: &Spec, key: &ObjectKey) -> Place {
    let place = match key.kind {
        Kind::Channel => spec.channels.get(&key.name).map(|found| of_channel(found)),
        Kind::Subscription => spec
            .subscriptions
            .get(&key.name)
            .map(|found| of_subscription(spec, found)),
        kind if kind.is_source() => spec.sources.get(key).map(|found| of_source(spec, found)),
        _ => None,
    };
    place.unwrap_or(Place::Leader)
}

fn of_channel(channel: &Channel) -> Place {
    match channel.arguments {
        Arguments::Memory { .. } | Arguments::Embedded { .. } => Place::First,
        // What cannot be opened is in nobody's way.
        Arguments::Kafka { .. } | Arguments::Nats { .. } | Arguments::Unread(_) => Place::Everywhere,
    }
}

fn of_subscription(spec: &Spec, subscription: &Subscription) -> Place {
    match spec.channels.get(&subscription.channel) {
        Some(channel) => of_channel(channel),
        None => Place::Leader,
    }
}

/// With its sink's channel, which for a direct sink is its outbox.
fn of_source(spec: &Spec, source: &Source) -> Place {
    let sink = source.sink.as_ref().ok();
    match sink
        .and_then(|sink| spec.channels.get(sink))
        .map(|channel| of_channel(channel))
    {
        Some(Place::First) => Place::First,
        _ => Place::Leader,
    }
}

fn source_path(key: &ObjectKey) -> Option<String> {
    (key.kind == Kind::GitHubSource).then(|| format!("hooks/{}", key.name))
}

/// `NAME-0` is the first of a StatefulSet `NAME`; whoever is of none is the only one.
pub fn ordinal(pod: &str) -> Option<(&str, u32)> {
    let (set, ordinal) = pod.rsplit_once('-')?;
    let is_number = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(())?;
    Some((set, ordinal.parse().ok()?))
}

#[cfg(test)]
mod tests;
