//! The facts of the flow: one lane for each channel, with its sources before it and its subscriptions behind it, trouble first.

use std::collections::BTreeMap;

use dataplane::{Backlog, Traffic};
use spec::{Condition, Kind, ObjectKey, ObjectName, Observed, Spec, status::Fields};

use super::Part;
use crate::console::{
    Console,
    history::{History, Recent},
    parts::Health,
};

/// Lanes of a page.
pub(super) const LANES_MAX: usize = 20;

/// Subscriptions of a lane among others; a page of one channel has more.
const ROWS_MAX: usize = 6;

/// Subscriptions on a page of one channel.
const ROWS_OF_ONE_MAX: usize = 100;

/// Sources of a lane.
const SOURCES_MAX: usize = 6;

/// Unmet conditions on the home page.
pub(super) const TROUBLES_MAX: usize = 10;

/// A condition that is not met.
pub(in crate::console) struct Unmet {
    pub(super) health: Health,
    pub(super) object: ObjectKey,
    pub(super) condition: Condition,
}

/// A source before a channel.
pub(super) struct SourceNode {
    pub(super) key: ObjectKey,
    pub(super) health: Health,
}

/// A subscription behind a channel.
pub(super) struct SubscriptionNode {
    pub(super) name: ObjectName,
    pub(super) health: Health,
    /// Where its events go, as it is shown.
    pub(super) target: String,
    pub(super) backlog: Backlog,
    pub(super) recent: Recent,
}

/// A channel with what is before it and behind it.
pub(super) struct Lane {
    pub(super) name: ObjectName,
    pub(super) health: Health,
    pub(super) provisioner: String,
    pub(super) is_outbox: bool,
    pub(super) dead_letters: u64,
    pub(super) recent: Recent,
    pub(super) sources: Vec<SourceNode>,
    /// Sources that are not shown.
    pub(super) more_sources: usize,
    pub(super) subscriptions: Vec<SubscriptionNode>,
    /// Subscriptions that are not shown, and how the worst of them is.
    pub(super) more: usize,
    pub(super) worst_of_more: Health,
}

/// Sums over everything that is shown here.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) accepted: f64,
    pub(super) delivered: f64,
    pub(super) failed: f64,
    pub(super) backlog: u64,
    pub(super) dead_letters: u64,
}

/// The flow of a gateway, or a part of it.
pub(super) struct Flow {
    pub(super) unmet: Vec<Unmet>,
    pub(super) unmet_count: usize,
    pub(super) totals: Totals,
    pub(super) namespaces: Vec<String>,
    pub(super) lanes: Vec<Lane>,
    /// Pages of lanes, or of the subscriptions of the one channel.
    pub(super) pages: usize,
    pub(super) channels: usize,
}

impl Flow {
    pub(super) fn of(console: &Console, part: &Part, only: Option<&ObjectName>) -> Self {
        let plane = console.plane();
        let observation = Observation {
            spec: &plane.spec(),
            observed: &plane.observe(),
            traffic: &plane.traffic(),
            backlogs: &plane.backlogs(),
            history: &console.0.history,
            behind: BTreeMap::new(),
            before: BTreeMap::new(),
        };
        observation.with_neighbours().flow(part, only)
    }
}

struct Observation<'a> {
    spec: &'a Spec,
    observed: &'a Observed,
    traffic: &'a Traffic,
    backlogs: &'a BTreeMap<ObjectName, Backlog>,
    history: &'a History,
    /// The subscriptions of each channel.
    behind: BTreeMap<&'a ObjectName, Vec<&'a ObjectName>>,
    /// The sources of each channel.
    before: BTreeMap<&'a ObjectName, Vec<&'a ObjectKey>>,
}

impl<'a> Observation<'a> {
    fn with_neighbours(mut self) -> Self {
        let spec = self.spec;
        for subscription in spec.subscriptions.values() {
            self.behind
                .entry(&subscription.channel)
                .or_default()
                .push(&subscription.name);
        }
        for source in spec.sources.values() {
            if let Ok(channel) = &source.sink {
                self.before.entry(channel).or_default().push(&source.key);
            }
        }
        self
    }

    fn health(&self, key: &ObjectKey) -> Health {
        self.observed.objects.get(key).map_or(Health::Quiet, Health::of)
    }

    fn subscription_health(&self, name: &ObjectName) -> Health {
        self.health(&ObjectKey::new(Kind::Subscription, name.clone()))
    }

    fn channel_health(&self, name: &ObjectName) -> Health {
        self.health(&ObjectKey::new(Kind::Channel, name.clone()))
    }

    fn flow(&self, part: &Part, only: Option<&ObjectName>) -> Flow {
        let is_meant = |name: &ObjectName| {
            only.is_none_or(|only| only == name) && (part.namespace.is_empty() || part.namespace == name.namespace)
        };
        let mut channels: Vec<(Rank, &ObjectName)> = self
            .spec
            .channels
            .keys()
            .filter(|name| is_meant(name))
            .map(|name| (self.rank(name), name))
            .collect();
        channels.sort();
        let count = channels.len();
        let skipped = if only.is_some() {
            0
        } else {
            part.page.saturating_mul(LANES_MAX)
        };
        let shown = channels.iter().skip(skipped).take(LANES_MAX);
        let lanes: Vec<Lane> = shown
            .map(|(_, name)| self.lane(name, only.is_some().then_some(part.page)))
            .collect();
        let pages = match only {
            Some(name) => self.behind.get(name).map_or(0, Vec::len).div_ceil(ROWS_OF_ONE_MAX),
            None => count.div_ceil(LANES_MAX),
        };
        let mut unmet = self.unmet(|name| part.namespace.is_empty() || name.namespace == part.namespace);
        let unmet_count = unmet.len();
        unmet.truncate(TROUBLES_MAX);
        let mut namespaces: Vec<String> = self.spec.channels.keys().map(|name| name.namespace.clone()).collect();
        namespaces.dedup();
        Flow {
            unmet,
            unmet_count,
            totals: self.totals(channels.iter().map(|(_, name)| *name)),
            namespaces,
            lanes,
            pages,
            channels: count,
        }
    }

    /// Worst first, then the longest backlog.
    fn rank(&self, name: &ObjectName) -> Rank {
        let mut health = self.channel_health(name);
        let mut backlog = 0;
        for subscription in self.behind.get(name).into_iter().flatten() {
            health = health.min(self.subscription_health(subscription));
            backlog = backlog.max(self.backlogs.get(*subscription).map_or(0, |of| of.unsettled));
        }
        for source in self.before.get(name).into_iter().flatten() {
            health = health.min(self.health(source));
        }
        (health, std::cmp::Reverse(backlog))
    }

    fn lane(&self, name: &ObjectName, page: Option<usize>) -> Lane {
        let channel = self.spec.channels.get(name);
        let mut behind: Vec<(Rank, &ObjectName)> = self
            .behind
            .get(name)
            .into_iter()
            .flatten()
            .map(|of| {
                let backlog = self.backlogs.get(*of).map_or(0, |backlog| backlog.unsettled);
                ((self.subscription_health(of), std::cmp::Reverse(backlog)), *of)
            })
            .collect();
        behind.sort();
        let (skipped, max) = match page {
            Some(page) => (page.saturating_mul(ROWS_OF_ONE_MAX), ROWS_OF_ONE_MAX),
            None => (0, ROWS_MAX),
        };
        let rest = behind.get(skipped.saturating_add(max)..).unwrap_or_default();
        let before = self.before.get(name).map(Vec::as_slice).unwrap_or_default();
        let status = self.observed.objects.get(&ObjectKey::new(Kind::Channel, name.clone()));
        let dead_letters = match status.map(|status| &status.fields) {
            Some(Fields::Channel(fields)) => fields.open.as_ref().map_or(0, |open| open.dead_letters),
            _ => 0,
        };
        Lane {
            name: name.clone(),
            health: self.channel_health(name),
            provisioner: channel
                .and_then(|channel| channel.provisioner.as_ref().ok())
                .map_or_else(String::new, |provisioner| provisioner.name.clone()),
            is_outbox: channel.is_some_and(|channel| channel.implicit),
            dead_letters,
            recent: self.history.channel(name, self.traffic),
            sources: before
                .iter()
                .take(SOURCES_MAX)
                .map(|key| SourceNode {
                    key: (*key).clone(),
                    health: self.health(key),
                })
                .collect(),
            more_sources: before.len().saturating_sub(SOURCES_MAX),
            more: rest.len(),
            worst_of_more: rest
                .iter()
                .map(|((health, _), _)| *health)
                .min()
                .unwrap_or(Health::Good),
            subscriptions: behind
                .iter()
                .skip(skipped)
                .take(max)
                .map(|(_, name)| self.node(name))
                .collect(),
        }
    }

    fn node(&self, name: &ObjectName) -> SubscriptionNode {
        let key = ObjectKey::new(Kind::Subscription, name.clone());
        let status = self.observed.objects.get(&key);
        let target = match status.map(|status| &status.fields) {
            Some(Fields::Subscription(fields)) => {
                let uris = &fields.physical_subscription;
                uris.subscriber.clone().or_else(|| uris.reply.clone())
            }
            _ => None,
        };
        SubscriptionNode {
            name: name.clone(),
            health: status.map_or(Health::Quiet, Health::of),
            target: target.unwrap_or_default(),
            backlog: self.backlogs.get(name).copied().unwrap_or_default(),
            recent: self.history.subscription(name, self.traffic),
        }
    }

    fn totals<'n>(&self, channels: impl Iterator<Item = &'n ObjectName>) -> Totals {
        let mut totals = Totals::default();
        for name in channels {
            totals.accepted += self.history.channel(name, self.traffic).rate;
            let status = self.observed.objects.get(&ObjectKey::new(Kind::Channel, name.clone()));
            if let Some(Fields::Channel(fields)) = status.map(|status| &status.fields) {
                totals.dead_letters += fields.open.as_ref().map_or(0, |open| open.dead_letters);
            }
            for subscription in self.behind.get(name).into_iter().flatten() {
                let recent = self.history.subscription(subscription, self.traffic);
                totals.delivered += recent.rate;
                totals.failed += recent.failure_rate;
                totals.backlog += self.backlogs.get(*subscription).map_or(0, |of| of.unsettled);
            }
        }
        totals
    }

    /// The conditions that are not met, worst first, without `Ready`, which says again what the others say.
    fn unmet(&self, is_meant: impl Fn(&ObjectName) -> bool) -> Vec<Unmet> {
        unmet(self.observed, is_meant)
    }
}

type Rank = (Health, std::cmp::Reverse<u64>);

/// The conditions that are not met, worst first. `Ready` is left out where another condition says why.
pub(in crate::console) fn unmet(observed: &Observed, is_meant: impl Fn(&ObjectName) -> bool) -> Vec<Unmet> {
    let mut unmet = Vec::new();
    for (key, status) in observed.objects.iter().filter(|(key, _)| is_meant(&key.name)) {
        let of = |condition: &&Condition| Health::of_condition(condition) < Health::Good;
        let has_other = status
            .conditions
            .iter()
            .filter(of)
            .any(|condition| condition.kind != "Ready");
        let reported = status
            .conditions
            .iter()
            .filter(of)
            .filter(|condition| condition.kind != "Ready" || !has_other);
        unmet.extend(reported.map(|condition| Unmet {
            health: Health::of_condition(condition),
            object: key.clone(),
            condition: condition.clone(),
        }));
    }
    unmet.sort_by_key(|unmet| unmet.health);
    unmet
}
