//! The ConfigMap in the gateway's own namespace that sets default provisioners. Pure.
//!
//! Its name is `default-channel`, or the one of v0.2; if both exist, the first counts. An invalid one is reported, and
//! the previous defaults stay in force.

use std::collections::BTreeMap;

use serde_json::Value;
use spec::{Cause, DEFAULTS_KEY, Defaults, ObjectName, Reason};

/// In the order of precedence.
const NAMES: [&str; 2] = ["default-channel", "default-channel-webhook"];

/// The ConfigMaps that exist, parsed.
#[derive(Default)]
pub(super) struct DefaultChannels {
    found: BTreeMap<ObjectName, Result<Defaults, String>>,
}

/// Returns the names of the ConfigMaps to watch.
pub(super) fn config_maps(home: &str) -> impl Iterator<Item = ObjectName> {
    NAMES.into_iter().map(move |name| ObjectName::new(home, name))
}

impl DefaultChannels {
    /// Stores a ConfigMap. Returns whether its content has changed.
    pub(super) fn put(&mut self, name: &ObjectName, object: &Value) -> bool {
        let effective = read(object);
        if self.found.get(name) == Some(&effective) {
            return false;
        }
        self.found.insert(name.clone(), effective);
        true
    }

    pub(super) fn remove(&mut self, name: &ObjectName) -> bool {
        self.found.remove(name).is_some()
    }

    /// Returns the effective defaults and the ConfigMap that sets them.
    pub(super) fn effective(&self) -> (Option<&ObjectName>, Result<Defaults, Cause>) {
        let rank = |name: &&ObjectName| NAMES.iter().position(|known| **known == *name.name);
        let Some(name) = self.found.keys().min_by_key(rank) else {
            return (None, Ok(Defaults::default()));
        };
        let effective = self.found[name].clone().map_err(|fault| Cause {
            reason: Reason::DefaultChannelInvalid,
            message: format!(
                "ConfigMap {name} sets default provisioners and is invalid ({fault}): correct it, or \
                 name a provisioner in the channel"
            ),
        });
        (Some(name), effective)
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
        assert_eq!(channels.effective(), (None, Ok(Defaults::default())));
        let (one, other) = ("clusterdefault: {name: kafka}", "clusterdefault: {name: nats}");
        assert!(channels.put(&former, &says(one)) && !channels.put(&former, &says(one)));
        assert_eq!(channels.effective(), (Some(&former), Ok(parsed(one))));
        assert!(channels.put(&ours, &says(other)));
        assert_eq!(channels.effective(), (Some(&ours), Ok(parsed(other))));
        for (object, fault) in [
            (json!({}), "it has no key default-channel-config"),
            (
                says("clusterdefault: 1"),
                "default-channel-config: line 1: clusterdefault is a number",
            ),
        ] {
            assert!(channels.put(&ours, &object));
            let why = channels.effective().1.expect_err(fault);
            assert_eq!(why.reason, "DefaultChannelInvalid");
            assert!(
                why.message.contains("ConfigMap system/default-channel ") && why.message.contains(fault),
                "{why:?}"
            );
        }
        assert!(channels.remove(&ours) && !channels.remove(&ours));
        assert_eq!(channels.effective().0, Some(&former));
    }
}
