//! The provisioners of channels that name none: one for the whole cluster, and others for some namespaces, as v0.2 had them in
//! a ConfigMap; and what each such channel was given, which it keeps.
//!
//! A channel's events are where its provisioner put them. So a default is read once, when the channel is first seen, and from
//! then on is the channel's own: another default is of channels that come later.

use std::collections::BTreeMap;

use status::Cause;

use crate::{
    Kind, ObjectKey,
    nearest::suggestion,
    resource::Reference,
    tree::{self, Mark, Node, Value},
};

/// The key of the ConfigMap whose value [`Defaults::parse`] reads.
pub const DEFAULTS_KEY: &str = "default-channel-config";

const CLUSTER: &str = "clusterdefault";
const NAMESPACES: &str = "namespacedefaults";
const PARTS: [&str; 3] = ["apiversion", "kind", "name"];

/// Names of provisioners; `None` where the ConfigMap names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    everywhere: Option<String>,
    namespaces: BTreeMap<String, String>,
}

impl Defaults {
    /// Reads what v0.2 reads: `clusterdefault` and `namespacedefaults`, in any case, each a reference of which the name is enough.
    /// All faults at once, with their lines: nothing is used of a text that has one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut faults = Faults::default();
        let mut defaults = Self::default();
        let root = tree::parse(text, 0, 1).map_err(|syntax| at(syntax.at, &syntax.message))?;
        for (name, at, node) in faults.entries(root.as_ref(), "", &[CLUSTER, NAMESPACES]) {
            match &*name {
                CLUSTER => defaults.everywhere = faults.provisioner(node, CLUSTER),
                NAMESPACES => match &node.value {
                    Value::Map(entries) => {
                        for (namespace, node) in entries.iter().filter(|(_, node)| !node.is_null()) {
                            let path = format!("{NAMESPACES}.{}", namespace.name);
                            if let Some(provisioner) = faults.provisioner(node, &path) {
                                defaults.namespaces.insert(namespace.name.clone(), provisioner);
                            }
                        }
                    }
                    _ => faults.add(at, NAMESPACES, &format!("is {}, not a map of namespaces", node.kind())),
                },
                _ => {}
            }
        }
        match faults.0.is_empty() {
            true => Ok(defaults),
            false => Err(faults.0.join("; ")),
        }
    }

    fn of(&self, namespace: &str) -> Option<&str> {
        self.namespaces
            .get(namespace)
            .or(self.everywhere.as_ref())
            .map(String::as_str)
    }
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, mark: Mark, path: &str, what: &str) {
        self.0.push(at(mark, &format!("{path} {what}")));
    }

    /// The entries of a map that say something, by their names in lower case; others than the `known` ones are faults.
    fn entries<'a>(
        &mut self,
        node: Option<&'a Node>,
        path: &str,
        known: &[&'static str],
    ) -> Vec<(String, Mark, &'a Node)> {
        let dot = if path.is_empty() { "" } else { "." };
        let mut found = Vec::new();
        match node.map(|node| (&node.value, node)) {
            None => {}
            Some((Value::Map(entries), _)) => {
                for (key, node) in entries {
                    let name = key.name.to_lowercase();
                    if !known.contains(&&*name) {
                        let meant = suggestion(&key.name, known.iter().copied());
                        self.add(
                            key.at,
                            &format!("{path}{dot}{}", key.name),
                            &format!("is not known{meant}"),
                        );
                    } else if !node.is_null() {
                        found.push((name, key.at, node));
                    }
                }
            }
            Some((_, node)) => {
                let what = format!("is {}, not a map", node.kind());
                self.add(node.at, if path.is_empty() { "it" } else { path }, &what);
            }
        }
        found
    }

    fn provisioner(&mut self, node: &Node, path: &str) -> Option<String> {
        let before = self.0.len();
        let mut provisioner = None;
        for (part, at, node) in self.entries(Some(node), path, &PARTS) {
            let path = format!("{path}.{part}");
            let kind = Kind::ClusterChannelProvisioner;
            match (&*part, node.text()) {
                (_, None | Some("")) => self.add(at, &path, "is no text"),
                ("name", Some(name)) => provisioner = Some(name.to_owned()),
                ("kind", Some(text)) if text != kind.as_str() => {
                    self.add(at, &path, &format!("is {text}: it can be {kind} alone"));
                }
                ("apiversion", Some(text)) if text != kind.api_version() => {
                    self.add(at, &path, &format!("is {text}: it can be {} alone", kind.api_version()));
                }
                _ => {}
            }
        }
        if provisioner.is_none() && self.0.len() == before {
            self.add(node.at, path, "has no name");
        }
        provisioner
    }
}

fn at(mark: Mark, message: &str) -> String {
    format!("line {}: {message}", mark.line)
}

/// The provisioners of channels that name none.
pub(crate) struct AssignedProvisioners {
    /// The provisioner where no default applies.
    fallback: String,
    /// The newest defaults, and the newest that had no fault.
    defaults: Result<Defaults, Cause>,
    good: Option<Defaults>,
    /// The provisioner of each channel, or why it waits for one.
    channels: BTreeMap<ObjectKey, Result<String, Cause>>,
}

impl AssignedProvisioners {
    pub(crate) fn new(fallback: impl Into<String>) -> Self {
        Self {
            fallback: fallback.into(),
            defaults: Ok(Defaults::default()),
            good: None,
            channels: BTreeMap::new(),
        }
    }

    /// Sets the defaults. The last good ones stay in force while the new ones have a fault.
    pub(crate) fn set(&mut self, defaults: Result<Defaults, Cause>) {
        if let Ok(defaults) = &defaults {
            self.good = Some(defaults.clone());
        }
        self.defaults = defaults;
    }

    /// Restores the provisioner that a channel was given earlier.
    pub(crate) fn remember(&mut self, channel: ObjectKey, provisioner: impl Into<String>) {
        self.channels.insert(channel, Ok(provisioner.into()));
    }

    pub(crate) fn remember_fallback(&mut self, channel: ObjectKey) {
        let fallback = self.fallback.clone();
        self.remember(channel, fallback);
    }

    pub(crate) fn knows(&self, channel: &ObjectKey) -> bool {
        self.channels.get(channel).is_some_and(Result::is_ok)
    }

    /// Takes the provisioner of a channel back, because it does not exist or the channel was deleted.
    pub(crate) fn delete(&mut self, channel: &ObjectKey) {
        self.channels.remove(channel);
    }

    /// Gives a channel that names none its default.
    pub(crate) fn assign(&mut self, channel: &ObjectKey) {
        let defaults = match (&self.defaults, &self.good) {
            (Ok(defaults), _) | (Err(_), Some(defaults)) => Ok(defaults),
            (Err(why), None) => Err(why.clone()),
        };
        let assigned = defaults.map(|defaults| {
            defaults
                .of(&channel.name.namespace)
                .unwrap_or(&self.fallback)
                .to_owned()
        });
        self.channels.insert(channel.clone(), assigned);
    }

    /// Returns the provisioner of a channel: the one it names, else the one it was given.
    pub(crate) fn name<'a>(
        &'a self,
        channel: &ObjectKey,
        written: Option<&'a Reference>,
    ) -> Result<&'a str, &'a Cause> {
        match (written, self.channels.get(channel)) {
            (Some(reference), _) => Ok(&reference.name),
            (None, Some(assigned)) => assigned.as_ref().map(String::as_str),
            (None, None) => Ok(&self.fallback),
        }
    }
}

#[cfg(test)]
mod tests {
    use status::Reason;

    use super::*;
    use crate::ObjectName;

    #[test]
    fn defaults_are_read_as_v0_2_wrote_them() {
        let text = "
clusterdefault:
  apiversion: eventing.knative.dev/v1alpha1
  kind: ClusterChannelProvisioner
  name: in-memory-channel
namespacedefaults:
  shop: { apiVersion: eventing.knative.dev/v1alpha1, kind: ClusterChannelProvisioner, name: kafka }
  plain: { name: embedded }
  nothing:
";
        let defaults = Defaults::parse(text).unwrap_or_default();
        for (namespace, expected) in [
            ("shop", "kafka"),
            ("plain", "embedded"),
            ("nothing", "in-memory-channel"),
            ("other", "in-memory-channel"),
        ] {
            assert_eq!(defaults.of(namespace), Some(expected), "{namespace}");
        }
        for nothing in ["", "# nothing\n", "clusterdefault:\n", "namespacedefaults: {}\n"] {
            assert_eq!(Defaults::parse(nothing), Ok(Defaults::default()), "{nothing:?}");
        }
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let cases = [
            ("clusterdefault: [", "line 1: "),
            ("- a", "line 1: it is a list, not a map"),
            ("clusterdefault: kafka", "line 1: clusterdefault is text, not a map"),
            ("\nclusterdefault: {}", "line 2: clusterdefault has no name"),
            ("clusterdefault: {name: 3}", "line 1: clusterdefault.name is no text"),
            (
                "clusterdefault: {kind: Broker, name: a}",
                "line 1: clusterdefault.kind is Broker: it can be ClusterChannelProvisioner alone",
            ),
            (
                "clusterdefault: {apiversion: v1, name: a}",
                "line 1: clusterdefault.apiversion is v1: it can be eventing.knative.dev/v1alpha1 alone",
            ),
            (
                "clusterdefaults: {name: a}",
                "line 1: clusterdefaults is not known, did you mean `clusterdefault`?",
            ),
            (
                "namespacedefaults: kafka",
                "line 1: namespacedefaults is text, not a map of namespaces",
            ),
            (
                "namespacedefaults:\n  shop: {nam: a}",
                "line 2: namespacedefaults.shop.nam is not known, did you mean `name`?",
            ),
        ];
        for (text, expected) in cases {
            let error = Defaults::parse(text).expect_err(text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let both = Defaults::parse("clusterdefault: {}\nnamespacedefaults: 4\n").expect_err("two faults");
        assert!(both.contains("line 1: ") && both.contains("; line 2: "), "{both}");
    }

    #[test]
    fn what_was_given_stays_and_the_last_good_defaults_count() {
        let key = |name: &str| ObjectKey::new(Kind::Channel, ObjectName::new("shop", name));
        let of = |text: &str| {
            Defaults::parse(text).map_err(|message| Cause {
                reason: Reason::DefaultChannelInvalid,
                message,
            })
        };
        let mut assigned = AssignedProvisioners::new("embedded");
        assigned.set(of("clusterdefault: {"));
        assigned.assign(&key("waits"));
        assert!(
            assigned
                .name(&key("waits"), None)
                .is_err_and(|why| why.reason == "DefaultChannelInvalid")
        );
        assert!(!assigned.knows(&key("waits")));
        assigned.set(of("clusterdefault: {name: kafka}"));
        assigned.assign(&key("waits"));
        assert_eq!(assigned.name(&key("waits"), None), Ok("kafka"));
        assigned.set(of("clusterdefault: {"));
        assigned.assign(&key("second"));
        assert_eq!(assigned.name(&key("second"), None), Ok("kafka"), "the last good ones");
        assigned.set(Ok(Defaults::default()));
        assigned.assign(&key("third"));
        assert_eq!(
            assigned.name(&key("third"), None),
            Ok("embedded"),
            "they were taken away"
        );
        assert_eq!(assigned.name(&key("second"), None), Ok("kafka"), "what it was given");
    }
}
