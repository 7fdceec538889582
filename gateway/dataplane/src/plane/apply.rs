//! Acts on a plan, in the order that loses nothing: doors close before channels do, cursors exist before doors open.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration, time::SystemTime};

use adapter::chain;
use channel::{Channel, CursorName, Durability, Start, is_anothers};
use futures_util::{FutureExt, future::join_all};
use spec::{ObjectName, Spec, model};
use tokio_util::sync::CancellationToken;

use super::{OpenChannel, Plane, RunningSubscription, Way};
use crate::{
    context::Context,
    dispatcher::{Dispatcher, Stop},
    ingress::{Doors, HookDoor},
    plan::{may_return, plan, subscription_key},
    route::Route,
};

/// A subscription that is removed or moved may finish what is in flight for this long; the rest is given back.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Channels opened, and subscriptions started, at once. An embedded channel takes half a MiB meanwhile: fifty at once left
/// the process 25 MiB larger (`bench --only footprint`). Fewer would wait longer for brokers that do not answer.
const AT_ONCE: usize = 16;

impl Plane {
    /// Makes what runs what is wanted. False when a part could not be made to run and is worth another try.
    pub(super) async fn apply(&self, wanted: Arc<Spec>) -> bool {
        let plan = {
            let mut state = self.0.state.lock();
            let plan = plan(&wanted, &state.running());
            state.spec = wanted.clone();
            state
                .channel_failures
                .retain(|name, _| wanted.channels.contains_key(name));
            state
                .subscription_failures
                .retain(|name, _| wanted.subscriptions.contains_key(name));
            plan
        };
        // Before a new source makes anything, so that nobody takes it for left over.
        self.0.backends.wanted(&self.0.source_states.gateway, &wanted);
        for (key, forget) in &plan.stop_sources {
            self.stop_source(key, *forget);
        }
        if !plan.close.is_empty() {
            self.publish(&plan.close);
        }
        join_all(plan.stop.iter().map(|(name, forget)| self.stop(name, *forget))).await;
        join_all(plan.close.iter().map(|name| self.close(name))).await;
        // Side by side: a broker that does not answer takes its time, and many channels may be on it.
        let mut all_well = true;
        for some in plan.open.chunks(AT_ONCE) {
            let opened = join_all(some.iter().map(|model| self.open(model.clone(), &wanted))).await;
            all_well &= opened.into_iter().all(|well| well);
        }
        for some in plan.start.chunks(AT_ONCE) {
            let started = join_all(some.iter().map(|model| self.start(model.clone()))).await;
            all_well &= started.into_iter().all(|well| well);
        }
        for model in plan.reroute {
            self.reroute(model);
        }
        // Before the sources: what they send then finds its door.
        self.publish(&[]);
        if !plan.start_sources.is_empty() {
            for model in plan.start_sources {
                all_well &= self.start_source(model).await;
            }
            // They have doors, too.
            self.publish(&[]);
        }
        self.forget_orphan_sources(&wanted).await;
        all_well
    }

    /// Publishes the doors of all open channels but those that are about to close.
    fn publish(&self, closing: &[ObjectName]) {
        let mut doors = Doors::default();
        let mut channels = std::collections::HashMap::new();
        let state = self.0.state.lock();
        for (name, open) in state.channels.iter().filter(|(name, _)| !closing.contains(name)) {
            let by_path = if open.model.implicit {
                &mut doors.implicit
            } else {
                &mut doors.channels
            };
            by_path.insert(name.to_string(), open.door.clone());
            channels.insert(name.clone(), open.channel.clone());
        }
        for (key, source) in &state.sources {
            let door = match &source.hook {
                Some(Ok(door)) => door.clone(),
                Some(Err(_)) => Arc::new(HookDoor::unready()),
                None => continue,
            };
            let by_path = match source.way {
                Way::Sources => &mut doors.sources,
                Way::Hooks => &mut doors.hooks,
            };
            by_path.insert(key.name.to_string(), door);
        }
        drop(state);
        self.0.channels.publish(channels);
        self.0.ingress.publish(doors);
    }

    async fn open(&self, model: Arc<model::Channel>, wanted: &Spec) -> bool {
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
                let mut state = self.0.state.lock();
                if state.channel_failures.get(&name) != Some(&why) {
                    tracing::error!(channel = %name, reason = why.reason, detail = why.message, "channel cannot be opened");
                }
                state.channel_failures.insert(name, why);
                return false;
            }
        };
        self.forget_orphans(&name, &*channel, wanted).await;
        let mut state = self.0.state.lock();
        state.channel_failures.remove(&name);
        match state.channels.get_mut(&name) {
            // New settings for the same channel: its door and its cursors stay as they are.
            Some(open) if Arc::ptr_eq(&open.channel, &channel) => {
                open.model = model;
                open.door = self.0.ingress.door(&name, channel);
            }
            _ => {
                let door = self.0.ingress.door(&name, channel.clone());
                state.channels.insert(name, OpenChannel { model, channel, door });
            }
        }
        true
    }

    /// Cursors of subscriptions that were deleted while the gateway was down hold events for nobody.
    async fn forget_orphans(&self, name: &ObjectName, channel: &dyn Channel, wanted: &Spec) {
        for cursor in channel.depth().cursors {
            let Some((namespace, subscription)) = cursor.name.as_str().split_once('/') else {
                continue;
            };
            let (subscription, owner) = (ObjectName::new(namespace, subscription), cursor.owner.as_deref());
            let is_named = match wanted.subscriptions.get(&subscription) {
                Some(wanted) => wanted.channel == *name && !is_anothers(owner, wanted.uid.as_deref()),
                None => may_return(wanted, &subscription_key(&subscription)),
            };
            if is_named || !self.0.backends.is_gone(&subscription, owner).await {
                continue;
            }
            match channel.forget(&cursor.name, owner).await {
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
                let why = model::Unresolved {
                    reason: "CursorUnavailable",
                    message: chain(&error),
                };
                self.0.state.lock().subscription_failures.insert(name, why);
                return false;
            }
        };
        let metrics = self.0.metrics.subscription(&name);
        let route = Arc::new(Route::new(model.clone()));
        let context = Arc::new(Context::new(
            channel,
            self.0.channels.clone(),
            self.0.settings.max_hops,
            metrics,
            self.0.tries.clone(),
            route,
        ));
        let switch = self.0.switches.of(&name);
        let (stop, done) = (Stop::default(), CancellationToken::new());
        let dispatcher = Dispatcher::new(context.clone(), cursor, switch.clone());
        let running = RunningSubscription {
            model,
            context,
            switch,
            stop: stop.clone(),
            done: done.clone(),
        };
        let mut state = self.0.state.lock();
        state.subscription_failures.remove(&name);
        state.subscriptions.insert(name.clone(), running);
        drop(state);
        let ended = self.0.ended.0.clone();
        self.0.tasks.spawn(async move {
            let run = AssertUnwindSafe(dispatcher.run(stop.clone())).catch_unwind().await;
            done.cancel();
            if run.is_err() || !stop.gently.is_cancelled() {
                // Never silent (CONTRACT OP-3): said here, and started again by the task that applies specs.
                tracing::error!(subscription = %name, panicked = run.is_err(), "deliveries ended unexpectedly, starting them again");
                let _ = ended.try_send(name);
            }
        });
        true
    }

    async fn stop(&self, name: &ObjectName, forget: bool) {
        let Some(running) = self.0.state.lock().subscriptions.remove(name) else {
            return;
        };
        running.stop.gently.cancel();
        if tokio::time::timeout(STOP_GRACE, running.done.cancelled())
            .await
            .is_err()
        {
            running.stop.now.cancel();
            running.done.cancelled().await;
        }
        if !forget {
            return;
        }
        self.0.metrics.forget_subscription(name);
        let (channel, owner) = (&running.context.channel, running.model.uid.as_deref());
        if let Err(error) = channel.forget(&cursor_name(name), owner).await {
            tracing::warn!(subscription = %name, %error, "cannot forget a deleted subscription");
        }
    }

    fn reroute(&self, model: Arc<model::Subscription>) {
        let mut state = self.0.state.lock();
        if let Some(running) = state.subscriptions.get_mut(&model.name) {
            running.context.reroute(Arc::new(Route::new(model.clone())));
            running.model = model;
        }
    }

    async fn close(&self, name: &ObjectName) {
        let Some(open) = self.0.state.lock().channels.remove(name) else {
            return;
        };
        open.channel.close().await;
        self.0.metrics.forget_channel(name);
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

/// A stated requirement that is not met (CONTRACT CH-8).
fn short_of(model: &model::Channel, promised: Durability) -> Option<model::Unresolved> {
    let provisioner = model.provisioner.as_ref().ok()?;
    let required = provisioner.require_durability.as_deref()?;
    let all = [
        Durability::Process,
        Durability::Disk,
        Durability::Quorum,
        Durability::QuorumFsync,
    ];
    let required = all.into_iter().find(|durability| durability.as_str() == required)?;
    (promised < required).then(|| model::Unresolved {
        reason: "DurabilityNotMet",
        message: format!(
            "provisioner {} requires durability {required}, but its backend promises {promised}: lower requireDurability or choose another backend",
            provisioner.name
        ),
    })
}
