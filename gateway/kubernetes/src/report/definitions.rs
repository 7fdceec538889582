//! Detects installed definitions of another version by the statuses: a definition without the status subresource
//! accepts none, one of another version drops unknown fields. `/readyz` reports both. They are retried a few times a
//! minute for each kind, regardless of the number of objects.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use parking_lot::Mutex;
use serde_json::Value;
use spec::Kind;
use tokio::time::Instant;

use crate::{cache::Cache, collection, request};

/// How often one object of each kind is retried: soon enough for a person who has just installed the right definitions.
const AGAIN: Duration = Duration::from_secs(15);

const REMEDY: &str =
    "it is of another version: install those of this one with `headgate crds | kubectl apply --server-side -f -`";

/// Kinds whose definitions are of another version.
#[derive(Default)]
pub(crate) struct Definitions(Mutex<BTreeMap<Kind, Odd>>);

struct Odd {
    /// When one of their objects is retried next.
    next: Instant,
    takes_none: bool,
}

impl Definitions {
    /// Records that a status was written, and which of its fields the API server dropped.
    pub(super) fn wrote(&self, cache: &Cache, kind: Kind, dropped: &[&str]) {
        if dropped.is_empty() {
            if self.0.lock().remove(&kind).is_some() {
                cache.with(|cache| cache.troubles.remove(&name(kind)));
                tracing::info!(kind = kind.plural(), "the installed definition has this version now");
            }
            return;
        }
        let (plural, fields) = (kind.plural(), dropped.join(", "));
        let why = format!("the definition of {plural} drops {fields} of their status: {REMEDY}");
        self.report(cache, kind, &why, false);
    }

    /// Checks, after a status was not found for an existing object, whether the definition has the status subresource.
    pub(super) async fn missed(&self, client: &Client, cache: &Cache, kind: Kind) {
        let list = request::get::<APIResourceList>(client, &collection::root(kind.api_version())).await;
        let (plural, status) = (kind.plural(), format!("{}/status", kind.plural()));
        let has = |name: &str| {
            list.as_ref()
                .is_ok_and(|list| list.resources.iter().any(|found| found.name == name))
        };
        if has(plural) && !has(&status) {
            let why = format!(
                "the definition of {plural} has no status subresource, so the gateway cannot report there: {REMEDY}"
            );
            self.report(cache, kind, &why, true);
        }
    }

    /// Returns whether the definition has no status subresource.
    pub(super) fn take_no_status(&self, kind: Kind) -> bool {
        self.0.lock().get(&kind).is_some_and(|odd| odd.takes_none)
    }

    /// Returns whether to retry an object whose status was not stored as written.
    pub(super) fn may_try(&self, kind: Kind) -> bool {
        match self.0.lock().get_mut(&kind) {
            None => true,
            Some(odd) if Instant::now() < odd.next => false,
            Some(odd) => {
                odd.next = Instant::now() + AGAIN;
                true
            }
        }
    }

    fn report(&self, cache: &Cache, kind: Kind, trouble: &str, takes_none: bool) {
        let next = Instant::now() + AGAIN;
        self.0.lock().insert(kind, Odd { next, takes_none });
        let before = cache.with(|cache| cache.troubles.insert(name(kind), trouble.to_owned()));
        if before.as_deref() != Some(trouble) {
            tracing::warn!(trouble, "the installed definition has another version");
        }
    }
}

/// Returns the key of this error in `/readyz`.
fn name(kind: Kind) -> String {
    format!("status of {}", kind.plural())
}

/// Returns the fields that were sent and not stored.
pub(super) fn dropped<'a>(sent: &'a Value, actual: &Value) -> Vec<&'a str> {
    let fields = sent.as_object().into_iter().flatten();
    fields
        .map(|(field, _)| field.as_str())
        .filter(|field| actual.get(field).is_none())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_kind_whose_definition_is_odd_one_object_is_tried_now_and_then() {
        let (definitions, cache) = (Definitions::default(), Cache::default());
        let troubles = || cache.with(|cache| cache.troubles.values().cloned().collect::<Vec<_>>());
        assert!(definitions.may_try(Kind::Channel) && definitions.may_try(Kind::Channel));
        let sent = json!({ "provisioner": {}, "conditions": [] });
        definitions.wrote(&cache, Kind::Channel, &dropped(&sent, &json!({ "conditions": [] })));
        assert!(
            troubles()[0].starts_with("the definition of channels drops provisioner of their status: it is of another")
        );
        assert!(!definitions.may_try(Kind::Channel) && definitions.may_try(Kind::Subscription));
        tokio::time::advance(AGAIN).await;
        assert!(definitions.may_try(Kind::Channel) && !definitions.may_try(Kind::Channel));
        definitions.wrote(&cache, Kind::Channel, &dropped(&sent, &sent));
        assert!(troubles().is_empty() && definitions.may_try(Kind::Channel));
    }
}
