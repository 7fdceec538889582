//! The collections that the gateway lists and watches: our kinds, Services, single Secrets and ConfigMaps, and the
//! kinds of referenced objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use spec::{Kind, ObjectName};

use crate::{
    refusal::{Refusal, Rule},
    request,
};

/// List and watch are needed; with `get` the same role also serves `kubectl get`.
const VERBS: &[&str] = &["get", "list", "watch"];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Collection {
    /// One of our kinds.
    Kind(Kind),
    /// All Services: referenced ones for their ports, and those of channels.
    Services,
    /// One Secret by its name: the gateway needs no right to read others.
    Secret(ObjectName),
    /// The ConfigMap of this name that sets default provisioners.
    Defaults(ObjectName),
    /// Objects of another kind that documents refer to, for their addresses.
    Targets { api_version: String, kind: String },
}

/// The API path of a collection.
pub(crate) struct ResourcePath {
    /// `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL`
    pub(crate) path: String,
    /// `metadata.name=NAME`
    pub(crate) field_selector: Option<String>,
    /// The rule that allows to read the collection.
    pub(crate) rule: Rule,
}

impl Collection {
    /// Returns the path of the collection, in `namespace` alone if it is given. The plural of a kind that is not ours
    /// is requested from the API server.
    pub(crate) async fn resource_path(
        &self,
        client: &Client,
        namespace: Option<&str>,
    ) -> Result<ResourcePath, Refusal> {
        Ok(match self {
            Self::Kind(kind) => {
                let namespace = namespace.filter(|_| !kind.is_cluster_scoped());
                resource_path(kind.api_version(), kind.plural(), namespace, None)
            }
            Self::Services => resource_path("v1", "services", namespace, None),
            Self::Secret(secret) => resource_path("v1", "secrets", Some(&secret.namespace), Some(&secret.name)),
            Self::Defaults(map) => resource_path("v1", "configmaps", Some(&map.namespace), Some(&map.name)),
            Self::Targets { api_version, kind } => {
                let (plural, is_namespaced) = discovered(client, api_version, kind).await?;
                resource_path(api_version, &plural, namespace.filter(|_| is_namespaced), None)
            }
        })
    }
}

fn resource_path(api_version: &str, plural: &str, namespace: Option<&str>, name: Option<&str>) -> ResourcePath {
    let namespaced = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    ResourcePath {
        path: format!("{}{namespaced}/{plural}", root(api_version)),
        field_selector: name.map(|name| format!("metadata.name={name}")),
        rule: Rule {
            group: group(api_version).to_owned(),
            resource: plural.to_owned(),
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            verbs: VERBS,
        },
    }
}

/// Returns `/api/v1` or `/apis/GROUP/VERSION`.
pub(crate) fn root(api_version: &str) -> String {
    if api_version.contains('/') {
        format!("/apis/{api_version}")
    } else {
        format!("/api/{api_version}")
    }
}

/// Returns the group of an apiVersion; empty for the core group.
pub(crate) fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Returns the path of one object.
pub(crate) fn path(api_version: &str, plural: &str, name: &ObjectName) -> String {
    let ResourcePath { path, .. } = resource_path(
        api_version,
        plural,
        Some(&*name.namespace).filter(|namespace| !namespace.is_empty()),
        None,
    );
    format!("{path}/{}", name.name)
}

/// Requests a kind's plural, and whether its objects have namespaces. A missing version or kind is `NotFound`.
async fn discovered(client: &Client, api_version: &str, kind: &str) -> Result<(String, bool), Refusal> {
    let list: APIResourceList = request::get(client, &root(api_version)).await?;
    let mut resources = list.resources.into_iter();
    let found = resources.find(|resource| resource.kind == kind && !resource.name.contains('/'));
    found
        .map(|resource| (resource.name, resource.namespaced))
        .ok_or(Refusal::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_paths_of_the_api_with_their_rules() {
        let cases = [
            (resource_path("v1", "services", None, None), "/api/v1/services", ""),
            (
                resource_path("v1", "secrets", Some("shop"), Some("hook")),
                "/api/v1/namespaces/shop/secrets",
                "",
            ),
            (
                resource_path("eventing.knative.dev/v1alpha1", "channels", Some("shop"), None),
                "/apis/eventing.knative.dev/v1alpha1/namespaces/shop/channels",
                "eventing.knative.dev",
            ),
        ];
        for (resource_path, expected, group) in cases {
            assert_eq!((&*resource_path.path, &*resource_path.rule.group), (expected, group));
        }
        let name = ObjectName::new("shop", "orders");
        assert_eq!(path("v1", "services", &name), "/api/v1/namespaces/shop/services/orders");
        assert_eq!(path("a/v1", "things", &ObjectName::new("", "x")), "/apis/a/v1/things/x");
    }
}
