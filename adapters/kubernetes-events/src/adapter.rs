//! The adapter: a source's run, from its checkpoint to its stop.

use adapter::{Adapter, Cause, Source};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{Config, follow::Follow, intake::Intake};

/// Watches Event objects. Nothing is made upstream, so nothing is to be deleted there.
pub struct KubernetesEvents {
    config: Config,
    source: Source,
}

impl KubernetesEvents {
    /// Makes the adapter of a source. Nothing is asked of the API server before [`Adapter::run`].
    pub fn new(config: Config, source: Source) -> Self {
        Self { config, source }
    }
}

#[async_trait]
impl Adapter for KubernetesEvents {
    async fn run(&self, stop: CancellationToken) -> Result<(), Cause> {
        let intake = Intake::open(self.config.clone(), self.source.clone()).await?;
        Follow::new(&self.config, &self.source.report, intake, &stop)
            .run()
            .await;
        Ok(())
    }
}
