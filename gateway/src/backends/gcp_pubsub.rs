//! Builds the adapters of GcpPubSubSources.

use std::{env, sync::Arc};

use adapter_gcp_pubsub::{Access, Config, PubSubSource, ServiceAccountKey};
use dataplane::SourceParts;
use spec::Cause;
use spec::model::{self, DeletionPolicy};

use super::SourceBuilder;

/// The variable by which Google's own clients find an emulator, for sources that name none.
const EMULATOR_HOST: &str = "PUBSUB_EMULATOR_HOST";

/// Returns the builder of Pub/Sub sources.
pub(super) fn sources() -> Box<dyn SourceBuilder<model::GcpPubSubSource>> {
    Box::new(PubSubSources)
}

struct PubSubSources;

impl SourceBuilder<model::GcpPubSubSource> for PubSubSources {
    fn build(
        &self,
        source: &model::Source,
        config: &model::GcpPubSubSource,
        given: adapter::Source,
    ) -> Result<SourceParts, Cause> {
        let config = Config {
            project: config.project.clone(),
            topic: config.topic.clone(),
            access: access(config)?,
            subscription: config.subscription.clone(),
            delete: config.deletion == DeletionPolicy::Delete,
            ordering: config.ordering,
            extensions: source.extensions.clone(),
        };
        Ok(SourceParts {
            adapter: Some(Arc::new(PubSubSource::new(config, given))),
            ..SourceParts::default()
        })
    }
}

/// A missing secret stops the source: it must not run under another identity.
fn access(config: &model::GcpPubSubSource) -> Result<Access, Cause> {
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
