//! What a ContainerSource says becomes its container, and the way in for its events.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use adapter_containers::{
    Config, ContainerAdapter, ContainerHook, EngineAddress, HOST, HookConfig, Metrics, Reach, Restart, Value, Variable,
    remove_orphans,
};
use async_trait::async_trait;
use dataplane::{Built, Way, server::Listeners};
use prometheus_client::registry::Registry;
use spec::{Kind, ObjectKey, Spec, model};
use tokio::sync::watch;
use url::Url;

/// Where Docker's own tools find their engine.
const DOCKER_HOST: &str = "DOCKER_HOST";

/// An engine that is away, or not there at all, is asked again for what deleted sources left behind.
const ORPHANS_AGAIN: Duration = Duration::from_secs(60);

/// `NAMESPACE/NAME` of the sources that are wanted; `None` when some document cannot be read.
type Sources = Option<BTreeSet<String>>;

/// What all container sources share.
pub(crate) struct Containers {
    engine: EngineAddress,
    listeners: Listeners,
    public_url: Option<Url>,
    max_body_bytes: usize,
    metrics: Metrics,
    /// For the task that removes what deleted sources left behind; made with the first spec.
    wanted: OnceLock<watch::Sender<Sources>>,
}

impl Containers {
    pub(crate) fn new(
        listeners: Listeners,
        public_url: Option<Url>,
        max_body_bytes: usize,
        registry: &mut Registry,
    ) -> Self {
        Self {
            engine: EngineAddress::new(std::env::var(DOCKER_HOST).ok()),
            listeners,
            public_url,
            max_body_bytes,
            metrics: Metrics::registered(registry),
            wanted: OnceLock::new(),
        }
    }

    pub(super) fn build(
        &self,
        source: &model::Source,
        config: &model::ContainerSource,
        given: adapter::Source,
    ) -> Result<Built, model::Unresolved> {
        let hook = HookConfig {
            extensions: source.extensions.clone(),
            max_body_bytes: self.max_body_bytes,
        };
        let config = Config {
            image: config.image.clone(),
            args: config.args.clone(),
            env: environment(&config.env)?,
            restart: match config.restart {
                model::RestartPolicy::Always => Restart::Always,
                model::RestartPolicy::OnFailure => Restart::OnFailure,
                model::RestartPolicy::Never => Restart::Never,
            },
            sink: self.sink(&source.key)?,
            extensions: source.extensions.clone(),
        };
        let reach = Arc::new(Bridges(self.listeners.clone()));
        let adapter = ContainerAdapter::new(config, given.clone(), self.engine.clone(), reach, &self.metrics);
        Ok(Built {
            hook: Some(Arc::new(ContainerHook::new(hook, given))),
            way: Way::Sources,
            adapter: Some(Arc::new(adapter)),
        })
    }

    /// This source's own address, as its container reaches it.
    fn sink(&self, key: &ObjectKey) -> Result<String, model::Unresolved> {
        let base = match (self.engine.is_remote(), &self.public_url) {
            (false, _) => format!("http://{HOST}:{}", self.listeners.port()),
            (true, Some(url)) => url.as_str().trim_end_matches('/').to_owned(),
            (true, None) => {
                let message = format!(
                    "{DOCKER_HOST} names an engine on another machine, whose containers cannot reach this gateway by themselves: give --public-url the address by which they can"
                );
                return Err(model::Unresolved {
                    reason: "IngressUnreachable",
                    message,
                });
            }
        };
        Ok(format!("{base}/sources/{}", key.name))
    }

    /// Containers of sources that this spec has not are left over.
    pub(super) fn wanted(&self, gateway: &str, spec: &Spec) {
        let sources = sources(spec);
        match self.wanted.get() {
            Some(wanted) => drop(wanted.send_replace(sources)),
            None => {
                let (sender, receiver) = watch::channel(sources);
                tokio::spawn(remove_left_over(self.engine.clone(), gateway.to_owned(), receiver));
                // One task applies specs, so nobody was faster.
                let _ = self.wanted.set(sender);
            }
        }
    }
}

/// A document that is invalid still names its source, and one that cannot be read may name any.
fn sources(spec: &Spec) -> Sources {
    if spec.incomplete || spec.unread.contains(&Kind::ContainerSource) {
        return None;
    }
    let named = spec.objects.keys().chain(spec.sources.keys());
    let containers = named.filter(|key| key.kind == Kind::ContainerSource);
    Some(containers.map(|key| key.name.to_string()).collect())
}

/// Runs as long as the gateway. Looks with each spec, and again later when the engine did not answer.
async fn remove_left_over(engine: EngineAddress, gateway: String, mut wanted: watch::Receiver<Sources>) {
    loop {
        wanted.mark_unchanged();
        let removed = remove_orphans(&engine, &gateway, || wanted.borrow().clone()).await;
        if let Err(trouble) = &removed {
            tracing::debug!(%trouble, "containers of deleted sources are looked for later");
        }
        let later = async {
            match removed {
                Ok(_) => std::future::pending().await,
                Err(_) => tokio::time::sleep(ORPHANS_AGAIN).await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = later => {}
        }
    }
}

fn environment(variables: &[model::Variable]) -> Result<Vec<Variable>, model::Unresolved> {
    let of = |variable: &model::Variable| {
        let value = match &variable.value {
            model::VariableValue::Text(text) => Value::Text(text.clone()),
            model::VariableValue::Secret(found) => {
                let secret = found.as_ref().map_err(Clone::clone)?;
                let text = std::str::from_utf8(secret.expose()).map_err(|_| unusable(variable, "is not UTF-8"))?;
                Value::Secret(text.into())
            }
            model::VariableValue::Reference(from) => {
                let kinds: Vec<_> = from
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(kind, _)| kind.as_str())
                    .collect();
                let what = format!("comes from a {}, which only Kubernetes has", kinds.join(", "));
                return Err(unusable(variable, &what));
            }
        };
        Ok(Variable {
            name: variable.name.clone(),
            value,
        })
    };
    variables.iter().map(of).collect()
}

fn unusable(variable: &model::Variable, what: &str) -> model::Unresolved {
    model::Unresolved {
        reason: "VariableUnresolved",
        message: format!(
            "the value of the variable {} {what}: give a value, or a secretKeyRef to a text",
            variable.name
        ),
    }
}

/// Lets the ingress listen where containers can reach it.
struct Bridges(Listeners);

#[async_trait]
impl Reach for Bridges {
    async fn reach(&self, address: IpAddr) -> Result<(), String> {
        match self.0.listen_at(address) {
            // The engine runs in a machine of its own (Docker Desktop) or a network of its own (without root), and forwards
            // what its containers send.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                tracing::debug!(%address, "the containers' network is not of this machine: its engine has to forward to it");
                Ok(())
            }
            listens => listens.map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn variable(value: model::VariableValue) -> model::Variable {
        model::Variable {
            name: "WHERE".into(),
            value,
        }
    }

    #[test]
    fn a_value_that_only_kubernetes_has_is_said() {
        let from = serde_json::json!({ "fieldRef": { "fieldPath": "metadata.name" } });
        let why = environment(&[variable(model::VariableValue::Reference(from))]).unwrap_err();
        assert_eq!(why.reason, "VariableUnresolved");
        assert!(why.message.contains("WHERE comes from a fieldRef"), "{}", why.message);
        let missing = model::Unresolved {
            reason: "SecretNotFound",
            message: "there is no secret".into(),
        };
        let found = model::VariableValue::Secret(Err(missing.clone()));
        assert_eq!(environment(&[variable(found)]).unwrap_err(), missing);
    }

    #[test]
    fn what_is_wanted_is_not_known_while_a_document_cannot_be_read() {
        let key = ObjectKey::new(Kind::ContainerSource, spec::ObjectName::new("default", "beats"));
        let object = model::Object {
            key: key.clone(),
            api_version: key.kind.api_version().into(),
            document: serde_json::Value::Null,
            origin: "beats.yaml:1".into(),
            generation: None,
            created: "2026-11-24T10:00:00Z".parse().unwrap(),
            faults: vec!["spec.image is missing".into()],
        };
        let mut spec = Spec {
            objects: [(key, Arc::new(object))].into(),
            ..Spec::default()
        };
        assert_eq!(sources(&spec), Some(["default/beats".to_owned()].into()));
        spec.incomplete = true;
        assert_eq!(sources(&spec), None);
    }
}
