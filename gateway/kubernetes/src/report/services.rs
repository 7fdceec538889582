//! The Services of channels: which are to be made, and what the channels' statuses say of them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use spec::{Condition, Kind, ObjectKey, ObjectName, Spec, Status, observed::Truth};

use super::{Memory, Reporter, refused};
use crate::{
    Observe,
    channels::{self, Decision},
    collection,
    known::ServiceFacts,
    refusal::Rule,
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
                            Some(refusal) => Err(refused(refusal, &service_rule(&name.namespace))),
                            None => Err(("Deploying", "the Service is being made".to_owned())),
                        }
                    }
                };
                services.states.insert(name.clone(), state);
            }
        });
        services
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

fn service_rule(namespace: &str) -> Rule {
    Rule {
        group: String::new(),
        resource: "services".to_owned(),
        name: None,
        namespace: Some(namespace.to_owned()),
        verbs: &["create", "patch"],
    }
}
