//! Server-side apply of workloads, and its errors for users.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::Value;
use spec::{Cause, Reason};

use super::overlay;
use crate::refusal::{Refusal, Rule};

/// The field manager of workloads (`kubectl get --show-managed-fields`).
const MANAGER: &str = "headgate-workloads";

/// The number of members of an object with only `apiVersion`, `kind` and `metadata`.
const BARE: usize = 3;

/// Forced: fields that another manager has taken become ours again.
fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

pub(super) async fn deployment(client: &Client, server: &str, desired: &Value) -> Result<Deployment, Cause> {
    let (namespace, name) = namespace_and_name(desired);
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let applied = api.patch(name, &params(), &Patch::Apply(desired)).await;
    applied.map_err(|error| refused(&error, server, ("patch", "deployments"), namespace))
}

/// Reads the object and applies it only if it differs. Only the metadata is read if only that is desired: the
/// checkpoint of a source may be large.
pub(super) async fn apply_if_different(client: &Client, server: &str, desired: &Value) -> Result<(), Cause> {
    let (namespace, name) = namespace_and_name(desired);
    let text = |name: &str| desired[name].as_str().unwrap_or_default();
    let resource = resource(text("apiVersion"), text("kind"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let refused = |verb: &str, error: &kube::Error| refused(error, server, (verb, &resource.plural), namespace);
    let is_bare = desired.as_object().is_some_and(|desired| desired.len() == BARE);
    let holds = if is_bare {
        let found = api
            .get_metadata_opt(name)
            .await
            .map_err(|error| refused("get", &error))?;
        let reads = found.and_then(|found| serde_json::to_value(found.metadata).ok());
        reads.is_some_and(|reads| overlay::holds(&reads, &desired["metadata"]))
    } else {
        let found = api.get_opt(name).await.map_err(|error| refused("get", &error))?;
        let reads = found.and_then(|found| serde_json::to_value(found).ok());
        reads.is_some_and(|reads| overlay::holds(&reads, desired))
    };
    if holds {
        return Ok(());
    }
    let apply = async || api.patch(name, &params(), &Patch::Apply(desired)).await;
    match apply().await {
        // A field of another manager conflicts, such as a second port of the same name, or is immutable, such as the
        // role of a binding: the object is recreated.
        Err(kube::Error::Api(status)) if status.code == 422 && !is_bare => {
            let deleted = api.delete(name, &DeleteParams::background()).await;
            deleted.map_err(|error| refused("delete", &error))?;
            apply().await.map(drop).map_err(|error| refused("patch", &error))
        }
        applied => applied.map(drop).map_err(|error| refused("patch", &error)),
    }
}

fn namespace_and_name(desired: &Value) -> (&str, &str) {
    let text = |name: &str| desired["metadata"][name].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}

/// The kinds that we create have regular plurals.
fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

/// Deletes an object, if it exists, after the objects it owns.
pub(super) async fn delete(
    client: &Client,
    server: &str,
    (api_version, kind): (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<(), Cause> {
    let resource = resource(api_version, kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    match api.delete(name, &DeleteParams::foreground()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(refused(&error, server, ("delete", &resource.plural), namespace)),
        Ok(_) => Ok(()),
    }
}

/// Returns why `verb` on `resource` failed, and the fix.
pub(super) fn refused(error: &kube::Error, server: &str, (verb, resource): (&str, &str), namespace: &str) -> Cause {
    let namespace_and_name = match namespace {
        "" => "in all namespaces".to_owned(),
        namespace => format!("in namespace {namespace}"),
    };
    match error {
        kube::Error::Api(status) if status.code == 403 => Cause::new(
            Reason::Forbidden,
            format!(
                "the gateway's account may not {verb} {resource} {namespace_and_name} ({}): grant it that right, or remove what forbids it",
                status.message
            ),
        ),
        kube::Error::Api(status) if matches!(status.code, 400 | 422) => Cause::new(
            Reason::WorkloadInvalid,
            format!(
                "the API server rejects the source's workload ({}): correct its spec, usually its template",
                status.message
            ),
        ),
        kube::Error::Api(status) => Cause::new(
            Reason::ApiServerError,
            format!(
                "the API server {server} did not {verb} {resource} {namespace_and_name} (status {}): {}; it is tried again",
                status.code, status.message
            ),
        ),
        error => Cause::new(
            Reason::ApiServerUnreachable,
            format!(
                "no answer from the API server {server} ({}): it is tried again",
                innermost(error)
            ),
        ),
    }
}

/// Returns why a list or a watch failed.
pub(super) fn watch_refused(refusal: &Refusal, rule: Option<&Rule>, server: &str) -> Cause {
    match (refusal, rule) {
        (Refusal::Forbidden, Some(rule)) => Cause::new(Reason::Forbidden, rule.to_string()),
        (Refusal::Unreachable(detail), _) => Cause::new(
            Reason::ApiServerUnreachable,
            format!("no answer from the API server {server} ({detail}): it is tried again"),
        ),
        (refusal, _) => Cause::new(
            Reason::ApiServerError,
            format!("the API server {server} does not list workloads: {refusal}; it is tried again"),
        ),
    }
}

/// "connection refused" says more than "client error".
fn innermost(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
