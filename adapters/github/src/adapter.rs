//! Looks after one source's side on GitHub: the webhook is in place, and what did not arrive is fetched.
//!
//! Two things on schedules of their own: the webhook is compared every ten minutes, the list of deliveries is read every
//! `sweepInterval`. What goes wrong is a condition and tried again, never an end (CONTRACT OP-3); what GitHub's limits forbid
//! is waited out.

mod run;
mod schedule;

use std::{sync::Arc, time::Duration};

use adapter::{Adapter, AdapterError, Source, StateError, Truth, Weight};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Credentials, Transport,
    api::{Api, ApiError},
    kept::Kept,
    registration::Registration,
    state::{Mark, Notes},
    sweep::Progress,
};
use run::Run;
use schedule::Schedule;

/// Conditions.
const WEBHOOK: &str = "WebhookConfigured";
const SWEPT: &str = "Swept";
const AUTHENTICATED: &str = "Authenticated";

/// How often the webhook is compared with what it is to be: somebody may have changed it. Of 5000 requests an hour this
/// takes six.
const RECONCILE_EVERY: Duration = Duration::from_secs(10 * 60);

/// In poll mode the list is the only way in, so it is read also where `sweepInterval` says never.
const POLL_EVERY: Duration = Duration::from_secs(60);

pub struct GitHubAdapter {
    config: Arc<Config>,
    source: Source,
    kept: Arc<Kept>,
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
        if self.config.is_polling() {
            report.unknown(SWEPT, "Deploying", "the list of deliveries is not read yet");
        }
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

/// Without its state a source cannot go on: it would repeat what it stored.
#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn ended(error: StateError) -> AdapterError {
    AdapterError {
        reason: "DataFolderUnusable",
        message: format!("{error}: check the folder given by --data"),
    }
}
