//! The running parts of the gateway: tasks with names, none of which ends unnoticed (CONTRACT OP-3).

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Cancelled by a drain: `ingress` when it begins, `all` when the last delivery is done.
#[derive(Default)]
pub(crate) struct Stop {
    pub(crate) ingress: CancellationToken,
    pub(crate) all: CancellationToken,
}

/// Tasks that each run until the gateway stops.
#[derive(Default)]
pub(crate) struct Parts(JoinSet<(&'static str, anyhow::Result<()>)>);

impl Parts {
    /// Starts a part. Its result is the reason why it ended early, if that is a fault.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.0.spawn(async move { (name, part.await) });
    }

    /// Waits until a part ends by itself and says why. Waits for ever when there is no part. Cancel safe.
    pub(crate) async fn first_end(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok((part, Ok(())))) => anyhow::anyhow!("{part} ended unexpectedly"),
            Some(Ok((part, Err(error)))) => error.context(part),
            Some(Err(panic)) => anyhow::anyhow!(panic).context("a part of the gateway panicked"),
            None => std::future::pending().await,
        }
    }

    /// Waits until every part has ended.
    pub(crate) async fn all_end(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
