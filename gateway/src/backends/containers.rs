//! Builds the container and the endpoint of a ContainerSource.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use adapter_containers::{
    Config, ContainerAdapter, EngineAddress, HOST, Metrics, Reach, Restart, Value, Variable, remove_orphans,
};
use adapter_sink_binding::{ContainerHook, HookConfig};
use async_trait::async_trait;
use dataplane::{RouteKind, SourceParts, server::Listeners};
use prometheus_client::registry::Registry;
use spec::{Cause, Kind, ObjectKey, Reason, Spec, model};
use tokio::sync::watch;
use url::Url;

use super::SourceBuilder;

/// The variable by which Docker's own tools find their engine.
const DOCKER_HOST: &str = "DOCKER_HOST";

/// Delay before the engine is asked again for containers of deleted sources.
const ORPHANS_RETRY: Duration = Duration::from_secs(60);

/// `NAMESPACE/NAME` of the desired sources; `None` while some document is unreadable.
type Sources = Option<BTreeSet<String>>;

/// Returns the builder of container sources. Containers reach the ingress by `listeners`, or by `public_url` where their
/// engine is on another machine.
pub(crate) fn sources(
    listeners: Listeners,
    public_url: Option<Url>,
    max_body_bytes: usize,
    registry: &mut Registry,
) -> super::Containers {
    Box::new(Containers {
        engine: EngineAddress::new(std::env::var(DOCKER_HOST).ok()),
        listeners,
        public_url,
        max_body_bytes,
        metrics: Metrics::registered(registry),
        desired: OnceLock::new(),
    })
}

/// The parts that all container sources share.
struct Containers {
    engine: EngineAddress,
    listeners: Listeners,
    public_url: Option<Url>,
    max_body_bytes: usize,
    metrics: Metrics,
    /// The desired sources, for the task that removes orphaned containers; set by the first spec.
    desired: OnceLock<watch::Sender<Sources>>,
}

impl Containers {
    /// Returns the URL of this source's ingress path, as its container reaches it.
    fn sink(&self, key: &ObjectKey) -> Result<String, Cause> {
        let base = match (self.engine.is_remote(), &self.public_url) {
            (false, _) => format!("http://{HOST}:{}", self.listeners.port()),
            (true, Some(url)) => url.as_str().trim_end_matches('/').to_owned(),
            (true, None) => {
                let message = format!(
                    "{DOCKER_HOST} names an engine on another machine, whose containers cannot reach this gateway directly: set --public-url to an address that they can reach"
                );
                return Err(Cause {
                    reason: Reason::IngressUnreachable,
                    message,
                });
            }
        };
        Ok(format!("{base}/sources/{}", key.name))
    }
}

impl SourceBuilder<model::ContainerSource> for Containers {
    fn build(
        &self,
        source: &model::Source,
        config: &model::ContainerSource,
        given: adapter::Source,
    ) -> Result<SourceParts, Cause> {
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
        Ok(SourceParts {
            hook: Some(Arc::new(ContainerHook::new(hook, given))),
            route_kind: RouteKind::Sources,
            adapter: Some(Arc::new(adapter)),
        })
    }

    /// Publishes the desired sources of a spec; containers of others are orphans.
    fn before_apply(&self, gateway: &str, spec: &Spec) {
        let sources = desired_sources(spec);
        match self.desired.get() {
            Some(desired) => drop(desired.send_replace(sources)),
            None => {
                let (sender, receiver) = watch::channel(sources);
                tokio::spawn(remove_orphans_of(self.engine.clone(), gateway.to_owned(), receiver));
                // One task applies specs, so no other call has set it.
                let _ = self.desired.set(sender);
            }
        }
    }
}

/// An invalid document still names its source; an unreadable one may name any.
fn desired_sources(spec: &Spec) -> Sources {
    if spec.incomplete || spec.unread.contains(&Kind::ContainerSource) {
        return None;
    }
    let named = spec.objects.keys().chain(spec.sources.keys());
    let containers = named.filter(|key| key.kind == Kind::ContainerSource);
    Some(containers.map(|key| key.name.to_string()).collect())
}

/// Removes orphaned containers after each spec, and later again if the engine did not answer. Runs as long as the
/// gateway.
async fn remove_orphans_of(engine: EngineAddress, gateway: String, mut desired: watch::Receiver<Sources>) {
    loop {
        desired.mark_unchanged();
        let removed = remove_orphans(&engine, &gateway, || desired.borrow().clone()).await;
        if let Err(trouble) = &removed {
            tracing::debug!(%trouble, "cannot search for containers of deleted sources, trying again");
        }
        let later = async {
            match removed {
                Ok(_) => std::future::pending().await,
                Err(_) => tokio::time::sleep(ORPHANS_RETRY).await,
            }
        };
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            () = later => {}
        }
    }
}

fn environment(variables: &[model::Variable]) -> Result<Vec<Variable>, Cause> {
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

fn unusable(variable: &model::Variable, what: &str) -> Cause {
    Cause {
        reason: Reason::VariableUnresolved,
        message: format!(
            "the value of the variable {} {what}: give a value, or a secretKeyRef to a text",
            variable.name
        ),
    }
}

/// Makes the ingress listen where containers reach it.
struct Bridges(Listeners);

#[async_trait]
impl Reach for Bridges {
    async fn reach(&self, address: IpAddr) -> Result<(), String> {
        match self.0.listen_at(address) {
            // The engine runs in a machine of its own (Docker Desktop) or a network of its own (without root), and
            // forwards the requests of its containers.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                tracing::debug!(%address, "the containers' network is not on this machine: its engine must forward requests");
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
        let missing = Cause {
            reason: Reason::SecretNotFound,
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
        assert_eq!(desired_sources(&spec), Some(["default/beats".to_owned()].into()));
        spec.incomplete = true;
        assert_eq!(desired_sources(&spec), None);
    }
}
