//! What a KubernetesEventSource says becomes its adapter.

use std::sync::Arc;

use adapter_kubernetes_events::{Config, Identity, KubernetesEvents, Seen};
use dataplane::Built;
use kubernetes::Requests;
use spec::model;

pub(super) fn build(
    source: &model::Source,
    config: &model::KubernetesEventSource,
    given: adapter::Source,
    context: Option<&str>,
    requests: &Requests,
) -> Built {
    let requests = requests.clone();
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
            seen: Seen::by(move |client| requests.count(client)),
        },
    };
    Built {
        adapter: Some(Arc::new(KubernetesEvents::new(config, given))),
        ..Built::default()
    }
}
