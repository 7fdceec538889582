//! Acts on a plan, in the order that loses nothing: endpoints close before channels do, cursors exist before endpoints open.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration, time::SystemTime};

use adapter::chain;
use channel::{Channel, CursorName, Durability, Start, is_anothers};
use futures_util::{FutureExt, future::join_all};
use spec::{Cause, ObjectName, Reason, Spec, model};
use tokio_util::sync::CancellationToken;

use super::plan::{may_return, plan, subscription_key};
use super::{
    OpenChannel, Plane, RouteKind, RunningSubscription, State,
    work::{Work, Works},
};
use crate::{
    ingress::{Endpoints, Pending, SourceEndpoint},
    journey::{
        context::Context,
        dispatcher::{Dispatcher, Stop},
        report::Reports,
        route::Route,
    },
};

/// A subscription that is removed or moved may finish what is in flight for this long; the rest is given back.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Channels of one provisioner opened, and subscriptions of one channel started, at once. An embedded channel takes half a MiB
/// meanwhile: fifty at once left the process 25 MiB larger (`bench --only footprint`). Fewer would wait longer for brokers that
/// do not answer.
pub(super) const AT_ONCE: usize = 16;

impl Plane {
    /// Compares what runs with what is desired, does at once what does not block, and spawns a task for the work on each channel.
    /// Called again whenever such a task ends.
    pub(super) async fn apply(&self, desired: &Arc<Spec>, works: &mut Works) {
        let is_new = works.see(desired.generation);
        let (plan, work) = {
            let mut state = self.0.runtime.state.lock();
            works.take_finished(&mut state);
            let plan = plan(desired, &state.running());
            state.spec = desired.clone();
            let State {
                channel_failures,
                subscription_failures,
                opening,
                channels,
                ..
            } = &mut *state;
            channel_failures.retain(|name, _| desired.channels.contains_key(name));
            subscription_failures.retain(|name, _| desired.subscriptions.contains_key(name));
            opening.retain(|name, _| {
                desired.channels.contains_key(name) && channels.get(name).is_none_or(|open| !open.has_cursors)
            });
            let work = works.due(&plan, &mut state, &self.0.metrics);
            (plan, work)
        };
        if is_new {
            // Before a new source creates anything upstream, so that it is not mistaken for left over.
            self.0.backends.before_apply(&self.0.source_states.gateway, desired);
        }
        for (key, delete) in &plan.stop_sources {
            self.stop_source(key, *delete);
        }
        for model in plan.reroute {
            self.reroute(model);
        }
        for model in plan.admit {
            self.admit(&model);
        }
        // Removes the endpoints of channels that close, adds those of channels opened since the last round.
        self.publish();
        for work in work {
            works.spawn(self, work, desired);
        }
        let ready = |source: &Arc<model::Source>| source.sink.as_ref().map_or(true, |sink| !works.is_busy(sink));
        let sources: Vec<_> = plan.start_sources.into_iter().filter(ready).collect();
        if !sources.is_empty() {
            let mut all_well = true;
            for model in sources {
                all_well &= self.start_source(model).await;
            }
            works.sources_started(all_well);
            // Sources have endpoints, too.
            self.publish();
        }
        if is_new {
            self.delete_orphan_sources(desired).await;
        }
    }

    /// Publishes the endpoints of all open channels and of all sources, and why others have none yet.
    fn publish(&self) {
        let mut endpoints = Endpoints::default();
        let mut channels = std::collections::HashMap::new();
        let state = self.0.runtime.state.lock();
        for (name, open) in state.channels.iter().filter(|(_, open)| open.has_cursors) {
            let by_path = if open.model.implicit {
                &mut endpoints.implicit
            } else {
                &mut endpoints.channels
            };
            by_path.insert(name.to_string(), open.endpoint.clone());
            channels.insert(name.clone(), open.channel.clone());
        }
        for (name, model) in &state.spec.channels {
            if channels.contains_key(name) {
                continue;
            }
            let pending = match state.failure(model) {
                Some(why) => format!("channel {name} cannot be opened right now ({}): come again", why.reason),
                None => format!("channel {name} is being opened: come again"),
            };
            endpoints.pending.insert(
                name.to_string(),
                Pending {
                    message: pending,
                    has_path: !model.implicit,
                },
            );
        }
        for (key, source) in &state.sources {
            let endpoint = match &source.hook {
                Some(Ok(endpoint)) => endpoint.clone(),
                Some(Err(_)) => Arc::new(SourceEndpoint::unready()),
                None => continue,
            };
            endpoints
                .of_sources(source.route_kind)
                .insert(key.name.to_string(), endpoint);
        }
        for (key, source) in &state.spec.sources {
            if let (false, Some(route_kind)) = (state.sources.contains_key(key), RouteKind::of(&source.config)) {
                let unready = Arc::new(SourceEndpoint::unready());
                endpoints.of_sources(route_kind).insert(key.name.to_string(), unready);
            }
        }
        drop(state);
        self.0.channels.publish(channels);
        self.0.ingress.publish(endpoints);
    }

    /// Does the work of one channel, in the order that loses nothing. False when a part failed and is worth another try.
    ///
    /// # Cancel safety
    /// Dropped when the gateway ends: what was opened is closed by its own drop, and cursors are given back.
    pub(super) async fn work(&self, work: Work, desired: &Spec) -> bool {
        join_all(
            work.stop
                .into_iter()
                .map(|(running, delete)| self.stop(running, delete)),
        )
        .await;
        if let Some(open) = work.close {
            self.close(&work.channel, open).await;
        }
        let begin = async {
            if let Some(model) = work.open
                && !self.open(model, desired).await
            {
                return false;
            }
            let mut all_well = true;
            for some in work.start.chunks(AT_ONCE) {
                let started = join_all(some.iter().map(|model| self.start(model.clone()))).await;
                all_well &= started.into_iter().all(|well| well);
            }
            all_well
        };
        // A drain waits for what ends. It lets nothing begin, nor waits for a broker that does not answer.
        let begun = self.0.runtime.draining.run_until_cancelled(begin).await;
        begun.unwrap_or(false)
    }

    async fn open(&self, model: Arc<model::Channel>, desired: &Spec) -> bool {
        let name = model.name.clone();
        let opened = match self.0.backends.open(&model).await {
            Ok(channel) => match short_of(&model, channel.promises().durability) {
                None => Ok(channel),
                Some(why) => {
                    channel.close().await;
                    Err(why)
                }
            },
            Err(why) => Err(why),
        };
        let channel = match opened {
            Ok(channel) => channel,
            Err(why) => {
                // Worth another try: what brokers promise is less while a cluster is still starting.
                let mut state = self.0.runtime.state.lock();
                if state.channel_failures.get(&name) != Some(&why) {
                    tracing::error!(channel = %name, reason = why.reason.as_str(), detail = why.message, "channel cannot be opened");
                }
                state.channel_failures.insert(name, why);
                return false;
            }
        };
        self.delete_orphans(&name, &*channel, desired).await;
        if self.0.runtime.draining.is_cancelled() {
            // A drain closes what it finds open; this one came too late for it.
            channel.close().await;
            return true;
        }
        let mut state = self.0.runtime.state.lock();
        state.channel_failures.remove(&name);
        // The newest spec says who may publish: a token that was withdrawn meanwhile is not good again.
        let newest = state.spec.channels.get(&name).unwrap_or(&model).publishing.clone();
        let model = Arc::new(model::Channel {
            publishing: newest,
            ..(*model).clone()
        });
        let publishers = self.publishers(&model, state.channels.get(&name));
        match state.channels.get_mut(&name) {
            // New settings for the same channel: its door and its cursors stay as they are.
            Some(open) if Arc::ptr_eq(&open.channel, &channel) => {
                open.model = model;
                open.endpoint = self.0.ingress.endpoint(&name, channel, publishers);
            }
            _ => {
                let endpoint = self.0.ingress.endpoint(&name, channel.clone(), publishers);
                let open = OpenChannel {
                    model,
                    channel,
                    endpoint,
                    has_cursors: false,
                };
                state.channels.insert(name, open);
            }
        }
        true
    }

    /// Deletes the cursors of subscriptions that were deleted while the gateway was down: they keep events that no subscription needs.
    async fn delete_orphans(&self, name: &ObjectName, channel: &dyn Channel, desired: &Spec) {
        for cursor in channel.depth().cursors {
            let Some((namespace, subscription)) = cursor.name.as_str().split_once('/') else {
                continue;
            };
            let (subscription, owner) = (ObjectName::new(namespace, subscription), cursor.owner.as_deref());
            let is_named = match desired.subscriptions.get(&subscription) {
                Some(desired) => desired.channel == *name && !is_anothers(owner, desired.uid.as_deref()),
                None => may_return(desired, &subscription_key(&subscription)),
            };
            if is_named || !self.0.backends.is_gone(&subscription, owner).await {
                continue;
            }
            match channel.delete(&cursor.name, owner).await {
                Ok(()) => tracing::info!(channel = %name, %subscription, "forgot the place of a deleted subscription"),
                Err(error) => {
                    tracing::warn!(channel = %name, %subscription, %error, "cannot forget a deleted subscription");
                }
            }
        }
    }

    async fn start(&self, model: Arc<model::Subscription>) -> bool {
        let name = model.name.clone();
        // A channel that is not open is said by its own failure and by this subscription's condition.
        let Some(channel) = self.channel(&model.channel) else {
            return true;
        };
        let (cursor, owner) = (cursor_name(&name), model.uid.as_deref());
        let cursor = match channel.subscribe(&cursor, owner, start(model.start_from)).await {
            Ok(cursor) => cursor,
            Err(error) => {
                tracing::error!(subscription = %name, %error, "subscription cannot start, trying again");
                let why = Cause {
                    reason: Reason::CursorUnavailable,
                    message: chain(&error),
                };
                self.0.runtime.state.lock().subscription_failures.insert(name, why);
                return false;
            }
        };
        let metrics = self.0.metrics.subscription(&name);
        let reports = Reports::new(Arc::new(name.clone()), metrics, self.0.tries.clone());
        let route = Arc::new(Route::new(model.clone(), &self.0.channels));
        let context = Arc::new(Context::new(channel, self.0.settings.max_hops, reports, route));
        let switch = self.0.switches.of(&name);
        let runtime = &self.0.runtime;
        let stop = Stop {
            gently: runtime.draining.child_token(),
            now: runtime.abandoning.child_token(),
        };
        let done = CancellationToken::new();
        let dispatcher = Dispatcher::new(context.clone(), cursor, switch.clone());
        let running = RunningSubscription {
            model,
            context,
            switch,
            stop: stop.clone(),
            done: done.clone(),
        };
        let mut state = self.0.runtime.state.lock();
        state.subscription_failures.remove(&name);
        state.subscriptions.insert(name.clone(), running);
        drop(state);
        let shared = self.0.clone();
        self.0.runtime.tasks.spawn(async move {
            let run = AssertUnwindSafe(dispatcher.run(stop.clone())).catch_unwind().await;
            done.cancel();
            if run.is_err() || !stop.gently.is_cancelled() {
                // Never silent (CONTRACT OP-3): reported here, and started again by the task that applies specs.
                tracing::error!(subscription = %name, panicked = run.is_err(), "deliveries ended unexpectedly, starting them again");
                let why = Cause {
                    reason: Reason::DeliveryEnded,
                    message: "deliveries ended unexpectedly and are being started again: see the log".to_owned(),
                };
                shared.runtime.state.lock().subscription_failures.insert(name, why);
                shared.runtime.ended.notify_one();
            }
        });
        true
    }

    async fn stop(&self, running: RunningSubscription, delete: bool) {
        running.stop.gently.cancel();
        if tokio::time::timeout(STOP_GRACE, running.done.cancelled())
            .await
            .is_err()
        {
            running.stop.now.cancel();
            running.done.cancelled().await;
        }
        if !delete {
            return;
        }
        let name = &running.model.name;
        let (channel, owner) = (&running.context.channel, running.model.uid.as_deref());
        if let Err(error) = channel.delete(&cursor_name(name), owner).await {
            tracing::warn!(subscription = %name, %error, "cannot forget a deleted subscription");
        }
    }

    fn reroute(&self, model: Arc<model::Subscription>) {
        let mut state = self.0.runtime.state.lock();
        if let Some(running) = state.subscriptions.get_mut(&model.name) {
            running
                .context
                .reroute(Arc::new(Route::new(model.clone(), &self.0.channels)));
            running.model = model;
        }
    }

    async fn close(&self, name: &ObjectName, open: OpenChannel) {
        open.channel.close().await;
        tracing::info!(channel = %name, "channel is closed, its events stay where they are");
    }
}

pub(crate) fn cursor_name(subscription: &ObjectName) -> CursorName {
    CursorName::new(subscription.to_string())
}

fn start(from: model::StartFrom) -> Start {
    match from {
        model::StartFrom::Latest => Start::Latest,
        model::StartFrom::Earliest => Start::Earliest,
        model::StartFrom::Time(time) => Start::Time(SystemTime::from(time)),
        model::StartFrom::Offset(offset) => Start::Offset(channel::Offset(offset)),
    }
}

/// Returns the required durability that the backend does not promise, as a cause (CONTRACT CH-8).
fn short_of(model: &model::Channel, promised: Durability) -> Option<Cause> {
    let provisioner = model.provisioner.as_ref().ok()?;
    let required = provisioner.require_durability.as_deref()?;
    let required = super::observe::provisioner::durability_of(required)?;
    (promised < required).then(|| Cause {
        reason: Reason::DurabilityNotMet,
        message: format!(
            "provisioner {} requires durability {required}, but its backend promises {promised}: lower requireDurability or choose another backend",
            provisioner.name
        ),
    })
}
