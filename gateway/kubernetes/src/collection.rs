//! What is listed and watched: the kinds of ours, Services, single Secrets, and whatever kind a reference names.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use spec::{Kind, ObjectName};

use crate::{
    refusal::{Refusal, Rule},
    request,
};

/// All that list and watch need; `get` lets a person's kubectl and ours see the same.
const VERBS: &[&str] = &["get", "list", "watch"];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Collection {
    /// Of our own resources.
    Kind(Kind),
    /// The core ones, for their ports and for the ones that we make.
    Services,
    /// One by its name: the gateway needs no right to read others.
    Secret(ObjectName),
    /// The ConfigMap of one name that says what channels get that name no provisioner.
    Defaults(ObjectName),
    /// Of anything that documents refer to, for its address.
    Targets { api_version: String, kind: String },
}

/// Where a collection is found.
pub(crate) struct Place {
    /// `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL`
    pub(crate) path: String,
    /// `metadata.name=NAME`
    pub(crate) fields: Option<String>,
    /// What it takes to read it.
    pub(crate) rule: Rule,
}

impl Collection {
    /// `namespace` is the only one that is looked at, when there is one. Asks the API server where it must: for the plural of
    /// somebody else's kind.
    pub(crate) async fn place(&self, client: &Client, namespace: Option<&str>) -> Result<Place, Refusal> {
        Ok(match self {
            Self::Kind(kind) => {
                let namespace = namespace.filter(|_| !kind.is_cluster_scoped());
                place(kind.api_version(), kind.plural(), namespace, None)
            }
            Self::Services => place("v1", "services", namespace, None),
            Self::Secret(secret) => place("v1", "secrets", Some(&secret.namespace), Some(&secret.name)),
            Self::Defaults(map) => place("v1", "configmaps", Some(&map.namespace), Some(&map.name)),
            Self::Targets { api_version, kind } => {
                let (plural, is_namespaced) = discovered(client, api_version, kind).await?;
                place(api_version, &plural, namespace.filter(|_| is_namespaced), None)
            }
        })
    }
}

fn place(api_version: &str, plural: &str, namespace: Option<&str>, name: Option<&str>) -> Place {
    let namespaced = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    Place {
        path: format!("{}{namespaced}/{plural}", root(api_version)),
        fields: name.map(|name| format!("metadata.name={name}")),
        rule: Rule {
            group: group(api_version).to_owned(),
            resource: plural.to_owned(),
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            verbs: VERBS,
        },
    }
}

/// `/api/v1` or `/apis/GROUP/VERSION`.
pub(crate) fn root(api_version: &str) -> String {
    match api_version.contains('/') {
        true => format!("/apis/{api_version}"),
        false => format!("/api/{api_version}"),
    }
}

/// Empty for what is core.
pub(crate) fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The path of one object.
pub(crate) fn path(api_version: &str, plural: &str, name: &ObjectName) -> String {
    let Place { path, .. } = place(
        api_version,
        plural,
        Some(&*name.namespace).filter(|namespace| !namespace.is_empty()),
        None,
    );
    format!("{path}/{}", name.name)
}

/// A kind's plural, and whether its objects have namespaces. A version or kind that is not there is `NotFound`.
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
            (place("v1", "services", None, None), "/api/v1/services", ""),
            (
                place("v1", "secrets", Some("shop"), Some("hook")),
                "/api/v1/namespaces/shop/secrets",
                "",
            ),
            (
                place("eventing.knative.dev/v1alpha1", "channels", Some("shop"), None),
                "/apis/eventing.knative.dev/v1alpha1/namespaces/shop/channels",
                "eventing.knative.dev",
            ),
        ];
        for (place, expected, group) in cases {
            assert_eq!((&*place.path, &*place.rule.group), (expected, group));
        }
        let name = ObjectName::new("shop", "orders");
        assert_eq!(path("v1", "services", &name), "/api/v1/namespaces/shop/services/orders");
        assert_eq!(path("a/v1", "things", &ObjectName::new("", "x")), "/apis/a/v1/things/x");
    }
}
