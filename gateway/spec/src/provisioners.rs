//! Provisioners by name: the built-in ones, their aliases, and those that documents define (API.md 2.2).

use std::{collections::BTreeMap, sync::Arc};

use status::{Cause, Reason};

use crate::{
    ObjectName,
    model::{BackendKind, Config, Provisioner, SecretText},
    nearest::suggestion,
    resource,
};

/// Names that mean a backend, the canonical one first. `kafka` and `nats` need a document with connection settings.
const GROUPS: [(BackendKind, &[&str]); 4] = [
    (BackendKind::Memory, &["in-memory-channel", "in-memory", "memory"]),
    (BackendKind::Embedded, &["embedded"]),
    (BackendKind::Kafka, &["kafka", "kafka-channel"]),
    (BackendKind::Nats, &["nats", "natss"]),
];

/// Names that mean this backend.
pub(crate) fn names(backend: BackendKind) -> &'static [&'static str] {
    let group = GROUPS.iter().find(|(known, _)| *known == backend);
    group.map_or(&[], |(_, names)| names)
}

/// Groups of names that mean the same.
pub(crate) fn aliases() -> impl Iterator<Item = &'static [&'static str]> {
    GROUPS
        .into_iter()
        .map(|(_, names)| names)
        .filter(|names| names.len() > 1)
}

/// The canonical name and the backend that `name` means without saying so.
pub(crate) fn built_in(name: &str) -> Option<(&'static str, BackendKind)> {
    GROUPS
        .iter()
        .find(|(_, names)| names.contains(&name))
        .map(|(backend, names)| (names[0], *backend))
}

/// One name for all its aliases.
pub(crate) fn canonical(name: &str) -> &str {
    built_in(name).map_or(name, |(canonical, _)| canonical)
}

/// All that can be used.
pub(crate) struct Provisioners(BTreeMap<String, Arc<Provisioner>>);

impl Provisioners {
    /// From documents, by their names, and what is built in.
    pub(crate) fn new<'a>(documents: impl Iterator<Item = (&'a str, &'a resource::ClusterChannelProvisioner)>) -> Self {
        let mut all = BTreeMap::new();
        for (name, written) in documents {
            let provisioner = Provisioner {
                name: canonical(name).to_owned(),
                config: written.config.clone(),
                credentials: Ok(BTreeMap::new()),
                require_durability: written.require_durability.clone(),
            };
            all.insert(name.to_owned(), Arc::new(provisioner));
        }
        for (config, backend) in [
            (Config::Memory, BackendKind::Memory),
            (Config::Embedded, BackendKind::Embedded),
        ] {
            let names = names(backend);
            if names.iter().any(|name| all.contains_key(*name)) {
                continue;
            }
            let provisioner = Provisioner {
                name: names[0].to_owned(),
                config,
                credentials: Ok(BTreeMap::new()),
                require_durability: None,
            };
            all.insert(names[0].to_owned(), Arc::new(provisioner));
        }
        Self(all)
    }

    /// The same with what their secrets hold, as `find` gives it.
    pub(crate) fn with_credentials(
        self,
        find: impl Fn(&ObjectName) -> Result<BTreeMap<String, SecretText>, Cause>,
    ) -> Self {
        let with = |(name, found): (String, Arc<Provisioner>)| {
            let Some(secret) = found.config.secret() else {
                return (name, found);
            };
            let provisioner = Provisioner {
                credentials: find(&secret),
                ..(*found).clone()
            };
            (name, Arc::new(provisioner))
        };
        Self(self.0.into_iter().map(with).collect())
    }

    /// By its name, or by another name of the same backend.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Provisioner>, Cause> {
        let aliases = GROUPS
            .iter()
            .find(|(_, names)| names.contains(&name))
            .map_or(&[][..], |(_, names)| names);
        let found = std::iter::once(&name).chain(aliases).find_map(|name| self.0.get(*name));
        found.cloned().ok_or_else(|| {
            let message = if aliases.is_empty() {
                let known = self.0.keys().map(String::as_str);
                let meant = suggestion(
                    name,
                    known.chain(GROUPS.iter().flat_map(|(_, names)| names.iter().copied())),
                );
                let known: Vec<_> = self.0.keys().map(String::as_str).collect();
                let known = if meant.is_empty() {
                    format!("; there are: {}", known.join(", "))
                } else {
                    meant
                };
                format!("there is no provisioner `{name}`{known}")
            } else {
                format!("provisioner `{name}` needs a ClusterChannelProvisioner document with its connection settings")
            };
            Cause {
                reason: Reason::NotProvisioned,
                message,
            }
        })
    }

    pub(crate) fn into_inner(self) -> BTreeMap<String, Arc<Provisioner>> {
        self.0
    }
}
