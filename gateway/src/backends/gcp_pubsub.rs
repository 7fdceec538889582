//! What a GcpPubSubSource says becomes its adapter.

use std::{env, sync::Arc};

use adapter_gcp_pubsub::{Access, Config, PubSubSource, ServiceAccountKey};
use dataplane::Built;
use spec::model::{self, DeletionPolicy};

/// Where Google's own clients look for an emulator: for sources that name none themselves.
const EMULATOR_HOST: &str = "PUBSUB_EMULATOR_HOST";

pub(super) fn build(
    source: &model::Source,
    config: &model::GcpPubSubSource,
    given: adapter::Source,
) -> Result<Built, model::Unresolved> {
    let config = Config {
        project: config.project.clone(),
        topic: config.topic.clone(),
        access: access(config)?,
        subscription: config.subscription.clone(),
        delete: config.deletion == DeletionPolicy::Delete,
        ordering: config.ordering,
        extensions: source.extensions.clone(),
    };
    Ok(Built {
        adapter: Some(Arc::new(PubSubSource::new(config, given))),
        ..Built::default()
    })
}

/// A secret that is named and not there stops the source: another identity instead would be a surprise.
fn access(config: &model::GcpPubSubSource) -> Result<Access, model::Unresolved> {
    let elsewhere = || env::var(EMULATOR_HOST).ok().filter(|host| !host.is_empty());
    if let Some(host) = config.emulator_host.clone().or_else(elsewhere) {
        return Ok(Access::Emulator(host));
    }
    match &config.credentials {
        Some(key) => {
            let key = key.as_ref().map_err(Clone::clone)?;
            Ok(Access::Key(ServiceAccountKey::new(key.expose())))
        }
        None => Ok(Access::Default),
    }
}
