//! Error messages about collections that cannot be read, for logs and `/readyz`.

use crate::{
    collection::Collection,
    refusal::{Refusal, Rule},
};

/// Returns the collection's name in logs and `/readyz`.
pub(super) fn name(collection: &Collection) -> String {
    match collection {
        Collection::Kind(kind) => kind.plural().to_owned(),
        Collection::Services => "services".to_owned(),
        Collection::Secret(name) => format!("secret {name}"),
        Collection::Defaults(name) => format!("configmap {name}"),
        Collection::Targets { api_version, kind } => format!("{api_version} {kind}"),
    }
}

/// Returns the error and its fix.
pub(super) fn advice(collection: &Collection, refusal: &Refusal, rule: Option<&Rule>, server: &str) -> String {
    match (refusal, rule, collection) {
        (Refusal::Forbidden, Some(rule), _) => rule.to_string(),
        (Refusal::NotFound, _, Collection::Kind(kind)) => format!(
            "the API server has no {} of {}: install the custom resource definitions of this version with \
             `headgate crds | kubectl apply -f -`",
            kind.plural(),
            kind.api_version()
        ),
        (Refusal::NotFound, _, _) => format!("the API server has no {}", name(collection)),
        (refusal, _, _) => format!("{server}: {refusal}"),
    }
}
