//! The webhook on GitHub is as the source says: found rather than made twice, changed only when it differs.
//!
//! The answer to a creation may be lost, so each creation searches for a webhook by its URL first. A webhook's secret cannot
//! be read back: a digest of the one set last shows whether it must be set again.

use adapter::{Reason, Source};
use jiff::Timestamp;

use crate::{
    Config, Secret,
    api::{Api, ApiError, Hook, HookSpec, Trouble},
    state::{Gap, Notes, digest},
};

/// `reason` of the gap after the webhook was removed.
pub(crate) const WEBHOOK_REMOVED: &str = Reason::WebhookRemoved.as_str();

/// The result of reconciling the webhook.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) hook: u64,
    /// Set if the webhook was missing and was recreated: GitHub recorded no deliveries in between.
    pub(crate) gap: Option<Gap>,
}

pub(crate) struct Registration<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Source,
    pub(crate) api: &'a Api,
    /// The URL it is to have.
    pub(crate) url: &'a str,
}

impl Registration<'_> {
    /// Makes the webhook what it is to be, and notes what was done. The notes are for the caller to save.
    ///
    /// Cancel safe: what was done on GitHub and not noted is found again.
    pub(crate) async fn reconcile(&self, notes: &mut Notes) -> Result<Registered, ApiError> {
        let desired = self.desired();
        let noted = notes.hook.filter(|_| notes.repository == self.config.repository);
        let found = match noted {
            Some(id) => self.by_id(id).await?,
            None => None,
        };
        let found = match found {
            Some(hook) => Some(hook),
            None => self.by_url().await?,
        };
        let digest = digest(&self.source.uid, desired.secret);
        let hook = match found {
            None => self.create(&desired).await?,
            Some(hook) => {
                let mut drift = drift(&hook, &desired);
                if notes.secret != digest || noted.is_none() {
                    drift.push("secret");
                }
                if !drift.is_empty() {
                    self.api.update_hook(hook.id, &desired).await?;
                    let changed = drift.join(", ");
                    tracing::info!(
                        source = self.source.name,
                        hook = hook.id,
                        changed,
                        "webhook updated on GitHub"
                    );
                }
                hook
            }
        };
        let now = Timestamp::now();
        let gap = noted.filter(|noted| *noted != hook.id).and(notes.seen).map(|seen| Gap {
            from: seen,
            to: now,
            reason: WEBHOOK_REMOVED.to_owned(),
        });
        notes.repository.clone_from(&self.config.repository);
        notes.hook = Some(hook.id);
        notes.secret = digest;
        notes.seen = Some(now);
        Ok(Registered { hook: hook.id, gap })
    }

    /// Takes the webhook away.
    pub(crate) async fn remove(&self, notes: &Notes) -> Result<(), ApiError> {
        if let Some(id) = notes.hook {
            return self.api.delete_hook(id).await;
        }
        match self.by_url().await? {
            Some(hook) => self.api.delete_hook(hook.id).await,
            None => Ok(()),
        }
    }

    fn desired(&self) -> HookSpec<'_> {
        let names = self.config.event_types.iter().map(String::as_str);
        // GitHub sends a ping to every new webhook; one cannot subscribe to it.
        let mut events: Vec<&str> = names.filter(|name| *name != "ping").collect();
        if events.contains(&"*") {
            events = vec!["*"];
        }
        events.sort_unstable();
        events.dedup();
        // In poll mode no delivery arrives, so there is nothing to sign.
        let signs = |secret: &&Secret| !self.config.is_polling() && !secret.bytes().is_empty();
        HookSpec {
            url: self.url,
            events,
            secret: self.config.secrets.first().filter(signs),
        }
    }

    async fn by_id(&self, id: u64) -> Result<Option<Hook>, ApiError> {
        match self.api.hook(id).await {
            Ok(hook) => Ok(Some(hook)),
            Err(error) if error.trouble == Trouble::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn by_url(&self) -> Result<Option<Hook>, ApiError> {
        self.api.find_hook(|hook| hook.config.url == self.url).await
    }

    /// Creates the webhook, or finds it: GitHub refuses a second one with the same URL, if another client was faster or an
    /// answer was lost.
    async fn create(&self, desired: &HookSpec<'_>) -> Result<Hook, ApiError> {
        match self.api.create_hook(desired).await {
            Ok(hook) => {
                tracing::info!(source = self.source.name, hook = hook.id, "webhook created on GitHub");
                Ok(hook)
            }
            Err(refused) if refused.trouble == Trouble::Refused => match self.by_url().await? {
                Some(hook) => self.api.update_hook(hook.id, desired).await,
                None => Err(refused),
            },
            Err(error) => Err(error),
        }
    }
}

/// The fields of a webhook that differ from the desired ones; its secret cannot be read.
fn drift(hook: &Hook, desired: &HookSpec<'_>) -> Vec<&'static str> {
    let mut events: Vec<&str> = hook.events.iter().map(String::as_str).collect();
    events.sort_unstable();
    let insecure = &hook.config.insecure_ssl;
    let is_secure = insecure.is_null() || insecure.as_str() == Some("0") || insecure.as_u64() == Some(0);
    let compared = [
        (hook.active, "active"),
        (events == desired.events, "events"),
        (hook.config.url == desired.url, "url"),
        (hook.config.content_type == "json", "content_type"),
        (is_secure, "insecure_ssl"),
    ];
    let drifted = compared.into_iter().filter(|(is_relevant, _)| !is_relevant);
    drifted.map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_differs_is_named_and_nothing_else() {
        let desired = HookSpec {
            url: "https://us/hooks/a/b",
            events: vec!["pull_request", "push"],
            secret: None,
        };
        let good = json!({
            "id": 1, "active": true, "events": ["push", "pull_request"],
            "config": { "url": "https://us/hooks/a/b", "content_type": "json", "insecure_ssl": "0", "secret": "********" },
        });
        let drifted = |pointer: &str, value: Value| {
            let mut hook = good.clone();
            *hook.pointer_mut(pointer).unwrap() = value;
            drift(&serde_json::from_value(hook).unwrap(), &desired)
        };
        assert!(drifted("/id", json!(2)).is_empty());
        assert!(drifted("/config/insecure_ssl", json!(0)).is_empty());
        assert_eq!(drifted("/active", json!(false)), ["active"]);
        assert_eq!(drifted("/events", json!(["push"])), ["events"]);
        assert_eq!(drifted("/config/url", json!("https://us/")), ["url"]);
        assert_eq!(drifted("/config/content_type", json!("form")), ["content_type"]);
        assert_eq!(drifted("/config/insecure_ssl", json!("1")), ["insecure_ssl"]);
        assert_eq!(
            drift(&serde_json::from_value(json!({ "id": 1 })).unwrap(), &desired).len(),
            4
        );
    }
}
