//! Server-side apply, and what its refusals mean for a person.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::Value;

use super::{observe::Deployed, overlay};
use crate::refusal::{Refusal, Rule};

/// Whose fields they are (`kubectl get --show-managed-fields`).
const MANAGER: &str = "headgate-workloads";

/// `apiVersion`, `kind` and `metadata`.
const BARE: usize = 3;

pub(super) const FORBIDDEN: &str = "Forbidden";

/// Takes back fields that somebody else took: they are what the source says.
fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

pub(super) async fn deployment(client: &Client, server: &str, wanted: &Value) -> Result<Deployment, Deployed> {
    let (namespace, name) = place(wanted);
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let applied = api.patch(name, &params(), &Patch::Apply(wanted)).await;
    applied.map_err(|error| refused(&error, server, ("patch", "deployments"), namespace))
}

/// Reads the object and writes it only when it does not say what is wanted. Of one of which only the name matters no more is read:
/// the state of a source may be large.
pub(super) async fn where_it_differs(client: &Client, server: &str, wanted: &Value) -> Result<(), Deployed> {
    let (namespace, name) = place(wanted);
    let text = |name: &str| wanted[name].as_str().unwrap_or_default();
    let resource = resource(text("apiVersion"), text("kind"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let refused = |verb: &str, error: &kube::Error| refused(error, server, (verb, &resource.plural), namespace);
    let is_bare = wanted.as_object().is_some_and(|wanted| wanted.len() == BARE);
    let holds = match is_bare {
        true => {
            let found = api
                .get_metadata_opt(name)
                .await
                .map_err(|error| refused("get", &error))?;
            let reads = found.and_then(|found| serde_json::to_value(found.metadata).ok());
            reads.is_some_and(|reads| overlay::holds(&reads, &wanted["metadata"]))
        }
        false => {
            let found = api.get_opt(name).await.map_err(|error| refused("get", &error))?;
            let reads = found.and_then(|found| serde_json::to_value(found).ok());
            reads.is_some_and(|reads| overlay::holds(&reads, wanted))
        }
    };
    if holds {
        return Ok(());
    }
    let apply = async || api.patch(name, &params(), &Patch::Apply(wanted)).await;
    match apply().await {
        // What somebody else wrote stands in the way, such as a second port of the same name, or cannot be changed, such as the role
        // of a binding: it is made anew.
        Err(kube::Error::Api(status)) if status.code == 422 && !is_bare => {
            let deleted = api.delete(name, &DeleteParams::background()).await;
            deleted.map_err(|error| refused("delete", &error))?;
            apply().await.map(drop).map_err(|error| refused("patch", &error))
        }
        applied => applied.map(drop).map_err(|error| refused("patch", &error)),
    }
}

fn place(wanted: &Value) -> (&str, &str) {
    let text = |name: &str| wanted["metadata"][name].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}

/// The kinds we make have regular plurals.
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

/// Deletes an object that may not be there, what belongs to it first.
pub(super) async fn delete(
    client: &Client,
    server: &str,
    (api_version, kind): (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<(), Deployed> {
    let resource = resource(api_version, kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    match api.delete(name, &DeleteParams::foreground()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(refused(&error, server, ("delete", &resource.plural), namespace)),
        Ok(_) => Ok(()),
    }
}

/// Why `verb` on `resource` was not done, and what to do.
pub(super) fn refused(error: &kube::Error, server: &str, (verb, resource): (&str, &str), namespace: &str) -> Deployed {
    let place = match namespace {
        "" => "in all namespaces".to_owned(),
        namespace => format!("in namespace {namespace}"),
    };
    match error {
        kube::Error::Api(status) if status.code == 403 => Deployed::unmet(
            FORBIDDEN,
            format!(
                "the gateway's account may not {verb} {resource} {place} ({}): give it that right, or lift what forbids it",
                status.message
            ),
        ),
        kube::Error::Api(status) if matches!(status.code, 400 | 422) => Deployed::unmet(
            "WorkloadInvalid",
            format!(
                "the API server does not take what the source asks for ({}): correct its spec, as a rule its template",
                status.message
            ),
        ),
        kube::Error::Api(status) => Deployed::unmet(
            "ApiServerError",
            format!(
                "the API server {server} did not {verb} {resource} {place} (status {}): {}; it is tried again",
                status.code, status.message
            ),
        ),
        error => Deployed::unmet(
            "ApiServerUnreachable",
            format!(
                "no answer from the API server {server} ({}): it is tried again",
                innermost(error)
            ),
        ),
    }
}

/// Why a list or a watch was refused.
pub(super) fn watch_refused(refusal: &Refusal, rule: Option<&Rule>, server: &str) -> Deployed {
    match (refusal, rule) {
        (Refusal::Forbidden, Some(rule)) => Deployed::unmet(FORBIDDEN, rule.to_string()),
        (Refusal::Unreachable(said), _) => Deployed::unmet(
            "ApiServerUnreachable",
            format!("no answer from the API server {server} ({said}): it is tried again"),
        ),
        (refusal, _) => Deployed::unmet(
            "ApiServerError",
            format!("the API server {server} does not tell what runs in it: {refusal}; it is tried again"),
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
