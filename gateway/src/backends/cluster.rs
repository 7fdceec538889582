//! A gateway whose documents are objects of a Kubernetes cluster: the controller, this replica's membership, and the
//! sources' state, pods and leases.

mod adapters;
mod checkpoint;
mod membership;
mod pod_status;
mod replicas;
mod report;

use std::{net::SocketAddr, sync::Arc};

use adapter::Adapter;
use adapter_sink_binding::{ContainerHook, HookConfig, overrides, with_sink};
use dataplane::{Identity, RouteKind, SourceParts};
use kubernetes::{
    Cluster, FinalizerGate, Kubernetes, State,
    workloads::{AdapterWorkload, DesiredWorkload, Mounted, Owner, Workload, Workloads, adapter_objects, deployment},
};
use kubernetes_requests::Requests;
use serde_json::{Value, json};
use spec::{Cause, Kind, ObjectKey, ObjectName, Reason, Spec, model};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Failure, args};
use adapters::{InPods, InProcess};
use checkpoint::InConfigMap;
pub(crate) use membership::Membership;
use replicas::Turns;

/// The part of the gateway that uses the API server. A handle: clones share their state.
#[derive(Clone)]
pub(crate) struct Controller(Arc<Kubernetes>);

impl Controller {
    /// Opens the API server of the kubeconfig or of the pod. Sends no request.
    pub(crate) async fn open(args: &args::Run, requests: &Requests) -> Result<Self, Failure> {
        let cluster = kubernetes::connect(args.kube_context.as_deref(), requests).await;
        let cluster = cluster.map_err(|error| Failure::Wrong(error.to_string()))?;
        tracing::info!(
            server = cluster.server,
            namespace = args.cluster.namespace,
            "documents come from the API server"
        );
        let settings = kubernetes::Settings {
            namespace: args.cluster.namespace.clone(),
            cluster_domain: args.cluster.cluster_domain.clone(),
            service: args.cluster.service.clone(),
            has_tls: args.tls.tls_cert.is_some(),
            default_provisioner: args.default_provisioner.clone(),
            home: replicas::home(&cluster, args.cluster.namespace.as_deref()),
        };
        Ok(Self(Arc::new(Kubernetes::new(cluster, settings))))
    }

    /// Returns what fails at the API server and how to fix it.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.0.troubles()
    }

    /// Returns whether the documents could be listed. Until then the gateway accepts no events.
    pub(crate) fn is_served(&self) -> bool {
        self.0.is_served()
    }

    /// Publishes a spec whenever a document changes, until `stop`.
    pub(crate) async fn watch(&self, publish: watch::Sender<Arc<Spec>>, stop: CancellationToken) {
        self.0.watch(publish, stop).await;
    }

    /// Joins the replicas of the cluster. Returns this replica's membership, and what sources need to run pods. `listen`
    /// is the address of the ingress.
    pub(crate) fn join(&self, args: &args::Run, listen: SocketAddr, scheme: &str) -> (Membership, InCluster) {
        membership::join(&self.0, args, listen, scheme)
    }
}

/// The parts that all sources of a cluster share.
pub(crate) struct InCluster {
    cluster: Cluster,
    workloads: Workloads,
    turns: Turns,
    /// Keeps a source from creating something upstream before it has its finalizer.
    finalizer_gate: FinalizerGate,
    /// `HEADGATE_IMAGE`: the image of adapters with an account of their own.
    image: Option<String>,
    /// The ingress as pods reach it: `http://HOST[:PORT]`, no trailing slash.
    url: String,
    /// The ingress as clients outside the cluster reach it.
    public_url: Option<String>,
    max_body_bytes: usize,
}

/// Returns the owner of a source's objects; `None` for a source that is no object.
fn owner(source: &model::Source) -> Option<Owner> {
    Some(Owner {
        api_version: source.key.kind.api_version().to_owned(),
        kind: source.key.kind.as_str().to_owned(),
        namespace: source.key.name.namespace.clone(),
        name: source.key.name.name.clone(),
        uid: source.uid.clone()?,
    })
}

/// Returns the identity of the only source in this pod, whose state is a ConfigMap of the cluster.
pub(crate) async fn identity_in_cluster(
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
    /// Returns the source's identity. The uid of its object also stands for the gateway: resources created upstream
    /// belong to the source, whichever replica runs it.
    pub(crate) fn identity(&self, source: &model::Source) -> Option<Identity> {
        let owner = owner(source)?;
        let state = State::of(self.cluster.client.clone(), &owner, self.turns.of(&source.key));
        Some(Identity {
            gateway: owner.uid.clone(),
            uid: owner.uid,
            checkpoint: Arc::new(InConfigMap(state)),
        })
    }

    /// Returns whether a Subscription is deleted at the API server, or was recreated with another uid.
    pub(crate) async fn is_gone(&self, subscription: &ObjectName, uid: Option<&str>) -> bool {
        let key = ObjectKey::new(Kind::Subscription, subscription.clone());
        self.cluster.is_gone(&key, uid).await
    }

    /// Builds a source that runs in pods. Returns `None` for one that runs in this process.
    pub(crate) fn in_pods(
        &self,
        source: &model::Source,
        given: &adapter::Source,
    ) -> Result<Option<SourceParts>, Cause> {
        let Some(owner) = owner(source) else {
            return Ok(None);
        };
        let (desired, extensions) = match (&source.config, &source.service_account) {
            (model::SourceConfig::Container(config), _) => {
                let desired = DesiredWorkload {
                    deployment: deployment(&self.container(source, config, owner.clone())),
                    owner,
                    companions: Vec::new(),
                };
                (desired, source.extensions.clone())
            }
            // The adapter has applied the overrides to its events.
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
            desired,
            turn: self.turns.of(&source.key),
            source: source.key.clone(),
            finalizer_gate: self.finalizer_gate.clone(),
            given: given.clone(),
            restarts,
            runs_adapter: source.key.kind != Kind::ContainerSource,
        };
        Ok(Some(SourceParts {
            hook: Some(Arc::new(ContainerHook::new(hook, given.clone()))),
            route_kind: RouteKind::Sources,
            adapter: Some(Arc::new(pods)),
        }))
    }

    /// Wraps an adapter that runs in this process: it runs while this replica holds the lease, once the source has its
    /// finalizer and none of its pods is left.
    pub(crate) fn in_this_process(
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
                finalizer_gate: self.finalizer_gate.clone(),
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
            fixed_env: given.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            template: config.template.clone(),
            service_account: source.service_account.clone(),
        }
    }

    fn adapter(&self, source: &model::Source, account: &str, owner: Owner) -> Result<DesiredWorkload, Cause> {
        let spec = self.turns.spec();
        let object = spec.objects.get(&source.key);
        let (Some(image), Some(object)) = (&self.image, object) else {
            return Err(Cause {
                reason: Reason::ImageUnknown,
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
            egress: connect::Egress::current().flags(),
            is_called: source.key.kind == Kind::GitHubSource,
        }))
    }

    /// Returns the URL of a source's ingress path, as pods reach it.
    fn sink(&self, source: &model::Source) -> String {
        format!("{}/sources/{}", self.url, source.key.name)
    }
}

/// Returns the variable as a pod has it. A secret's value is not copied: documents of a cluster keep their references.
fn variable(variable: &model::Variable) -> Value {
    match &variable.value {
        model::VariableValue::Text(text) => json!({ "name": variable.name, "value": text }),
        model::VariableValue::Reference(from) => json!({ "name": variable.name, "valueFrom": from }),
        model::VariableValue::Secret(_) => json!({ "name": variable.name }),
    }
}

/// Returns the keys of Secrets that a source's document names for the adapter: not those of its sink, which the gateway sends to.
fn secrets(document: &Value) -> Vec<Mounted> {
    let mut found = Vec::new();
    let mut spec = document["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("sink");
    }
    collect(&spec, &mut found);
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
            "sink": {"uri": "https://h/", "auth": {"bearer": {"secretKeyRef": {"name": "of-the-sink", "key": "token"}}}},
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
        let wait_for_finalizer = of(model::VariableValue::Reference(from.clone()));
        assert_eq!(wait_for_finalizer, json!({"name": "A", "valueFrom": from}));
        let secret = model::VariableValue::Secret(Ok(model::SecretText::new(*b"s3cret")));
        assert!(!of(secret).to_string().contains("s3cret"));
    }
}
