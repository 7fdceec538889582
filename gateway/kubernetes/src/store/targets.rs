//! The addresses of objects that documents refer to. Only the address of each object is kept. Pure.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use spec::{Cause, ObjectName, Objects, Reason, Reference, References, ResolvedReferences};
use url::Url;

use crate::{
    address,
    collection::Collection,
    refusal::{Refusal, Rule},
};

type Addresses = HashMap<ObjectName, Result<Url, Cause>>;

pub(super) struct Targets {
    domain: String,
    /// The only namespace that the gateway reads.
    only: Option<String>,
    /// By apiVersion and kind, for kinds that were listed.
    kinds: BTreeMap<(String, String), Addresses>,
}

impl Targets {
    pub(super) fn new(domain: String, only: Option<String>) -> Self {
        Self {
            domain,
            only,
            kinds: BTreeMap::new(),
        }
    }

    /// Replaces all objects of a kind. Returns, as `changed` and `deleted` do, whether an address has changed.
    pub(super) fn listed(&mut self, api_version: &str, kind: &str, objects: &[Value]) -> bool {
        let address = |object: &Value| (Objects::name(object), self.address(api_version, kind, object));
        let addresses: Addresses = objects.iter().map(address).collect();
        let key = (api_version.to_owned(), kind.to_owned());
        if self.kinds.get(&key) == Some(&addresses) {
            return false;
        }
        self.kinds.insert(key, addresses);
        true
    }

    pub(super) fn changed(&mut self, api_version: &str, kind: &str, object: &Value) -> bool {
        let (name, address) = (Objects::name(object), self.address(api_version, kind, object));
        let addresses = self.kinds.entry((api_version.to_owned(), kind.to_owned())).or_default();
        if addresses.get(&name) == Some(&address) {
            return false;
        }
        addresses.insert(name, address);
        true
    }

    pub(super) fn deleted(&mut self, api_version: &str, kind: &str, object: &Value) -> bool {
        let addresses = self.kinds.get_mut(&(api_version.to_owned(), kind.to_owned()));
        addresses.is_some_and(|addresses| addresses.remove(&Objects::name(object)).is_some())
    }

    pub(super) fn delete(&mut self, api_version: &str, kind: &str) {
        self.kinds.remove(&(api_version.to_owned(), kind.to_owned()));
    }

    fn address(&self, api_version: &str, kind: &str, object: &Value) -> Result<Url, Cause> {
        match (api_version, kind) {
            ("v1", "Service") => address::of_service(&Objects::name(object), object, &self.domain),
            _ => address::of_status(object),
        }
    }

    /// Returns the addresses of all references, for a build. `refused` tells why a collection cannot be read.
    pub(super) fn found(
        &self,
        references: &References,
        refused: impl Fn(&Collection) -> Option<(Refusal, Option<Rule>)>,
    ) -> ResolvedReferences {
        let mut found = ResolvedReferences::default();
        for target in &references.targets {
            let collection = match (&*target.api_version, &*target.kind) {
                ("v1", "Service") => Collection::Services,
                (api_version, kind) => Collection::Targets {
                    api_version: api_version.to_owned(),
                    kind: kind.to_owned(),
                },
            };
            let address = match refused(&collection) {
                Some((refusal, rule)) => Some(Err(unread(target, &refusal, rule.as_ref()))),
                None => self.known(target),
            };
            if let Some(address) = address {
                found.addresses.insert(target.clone(), address);
            }
        }
        for secret in &references.secrets {
            if let Some((Refusal::Forbidden, Some(rule))) = refused(&Collection::Secret(secret.clone())) {
                found.withheld.insert(secret.clone(), rule.forbidden());
            }
        }
        found
    }

    /// Returns `None` until the kind was listed.
    fn known(&self, target: &Reference) -> Option<Result<Url, Cause>> {
        let addresses = self.kinds.get(&(target.api_version.clone(), target.kind.clone()))?;
        Some(match addresses.get(&target.name) {
            Some(Ok(url)) => Ok(url.clone()),
            Some(Err(why)) => Err(Cause {
                message: format!("{target}: {}", why.message),
                ..why.clone()
            }),
            None => Err(Cause {
                reason: Reason::NotFound,
                message: match self.only.as_ref().filter(|only| **only != target.name.namespace) {
                    Some(only) => format!("{target} is not read: the gateway runs with --namespace {only}"),
                    None => format!("{target} does not exist: create it or correct the reference"),
                },
            }),
        })
    }
}

fn unread(target: &Reference, refusal: &Refusal, rule: Option<&Rule>) -> Cause {
    match (refusal, rule) {
        (Refusal::Forbidden, Some(rule)) => rule.forbidden(),
        (Refusal::NotFound, _) => Cause {
            reason: Reason::NotFound,
            message: format!(
                "{target} cannot be looked up: the API server has no kind {} in {}; install it or correct the reference",
                target.kind, target.api_version
            ),
        },
        (refusal, _) => Cause {
            reason: Reason::ApiServerError,
            message: format!("{target} cannot be looked up: {refusal}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reference(kind: &str, namespace: &str) -> Reference {
        Reference {
            api_version: "example.org/v1".into(),
            kind: kind.into(),
            name: ObjectName::new(namespace, "in"),
        }
    }

    fn object(url: &str) -> Value {
        json!({ "metadata": { "namespace": "shop", "name": "in" }, "status": { "address": { "url": url } } })
    }

    /// The address as a build is told it, or the reason and the message why there is none.
    fn resolved(targets: &Targets, target: &Reference, refusal: Option<&(Refusal, Option<Rule>)>) -> String {
        let references = References {
            targets: [target.clone()].into(),
            ..References::default()
        };
        let found = targets.found(&references, |_| refusal.cloned());
        match found.addresses.get(target) {
            None => "asked".to_owned(),
            Some(Ok(url)) => url.to_string(),
            Some(Err(why)) => format!("{}: {}", why.reason, why.message),
        }
    }

    #[test]
    fn an_address_is_known_while_its_object_has_one_and_never_longer() {
        let mut targets = Targets::new("cluster.local".into(), None);
        let (collection, kind) = ("example.org/v1", "Box");
        let target = reference(kind, "shop");
        assert_eq!(resolved(&targets, &target, None), "asked");
        assert!(targets.listed(collection, kind, &[]));
        assert!(resolved(&targets, &target, None).starts_with("NotFound: example.org/v1 Box shop/in does not exist"));
        assert!(targets.changed(collection, kind, &object("http://a/")));
        assert!(!targets.changed(collection, kind, &object("http://a/")), "nothing new");
        assert_eq!(resolved(&targets, &target, None), "http://a/");
        assert!(targets.changed(collection, kind, &object("")));
        assert!(resolved(&targets, &target, None).starts_with("emptyHostname: example.org/v1 Box shop/in: "));
        assert!(targets.deleted(collection, kind, &object("")));
        assert!(resolved(&targets, &target, None).starts_with("NotFound: "));
    }

    #[test]
    fn what_cannot_be_looked_up_says_why_and_what_to_do() {
        let mut targets = Targets::new("cluster.local".into(), Some("shop".into()));
        targets.listed("example.org/v1", "Box", &[]);
        let elsewhere = resolved(&targets, &reference("Box", "other"), None);
        assert!(elsewhere.contains("--namespace shop"), "{elsewhere}");
        let target = reference("Box", "shop");
        let no_kind = resolved(&targets, &target, Some(&(Refusal::NotFound, None)));
        assert!(no_kind.contains("no kind Box in example.org/v1"), "{no_kind}");
        let rule = Rule {
            group: "example.org".into(),
            resource: "boxes".into(),
            name: None,
            namespace: None,
            verbs: &["get", "list", "watch"],
        };
        let forbidden = resolved(&targets, &target, Some(&(Refusal::Forbidden, Some(rule))));
        assert!(
            forbidden.starts_with("Forbidden: ") && forbidden.contains("resources: [boxes]"),
            "{forbidden}"
        );
    }
}
