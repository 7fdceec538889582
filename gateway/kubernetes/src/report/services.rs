//! The Services of channels: which are to be made or taken away, and what the channels' statuses say of them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use spec::{Condition, Kind, ObjectKey, ObjectName, Spec, Status, observed::Truth};

use super::{Memory, Reporter, memory::Tries, refused};
use crate::{
    Observe,
    channels::{self, Decision},
    collection,
    known::{Contents, ServiceFacts},
    refusal::{Refusal, Rule},
    request,
};

/// The condition that tells of a channel's Service.
const SERVICE_READY: &str = "ServiceReady";

/// In place, or reason and message.
pub(super) type ServiceState = Result<(), (&'static str, String)>;

#[derive(Default)]
pub(super) struct Services {
    pub(super) states: BTreeMap<ObjectName, ServiceState>,
    /// Channels and their uids.
    pub(super) apply: Vec<(ObjectName, String)>,
    pub(super) remove: Vec<LeftBehind>,
}

/// A Service whose channel was deleted. It belongs to its channel, so that the cluster takes it away, too; where that hangs behind
/// or cannot know any more (it cannot once the definitions are deleted) the gateway is sooner.
pub(super) struct LeftBehind {
    service: ObjectName,
    uid: String,
    channel: ObjectKey,
    channel_uid: String,
}

impl<O: Observe> Reporter<O> {
    /// What channels' Services are, and which must be applied.
    pub(super) fn services(&self, spec: &Spec) -> Services {
        let mut services = Services::default();
        let Some(gateway) = &self.settings.service else {
            return services;
        };
        let memory = self.memory.lock();
        self.known.with(|known| {
            let channels = spec.channels.values().filter(|channel| !channel.implicit);
            for name in channels.map(|channel| &channel.name) {
                let key = ObjectKey::new(Kind::Channel, name.clone());
                let Some(facts) = known.objects.get(&key).filter(|facts| !facts.is_leaving) else {
                    continue;
                };
                if !known.services_are_known {
                    let trouble = known.troubles.get("services").cloned().unwrap_or_default();
                    let why = ("Forbidden", trouble);
                    services.states.insert(name.clone(), Err(why));
                    continue;
                }
                let there = known.services.get(&channels::service(name));
                let decision = channels::decide(name, &facts.uid, gateway, there.map(|there| &**there));
                let state = match decision {
                    Decision::InPlace => Ok(()),
                    Decision::Impossible(why) => Err((why.reason, why.message)),
                    Decision::Apply => {
                        let memory = memory.get(&key);
                        if memory.is_none_or(|memory: &Memory| memory.service.is_due()) {
                            services.apply.push((name.clone(), facts.uid.clone()));
                        }
                        match memory.and_then(|memory| memory.service_refused.as_ref()) {
                            Some(refusal) => {
                                Err(refused(refusal, &service_rule(&name.namespace, &["create", "patch"])))
                            }
                            None => Err(("Deploying", "the Service is being made".to_owned())),
                        }
                    }
                };
                services.states.insert(name.clone(), state);
            }
            services.remove = self.left_behind(known, gateway);
        });
        services.remove.retain(|left| self.observe.may_write(&left.channel));
        services
    }

    fn left_behind(&self, known: &Contents, gateway: &str) -> Vec<LeftBehind> {
        // Before all channels were listed each would seem to be gone.
        if !known.is_served {
            return Vec::new();
        }
        let of_channels = known.services.iter().filter_map(|(service, there)| {
            let (channel, channel_uid) = channels::channel_of(service, gateway, there)?;
            let channel = ObjectKey::new(Kind::Channel, channel);
            let left = !there.is_leaving && !known.objects.contains_key(&channel);
            left.then(|| LeftBehind {
                service: service.clone(),
                uid: there.uid.clone(),
                channel,
                channel_uid,
            })
        });
        let mut left: Vec<LeftBehind> = of_channels.collect();
        let mut tries = self.removals.lock();
        // In the order of their names, as the known ones are.
        tries.retain(|service, _| left.binary_search_by(|left| left.service.cmp(service)).is_ok());
        left.retain(|left| tries.get(&left.service).is_none_or(Tries::is_due));
        left
    }

    pub(super) async fn remove_service(&self, left: LeftBehind) {
        // A watch may be late: the API server knows.
        if !self.cluster.is_gone(&left.channel, Some(&left.channel_uid)).await {
            self.removals.lock().entry(left.service).or_default().ended(false);
            return;
        }
        let path = collection::path("v1", "services", &left.service);
        let removed = request::delete(&self.cluster.client, &path, &left.uid).await;
        let mut tries = self.removals.lock();
        let tries = tries.entry(left.service.clone()).or_default();
        match removed {
            // Somebody else was sooner, or made another.
            Ok(()) | Err(Refusal::NotFound | Refusal::Conflict(_)) => {
                self.known.with(|known| {
                    let there = known.services.get(&left.service);
                    if there.is_some_and(|there| there.uid == left.uid) {
                        known.services.remove(&left.service);
                    }
                });
                tries.ended(true);
            }
            Err(refusal) => {
                if !tries.has_failed() {
                    let rule = service_rule(&left.service.namespace, &["delete"]);
                    let (_, trouble) = refused(&refusal, &rule);
                    tracing::warn!(service = %left.service, trouble, "cannot delete the Service of a channel that is gone, trying again");
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
        let wanted = channels::wanted(&channel, &uid, gateway);
        let applied = request::apply(&self.cluster.client, &path, &wanted).await;
        let mut memory = self.memory.lock();
        let memory = memory.entry(ObjectKey::new(Kind::Channel, channel)).or_default();
        match applied {
            Ok(made) => {
                memory.service_refused = None;
                memory.service.ended(true);
                let facts = Arc::new(ServiceFacts::new(&made));
                self.known.with(|known| known.services.insert(service, facts));
            }
            Err(refusal) => {
                if memory.service_refused.as_ref() != Some(&refusal) {
                    tracing::warn!(%service, trouble = %refusal, "cannot make a channel's Service, trying again");
                }
                memory.service_refused = Some(refusal);
                memory.service.ended(false);
            }
        }
    }
}

/// A channel whose Service is in place is reached by that.
pub(super) fn addressed(status: &mut Status, channel: &ObjectName, state: &ServiceState, domain: &str) {
    let now = jiff::Timestamp::now();
    let (truth, reason, message) = match state {
        Ok(()) => (Truth::True, "", ""),
        Err((reason, message)) => (Truth::False, *reason, message.as_str()),
    };
    if truth == Truth::True && status.fields.contains_key("address") {
        let host = channels::host(channel, domain);
        let address = json!({ "hostname": host, "url": format!("http://{host}/") });
        status.fields.insert("address".into(), address);
    }
    status.conditions.push(Condition {
        kind: SERVICE_READY.to_owned(),
        status: truth,
        severity: "Warning".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: now,
    });
    status.conditions.sort_by(|a, b| a.kind.cmp(&b.kind));
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
