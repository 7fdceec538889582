//! One run of an adapter: the webhook and the list of deliveries, each when it is due.
//!
//! A failure becomes a condition and is retried; only a state that cannot be saved ends the run (CONTRACT OP-3).

use adapter::{Cause, Reason, Truth};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{GitHubAdapter, RECONCILE_EVERY, SWEPT, WEBHOOK, ended, schedule::Schedule};
use crate::{
    api::{Api, Trouble},
    gap,
    registration::Registration,
    state::Notes,
    sweep::{self, Broken, Progress, Sweep},
};

/// One run: what it works with and what it has found out.
pub(super) struct Run<'a> {
    pub(super) adapter: &'a GitHubAdapter,
    pub(super) api: Api,
    pub(super) url: &'a str,
    pub(super) notes: Notes,
    pub(super) progress: Progress,
    pub(super) webhook: Schedule,
    pub(super) sweeps: Schedule,
    pub(super) stop: &'a CancellationToken,
}

impl Run<'_> {
    /// Says what an earlier life found out.
    pub(super) fn start(&self) {
        let (source, notes) = (&self.adapter.source, &self.notes);
        gap::show(&source.report, notes.gap.as_ref(), Timestamp::now());
        if let Some(hook) = notes.hook {
            source.report.field("webhookIDKey", hook.to_string());
            let weight = (Truth::Unknown, self.adapter.weight(notes));
            let message = "GitHub is being asked for the webhook, which was in place before";
            source
                .report
                .note(WEBHOOK, weight, Cause::new(Reason::Deploying, message));
        }
    }

    /// Does what is due until it is stopped.
    pub(super) async fn work(&mut self) -> Result<(), Cause> {
        loop {
            if self.webhook.is_due() {
                self.reconcile_webhook().await?;
            }
            if self.sweeps.is_due() {
                self.sweep().await?;
            }
            let due = [self.webhook.due, self.sweeps.due].into_iter().flatten().min();
            let next = due.unwrap_or_else(|| Instant::now() + RECONCILE_EVERY);
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    async fn reconcile_webhook(&mut self) -> Result<(), Cause> {
        let adapter = self.adapter;
        let registration = Registration {
            config: &adapter.config,
            source: &adapter.source,
            api: &self.api,
            url: self.url,
        };
        match registration.reconcile(&mut self.notes).await {
            Ok(registered) => {
                if let Some(gap) = registered.gap {
                    let announced = sweep::announce(&adapter.config, &adapter.source, &gap, self.stop).await;
                    match announced {
                        Ok(_stored) => self.notes.gap = Some(gap),
                        // Not noted: the next run finds the webhook changed again, and says so.
                        Err(Broken::Stopped) => return Ok(()),
                        Err(Broken::State(error)) => return Err(ended(error)),
                        // It cannot be stored, however often it is tried; the log has it.
                        Err(Broken::Api(_)) => {}
                    }
                }
                self.notes.save(&*adapter.source.checkpoint).await.map_err(ended)?;
                gap::show(&adapter.source.report, self.notes.gap.as_ref(), Timestamp::now());
                adapter.source.report.met(WEBHOOK);
                let hook = registered.hook.to_string();
                adapter.source.report.field("webhookIDKey", hook);
                self.webhook.succeeded();
            }
            Err(error) => {
                if error.trouble != Trouble::Stopped {
                    adapter.say(WEBHOOK, &error, &self.notes);
                }
                self.webhook.failed(&error, rand::random());
            }
        }
        Ok(())
    }

    async fn sweep(&mut self) -> Result<(), Cause> {
        let adapter = self.adapter;
        let here = self.notes.repository == adapter.config.repository;
        let Some(hook) = self.notes.hook.filter(|_| here) else {
            // There is nothing to list before there is a webhook; it is tried again together with that.
            self.sweeps.due = self.webhook.due;
            return Ok(());
        };
        let sweep = Sweep {
            config: &adapter.config,
            source: &adapter.source,
            memory: &adapter.memory,
            api: &self.api,
            hook,
            stop: self.stop,
        };
        let swept = sweep.run(&mut self.progress).await;
        if let Some(gap) = self.progress.gap.take() {
            gap::show(&adapter.source.report, Some(&gap), Timestamp::now());
            self.notes.gap = Some(gap);
            self.notes.save(&*adapter.source.checkpoint).await.map_err(ended)?;
        }
        match swept {
            Ok(is_done) => {
                let weight = adapter.weight(&self.notes);
                adapter.source.report.note(SWEPT, (Truth::True, weight), None);
                self.sweeps.succeeded();
                if !is_done {
                    self.sweeps.at_once();
                }
                Ok(())
            }
            // Only once the run is to end.
            Err(Broken::Stopped) => Ok(()),
            Err(Broken::State(error)) => Err(ended(error)),
            Err(Broken::Api(error)) => {
                if error.trouble != Trouble::Stopped {
                    adapter.say(SWEPT, &error, &self.notes);
                }
                if error.trouble == Trouble::NotFound && self.webhook.failures == 0 {
                    self.webhook.at_once();
                }
                self.sweeps.failed(&error, rand::random());
                Ok(())
            }
        }
    }
}
