//! The status of every object, made from the spec and from what runs (API.md 2.6). Times of transitions are carried over by
//! `spec::observed::Transitions`.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use spec::{Condition, Kind, ObjectKey, ObjectName, Observed, Status, model, observed::Truth};

use super::{RunningSource, RunningSubscription, Shared, State};
use crate::{
    route::{self, Route},
    sink::without_credentials,
};

/// Whether a source's adapter runs, and what it deployed.
const DEPLOYED: &str = "Deployed";

pub(super) fn observe(shared: &Shared) -> Observed {
    let state = shared.state.lock();
    let mut observed = Observed::default();
    let mut looked = Looked::new(&state);
    for key in state.spec.objects.keys() {
        let status = match key.kind {
            Kind::ClusterChannelProvisioner => state
                .spec
                .provisioners
                .get(&key.name.name)
                .map(|found| provisioner(found, &state)),
            Kind::Channel => state
                .spec
                .channels
                .get(&key.name)
                .map(|found| channel(found, &mut looked, shared)),
            Kind::Subscription => state
                .spec
                .subscriptions
                .get(&key.name)
                .map(|found| subscription(found, &mut looked, shared)),
            Kind::GitHubSource | Kind::KubernetesEventSource | Kind::GcpPubSubSource | Kind::ContainerSource => {
                state.spec.sources.get(key).map(|found| source(found, &state, shared))
            }
            Kind::Service | Kind::Secret => continue,
        };
        let mut status = status.unwrap_or_else(|| unknown(&state, key));
        if let Some(faults) = state
            .spec
            .objects
            .get(key)
            .map(|object| &object.faults)
            .filter(|faults| !faults.is_empty())
        {
            let message = format!(
                "the newest version is not used, the last valid one runs: {}",
                faults.join("; ")
            );
            let stale = condition("Current", Truth::False, "Warning", "Invalid", &message);
            status.conditions.push(stale);
        }
        status.conditions.sort_by(|a, b| a.kind.cmp(&b.kind));
        observed.objects.insert(key.clone(), status);
    }
    observed
}

/// What is looked at once, and asked for by thousands of subscriptions.
struct Looked<'a> {
    state: &'a State,
    subscriptions: HashMap<&'a ObjectName, Vec<&'a model::Subscription>>,
    depths: HashMap<ObjectName, Looking>,
}

struct Looking {
    whole: channel::Depth,
    unsettled: HashMap<channel::CursorName, u64>,
}

impl<'a> Looked<'a> {
    fn new(state: &'a State) -> Self {
        let mut subscriptions: HashMap<_, Vec<_>> = HashMap::new();
        for subscription in state.spec.subscriptions.values() {
            subscriptions
                .entry(&subscription.channel)
                .or_default()
                .push(&**subscription);
        }
        Self {
            state,
            subscriptions,
            depths: HashMap::new(),
        }
    }

    fn depth(&mut self, name: &ObjectName, channel: &dyn channel::Channel) -> &Looking {
        self.depths.entry(name.clone()).or_insert_with(|| {
            let whole = channel.depth();
            let mut unsettled = HashMap::new();
            for cursor in &whole.cursors {
                // That of a former subscription of the same name may still be there.
                let most = unsettled.entry(cursor.name.clone()).or_insert(cursor.unsettled);
                *most = cursor.unsettled.max(*most);
            }
            Looking { unsettled, whole }
        })
    }
}

/// A document that was never valid, or is another process' to run.
fn unknown(state: &State, key: &ObjectKey) -> Status {
    let faults = state
        .spec
        .objects
        .get(key)
        .map(|object| object.faults.join("; "))
        .unwrap_or_default();
    let mut conditions = Conditions::default();
    if faults.is_empty() {
        let message = "another replica of the gateway looks after it, and knows how it is";
        conditions.note("Here", Truth::Unknown, "", "Elsewhere", message);
        return conditions.done(Map::new());
    }
    conditions.put("Valid", Err(why("Invalid", &faults))).done(Map::new())
}

fn provisioner(found: &model::Provisioner, state: &State) -> Status {
    let channels: Vec<&super::OpenChannel> = state
        .channels
        .values()
        .filter(|open| is_of(&open.model, found))
        .collect();
    // A broker's promise is its topics': the weakest counts.
    let weakest = channels.iter().map(|open| open.channel.promises().durability).min();
    let failure = || {
        let failed = state.channel_failures.iter();
        let ours = |name: &ObjectName| {
            state
                .spec
                .channels
                .get(name)
                .is_some_and(|channel| is_of(channel, found))
        };
        failed.filter(|(name, _)| ours(name)).map(|(_, why)| why.clone()).next()
    };
    let supported = match (found.backend, weakest) {
        (model::BackendKind::Memory, _) => Ok("process"),
        (model::BackendKind::Embedded, _) => Ok("disk"),
        (model::BackendKind::Kafka | model::BackendKind::Nats, Some(durability)) => Ok(durability.as_str()),
        (model::BackendKind::Kafka | model::BackendKind::Nats, None) => Err(failure().unwrap_or_else(|| {
            why(
                "Deploying",
                "no channel uses it yet: what its servers promise is found out with the first one",
            )
        })),
    };
    let mut fields = Map::new();
    if let Ok(durability) = supported {
        fields.insert("durability".into(), json!(durability));
    }
    let met = supported.and_then(|durability| match found.require_durability.as_deref() {
        Some(required) if !is_met(durability, required) => {
            let message = format!(
                "requireDurability is {required}, the backend promises {durability}: lower it or choose another backend"
            );
            Err(why("DurabilityNotMet", &message))
        }
        _ => Ok(()),
    });
    let mut conditions = Conditions::default();
    let mut findings: Vec<String> = channels.iter().flat_map(|open| open.channel.findings()).collect();
    findings.sort();
    findings.dedup();
    conditions.degraded(found.backend, &findings);
    conditions.put("Provisioned", met).done(fields)
}

fn is_of(channel: &model::Channel, provisioner: &model::Provisioner) -> bool {
    channel
        .provisioner
        .as_ref()
        .is_ok_and(|used| used.name == provisioner.name)
}

fn is_met(promised: &str, required: &str) -> bool {
    const WORDS: [&str; 4] = ["process", "disk", "quorum", "quorum-fsync"];
    let rank = |word: &str| WORDS.iter().position(|known| *known == word);
    rank(promised) >= rank(required)
}

fn channel(found: &model::Channel, looked: &mut Looked<'_>, shared: &Shared) -> Status {
    let state = looked.state;
    let open = state.channels.get(&found.name);
    let is_open = is_open(shared, &found.name);
    let provisioned = match (&found.provisioner, open, state.channel_failures.get(&found.name)) {
        (Err(why), _, _) | (Ok(_), _, Some(why)) => Err(why.clone()),
        (Ok(_), Some(_), None) if is_open => Ok(()),
        (Ok(_), _, None) => Err(why("Deploying", "the channel is being opened")),
    };
    let mut fields = Map::new();
    let mut conditions = Conditions::default();
    if let Ok(provisioner) = &found.provisioner {
        // Of a channel that names none this is where it is kept what it was given.
        let kind = Kind::ClusterChannelProvisioner;
        let provisioner = json!({ "apiVersion": kind.api_version(), "kind": kind.as_str(), "name": provisioner.name });
        fields.insert("provisioner".into(), provisioner);
    }
    if let Some(open) = open {
        let host = shared
            .settings
            .ingress_url
            .split_once("://")
            .map_or(&*shared.settings.ingress_url, |(_, host)| host);
        fields.insert(
            "address".into(),
            json!({ "hostname": host, "url": address(shared, &found.name) }),
        );
        let depth = looked.depth(&found.name, &*open.channel);
        fields.insert("durability".into(), json!(open.channel.promises().durability.as_str()));
        // Of the subscription that is furthest behind: the channel itself counts from its oldest unsettled event on.
        let behind = depth.unsettled.values().max().copied().unwrap_or(0);
        let depth = &depth.whole;
        fields.insert("unsettledEvents".into(), json!(behind));
        fields.insert("deadLetters".into(), json!(open.channel.letters().count()));
        let mut lost = Vec::new();
        if let Some(gap) = depth.gaps.last() {
            let missing: u64 = depth.gaps.iter().map(|gap| gap.to.0 - gap.from.0).sum();
            fields.insert("missingEvents".into(), json!(missing));
            lost.push(format!(
                "{missing} events are gone although not everybody had settled them, the last of them at places {} to {} ({})",
                gap.from.0,
                gap.to.0 - 1,
                gap.reason.as_str()
            ));
        }
        let lost_letters = open.channel.letters().missing();
        if lost_letters > 0 {
            fields.insert("missingDeadLetters".into(), json!(lost_letters));
            lost.push(format!("{lost_letters} dead letters cannot be read back"));
        }
        if !lost.is_empty() {
            conditions.note("Complete", Truth::False, "Warning", "EventsMissing", &lost.join("; "));
        }
        if let Ok(provisioner) = &found.provisioner {
            conditions.degraded(provisioner.backend, &open.channel.findings());
        }
        match &depth.refusing {
            Some(reason) => conditions.note("Accepting", Truth::False, "Warning", "Refusing", reason),
            None => conditions.note("Accepting", Truth::True, "Warning", "", ""),
        }
        if let Some(slow) = &depth.slow {
            conditions.note("StoresQuickly", Truth::False, "Warning", "SlowDisk", slow);
        }
    }
    let subscribers: Vec<Value> = looked
        .subscriptions
        .get(&found.name)
        .into_iter()
        .flatten()
        .map(|subscription| {
            let route = Route::uris(subscription);
            let ready = state.subscriptions.contains_key(&subscription.name);
            json!({ "name": subscription.name.to_string(), "ready": ready, "subscriberURI": route.0, "replyURI": route.1 })
        })
        .collect();
    fields.insert("subscribers".into(), subscribers.into());
    let addressable = match &provisioned {
        Ok(()) => Ok(()),
        Err(_) => Err(why(
            "emptyHostname",
            "the channel has no address before it is provisioned",
        )),
    };
    conditions
        .put("Provisioned", provisioned)
        .put("Addressable", addressable)
        .done(fields)
}

/// Its door is published: events come in, and reach every subscription that has its place (CONTRACT CH-1).
fn is_open(shared: &Shared, channel: &ObjectName) -> bool {
    let (doors, name) = (shared.ingress.doors(), channel.to_string());
    doors.channels.contains_key(&name) || doors.implicit.contains_key(&name)
}

fn subscription(found: &model::Subscription, looked: &mut Looked<'_>, shared: &Shared) -> Status {
    let state = looked.state;
    let running = state.subscriptions.get(&found.name);
    let channel_ready = match (
        is_open(shared, &found.channel),
        state.spec.channels.contains_key(&found.channel),
    ) {
        (true, _) => match (state.subscription_failures.get(&found.name), running) {
            (Some(why), _) => Err(why.clone()),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(why("Deploying", "its place in the channel is being opened")),
        },
        (false, true) => Err(why(
            "ChannelNotReady",
            &format!("channel {} is not ready: see its conditions", found.channel),
        )),
        (false, false) => Err(why(
            "NotFound",
            &format!(
                "channel {} does not exist: create it or correct spec.channel",
                found.channel
            ),
        )),
    };
    let mut fields = Map::new();
    let uris = Route::uris(found);
    fields.insert(
        "physicalSubscription".into(),
        json!({ "subscriberURI": uris.0, "replyURI": uris.1, "deadLetterURI": uris.2 }),
    );
    let mut conditions = Conditions::default();
    let of_route = |running: &RunningSubscription| {
        let route = running.context.route();
        route.blocked.clone().or_else(|| route.unsendable.clone())
    };
    let resolved = unresolved(found).or_else(|| running.and_then(of_route));
    let resolved = resolved.map_or(Ok(()), Err);
    let switched = running.is_some_and(|running| running.switch.is_paused());
    let paused = match (found.paused, switched) {
        (false, false) => None,
        (true, false) => Some("spec.paused is true"),
        (false, true) => Some("paused by a person: `headgate resume` lets it go on"),
        (true, true) => Some("spec.paused is true, and it was paused by a person, too"),
    };
    fields.insert("paused".into(), json!({ "spec": found.paused, "switch": switched }));
    match paused {
        Some(message) => conditions.note("Delivering", Truth::False, "Info", "Paused", message),
        None => conditions.note("Delivering", Truth::True, "Info", "", ""),
    }
    if let Some(running) = running {
        match running.context.outage() {
            Some(failure) => {
                let message =
                    format!("10 events in a row failed, one at a time is tried until one succeeds: {failure}");
                conditions.note("SinkHealthy", Truth::False, "Warning", "SinkFailing", &message);
            }
            None => conditions.note("SinkHealthy", Truth::True, "Warning", "", ""),
        }
        if found.ordering == model::Ordering::Total {
            match running.context.channel.promises().total_order {
                true => conditions.note("Ordered", Truth::True, "Warning", "", ""),
                false => {
                    let message = format!(
                        "ordering is total and channel {} has several partitions: events are in order within each; use a channel with numPartitions 1, or ordering key",
                        found.channel
                    );
                    conditions.note("Ordered", Truth::False, "Warning", "OrderedPerPartition", &message);
                }
            }
        }
        let depth = looked.depth(&found.channel, &*running.context.channel);
        if let Some(unsettled) = depth.unsettled.get(&super::apply::cursor_name(&found.name)) {
            fields.insert("unsettledEvents".into(), json!(unsettled));
        }
    }
    conditions
        .put("Resolved", resolved)
        .put("ChannelReady", channel_ready)
        .done(fields)
}

/// The first target that is not there.
fn unresolved(found: &model::Subscription) -> Option<model::Unresolved> {
    [&found.subscriber, &found.reply, &found.delivery.dead_letter_sink]
        .into_iter()
        .flatten()
        .find_map(|target| match target {
            model::Target::Unresolved(why) => Some(why.clone()),
            model::Target::Channel(_) | model::Target::Elsewhere { .. } | model::Target::Uri(_) => None,
        })
}

fn source(found: &model::Source, state: &State, shared: &Shared) -> Status {
    let mut fields = Map::new();
    let channel = || {
        let channel = found.sink.as_ref().ok()?;
        Some(address(shared, channel))
    };
    let remote = shared.remote.as_ref().map(|remote| remote.display().to_owned());
    if let Some(uri) = remote.or_else(|| found.sink_uri.clone()).or_else(channel) {
        fields.insert("sinkUri".into(), json!(uri));
    }
    // Of its outbox, which has no object of its own to show it.
    let outbox = found.sink.as_ref().ok().and_then(|channel| state.channels.get(channel));
    if let Some(outbox) = outbox.filter(|channel| channel.model.implicit) {
        let behind = outbox
            .channel
            .depth()
            .cursors
            .iter()
            .map(|cursor| cursor.unsettled)
            .max();
        fields.insert("unsettledEvents".into(), json!(behind.unwrap_or(0)));
    }
    let sink = match &found.sink {
        _ if shared.remote.is_some() => Ok(()),
        Ok(channel) if is_open(shared, channel) => Ok(()),
        Ok(channel) => Err(why(
            "ChannelNotReady",
            &format!("channel {channel} is not ready: see its conditions"),
        )),
        Err(why) => Err(why.clone()),
    };
    let running = state.sources.get(&found.key);
    let mut conditions = Conditions::default();
    if let Some(running) = running {
        let said = running.report.said();
        fields.extend(said.fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        for (kind, said) in said.conditions.iter().filter(|(kind, _)| **kind != DEPLOYED) {
            conditions.said(kind, said);
        }
    }
    let ended = |running: &RunningSource| running.run.as_ref().and_then(|run| run.ended.lock().clone());
    let deployed = match (running, &sink) {
        (None, _) => Err(why("Deploying", "the source is being set up")),
        (Some(running), _) if running.failure.is_some() || ended(running).is_some() => {
            running.failure.clone().or_else(|| ended(running)).map_or(Ok(()), Err)
        }
        (Some(_), Err(missing)) => Err(why(
            missing.reason,
            "nothing is taken from upstream until the sink is there",
        )),
        (Some(_), Ok(())) => Ok(()),
    };
    // An adapter that deploys something knows more than that it runs itself.
    let said = running.and_then(|running| running.report.said().conditions.remove(DEPLOYED));
    let mut conditions = match (deployed, said) {
        (Ok(()), Some(said)) => {
            conditions.said(DEPLOYED, &said);
            conditions
        }
        (deployed, _) => conditions.put(DEPLOYED, deployed),
    };
    let secrets = found.config.secrets();
    if !secrets.is_empty() {
        let missing = secrets.into_iter().find_map(|secret| secret.as_ref().err().cloned());
        conditions = conditions.put("SecretsProvided", missing.map_or(Ok(()), Err));
    }
    conditions.put("SinkProvided", sink).done(fields)
}

impl Route {
    /// `subscriberURI`, `replyURI`, `deadLetterURI` of status.
    fn uris(subscription: &model::Subscription) -> (Option<String>, Option<String>, Option<String>) {
        let uri = |target: &Option<model::Target>| match target {
            Some(model::Target::Uri(url)) => Some(without_credentials(url)),
            Some(model::Target::Channel(name) | model::Target::Elsewhere { channel: name, .. }) => {
                Some(route::of_channel(name))
            }
            Some(model::Target::Unresolved(_)) | None => None,
        };
        (
            uri(&subscription.subscriber),
            uri(&subscription.reply),
            uri(&subscription.delivery.dead_letter_sink),
        )
    }
}

fn address(shared: &Shared, name: &ObjectName) -> String {
    format!("{}/{name}", shared.settings.ingress_url)
}

fn why(reason: &'static str, message: &str) -> model::Unresolved {
    model::Unresolved {
        reason,
        message: message.to_owned(),
    }
}

fn condition(kind: &str, status: Truth, severity: &str, reason: &str, message: &str) -> Condition {
    Condition {
        kind: kind.into(),
        status,
        severity: severity.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Timestamp::now(),
    }
}

/// Conditions of one object: what `Ready` depends on, and what is merely worth knowing.
#[derive(Default)]
struct Conditions(Vec<Condition>);

impl Conditions {
    /// A dependent of `Ready`.
    fn put(mut self, kind: &str, state: Result<(), model::Unresolved>) -> Self {
        self.0.push(match state {
            Ok(()) => condition(kind, Truth::True, "", "", ""),
            Err(why) => condition(kind, Truth::False, "", why.reason, &why.message),
        });
        self
    }

    fn note(&mut self, kind: &str, status: Truth, severity: &str, reason: &str, message: &str) {
        self.0.push(condition(kind, status, severity, reason, message));
    }

    /// What an adapter says of its source.
    fn said(&mut self, kind: &str, said: &adapter::Condition) {
        let truth = match said.truth {
            adapter::Truth::True => Truth::True,
            adapter::Truth::False => Truth::False,
            adapter::Truth::Unknown => Truth::Unknown,
        };
        let severity = match said.weight {
            adapter::Weight::Error => "",
            adapter::Weight::Warning => "Warning",
            adapter::Weight::Info => "Info",
        };
        self.note(kind, truth, severity, &said.reason, &said.message);
    }

    /// Of a backend whose promise is found out (CONTRACT CH-8).
    fn degraded(&mut self, backend: model::BackendKind, findings: &[String]) {
        if matches!(backend, model::BackendKind::Memory | model::BackendKind::Embedded) {
            return;
        }
        if findings.is_empty() {
            self.note("DurabilityDegraded", Truth::False, "Warning", "", "");
        } else {
            self.note(
                "DurabilityDegraded",
                Truth::True,
                "Warning",
                "BrokerSettings",
                &findings.join("; "),
            );
        }
    }

    fn done(mut self, fields: Map<String, Value>) -> Status {
        let first = |truth| {
            let weighs = |condition: &&Condition| condition.severity.is_empty() && condition.status == truth;
            self.0.iter().find(weighs)
        };
        let ready = match first(Truth::False).or_else(|| first(Truth::Unknown)) {
            Some(failed) => condition("Ready", failed.status, "", &failed.reason, &failed.message),
            None => condition("Ready", Truth::True, "", "", ""),
        };
        self.0.push(ready);
        Status {
            conditions: self.0,
            fields,
        }
    }
}
