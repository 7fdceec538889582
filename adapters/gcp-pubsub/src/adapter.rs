//! Reads the subscription in one attempt after another, and reports in the condition `Subscribed` what ends them.

use std::time::Duration;

use adapter::{Adapter, Cause, Reason, Source};
use async_trait::async_trait;
use backoff::{Growth, Policy};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    confirm::Confirmations,
    fault::{Fault, UNREACHABLE},
    reader::{Ended, Reader, SUBSCRIBED},
    subscription,
    upstream::Upstream,
};

/// Between attempts: soon after a stream that broke off, a few calls a minute to a Google that says no.
const PAUSES: Policy = Policy {
    retry: u32::MAX,
    growth: Growth::Exponential,
    delay: Duration::from_secs(1),
    max: Duration::from_secs(15),
    retry_after_max: Duration::ZERO,
};

/// A source of messages of one topic.
pub struct PubSubSource {
    config: Config,
    source: Source,
}

impl PubSubSource {
    /// Makes the adapter of a source. Nothing is asked of Google before [`Adapter::run`].
    pub fn new(config: Config, source: Source) -> Self {
        Self { config, source }
    }

    /// Reads until something ends it; also returns whether Google accepted the stream at all.
    async fn attempt(&self, confirmations: &mut Confirmations, stop: &CancellationToken) -> (Ended, bool) {
        let ready = tokio::select! {
            biased;
            () = stop.cancelled() => return (Ended::Stopped, false),
            ready = self.prepare() => ready,
        };
        let (upstream, found) = match ready {
            Ok(ready) => ready,
            Err(fault) => return (Ended::Fault(fault), false),
        };
        self.source.report.field("subscription", found.name.clone());
        let mut reader = Reader::new(
            &self.config,
            &self.source,
            upstream.clone(),
            found.clone(),
            confirmations,
        );
        let mut ended = reader.run(stop).await;
        let settled = reader.settled;
        reader.close().await;
        if let Ended::Orphaned = ended
            && let Err(fault) = subscription::delete(&upstream, &self.config, &self.source).await
        {
            ended = Ended::Fault(fault);
        }
        (ended, settled)
    }

    async fn prepare(&self) -> Result<(Upstream, subscription::ReadableSubscription), Fault> {
        let upstream = Upstream::connect(&self.config.access).await?;
        let found = subscription::ensure(&upstream, &self.config, &self.source).await?;
        Ok((upstream, found))
    }

    /// Reports why messages do not come. `failed` counts the failed attempts in a row, this one included.
    fn say(&self, ended: &Ended, failed: u32) {
        match ended {
            Ended::Fault(fault) => self
                .source
                .report
                .unmet(SUBSCRIBED, fault.reason, fault.message.clone()),
            // Google ends streams now and then; when it goes on with that, something is wrong.
            Ended::Closed if failed > 1 => {
                let why = "Pub/Sub ends the stream again and again without saying why: tried again by itself";
                self.source.report.unmet(SUBSCRIBED, UNREACHABLE, why);
            }
            Ended::Closed | Ended::Stopped | Ended::Held | Ended::Orphaned => {}
        }
    }
}

#[async_trait]
impl Adapter for PubSubSource {
    async fn run(&self, stop: CancellationToken) -> Result<(), Cause> {
        let waiting = "the subscription is looked for";
        self.source.report.unknown(SUBSCRIBED, Reason::Deploying, waiting);
        let mut confirmations = Confirmations::default();
        let mut failed = 0;
        loop {
            let (ended, settled) = self.attempt(&mut confirmations, &stop).await;
            failed = if settled { 1 } else { failed + 1 };
            self.say(&ended, failed);
            if let Ended::Stopped = ended {
                return Ok(());
            }
            let pause = PAUSES.wait(failed, None, rand::random()).unwrap_or(PAUSES.max);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn delete(&self) -> Result<(), Cause> {
        let deleted = async {
            let upstream = Upstream::connect(&self.config.access).await?;
            subscription::delete(&upstream, &self.config, &self.source).await
        };
        deleted
            .await
            .map_err(|Fault { reason, message }| Cause { reason, message })
    }
}
