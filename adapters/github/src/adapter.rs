//! Looks after one source's side on GitHub: the webhook is in place, and what did not arrive is fetched.
//!
//! Two things on schedules of their own: the webhook is compared every ten minutes, the list of deliveries is read every
//! `sweepInterval`. What goes wrong is a condition and tried again, never an end (CONTRACT OP-3); what GitHub's limits forbid
//! is waited out.

use std::{sync::Arc, time::Duration};

use adapter::{Adapter, AdapterError, Source, StateError, Truth, Weight};
use async_trait::async_trait;
use backoff::{Growth, Policy};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Credentials, Transport,
    api::{Api, ApiError, Trouble},
    gap,
    kept::Kept,
    registration::Registration,
    state::{Mark, Notes},
    sweep::{self, Broken, Progress, Sweep},
};

/// Conditions.
const WEBHOOK: &str = "WebhookConfigured";
const SWEPT: &str = "Swept";
const AUTHENTICATED: &str = "Authenticated";

/// How often the webhook is compared with what it is to be: somebody may have changed it. Of 5000 requests an hour this
/// takes six.
const RECONCILE_EVERY: Duration = Duration::from_secs(10 * 60);

/// In poll mode the list is the only way in, so it is read also where `sweepInterval` says never.
const POLL_EVERY: Duration = Duration::from_secs(60);

/// What failed is tried again after a second, later after up to a minute: a person who restored a token wants to see it
/// work, and one request a minute costs nothing.
const RETRY: Policy = Policy {
    retry: u32::MAX,
    growth: Growth::Exponential,
    delay: Duration::from_secs(1),
    max: Duration::from_secs(60),
    retry_after_max: Duration::from_secs(65 * 60),
};

pub struct GitHubAdapter {
    config: Arc<Config>,
    source: Source,
    kept: Arc<Kept>,
}

/// When a thing is done next.
struct Schedule {
    every: Option<Duration>,
    /// `None`: never again.
    due: Option<Instant>,
    failures: u32,
}

impl Schedule {
    fn new(every: Option<Duration>) -> Self {
        Self {
            every,
            due: every.map(|_| Instant::now()),
            failures: 0,
        }
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    fn at_once(&mut self) {
        self.due = self.due.map(|_| Instant::now());
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.due = self.every.map(|every| Instant::now() + every);
    }

    fn failed(&mut self, error: &ApiError, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        let wait = RETRY
            .wait(self.failures, error.retry_after, jitter)
            .unwrap_or(RETRY.max);
        self.due = Some(Instant::now() + wait);
    }
}

/// One run: what it works with and what it has found out.
struct Run<'a> {
    adapter: &'a GitHubAdapter,
    api: Api,
    url: &'a str,
    notes: Notes,
    progress: Progress,
    webhook: Schedule,
    sweeps: Schedule,
    stop: &'a CancellationToken,
}

impl GitHubAdapter {
    pub(crate) fn new(config: Arc<Config>, source: Source, kept: Arc<Kept>) -> Self {
        let adapter = Self { config, source, kept };
        adapter.introduce();
        adapter
    }

    /// What is known before anything was asked.
    fn introduce(&self) {
        let report = &self.source.report;
        let last = *self.kept.last_delivery.lock();
        report.field("lastDeliveryTime", last.map(|time| time.to_string()));
        if self.config.is_polling() || !self.config.secrets.is_empty() {
            report.note(AUTHENTICATED, (Truth::True, Weight::Warning), "", "");
        } else {
            let message = "there is no secretToken: anybody who knows the address can send events";
            let weight = (Truth::False, Weight::Warning);
            report.note(AUTHENTICATED, weight, "Unauthenticated", message);
        }
        let by_hand = match &self.config.transport {
            Transport::Webhook { address, .. } => {
                report.field("webhookURL", address.as_str());
                format!("add a webhook on GitHub by hand that posts application/json to {address}")
            }
            Transport::Poll { .. } => "deliveries cannot be listed".to_owned(),
        };
        match &self.config.credentials {
            None if self.config.is_polling() => {
                report.unmet(
                    SWEPT,
                    "NotManaged",
                    format!("mode poll needs accessToken or app: {by_hand}"),
                );
            }
            None => {
                let message = format!("without accessToken or app webhooks are not looked after: {by_hand}");
                report.note(WEBHOOK, (Truth::Unknown, Weight::Info), "NotManaged", message);
            }
            Some(Credentials::Missing { reason, message }) => report.unmet(WEBHOOK, *reason, message),
            Some(_) if self.config.registered_url().is_none() => {
                let message = format!(
                    "GitHub cannot be told where to deliver: start the gateway with --public-url, use mode poll, or {by_hand}"
                );
                report.note(WEBHOOK, (Truth::Unknown, Weight::Warning), "NoPublicURL", message);
            }
            Some(_) => report.unknown(WEBHOOK, "Deploying", "GitHub is being asked for the webhook"),
        }
    }

    /// Credentials that can be used, and what is to be registered with them.
    fn managed(&self) -> Option<(&Credentials, &str)> {
        let credentials = self.config.credentials.as_ref();
        let credentials = credentials.filter(|known| !matches!(known, Credentials::Missing { .. }))?;
        Some((credentials, self.config.registered_url()?))
    }

    /// How much it weighs that GitHub could not be asked: deliveries come in all the same where a webhook is known to be
    /// there and nobody polls.
    fn weight(&self, notes: &Notes) -> Weight {
        if notes.hook.is_some() && !self.config.is_polling() {
            Weight::Warning
        } else {
            Weight::Error
        }
    }

    fn say(&self, condition: &'static str, error: &ApiError, notes: &Notes) {
        let weight = (Truth::False, self.weight(notes));
        self.source
            .report
            .note(condition, weight, error.trouble.reason(), error.message());
    }

    /// The webhook of a source that had another repository before. It is not wanted any more, and nothing waits for it.
    async fn leave(&self, credentials: &Credentials, url: &str, notes: &mut Notes, stop: &CancellationToken) {
        let is_elsewhere = notes.hook.is_some() && notes.repository != self.config.repository;
        if !is_elsewhere {
            return;
        }
        let before = Config {
            repository: std::mem::take(&mut notes.repository),
            ..(*self.config).clone()
        };
        let removed = async {
            let api = Api::new(&before, credentials, self.kept.budget.clone(), stop.clone())?;
            let registration = Registration {
                config: &before,
                source: &self.source,
                api: &api,
                url,
            };
            registration.remove(notes).await
        };
        let repository = &before.repository;
        match removed.await {
            Ok(()) => tracing::info!(
                source = self.source.name,
                repository,
                "webhook of another repository removed"
            ),
            Err(error) => {
                let error = error.detail;
                tracing::warn!(
                    source = self.source.name,
                    repository,
                    error,
                    "webhook of another repository is left there"
                );
            }
        }
        *notes = Notes::default();
    }

    /// Nothing to do on GitHub; what the hook stored is still written down.
    async fn only_receive(&self, stop: &CancellationToken) -> Result<(), AdapterError> {
        stop.cancelled().await;
        let mark = Mark::load(&*self.source.checkpoint, &self.config.repository).await;
        let mut progress = Progress::new(mark.map_err(ended)?);
        self.write_down(&mut progress).await
    }

    /// What was stored since the last time, with the proof that came with it.
    async fn write_down(&self, progress: &mut Progress) -> Result<(), AdapterError> {
        let proof = self.kept.handled.lock().unsaved();
        match proof {
            Some(proof) => progress.save(&self.source, &self.kept, &proof).await.map_err(ended),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Adapter for GitHubAdapter {
    async fn run(&self, stop: CancellationToken) -> Result<(), AdapterError> {
        let Some((credentials, url)) = self.managed() else {
            return self.only_receive(&stop).await;
        };
        let checkpoint = &*self.source.checkpoint;
        let mut notes = Notes::load(checkpoint).await.map_err(ended)?;
        let mark = Mark::load(checkpoint, &self.config.repository).await.map_err(ended)?;
        self.kept.handled.lock().restore(&mark.handled);
        self.source.report.field("recoveredDeliveries", mark.recovered);
        let api = match Api::new(&self.config, credentials, self.kept.budget.clone(), stop.clone()) {
            Ok(api) => api,
            Err(error) => {
                self.say(WEBHOOK, &error, &notes);
                return self.only_receive(&stop).await;
            }
        };
        self.leave(credentials, url, &mut notes, &stop).await;
        let every = match self.config.is_polling() {
            true => Some(self.config.sweep_interval.unwrap_or(POLL_EVERY)),
            false => self.config.sweep_interval,
        };
        let mut run = Run {
            adapter: self,
            api,
            url,
            notes,
            progress: Progress::new(mark),
            webhook: Schedule::new(Some(RECONCILE_EVERY)),
            sweeps: Schedule::new(every),
            stop: &stop,
        };
        run.start();
        let worked = run.work().await;
        // Whatever happened: what is stored is written down.
        self.write_down(&mut run.progress).await?;
        worked
    }

    async fn delete(&self) -> Result<(), AdapterError> {
        let Some((credentials, url)) = self.managed() else {
            return Ok(());
        };
        let notes = Notes::load(&*self.source.checkpoint).await.map_err(ended)?;
        let stop = CancellationToken::new();
        let removed = async {
            let api = Api::new(&self.config, credentials, self.kept.budget.clone(), stop)?;
            let registration = Registration {
                config: &self.config,
                source: &self.source,
                api: &api,
                url,
            };
            registration.remove(&notes).await
        };
        removed.await.map_err(|error| AdapterError {
            reason: error.trouble.reason(),
            message: format!(
                "the webhook {url} stays on GitHub, remove it by hand: {}",
                error.message()
            ),
        })
    }
}

impl Run<'_> {
    /// Says what an earlier life found out.
    fn start(&self) {
        let (source, notes) = (&self.adapter.source, &self.notes);
        gap::show(&source.report, notes.gap.as_ref(), Timestamp::now());
        if let Some(hook) = notes.hook {
            source.report.field("webhookIDKey", hook.to_string());
            let weight = (Truth::Unknown, self.adapter.weight(notes));
            let message = "GitHub is being asked for the webhook, which was in place before";
            source.report.note(WEBHOOK, weight, "Deploying", message);
        }
    }

    /// Does what is due until it is stopped.
    async fn work(&mut self) -> Result<(), AdapterError> {
        loop {
            if self.webhook.is_due() {
                self.look_after_webhook().await?;
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

    async fn look_after_webhook(&mut self) -> Result<(), AdapterError> {
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
                        Err(_) => return Ok(()),
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

    async fn sweep(&mut self) -> Result<(), AdapterError> {
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
            kept: &adapter.kept,
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
                adapter.source.report.note(SWEPT, (Truth::True, weight), "", "");
                self.sweeps.succeeded();
                if !is_done {
                    self.sweeps.at_once();
                }
                Ok(())
            }
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

/// Without its state a source cannot go on: it would repeat what it stored.
#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn ended(error: StateError) -> AdapterError {
    AdapterError {
        reason: "DataFolderUnusable",
        message: format!("{error}: check the folder given by --data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_soon_then_every_minute_and_never_before_github_allows() {
        let mut schedule = Schedule::new(Some(RECONCILE_EVERY));
        assert!(schedule.is_due());
        let mut waits = Vec::new();
        for _ in 0..8 {
            schedule.failed(&ApiError::setting(&"no"), 1.0);
            waits.push(schedule.due.map(|due| (due - Instant::now()).as_secs()));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60].map(Some));
        let limited = ApiError {
            retry_after: Some(Duration::from_secs(1800)),
            ..ApiError::setting(&"no")
        };
        schedule.failed(&limited, 1.0);
        tokio::time::advance(Duration::from_secs(1799)).await;
        assert!(!schedule.is_due());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(schedule.is_due());
        schedule.succeeded();
        assert_eq!(schedule.due, Some(Instant::now() + RECONCILE_EVERY));
        assert!(!Schedule::new(None).is_due());
    }
}
