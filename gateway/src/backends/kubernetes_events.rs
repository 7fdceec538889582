//! What a KubernetesEventSource says becomes its adapter.

use std::sync::Arc;

use adapter_kubernetes_events::{Config, Identity, KubernetesEvents};
use dataplane::Built;
use spec::model;

pub(super) fn build(
    source: &model::Source,
    config: &model::KubernetesEventSource,
    given: adapter::Source,
    context: Option<&str>,
) -> Built {
    let config = Config {
        namespace: config.namespace.clone(),
        types: config.types.clone(),
        reasons: config.reasons.clone(),
        kinds: config.kinds.clone(),
        coalesce: config.coalesce,
        extensions: source.extensions.clone(),
        identity: Identity {
            kubeconfig: None,
            context: context.map(str::to_owned),
        },
    };
    Built {
        adapter: Some(Arc::new(KubernetesEvents::new(config, given))),
        ..Built::default()
    }
}
