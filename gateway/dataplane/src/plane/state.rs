//! The state of the data plane: which channels, subscriptions and sources run, and why others do not.

use std::{collections::BTreeMap, sync::Arc};

use channel::Channel;
use spec::{Cause, ObjectKey, ObjectName, Reason, Spec, model};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{plan::ActualState, sources::RunningSource};
use crate::{
    ingress::ChannelEndpoint,
    journey::{
        context::Context,
        dispatcher::{Stop, Switch},
    },
};

/// The parts that run. Changed by the applying task alone; locked for moments.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) spec: Arc<Spec>,
    pub(crate) channels: BTreeMap<ObjectName, OpenChannel>,
    pub(crate) subscriptions: BTreeMap<ObjectName, RunningSubscription>,
    pub(crate) sources: BTreeMap<ObjectKey, RunningSource>,
    /// Cancelled when a stopped source has ended; a new source of the same name waits for it.
    pub(crate) leaving: BTreeMap<ObjectKey, CancellationToken>,
    /// Channels of the spec that have no endpoint yet, and since when. Empty once all are open.
    pub(crate) opening: BTreeMap<ObjectName, Instant>,
    /// Why a channel of the spec is not open, or a subscription of the spec not started.
    pub(crate) channel_failures: BTreeMap<ObjectName, Cause>,
    pub(crate) subscription_failures: BTreeMap<ObjectName, Cause>,
}

pub(crate) struct OpenChannel {
    pub(crate) model: Arc<model::Channel>,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) endpoint: Arc<ChannelEndpoint>,
    /// The cursors of its subscriptions exist: events may come in (CONTRACT CH-1).
    pub(crate) has_cursors: bool,
}

pub(crate) struct RunningSubscription {
    pub(crate) model: Arc<model::Subscription>,
    pub(crate) context: Arc<Context>,
    pub(crate) switch: Arc<Switch>,
    pub(crate) stop: Stop,
    /// Cancelled by the dispatcher's task when it has ended.
    pub(crate) done: CancellationToken,
}

impl RunningSubscription {
    /// Whether its dispatcher ended without being stopped: a stopped one is removed from `State`. One that ended stays until it
    /// is started again, so that deleting it meanwhile deletes its cursor (CH-4).
    pub(crate) fn has_ended(&self) -> bool {
        self.done.is_cancelled()
    }
}

impl State {
    /// Why a channel of the spec cannot be opened, or be given its new settings.
    pub(crate) fn failure<'a>(&'a self, model: &'a model::Channel) -> Option<&'a Cause> {
        let failed = || self.channel_failures.get(&model.name);
        model.provisioner.as_ref().err().or_else(failed)
    }

    /// Why a channel of the spec has no endpoint: it is being opened, or cannot be. `None` when it is open.
    pub(crate) fn not_open(&self, model: &model::Channel) -> Option<Cause> {
        if let Some(why) = self.failure(model) {
            return Some(why.clone());
        }
        let is_open = self.channels.get(&model.name).is_some_and(|open| open.has_cursors);
        (!is_open).then(|| {
            let seconds = self
                .opening
                .get(&model.name)
                .map_or(0, |since| since.elapsed().as_secs());
            Cause {
                reason: Reason::Deploying,
                message: format!("the channel is being opened ({seconds} s)"),
            }
        })
    }

    /// Returns the subscription if its dispatcher runs.
    pub(crate) fn live(&self, name: &ObjectName) -> Option<&RunningSubscription> {
        self.subscriptions.get(name).filter(|running| !running.has_ended())
    }

    /// Returns what runs, and what ended by itself.
    pub(crate) fn running(&self) -> ActualState {
        ActualState {
            channels: self
                .channels
                .iter()
                .map(|(name, open)| (name.clone(), open.model.clone()))
                .collect(),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(name, run)| (name.clone(), run.model.clone()))
                .collect(),
            ended: self
                .subscriptions
                .iter()
                .filter(|(_, run)| run.has_ended())
                .map(|(name, _)| name.clone())
                .collect(),
            sources: self
                .sources
                .iter()
                .map(|(key, run)| (key.clone(), run.model.clone()))
                .collect(),
        }
    }
}
