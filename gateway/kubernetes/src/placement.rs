//! Decides which replica serves what. Pure: from the whole spec to the part of one replica, and where the other parts
//! are.
//!
//! The pod of ordinal 0 serves channels on disk and in memory and the sources that send to them, because it has the
//! volume. Every replica serves channels on brokers: the broker distributes their events. The holder of the lease runs
//! the sources of those, and everything else. Each object has one replica that writes its status: the one that can
//! observe it.

use std::{collections::HashMap, sync::Arc};

use spec::{
    Kind, ObjectKey, ObjectName, Spec,
    model::{Arguments, Channel, Source, Subscription, Target},
};
use url::Url;

/// The replicas that serve an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// The pod of ordinal 0.
    First,
    /// The holder of the lease.
    Leader,
    /// Every replica; the holder of the lease writes the status.
    Everywhere,
}

/// The roles of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// It is the pod of ordinal 0.
    pub is_first: bool,
    /// It is, and no other process can believe to be: it may do what must be done once.
    pub acts_as_first: bool,
    /// It holds the lease.
    pub leads: bool,
}

/// The URLs of the other replicas: `http://HOST:PORT`, no trailing slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// The pod of ordinal 0; `None` if that is this process.
    pub first: Option<String>,
    /// The key for requests to that pod: with it the pod trusts the gateway's own attributes of an event.
    pub first_key: Option<String>,
    /// The holder of the lease, if there is one.
    pub leader: Option<String>,
    /// Sources that receive requests and run in pods of their own.
    pub pods: HashMap<ObjectKey, String>,
}

/// By request path without its first slash: the URL that serves it; `None` while no replica is ready to.
pub type Elsewhere = HashMap<String, Option<Arc<str>>>;

impl Replica {
    /// The only replica.
    pub fn alone() -> Self {
        Self {
            is_first: true,
            acts_as_first: true,
            leads: true,
        }
    }

    fn has(&self, location: Location) -> bool {
        match location {
            Location::First => self.is_first,
            Location::Leader => self.leads,
            Location::Everywhere => true,
        }
    }

    /// Returns whether this replica does there what must be done once.
    pub fn acts_at(&self, location: Location) -> bool {
        match location {
            Location::First => self.acts_as_first,
            Location::Leader | Location::Everywhere => self.leads,
        }
    }

    /// Returns whether this replica writes the object's status.
    pub fn writes_status(&self, spec: &Spec, key: &ObjectKey) -> bool {
        self.acts_at(location(spec, key))
    }

    /// Returns the part of the spec that this replica runs. The documents stay whole: a document of another replica is
    /// not deleted.
    pub fn assigned(&self, spec: &Spec, others: &Others) -> Spec {
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

    /// Returns where requests are forwarded that this replica does not serve.
    pub fn elsewhere(&self, spec: &Spec, others: &Others) -> Elsewhere {
        let url = |location: Location| match location {
            Location::First => others.first.as_deref().map(Arc::from),
            Location::Leader | Location::Everywhere => others.leader.as_deref().map(Arc::from),
        };
        let mut elsewhere = Elsewhere::new();
        for channel in spec.channels.values().filter(|channel| !channel.implicit) {
            let location = of_channel(channel);
            if !self.has(location) {
                elsewhere.insert(channel.name.to_string(), url(location));
            }
        }
        for (key, source) in &spec.sources {
            let location = of_source(spec, source);
            let (path, pod) = (source_path(key), others.pods.get(key));
            if !self.acts_at(location) {
                elsewhere.insert(format!("sources/{}", key.name), url(location));
                elsewhere.extend(path.filter(|_| pod.is_none()).map(|path| (path, url(location))));
            }
            if let Some(pod) = pod {
                elsewhere.insert(format!("hooks/{}", key.name), Some(Arc::from(&**pod)));
            }
        }
        elsewhere
    }

    /// Returns the replicas to ask about an unknown path, because this replica may receive a new object later than
    /// others. They are the ones that set Ready, which they do when they serve the path themselves. An entry is `None`
    /// while the leader is unknown.
    pub fn asked(&self, others: &Others) -> Vec<Option<Arc<str>>> {
        let leader = (!self.leads).then_some(others.leader.as_deref());
        // Without a pod of ordinal 0 none of its objects became Ready lately.
        let first = others.first.as_deref().filter(|_| !self.is_first).map(Some);
        let first = first.filter(|first| Some(first) != leader.as_ref());
        let asked = leader.into_iter().chain(first);
        asked.map(|url| url.map(Arc::from)).collect()
    }

    /// Replaces targets that are channels of another replica by their URL there. Hops into them still count.
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
                && let Some(url) = trusted(first, name, others.first_key.as_deref())
            {
                let channel = name.clone();
                *target = Target::Elsewhere { channel, url };
                changed = true;
            }
        }
        changed.then_some(moved)
    }
}

/// The user name by which replicas authenticate to each other.
pub const REPLICA: &str = "headgate-replica";

/// Returns the URL of a channel at another replica, with that replica's credentials.
fn trusted(replica: &str, channel: &ObjectName, key: Option<&str>) -> Option<Url> {
    let mut url = Url::parse(&format!("{replica}/{channel}")).ok()?;
    if key.is_some() {
        url.set_username(REPLICA).ok()?;
        url.set_password(key).ok()?;
    }
    Some(url)
}

/// Returns where an object is served.
pub fn location(spec: &Spec, key: &ObjectKey) -> Location {
    let location = match key.kind {
        Kind::Channel => spec.channels.get(&key.name).map(|found| of_channel(found)),
        Kind::Subscription => spec
            .subscriptions
            .get(&key.name)
            .map(|found| of_subscription(spec, found)),
        kind if kind.is_source() => spec.sources.get(key).map(|found| of_source(spec, found)),
        _ => None,
    };
    location.unwrap_or(Location::Leader)
}

fn of_channel(channel: &Channel) -> Location {
    match channel.arguments {
        Arguments::Memory(_) | Arguments::Embedded(_) => Location::First,
        // A channel that cannot be opened occupies no disk.
        Arguments::Kafka(_) | Arguments::Nats(_) | Arguments::Unread => Location::Everywhere,
    }
}

fn of_subscription(spec: &Spec, subscription: &Subscription) -> Location {
    match spec.channels.get(&subscription.channel) {
        Some(channel) => of_channel(channel),
        None => Location::Leader,
    }
}

/// With the sink's channel; for a direct sink that is its outbox.
fn of_source(spec: &Spec, source: &Source) -> Location {
    let sink = source.sink.as_ref().ok();
    match sink
        .and_then(|sink| spec.channels.get(sink))
        .map(|channel| of_channel(channel))
    {
        Some(Location::First) => Location::First,
        _ => Location::Leader,
    }
}

fn source_path(key: &ObjectKey) -> Option<String> {
    (key.kind == Kind::GitHubSource).then(|| format!("hooks/{}", key.name))
}

/// Returns the StatefulSet and the ordinal of a pod: `NAME-0` is the first. A pod of no set is the only replica.
pub fn ordinal(pod: &str) -> Option<(&str, u32)> {
    let (set, ordinal) = pod.rsplit_once('-')?;
    let is_number = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(())?;
    Some((set, ordinal.parse().ok()?))
}

#[cfg(test)]
mod tests;
