//! Sources of a gateway in a cluster: where their state is kept, what of them runs in pods, and who may act for them.

use std::{sync::Arc, time::Duration};

use adapter::{Accepted, Adapter, AdapterError, Checkpoint, StateError};
use adapter_containers::{ContainerHook, HookConfig, overrides, with_sink};
use async_trait::async_trait;
use dataplane::{Built, Identity, Way};
use kubernetes::{
    Cluster, Fence, Guarded, Requests, State,
    workloads::{AdapterWorkload, Deployed, Mounted, Owner, Wanted, Workload, Workloads, adapter_objects, deployment},
};
use serde_json::{Value, json};
use spec::{Kind, ObjectKey, ObjectName, model, observed::Truth};
use tokio_util::sync::CancellationToken;

use super::told;
use crate::{Failure, replicas::Turns};

/// The condition that says how what runs for a source is.
const DEPLOYED: &str = "Deployed";

/// A Deployment that has to go first and does not is looked at again after this.
const REMOVE_AGAIN: Duration = Duration::from_secs(5);

/// What all sources of a cluster share.
pub(crate) struct InCluster {
    pub(crate) cluster: Cluster,
    pub(crate) workloads: Workloads,
    pub(crate) turns: Turns,
    /// What is made upstream must not be there before the source's finalizer.
    pub(crate) guarded: Guarded,
    /// `HEADGATE_IMAGE`: what adapters with an account of their own run.
    pub(crate) image: Option<String>,
    /// By which pods reach the ingress: `http://HOST[:PORT]`, no trailing slash.
    pub(crate) url: String,
    /// By which the ingress is reached from outside.
    pub(crate) public_url: Option<String>,
    pub(crate) max_body_bytes: usize,
}

/// What a source's objects belong to; `None` for a source that is no object.
pub(crate) fn owner(source: &model::Source) -> Option<Owner> {
    Some(Owner {
        api_version: source.key.kind.api_version().to_owned(),
        kind: source.key.kind.as_str().to_owned(),
        namespace: source.key.name.namespace.clone(),
        name: source.key.name.name.clone(),
        uid: source.uid.clone()?,
    })
}

/// The state of the one source that runs in this pod, for a gateway of the cluster.
pub(crate) async fn kept_in(
    state: &ObjectName,
    uid: &str,
    context: Option<&str>,
    requests: &Requests,
) -> Result<Identity, Failure> {
    let cluster = kubernetes::connect(context, requests).await;
    let cluster = cluster.map_err(|error| Failure::Wrong(format!("--state {state}: {error}")))?;
    let state = State::named(cluster.client, &state.namespace, &state.name);
    Ok(Identity {
        uid: uid.to_owned(),
        gateway: uid.to_owned(),
        checkpoint: Arc::new(InConfigMap(state)),
    })
}

impl InCluster {
    /// The object's own uid stands for the gateway, too: what a source made upstream is its own, whichever replica looks after it.
    pub(crate) fn identity(&self, source: &model::Source) -> Option<Identity> {
        let owner = owner(source)?;
        let state = State::of(self.cluster.client.clone(), &owner, self.turns.of(&source.key));
        Some(Identity {
            gateway: owner.uid.clone(),
            uid: owner.uid,
            checkpoint: Arc::new(InConfigMap(state)),
        })
    }

    /// What of a source runs in pods; `None`: it runs in this process.
    pub(crate) fn in_pods(
        &self,
        source: &model::Source,
        given: &adapter::Source,
    ) -> Result<Option<Built>, model::Unresolved> {
        let Some(owner) = owner(source) else {
            return Ok(None);
        };
        let (wanted, extensions) = match (&source.config, &source.service_account) {
            (model::SourceConfig::Container(config), _) => {
                let wanted = Wanted {
                    deployment: deployment(&self.container(source, config, owner.clone())),
                    owner,
                    companions: Vec::new(),
                };
                (wanted, source.extensions.clone())
            }
            // The adapter has laid the overrides over its events already.
            (_, Some(account)) => (self.adapter(source, account, owner)?, Default::default()),
            (_, None) => return Ok(None),
        };
        let hook = HookConfig {
            extensions,
            max_body_bytes: self.max_body_bytes,
        };
        let restarts = match &source.config {
            model::SourceConfig::Container(config) => config.restart,
            _ => model::RestartPolicy::Always,
        };
        let pods = InPods {
            workloads: self.workloads.clone(),
            wanted,
            turn: self.turns.of(&source.key),
            source: source.key.clone(),
            guarded: self.guarded.clone(),
            given: given.clone(),
            restarts,
            is_ours: source.key.kind != Kind::ContainerSource,
        };
        Ok(Some(Built {
            hook: Some(Arc::new(ContainerHook::new(hook, given.clone()))),
            way: Way::Sources,
            adapter: Some(Arc::new(pods)),
        }))
    }

    /// An adapter that runs in this process: as long as it is this replica's turn, once the source has its finalizer and nothing
    /// of it is left that ran in a pod.
    pub(crate) fn guarded(
        &self,
        source: &model::Source,
        adapter: Arc<dyn Adapter>,
        report: adapter::Report,
    ) -> Arc<dyn Adapter> {
        match owner(source) {
            None => adapter,
            Some(owner) => Arc::new(InProcess {
                adapter,
                source: source.key.clone(),
                guarded: self.guarded.clone(),
                report,
                owner,
                workloads: self.workloads.clone(),
                turn: self.turns.of(&source.key),
            }),
        }
    }

    fn container(&self, source: &model::Source, config: &model::ContainerSource, owner: Owner) -> Workload {
        let sink = self.sink(source);
        let given = [
            ("K_SINK", sink.clone()),
            ("SINK", sink.clone()),
            ("K_CE_OVERRIDES", overrides(&source.extensions)),
        ];
        Workload {
            owner,
            image: config.image.clone(),
            args: with_sink(&config.args, &sink),
            env: config.env.iter().map(variable).collect(),
            given: given.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            template: config.template.clone(),
            service_account: source.service_account.clone(),
        }
    }

    fn adapter(&self, source: &model::Source, account: &str, owner: Owner) -> Result<Wanted, model::Unresolved> {
        let spec = self.turns.spec();
        let object = spec.objects.get(&source.key);
        let (Some(image), Some(object)) = (&self.image, object) else {
            return Err(model::Unresolved {
                reason: "ImageUnknown",
                message: "the source names a service account, and the gateway does not know its own image: set HEADGATE_IMAGE in its pod".into(),
            });
        };
        let mut document = object.document.clone();
        document["metadata"]["generation"] = json!(object.generation);
        Ok(adapter_objects(&AdapterWorkload {
            owner,
            image: image.clone(),
            service_account: account.to_owned(),
            secrets: secrets(&document),
            document,
            sink: self.sink(source),
            public_url: self.public_url.clone(),
            is_called: source.key.kind == Kind::GitHubSource,
        }))
    }

    /// A source's own address, as pods reach it.
    fn sink(&self, source: &model::Source) -> String {
        format!("{}/sources/{}", self.url, source.key.name)
    }
}

/// As a pod has it. A secret's value is not passed on: documents of a cluster keep their references.
fn variable(variable: &model::Variable) -> Value {
    match &variable.value {
        model::VariableValue::Text(text) => json!({ "name": variable.name, "value": text }),
        model::VariableValue::Reference(from) => json!({ "name": variable.name, "valueFrom": from }),
        model::VariableValue::Secret(_) => json!({ "name": variable.name }),
    }
}

/// The keys of secrets that a source's document names, wherever it does.
fn secrets(document: &Value) -> Vec<Mounted> {
    let mut found = Vec::new();
    collect(&document["spec"], &mut found);
    found.sort();
    found.dedup();
    found
}

fn collect(value: &Value, found: &mut Vec<Mounted>) {
    let members = value.as_object().into_iter().flatten();
    for (name, value) in members {
        let (secret, key) = (value["name"].as_str(), value["key"].as_str());
        match (name.as_str(), secret, key) {
            ("secretKeyRef", Some(secret), Some(key)) => found.push(mounted(secret, key)),
            ("gcpCredsSecret", Some(secret), key) => {
                found.push(mounted(secret, key.unwrap_or(spec::resource::GCP_CREDENTIALS_KEY)));
            }
            _ => collect(value, found),
        }
    }
}

fn mounted(secret: &str, key: &str) -> Mounted {
    Mounted {
        secret: secret.to_owned(),
        key: key.to_owned(),
    }
}

/// A source's state in a ConfigMap.
struct InConfigMap(Arc<State>);

impl InConfigMap {
    fn error(&self, act: &'static str, error: kubernetes::StateError) -> StateError {
        StateError::new(act, self.0.place(), std::io::Error::other(error))
    }
}

#[async_trait]
impl Checkpoint for InConfigMap {
    async fn mark(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.0.mark().await.map_err(|error| self.error("read", error))
    }

    fn mark_max_bytes(&self) -> usize {
        kubernetes::MARK_MAX_BYTES
    }

    async fn save_mark(&self, _: &Accepted, mark: Vec<u8>) -> Result<(), StateError> {
        self.0.save_mark(mark).await.map_err(|error| self.error("write", error))
    }

    async fn flush(&self) -> Result<(), StateError> {
        self.0.flush().await.map_err(|error| self.error("write", error))
    }

    async fn notes(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.0.notes().await.map_err(|error| self.error("read", error))
    }

    async fn save_notes(&self, notes: Vec<u8>) -> Result<(), StateError> {
        self.0
            .save_notes(notes)
            .await
            .map_err(|error| self.error("write", error))
    }
}

/// Returns when the source's finalizer is there. Meanwhile its condition says what is in the way.
async fn kept(guarded: &Guarded, source: &ObjectKey, owner: &Owner, report: &adapter::Report) {
    let mut was_refused = false;
    let refused = |trouble: &str| {
        was_refused = true;
        report.unmet(DEPLOYED, "FinalizerRefused", trouble);
    };
    guarded.kept(source, &owner.uid, refused).await;
    if was_refused {
        report.withdraw(DEPLOYED);
    }
}

/// Keeps a source's Deployment, and tells how it is. A stop leaves it as it is: a gateway that restarts is none of its pods'
/// business, and a source that is deleted takes it along.
struct InPods {
    workloads: Workloads,
    wanted: Wanted,
    turn: Fence,
    source: ObjectKey,
    guarded: Guarded,
    given: adapter::Source,
    restarts: model::RestartPolicy,
    /// What runs there is one of our adapters, which can be asked.
    is_ours: bool,
}

impl InPods {
    fn say(&self, deployed: &Deployed, shown: Option<Value>) {
        let report = &self.given.report;
        report.field("deployment", shown.unwrap_or(Value::Null));
        match deployed.truth {
            Truth::True => report.met(DEPLOYED),
            Truth::False => report.unmet(DEPLOYED, deployed.reason, deployed.message.clone()),
            Truth::Unknown => report.unknown(DEPLOYED, deployed.reason, deployed.message.clone()),
        }
    }
}

#[async_trait]
impl Adapter for InPods {
    async fn run(&self, stop: CancellationToken) -> Result<(), AdapterError> {
        if self.restarts != model::RestartPolicy::Always {
            self.given.report.note(
                "RestartPolicyKept",
                (adapter::Truth::False, adapter::Weight::Warning),
                "AlwaysRestarted",
                "pods of a Deployment are always started again, whatever restartPolicy says: let the program wait when it is done",
            );
        }
        let kept = kept(&self.guarded, &self.source, &self.wanted.owner, &self.given.report);
        if stop.run_until_cancelled(kept).await.is_none() {
            return Ok(());
        }
        let may_write = || self.turn.is_mine();
        let say = |deployed: &Deployed, shown| self.say(deployed, shown);
        let keeping = self.workloads.keep(&self.wanted, may_write, say, stop.clone());
        match self.is_ours {
            true => {
                let asking = told::follow(&self.workloads, &self.wanted.owner, &self.given.report);
                let _ = tokio::join!(keeping, stop.run_until_cancelled(asking));
            }
            false => keeping.await,
        }
        Ok(())
    }
}

/// An adapter in this process, ended by the clock when its turn is: the data plane may be busy with something else.
struct InProcess {
    adapter: Arc<dyn Adapter>,
    source: ObjectKey,
    guarded: Guarded,
    report: adapter::Report,
    owner: Owner,
    workloads: Workloads,
    turn: Fence,
}

#[async_trait]
impl Adapter for InProcess {
    async fn run(&self, stop: CancellationToken) -> Result<(), AdapterError> {
        let kept = kept(&self.guarded, &self.source, &self.owner, &self.report);
        if stop.run_until_cancelled(kept).await.is_none() {
            return Ok(());
        }
        // From when the source still named an account: two would send everything twice.
        while let Err(trouble) = stop
            .run_until_cancelled(self.workloads.remove(&self.owner))
            .await
            .unwrap_or(Ok(()))
        {
            tracing::warn!(
                source = %self.source.name,
                reason = trouble.reason,
                detail = trouble.message,
                "a source's pod has to go before the source runs in the gateway"
            );
            if stop
                .run_until_cancelled(tokio::time::sleep(REMOVE_AGAIN))
                .await
                .is_none()
            {
                break;
            }
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        let run = |end| self.adapter.run(end);
        self.turn.during(&stop, run).await.unwrap_or(Ok(()))
    }

    async fn delete(&self) -> Result<(), AdapterError> {
        self.adapter.delete().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_a_document_are_found_wherever_they_are_named() {
        let document = json!({"spec": {
            "secretToken": {"secretKeyRef": {"name": "github", "key": "secretToken"}},
            "app": {"privateKey": {"secretKeyRef": {"name": "app", "key": "pem"}}},
            "accessToken": {"secretKeyRef": {"name": "github", "key": "secretToken"}},
            "gcpCredsSecret": {"name": "google"},
        }});
        let expected = [
            mounted("app", "pem"),
            mounted("github", "secretToken"),
            mounted("google", "key.json"),
        ];
        assert_eq!(secrets(&document), expected);
    }

    /// Proves: SR-6
    #[test]
    fn a_variable_keeps_its_reference() {
        let of = |value| {
            variable(&model::Variable {
                name: "A".into(),
                value,
            })
        };
        assert_eq!(
            of(model::VariableValue::Text("1".into())),
            json!({"name": "A", "value": "1"})
        );
        let from = json!({"secretKeyRef": {"name": "s", "key": "k"}});
        let kept = of(model::VariableValue::Reference(from.clone()));
        assert_eq!(kept, json!({"name": "A", "valueFrom": from}));
        let secret = model::VariableValue::Secret(Ok(model::SecretText::new(*b"s3cret")));
        assert!(!of(secret).to_string().contains("s3cret"));
    }
}
