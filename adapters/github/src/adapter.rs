//! Looks after one source's side on GitHub: the webhook is in place, and what did not arrive is fetched.
//!
//! Two things on schedules of their own: the webhook is compared every ten minutes, the list of deliveries is read every
//! `sweepInterval`. What goes wrong is a condition and tried again, never an end (CONTRACT OP-3); what GitHub's limits forbid
//! is waited out.

mod run;
mod schedule;

use std::{sync::Arc, time::Duration};

use adapter::{Adapter, Cause, Reason, Severity, Source, StateError, Truth};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Credentials, Transport,
    api::{Api, ApiError},
    registration::Registration,
    sources::SourceMemory,
    state::{Mark, Notes},
    sweep::Progress,
};
use run::Run;
use schedule::Schedule;

/// Conditions.
const WEBHOOK: &str = "WebhookConfigured";
const SWEPT: &str = "Swept";
const AUTHENTICATED: &str = "Authenticated";

/// How often the webhook is compared with the desired one, in case a person changed it. Takes six of 5000 requests an hour.
const RECONCILE_EVERY: Duration = Duration::from_secs(10 * 60);

/// In poll mode the list is the only way in, so it is read also where `sweepInterval` says never.
const POLL_EVERY: Duration = Duration::from_secs(60);

/// Looks after a source's webhook, recovers missed deliveries, and polls.
pub struct GitHubAdapter {
    config: Arc<Config>,
    source: Source,
    memory: Arc<SourceMemory>,
}

impl GitHubAdapter {
    pub(crate) fn new(config: Arc<Config>, source: Source, memory: Arc<SourceMemory>) -> Self {
        let adapter = Self { config, source, memory };
        adapter.introduce();
        adapter
    }

    /// Reports what is known before the first request.
    fn introduce(&self) {
        let report = &self.source.report;
        let last = *self.memory.last_delivery.lock();
        report.field("lastDeliveryTime", last.map(|time| time.to_string()));
        if self.config.is_polling() || !self.config.secrets.is_empty() {
            report.note(AUTHENTICATED, (Truth::True, Severity::Warning), None);
        } else if self.config.allow_unsigned {
            let message =
                "allowUnsigned is true and there is no secretToken: anybody who knows the address can send events";
            let weight = (Truth::False, Severity::Warning);
            report.note(AUTHENTICATED, weight, Cause::new(Reason::Unauthenticated, message));
        } else {
            let message = "there is no secretToken, and the gateway registers no webhook itself: every delivery is refused \
                           with 401; set secretToken here and as the webhook's secret on GitHub, start the gateway with \
                           --public-url so that it registers the webhook with a secret of its own, or set allowUnsigned: true";
            report.unmet(AUTHENTICATED, Reason::Unauthenticated, message);
        }
        let unmanaged = match &self.config.transport {
            Transport::Webhook { address, .. } => {
                report.field("webhookURL", address.as_str());
                format!("add a webhook on GitHub by hand that posts application/json to {address}")
            }
            Transport::Poll { .. } => "deliveries cannot be listed".to_owned(),
        };
        if self.config.is_polling() {
            report.unknown(SWEPT, Reason::Deploying, "the list of deliveries is not read yet");
        }
        match &self.config.credentials {
            None if self.config.is_polling() => {
                report.unmet(
                    SWEPT,
                    Reason::NotManaged,
                    format!("mode poll needs accessToken or app: {unmanaged}"),
                );
            }
            None => {
                let message = format!("without accessToken or app webhooks are not looked after: {unmanaged}");
                report.note(
                    WEBHOOK,
                    (Truth::Unknown, Severity::Info),
                    Cause::new(Reason::NotManaged, message),
                );
            }
            Some(Credentials::Missing(cause)) => report.unmet(WEBHOOK, cause.reason, &cause.message),
            Some(_) if self.config.registered_url().is_none() => {
                let message = format!(
                    "GitHub cannot be told where to deliver: start the gateway with --public-url, use mode poll, or {unmanaged}"
                );
                report.note(
                    WEBHOOK,
                    (Truth::Unknown, Severity::Warning),
                    Cause::new(Reason::NoPublicURL, message),
                );
            }
            Some(_) => report.unknown(WEBHOOK, Reason::Deploying, "GitHub is being asked for the webhook"),
        }
    }

    /// Credentials that can be used, and what is to be registered with them.
    fn managed(&self) -> Option<(&Credentials, &str)> {
        let credentials = self.config.credentials.as_ref();
        let credentials = credentials.filter(|known| !matches!(known, Credentials::Missing(_)))?;
        Some((credentials, self.config.registered_url()?))
    }

    /// The severity of a failed request: deliveries come in all the same where a webhook is known and the source does not
    /// poll.
    fn weight(&self, notes: &Notes) -> Severity {
        if notes.hook.is_some() && !self.config.is_polling() {
            Severity::Warning
        } else {
            Severity::Error
        }
    }

    fn say(&self, condition: &'static str, error: &ApiError, notes: &Notes) {
        let weight = (Truth::False, self.weight(notes));
        self.source
            .report
            .note(condition, weight, Cause::new(error.trouble.reason(), error.message()));
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
            let api = Api::new(&before, credentials, self.memory.budget.clone(), stop.clone())?;
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
    async fn only_receive(&self, stop: &CancellationToken) -> Result<(), Cause> {
        stop.cancelled().await;
        let mark = Mark::load(&*self.source.checkpoint, &self.config.repository).await;
        let mut progress = Progress::new(mark.map_err(ended)?);
        self.write_down(&mut progress).await
    }

    /// Saves the progress since the last time, with the proof that came with it.
    async fn write_down(&self, progress: &mut Progress) -> Result<(), Cause> {
        let proof = self.memory.delivered_ids.lock().unsaved();
        match proof {
            Some(proof) => progress.save(&self.source, &self.memory, &proof).await.map_err(ended),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Adapter for GitHubAdapter {
    async fn run(&self, stop: CancellationToken) -> Result<(), Cause> {
        let Some((credentials, url)) = self.managed() else {
            return self.only_receive(&stop).await;
        };
        let checkpoint = &*self.source.checkpoint;
        let mut notes = Notes::load(checkpoint).await.map_err(ended)?;
        let mark = Mark::load(checkpoint, &self.config.repository).await.map_err(ended)?;
        self.memory.delivered_ids.lock().restore(&mark.delivered_ids);
        self.source.report.field("recoveredDeliveries", mark.recovered);
        let api = match Api::new(&self.config, credentials, self.memory.budget.clone(), stop.clone()) {
            Ok(api) => api,
            Err(error) => {
                self.say(WEBHOOK, &error, &notes);
                return self.only_receive(&stop).await;
            }
        };
        self.leave(credentials, url, &mut notes, &stop).await;
        let every = if self.config.is_polling() {
            Some(self.config.sweep_interval.unwrap_or(POLL_EVERY))
        } else {
            self.config.sweep_interval
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

    async fn delete(&self) -> Result<(), Cause> {
        let Some((credentials, url)) = self.managed() else {
            return Ok(());
        };
        let notes = Notes::load(&*self.source.checkpoint).await.map_err(ended)?;
        let stop = CancellationToken::new();
        let removed = async {
            let api = Api::new(&self.config, credentials, self.memory.budget.clone(), stop)?;
            let registration = Registration {
                config: &self.config,
                source: &self.source,
                api: &api,
                url,
            };
            registration.remove(&notes).await
        };
        removed.await.map_err(|error| Cause {
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
fn ended(error: StateError) -> Cause {
    Cause {
        reason: Reason::DataFolderUnusable,
        message: format!("{error}: check the folder given by --data"),
    }
}
