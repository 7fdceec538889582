//! Builds the adapters of KubernetesEventSources.

use std::sync::Arc;

use adapter_kubernetes_events::{Config, Identity, KubernetesEvents, RequestObserver};
use dataplane::SourceParts;
use kubernetes_requests::Requests;
use spec::{Cause, model};

use super::SourceBuilder;

/// Returns the builder of sources that watch a cluster. `context` is a context of the kubeconfig (`None`: its current
/// one); `requests` counts the requests to the API server.
pub(super) fn sources(
    context: Option<String>,
    requests: Requests,
) -> Box<dyn SourceBuilder<model::KubernetesEventSource>> {
    Box::new(EventSources { context, requests })
}

struct EventSources {
    context: Option<String>,
    requests: Requests,
}

impl SourceBuilder<model::KubernetesEventSource> for EventSources {
    fn build(
        &self,
        source: &model::Source,
        config: &model::KubernetesEventSource,
        given: adapter::Source,
    ) -> Result<SourceParts, Cause> {
        let requests = self.requests.clone();
        let config = Config {
            namespace: config.namespace.clone(),
            types: config.types.clone(),
            reasons: config.reasons.clone(),
            kinds: config.kinds.clone(),
            coalesce: config.coalesce,
            extensions: source.extensions.clone(),
            identity: Identity {
                kubeconfig: None,
                context: self.context.clone(),
                observer: RequestObserver::by(move |client| requests.count(client)),
            },
        };
        Ok(SourceParts {
            adapter: Some(Arc::new(KubernetesEvents::new(config, given))),
            ..SourceParts::default()
        })
    }
}
