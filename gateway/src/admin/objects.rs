//! Objects as kubectl shows them: what was written, with the status of now.

use std::borrow::Cow;

use axum::{
    Json,
    extract::{Query, State as Extract},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use dataplane::Plane;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::{Kind, Reason, model::Object};

use super::{Refusal, State};

#[derive(Deserialize)]
pub(super) struct Which {
    /// A kind, its plural or short name, `sources` or `all`.
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

/// `GET /api/v1/objects`: a `List`; an unknown kind is a 400.
pub(super) async fn list(Extract(state): Extract<State>, Query(which): Query<Which>) -> Response {
    let kinds = match which.kind.as_deref() {
        None => kinds("all"),
        Some(word) => kinds(word),
    };
    let Some(kinds) = kinds else {
        let message = format!(
            "the kind {:?} is not known; known are {}, sources and all",
            which.kind.unwrap_or_default(),
            known()
        );
        return Refusal::new(StatusCode::BAD_REQUEST, Reason::UnknownKind, message).into_response();
    };
    let (spec, observed) = (state.plane().spec(), state.plane().observe());
    let items: Vec<Value> = spec
        .objects
        .iter()
        .filter(|(key, _)| kinds.contains(&key.kind))
        .filter(|(key, _)| {
            key.kind.is_cluster_scoped()
                || which
                    .namespace
                    .as_ref()
                    .is_none_or(|namespace| *namespace == key.name.namespace)
        })
        .filter(|(key, _)| which.name.as_ref().is_none_or(|name| *name == key.name.name))
        .map(|(key, object)| shown(object, observed.objects.get(key)))
        .collect();
    Json(json!({ "apiVersion": "v1", "kind": "List", "items": items })).into_response()
}

/// Every object of ours with its status.
pub(crate) fn all(plane: &Plane) -> Vec<Value> {
    let (spec, observed) = (plane.spec(), plane.observe());
    let ours = spec.objects.iter().filter(|(key, _)| key.kind.is_ours());
    ours.map(|(key, object)| shown(object, observed.objects.get(key)))
        .collect()
}

/// Every kind that can be asked for.
pub(crate) const ALL: [Kind; 9] = [
    Kind::ClusterChannelProvisioner,
    Kind::Channel,
    Kind::Subscription,
    Kind::GitHubSource,
    Kind::KubernetesEventSource,
    Kind::GcpPubSubSource,
    Kind::ContainerSource,
    Kind::Service,
    Kind::Secret,
];

/// The kinds that can be asked for, with their short names.
fn known() -> String {
    let named = |kind: Kind| match kind.short() {
        Some(short) => format!("{} ({short})", kind.as_str().to_lowercase()),
        None => kind.as_str().to_lowercase(),
    };
    ALL.map(named).join(", ")
}

/// Returns the kinds that a word on the command line means, in any case.
fn kinds(word: &str) -> Option<Vec<Kind>> {
    let word = word.to_lowercase();
    let is = |test: fn(Kind) -> bool| ALL.into_iter().filter(|kind| test(*kind)).collect::<Vec<_>>();
    match &*word {
        "all" | "knative" | "eventing" => Some(is(Kind::is_ours)),
        "sources" | "source" => Some(is(Kind::is_source)),
        _ => {
            let named = |kind: &Kind| {
                kind.as_str().to_lowercase() == word || kind.plural() == word || kind.short() == Some(&word)
            };
            ALL.into_iter().find(named).map(|kind| vec![kind])
        }
    }
}

/// Passwords in URIs, wherever they are written: in fields, annotations, messages.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(hidden) = spec::without_userinfo(text) {
                *text = hidden;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(members) => members.values_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A document as it was written, with its status and without secrets.
pub(crate) fn shown(object: &Object, status: Option<&spec::Status>) -> Value {
    let mut document = object.document.clone();
    document["apiVersion"] = json!(object.api_version);
    document["kind"] = json!(object.key.kind.as_str());
    if !document["metadata"].is_object() {
        document["metadata"] = json!({});
    }
    let metadata = &mut document["metadata"];
    metadata["name"] = json!(object.key.name.name);
    if !object.key.name.namespace.is_empty() {
        metadata["namespace"] = json!(object.key.name.namespace);
    }
    metadata["creationTimestamp"] = json!(object.created);
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"]["headgate.dev/origin"] = json!(object.origin);
    if let Some(status) = status {
        document["status"] = serde_json::to_value(status).unwrap_or_default();
    }
    hide(&mut document);
    document
}
