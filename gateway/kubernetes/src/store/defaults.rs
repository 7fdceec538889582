//! The ConfigMap in the gateway's own namespace that says what channels get that name no provisioner. Pure.
//!
//! It is called `default-channel`, or as v0.2 called it; where both are there, the first counts. One that cannot be used is told,
//! and the one before it goes on.

use std::collections::BTreeMap;

use serde_json::Value;
use spec::{DEFAULTS_KEY, Defaults, ObjectName, model::Unresolved};

/// In the order in which they count.
const NAMES: [&str; 2] = ["default-channel", "default-channel-webhook"];

/// The ConfigMaps that are there, and what they say.
#[derive(Default)]
pub(super) struct DefaultChannels {
    found: BTreeMap<ObjectName, Result<Defaults, String>>,
}

/// Where they are looked for.
pub(super) fn places(home: &str) -> impl Iterator<Item = ObjectName> {
    NAMES.into_iter().map(move |name| ObjectName::new(home, name))
}

impl DefaultChannels {
    /// Whether that is new.
    pub(super) fn put(&mut self, name: &ObjectName, object: &Value) -> bool {
        let said = read(object);
        if self.found.get(name) == Some(&said) {
            return false;
        }
        self.found.insert(name.clone(), said);
        true
    }

    pub(super) fn remove(&mut self, name: &ObjectName) -> bool {
        self.found.remove(name).is_some()
    }

    /// What counts now, and where it stands.
    pub(super) fn said(&self) -> (Option<&ObjectName>, Result<Defaults, Unresolved>) {
        let rank = |name: &&ObjectName| NAMES.iter().position(|known| **known == *name.name);
        let Some(name) = self.found.keys().min_by_key(rank) else {
            return (None, Ok(Defaults::default()));
        };
        let said = self.found[name].clone().map_err(|fault| Unresolved {
            reason: "DefaultChannelInvalid",
            message: format!(
                "ConfigMap {name} says what channels get that name no provisioner, and cannot be used ({fault}): correct it, or \
                 name a provisioner in the channel"
            ),
        });
        (Some(name), said)
    }
}

fn read(object: &Value) -> Result<Defaults, String> {
    match object["data"][DEFAULTS_KEY].as_str() {
        Some(text) => Defaults::parse(text).map_err(|fault| format!("{DEFAULTS_KEY}: {fault}")),
        None => Err(format!("it has no key {DEFAULTS_KEY}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_that_is_there_counts_and_its_faults_are_told() {
        let [ours, former] = NAMES.map(|name| ObjectName::new("system", name));
        let says = |text: &str| json!({ "data": { DEFAULTS_KEY: text } });
        let parsed = |text: &str| Defaults::parse(text).expect("no fault");
        let mut channels = DefaultChannels::default();
        assert_eq!(channels.said(), (None, Ok(Defaults::default())));
        let (one, other) = ("clusterdefault: {name: kafka}", "clusterdefault: {name: nats}");
        assert!(channels.put(&former, &says(one)) && !channels.put(&former, &says(one)));
        assert_eq!(channels.said(), (Some(&former), Ok(parsed(one))));
        assert!(channels.put(&ours, &says(other)));
        assert_eq!(channels.said(), (Some(&ours), Ok(parsed(other))));
        for (object, fault) in [
            (json!({}), "it has no key default-channel-config"),
            (
                says("clusterdefault: 1"),
                "default-channel-config: line 1: clusterdefault is a number",
            ),
        ] {
            assert!(channels.put(&ours, &object));
            let why = channels.said().1.expect_err(fault);
            assert_eq!(why.reason, "DefaultChannelInvalid");
            assert!(
                why.message.contains("ConfigMap system/default-channel ") && why.message.contains(fault),
                "{why:?}"
            );
        }
        assert!(channels.remove(&ours) && !channels.remove(&ours));
        assert_eq!(channels.said().0, Some(&former));
    }
}
