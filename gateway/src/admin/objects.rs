//! Objects as kubectl shows them: what was written, with the status of now.

use axum::{
    Json,
    extract::{Query, State as Extract},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use spec::{Kind, model::Object};

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
        let message = format!("the kind {:?} is not known", which.kind.unwrap_or_default());
        return Refusal::new(StatusCode::BAD_REQUEST, "UnknownKind", message).into_response();
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

const ALL: [Kind; 9] = [
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

/// What a word on the command line means, any case.
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

fn shown(object: &Object, status: Option<&spec::Status>) -> Value {
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
    document
}
