//! The Services of channels: which are applied or deleted, and the condition about them in the channels' statuses.

use std::{collections::BTreeMap, sync::Arc};

use spec::{
    Cause, Kind, ObjectKey, ObjectName, Reason, Spec, Status,
    status::{Address, ChannelStatus, Fields},
};

use super::{Reporter, WriteHistory, history::Backoff, refused};
use crate::{
    Observe, Settings,
    cache::{CachedService, Contents},
    channels::{self, Decision},
    collection,
    refusal::{Refusal, Rule},
    request,
};

/// The condition about a channel's Service.
const SERVICE_READY: &str = "ServiceReady";

/// `Ok` if the Service exists as desired.
pub(super) type ServiceState = Result<(), Cause>;

#[derive(Default)]
pub(super) struct Services {
    pub(super) states: BTreeMap<ObjectName, ServiceState>,
    /// Channels and their uids.
    pub(super) apply: Vec<(ObjectName, String)>,
    pub(super) remove: Vec<LeftBehind>,
}

/// A Service whose channel was deleted. Kubernetes deletes it by its owner reference, but may be late, and cannot do it
/// at all once the definitions are deleted.
pub(super) struct LeftBehind {
    service: ObjectName,
    uid: String,
    channel: ObjectKey,
    channel_uid: String,
}

impl<O: Observe> Reporter<O> {
    /// Decides the states of the channels' Services, and which of them to apply or delete.
    pub(super) fn services(&self, spec: &Spec) -> Services {
        let mut services = Services::default();
        let Some(gateway) = &self.settings.service else {
            return services;
        };
        let history = self.history.lock();
        let left_behind = self.cache.with(|cache| {
            let channels = spec.channels.values().filter(|channel| !channel.implicit);
            for name in channels.map(|channel| &channel.name) {
                let key = ObjectKey::new(Kind::Channel, name.clone());
                if let Some(cached) = cache.objects.get(&key).filter(|cached| !cached.is_leaving) {
                    let (state, is_due) = state(cache, name, &cached.uid, gateway, history.get(&key));
                    services.states.insert(name.clone(), state);
                    if is_due {
                        services.apply.push((name.clone(), cached.uid.clone()));
                    }
                }
            }
            left_behind(cache, gateway)
        });
        drop(history);
        services.remove = left_behind;
        let mut backoff = self.removal_backoff.lock();
        // The Services are sorted by name, like the cache.
        let is_left = |service: &ObjectName| {
            services
                .remove
                .binary_search_by(|left| left.service.cmp(service))
                .is_ok()
        };
        backoff.retain(|service, _| is_left(service));
        services
            .remove
            .retain(|left| backoff.get(&left.service).is_none_or(Backoff::is_due));
        drop(backoff);
        services.remove.retain(|left| self.observe.may_write(&left.channel));
        services
    }

    pub(super) async fn remove_service(&self, left: LeftBehind) {
        // A watch may lag behind; the API server knows.
        if !self.cluster.is_gone(&left.channel, Some(&left.channel_uid)).await {
            self.removal_backoff
                .lock()
                .entry(left.service)
                .or_default()
                .ended(false);
            return;
        }
        let path = collection::path("v1", "services", &left.service);
        let removed = request::delete(&self.cluster.client, &path, &left.uid).await;
        let mut tries = self.removal_backoff.lock();
        let tries = tries.entry(left.service.clone()).or_default();
        match removed {
            // It was deleted already, or recreated.
            Ok(()) | Err(Refusal::NotFound | Refusal::Conflict(_)) => {
                self.cache.with(|cache| {
                    let actual = cache.services.get(&left.service);
                    if actual.is_some_and(|actual| actual.uid == left.uid) {
                        cache.services.remove(&left.service);
                    }
                });
                tries.ended(true);
            }
            Err(refusal) => {
                if !tries.has_failed() {
                    let rule = service_rule(&left.service.namespace, &["delete"]);
                    let trouble = refused(&refusal, &rule).message;
                    tracing::warn!(service = %left.service, trouble, "cannot delete the Service of a deleted channel, trying again");
                }
                tries.ended(false);
            }
        }
    }

    pub(super) async fn apply_service(&self, channel: ObjectName, uid: String) {
        if !self.observe.may_write(&ObjectKey::new(Kind::Channel, channel.clone())) {
            return;
        }
        let gateway = self.settings.service.as_deref().unwrap_or_default();
        let service = channels::service(&channel);
        let path = collection::path("v1", "services", &service);
        let desired = channels::desired(&channel, &uid, gateway);
        let applied = request::apply(&self.cluster.client, &path, &desired).await;
        let mut history = self.history.lock();
        let history = history.entry(ObjectKey::new(Kind::Channel, channel)).or_default();
        match applied {
            Ok(made) => {
                history.service_refused = None;
                history.service.ended(true);
                let cached = Arc::new(CachedService::new(&made));
                self.cache.with(|cache| cache.services.insert(service, cached));
            }
            Err(refusal) => {
                if history.service_refused.as_ref() != Some(&refusal) {
                    tracing::warn!(%service, trouble = %refusal, "cannot create a channel's Service, trying again");
                }
                history.service_refused = Some(refusal);
                history.service.ended(false);
            }
        }
    }
}

/// Returns the state of a channel's Service, and whether to apply the Service now.
fn state(
    cache: &Contents,
    name: &ObjectName,
    uid: &str,
    gateway: &str,
    history: Option<&WriteHistory>,
) -> (ServiceState, bool) {
    if !cache.services_are_known {
        let trouble = cache.troubles.get("services").cloned().unwrap_or_default();
        return (Err(Cause::new(Reason::Forbidden, trouble)), false);
    }
    let actual = cache.services.get(&channels::service(name));
    match channels::decide(name, uid, gateway, actual.map(|actual| &**actual)) {
        Decision::UpToDate => (Ok(()), false),
        Decision::Impossible(why) => (Err(why), false),
        Decision::Apply => {
            let why = match history.and_then(|history| history.service_refused.as_ref()) {
                Some(refusal) => refused(refusal, &service_rule(&name.namespace, &["create", "patch"])),
                None => Cause::new(Reason::Deploying, "the Service is being created"),
            };
            (Err(why), history.is_none_or(|history| history.service.is_due()))
        }
    }
}

fn left_behind(cache: &Contents, gateway: &str) -> Vec<LeftBehind> {
    // Before all channels were listed, each would look deleted.
    if !cache.is_served {
        return Vec::new();
    }
    let of_channels = cache.services.iter().filter_map(|(service, actual)| {
        let (channel, channel_uid) = channels::channel_of(service, gateway, actual)?;
        let channel = ObjectKey::new(Kind::Channel, channel);
        let left = !actual.is_leaving && !cache.objects.contains_key(&channel);
        left.then(|| LeftBehind {
            service: service.clone(),
            uid: actual.uid.clone(),
            channel,
            channel_uid,
        })
    });
    of_channels.collect()
}

/// Adds the condition about the Service. A channel whose Service exists has that Service's address; with TLS it keeps the one by path,
/// which is at the name that the certificate has.
pub(super) fn addressed(status: &mut Status, channel: &ObjectName, state: &ServiceState, settings: &Settings) {
    if let Fields::Channel(ChannelStatus {
        address: Some(address), ..
    }) = &mut status.fields
        && state.is_ok()
        && !settings.has_tls
    {
        let hostname = channels::host(channel, &settings.cluster_domain);
        let url = format!("http://{hostname}/");
        *address = Address { hostname, url };
    }
    status.conditions.warn(SERVICE_READY, state.clone().err());
}

fn service_rule(namespace: &str, verbs: &'static [&'static str]) -> Rule {
    Rule {
        group: String::new(),
        resource: "services".to_owned(),
        name: None,
        namespace: Some(namespace.to_owned()),
        verbs,
    }
}
