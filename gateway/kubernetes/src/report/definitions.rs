//! Whether the definitions that are installed are those of this version, as far as a status tells: one that has no status
//! subresource takes none, one of another version drops what it does not know. Both are told by `/readyz`, and tried again, a few
//! times a minute for each kind, however many objects there are.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use parking_lot::Mutex;
use serde_json::Value;
use spec::Kind;
use tokio::time::Instant;

use crate::{collection, known::Known, request};

/// One object of each kind is tried this often: soon enough for who has just installed the right definitions and looks.
const AGAIN: Duration = Duration::from_secs(15);

const REMEDY: &str =
    "it is of another version: install those of this one with `headgate crds | kubectl apply --server-side -f -`";

/// Kinds whose definitions are odd.
#[derive(Default)]
pub(crate) struct Definitions(Mutex<BTreeMap<Kind, Odd>>);

struct Odd {
    /// When one of their objects is tried next.
    next: Instant,
    takes_none: bool,
}

impl Definitions {
    /// A status was written, and of these of its fields nothing is there.
    pub(super) fn wrote(&self, known: &Known, kind: Kind, dropped: &[&str]) {
        if dropped.is_empty() {
            if self.0.lock().remove(&kind).is_some() {
                known.with(|known| known.troubles.remove(&name(kind)));
                tracing::info!(kind = kind.plural(), "definition is of this version now");
            }
            return;
        }
        let (plural, fields) = (kind.plural(), dropped.join(", "));
        let why = format!("the definition of {plural} drops {fields} of their status: {REMEDY}");
        self.tell(known, kind, &why, false);
    }

    /// A status was not found although its object is there: asks whether the definition has any.
    pub(super) async fn missed(&self, client: &Client, known: &Known, kind: Kind) {
        let list = request::get::<APIResourceList>(client, &collection::root(kind.api_version())).await;
        let (plural, status) = (kind.plural(), format!("{}/status", kind.plural()));
        let has = |name: &str| {
            list.as_ref()
                .is_ok_and(|list| list.resources.iter().any(|found| found.name == name))
        };
        if has(plural) && !has(&status) {
            let why =
                format!("the definition of {plural} has no status subresource, nothing can be said there: {REMEDY}");
            self.tell(known, kind, &why, true);
        }
    }

    /// Its objects have no status that could be written.
    pub(super) fn take_no_status(&self, kind: Kind) -> bool {
        self.0.lock().get(&kind).is_some_and(|odd| odd.takes_none)
    }

    /// Whether an object is tried again whose status was not taken as it was written.
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

    fn tell(&self, known: &Known, kind: Kind, trouble: &str, takes_none: bool) {
        let next = Instant::now() + AGAIN;
        self.0.lock().insert(kind, Odd { next, takes_none });
        let before = known.with(|known| known.troubles.insert(name(kind), trouble.to_owned()));
        if before.as_deref() != Some(trouble) {
            tracing::warn!(trouble, "definition is not of this version");
        }
    }
}

/// By which `/readyz` knows it.
fn name(kind: Kind) -> String {
    format!("status of {}", kind.plural())
}

/// The fields that were sent and of which nothing came back.
pub(super) fn dropped<'a>(sent: &'a Value, there: &Value) -> Vec<&'a str> {
    let fields = sent.as_object().into_iter().flatten();
    fields
        .map(|(field, _)| field.as_str())
        .filter(|field| there.get(field).is_none())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_kind_whose_definition_is_odd_one_object_is_tried_now_and_then() {
        let (definitions, known) = (Definitions::default(), Known::default());
        let troubles = || known.with(|known| known.troubles.values().cloned().collect::<Vec<_>>());
        assert!(definitions.may_try(Kind::Channel) && definitions.may_try(Kind::Channel));
        let sent = json!({ "provisioner": {}, "conditions": [] });
        definitions.wrote(&known, Kind::Channel, &dropped(&sent, &json!({ "conditions": [] })));
        assert!(
            troubles()[0].starts_with("the definition of channels drops provisioner of their status: it is of another")
        );
        assert!(!definitions.may_try(Kind::Channel) && definitions.may_try(Kind::Subscription));
        tokio::time::advance(AGAIN).await;
        assert!(definitions.may_try(Kind::Channel) && !definitions.may_try(Kind::Channel));
        definitions.wrote(&known, Kind::Channel, &dropped(&sent, &sent));
        assert!(troubles().is_empty() && definitions.may_try(Kind::Channel));
    }
}
