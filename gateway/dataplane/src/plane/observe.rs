//! The status of every object, made from the spec and from what runs (API.md 2.6).
//!
//! Here is collected what is known of each object; what that means is decided by one pure function a kind: [`provisioner`],
//! [`channel`], [`subscription`], [`source`]. Times of transitions are carried over by `spec::observed::Transitions`.

mod channel;
pub(crate) mod provisioner;
mod source;
mod subscription;

use std::collections::HashMap;

use ::channel::{Channel, CursorName, Depth};
use spec::{
    Cause, Condition, Conditions, Kind, ObjectName, Observed, Reason, Severity, Status, Truth, model,
    status::{Address, Redrive, Subscriber},
};

use super::{PlaneInner, RunningSource, State};

/// Returns the status of every object of the spec that this process knows.
pub(super) fn observe(shared: &PlaneInner) -> Observed {
    let state = shared.runtime.state.lock();
    let mut observer = Observer::new(shared, &state);
    let mut observed = Observed::default();
    for (key, object) in &state.spec.objects {
        let spec = &state.spec;
        let status = match key.kind {
            Kind::ClusterChannelProvisioner => spec
                .provisioners
                .get(&key.name.name)
                .map(|model| observer.provisioner(model)),
            Kind::Channel => spec.channels.get(&key.name).map(|model| observer.channel(model)),
            Kind::Subscription => spec
                .subscriptions
                .get(&key.name)
                .map(|model| observer.subscription(model)),
            Kind::GitHubSource | Kind::KubernetesEventSource | Kind::GcpPubSubSource | Kind::ContainerSource => {
                spec.sources.get(key).map(|model| observer.source(model))
            }
            Kind::Service | Kind::Secret => continue,
        };
        observed
            .objects
            .insert(key.clone(), with_faults(status, &object.faults));
    }
    observed
}

/// Adds the faults of the newest version of a document. `None` stands for an object that does not run in this process.
fn with_faults(status: Option<Status>, faults: &[String]) -> Status {
    let is_running = status.is_some();
    let mut status = status.unwrap_or_default();
    let conditions = &mut status.conditions;
    if faults.is_empty() {
        if !is_running {
            let message = "another replica of the gateway looks after it, and knows how it is";
            let cause = Some(Cause::new(Reason::Elsewhere, message));
            conditions.add(Condition::new("Here", Truth::Unknown, Severity::Error, cause));
        }
        return status;
    }
    let faults = faults.join("; ");
    let message = format!("the newest version is not used, the last valid one runs: {faults}");
    if !is_running {
        conditions.require("Valid", Err(Cause::new(Reason::Invalid, faults)));
    }
    conditions.warn("Current", Some(Cause::new(Reason::Invalid, message)));
    status
}

/// Adds whether a backend keeps its promise, for one whose promise is found out (CONTRACT CH-8).
fn add_degraded(conditions: &mut Conditions, backend: model::BackendKind, mut findings: Vec<String>) {
    if matches!(backend, model::BackendKind::Memory | model::BackendKind::Embedded) {
        return;
    }
    findings.sort();
    findings.dedup();
    let cause = (!findings.is_empty()).then(|| Cause::new(Reason::BrokerSettings, findings.join("; ")));
    // The one condition that is bad when it is True.
    let truth = if cause.is_some() { Truth::True } else { Truth::False };
    conditions.add(Condition::new("DurabilityDegraded", truth, Severity::Warning, cause));
}

/// Collects what is known. Each channel is asked once, for thousands of subscriptions.
struct Observer<'a> {
    shared: &'a PlaneInner,
    state: &'a State,
    subscriptions: HashMap<&'a ObjectName, Vec<&'a model::Subscription>>,
    depths: HashMap<&'a ObjectName, Backlog>,
}

struct Backlog {
    depth: Depth,
    unsettled: HashMap<CursorName, u64>,
}

impl<'a> Observer<'a> {
    fn new(shared: &'a PlaneInner, state: &'a State) -> Self {
        let mut subscriptions: HashMap<_, Vec<_>> = HashMap::new();
        for subscription in state.spec.subscriptions.values() {
            let of_channel = subscriptions.entry(&subscription.channel).or_default();
            of_channel.push(&**subscription);
        }
        Self {
            shared,
            state,
            subscriptions,
            depths: HashMap::new(),
        }
    }

    fn backlog(&mut self, name: &'a ObjectName, channel: &dyn Channel) -> &Backlog {
        self.depths.entry(name).or_insert_with(|| {
            let depth = channel.depth();
            let mut unsettled = HashMap::new();
            for cursor in &depth.cursors {
                // That of a former subscription of the same name may still be there.
                let most = unsettled.entry(cursor.name.clone()).or_insert(cursor.unsettled);
                *most = cursor.unsettled.max(*most);
            }
            Backlog { depth, unsettled }
        })
    }

    fn provisioner(&self, model: &model::Provisioner) -> Status {
        let uses = |channel: &model::Channel| channel.provisioner.as_ref().is_ok_and(|used| used.name == model.name);
        let open = || self.state.channels.values().filter(|open| uses(&open.model));
        let mut failures = self.state.channel_failures.iter();
        let failure = failures.find(|(name, _)| self.state.spec.channels.get(*name).is_some_and(|model| uses(model)));
        provisioner::status(provisioner::Observation {
            backend: model.config.backend(),
            required: model.require_durability.as_deref(),
            weakest: open().map(|open| open.channel.promises().durability).min(),
            failure: failure.map(|(_, cause)| cause.clone()),
            findings: open().flat_map(|open| open.channel.findings()).collect(),
        })
    }

    fn channel(&mut self, model: &'a model::Channel) -> Status {
        let (shared, state) = (self.shared, self.state);
        let subscribers = self.subscriptions.get(&model.name).into_iter().flatten().map(|of| {
            let uris = subscription::uris(of);
            Subscriber {
                name: of.name.to_string(),
                ready: state.live(&of.name).is_some(),
                subscriber_uri: uris.subscriber,
                reply_uri: uris.reply,
            }
        });
        let subscribers = subscribers.collect();
        let opening = || Cause::new(Reason::Deploying, "the channel is being opened");
        let why = state
            .not_open(model)
            .or_else(|| (!self.is_open(&model.name)).then(opening));
        let url = &shared.settings.ingress_url;
        let open = state.channels.get(&model.name).map(|open| {
            let (channel, backlog) = (&open.channel, self.backlog(&model.name, &*open.channel));
            let publishers = open.endpoint.publishers();
            channel::Open {
                address: Address {
                    hostname: url.split_once("://").map_or(&**url, |(_, host)| host).to_owned(),
                    url: format!("{url}/{}", model.name),
                },
                durability: channel.promises().durability.as_str(),
                unsettled: backlog.unsettled.values().max().copied().unwrap_or(0),
                depth: &backlog.depth,
                dead_letters: channel.dead_letters().count(),
                dead_letters_full: channel.dead_letters().refusing(),
                missing_dead_letters: channel.dead_letters().missing(),
                findings: channel.findings(),
                held_back: channel.held_back(),
                publishers: publishers.trouble(),
                is_unguarded: shared.settings.is_exposed && publishers.is_open() && !model.implicit,
            }
        });
        channel::status(channel::Observation {
            provisioner: model.provisioner.as_deref().ok(),
            state: why.map_or(Ok(()), Err),
            open,
            unused_log: shared.backends.unused_log(&model.name),
            subscribers,
        })
    }

    /// Its door is published: events come in, and reach every subscription that has its place (CONTRACT CH-1).
    fn is_open(&self, channel: &ObjectName) -> bool {
        let (endpoints, name) = (self.shared.ingress.endpoints(), channel.to_string());
        endpoints.channels.contains_key(&name) || endpoints.implicit.contains_key(&name)
    }

    fn subscription(&mut self, model: &'a model::Subscription) -> Status {
        let (shared, state) = (self.shared, self.state);
        let channel = if self.is_open(&model.channel) {
            subscription::ChannelState::Open
        } else if state.spec.channels.contains_key(&model.channel) {
            subscription::ChannelState::NotReady
        } else {
            subscription::ChannelState::Missing
        };
        let running = state.subscriptions.get(&model.name).map(|running| {
            let (context, route) = (&running.context, running.context.route());
            let backlog = self.backlog(&model.channel, &*context.channel);
            subscription::Running {
                unresolved: route.blocked.clone().or_else(|| route.unsendable.clone()),
                is_paused: running.switch.is_paused(),
                outage: context.gate.outage(),
                total_order: context.channel.promises().total_order,
                unsettled: backlog.unsettled.get(&super::apply::cursor_name(&model.name)).copied(),
            }
        });
        subscription::status(subscription::Observation {
            model,
            channel,
            failure: state.subscription_failures.get(&model.name).cloned(),
            running,
            redrive: shared.redrives_of(&model.name).map(|counted| Redrive {
                matched: counted.matched,
                delivered: counted.delivered,
                dead_lettered: counted.dead_lettered,
                left: counted.left,
            }),
        })
    }

    fn source(&self, model: &model::Source) -> Status {
        let (shared, state) = (self.shared, self.state);
        let sink = match &model.sink {
            _ if shared.remote.is_some() => Ok(()),
            Ok(channel) if self.is_open(channel) => Ok(()),
            Ok(channel) => Err(Cause::new(
                Reason::ChannelNotReady,
                format!("channel {channel} is not ready: see its conditions"),
            )),
            Err(cause) => Err(cause.clone()),
        };
        let channel = model.sink.as_ref().ok();
        let sink_uri = shared
            .remote
            .as_ref()
            .map(|remote| remote.display().to_owned())
            .or_else(|| model.sink_uri.clone())
            .or_else(|| channel.map(|channel| format!("{}/{channel}", shared.settings.ingress_url)));
        let outbox = channel
            .and_then(|channel| state.channels.get(channel))
            .filter(|open| open.model.implicit);
        let behind = outbox.map(|outbox| {
            outbox
                .channel
                .depth()
                .cursors
                .into_iter()
                .map(|cursor| cursor.unsettled)
                .max()
        });
        let secrets = model.config.secrets();
        let missing = || secrets.iter().find_map(|secret| secret.as_ref().err().cloned());
        source::status(source::Observation {
            sink,
            sink_uri,
            unsettled: behind.map(Option::unwrap_or_default),
            secrets: (!secrets.is_empty()).then(|| missing().map_or(Ok(()), Err)),
            running: state.sources.get(&model.key).map(running),
        })
    }
}

fn running(source: &RunningSource) -> source::Running {
    let ended = || source.run.as_ref().and_then(|run| run.ended.lock().clone());
    source::Running {
        reported: source.report.state(),
        failure: source.failure.clone().or_else(ended),
    }
}
