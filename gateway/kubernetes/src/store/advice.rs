//! What cannot be read, in the words of logs and `/readyz`, and what to do about it.

use crate::{
    collection::Collection,
    refusal::{Refusal, Rule},
};

/// As it is called in logs and by `/readyz`.
pub(super) fn name(of: &Collection) -> String {
    match of {
        Collection::Kind(kind) => kind.plural().to_owned(),
        Collection::Services => "services".to_owned(),
        Collection::Secret(name) => format!("secret {name}"),
        Collection::Defaults(name) => format!("configmap {name}"),
        Collection::Targets { api_version, kind } => format!("{api_version} {kind}"),
    }
}

/// What is in the way, and what to do.
pub(super) fn advice(of: &Collection, refusal: &Refusal, rule: Option<&Rule>, server: &str) -> String {
    match (refusal, rule, of) {
        (Refusal::Forbidden, Some(rule), _) => rule.to_string(),
        (Refusal::NotFound, _, Collection::Kind(kind)) => format!(
            "the API server has no {} of {}: install the custom resource definitions, or those of this version where others are there, with \
             `headgate crds | kubectl apply -f -`",
            kind.plural(),
            kind.api_version()
        ),
        (Refusal::NotFound, _, _) => format!("the API server has no {}", name(of)),
        (refusal, _, _) => format!("{server}: {refusal}"),
    }
}
