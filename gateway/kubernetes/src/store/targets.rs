//! Addresses of what documents refer to. Of each object its address is kept, and nothing else. Pure.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use spec::{Found, ObjectName, Objects, Reference, References, model::Unresolved};
use url::Url;

use crate::{
    address,
    collection::Collection,
    refusal::{Refusal, Rule},
};

type Addresses = HashMap<ObjectName, Result<Url, Unresolved>>;

pub(super) struct Targets {
    domain: String,
    /// The only namespace that is looked at.
    only: Option<String>,
    /// By apiVersion and kind; of kinds that were listed.
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

    /// Each says whether an address changed.
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

    pub(super) fn forget(&mut self, api_version: &str, kind: &str) {
        self.kinds.remove(&(api_version.to_owned(), kind.to_owned()));
    }

    fn address(&self, api_version: &str, kind: &str, object: &Value) -> Result<Url, Unresolved> {
        match (api_version, kind) {
            ("v1", "Service") => address::of_service(&Objects::name(object), object, &self.domain),
            _ => address::of_status(object),
        }
    }

    /// What a build is told of all that its documents refer to. `refused` says why a collection cannot be read.
    pub(super) fn found(
        &self,
        references: &References,
        refused: impl Fn(&Collection) -> Option<(Refusal, Option<Rule>)>,
    ) -> Found {
        let mut found = Found::default();
        for target in &references.targets {
            let of = match (&*target.api_version, &*target.kind) {
                ("v1", "Service") => Collection::Services,
                (api_version, kind) => Collection::Targets {
                    api_version: api_version.to_owned(),
                    kind: kind.to_owned(),
                },
            };
            let address = match refused(&of) {
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

    /// `None` while its kind was not listed yet.
    fn known(&self, target: &Reference) -> Option<Result<Url, Unresolved>> {
        let addresses = self.kinds.get(&(target.api_version.clone(), target.kind.clone()))?;
        Some(match addresses.get(&target.name) {
            Some(Ok(url)) => Ok(url.clone()),
            Some(Err(why)) => Err(Unresolved {
                message: format!("{target}: {}", why.message),
                ..why.clone()
            }),
            None => Err(Unresolved {
                reason: "NotFound",
                message: match self.only.as_ref().filter(|only| **only != target.name.namespace) {
                    Some(only) => format!("{target} is not looked at: the gateway runs with --namespace {only}"),
                    None => format!("{target} does not exist: create it or correct the reference"),
                },
            }),
        })
    }
}

fn unread(target: &Reference, refusal: &Refusal, rule: Option<&Rule>) -> Unresolved {
    match (refusal, rule) {
        (Refusal::Forbidden, Some(rule)) => rule.forbidden(),
        (Refusal::NotFound, _) => Unresolved {
            reason: "NotFound",
            message: format!(
                "{target} cannot be looked up: the API server has no kind {} in {}; install it or correct the reference",
                target.kind, target.api_version
            ),
        },
        (refusal, _) => Unresolved {
            reason: "ApiServerError",
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
    fn told(targets: &Targets, target: &Reference, refusal: Option<&(Refusal, Option<Rule>)>) -> String {
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
        let (of, kind) = ("example.org/v1", "Box");
        let target = reference(kind, "shop");
        assert_eq!(told(&targets, &target, None), "asked");
        assert!(targets.listed(of, kind, &[]));
        assert!(told(&targets, &target, None).starts_with("NotFound: example.org/v1 Box shop/in does not exist"));
        assert!(targets.changed(of, kind, &object("http://a/")));
        assert!(!targets.changed(of, kind, &object("http://a/")), "nothing new");
        assert_eq!(told(&targets, &target, None), "http://a/");
        assert!(targets.changed(of, kind, &object("")));
        assert!(told(&targets, &target, None).starts_with("emptyHostname: example.org/v1 Box shop/in: "));
        assert!(targets.deleted(of, kind, &object("")));
        assert!(told(&targets, &target, None).starts_with("NotFound: "));
    }

    #[test]
    fn what_cannot_be_looked_up_says_why_and_what_to_do() {
        let mut targets = Targets::new("cluster.local".into(), Some("shop".into()));
        targets.listed("example.org/v1", "Box", &[]);
        let elsewhere = told(&targets, &reference("Box", "other"), None);
        assert!(elsewhere.contains("--namespace shop"), "{elsewhere}");
        let target = reference("Box", "shop");
        let no_kind = told(&targets, &target, Some(&(Refusal::NotFound, None)));
        assert!(no_kind.contains("no kind Box in example.org/v1"), "{no_kind}");
        let rule = Rule {
            group: "example.org".into(),
            resource: "boxes".into(),
            name: None,
            namespace: None,
            verbs: &["get", "list", "watch"],
        };
        let forbidden = told(&targets, &target, Some(&(Refusal::Forbidden, Some(rule))));
        assert!(
            forbidden.starts_with("Forbidden: ") && forbidden.contains("resources: [boxes]"),
            "{forbidden}"
        );
    }
}
