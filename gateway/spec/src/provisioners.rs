//! Provisioners by name: the built-in ones, their aliases, and those that documents define (API.md 2.2).

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    ObjectName,
    model::{BackendKind, Provisioner, SecretText, Unresolved},
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

/// Where the secret of a provisioner, which has no namespace, is looked for when its reference names none.
const SECRETS_NAMESPACE: &str = "default";

/// The secret that a provisioner's `config` names.
pub(crate) fn secret_of(config: &Value) -> Option<ObjectName> {
    let secret = config.pointer("/security/secretRef")?;
    let text = |key: &str| secret.get(key).and_then(Value::as_str);
    Some(ObjectName::new(
        text("namespace").unwrap_or(SECRETS_NAMESPACE),
        text("name")?,
    ))
}

/// All that can be used.
pub(crate) struct Provisioners(BTreeMap<String, Arc<Provisioner>>);

impl Provisioners {
    /// From documents, by their names, and what is built in.
    pub(crate) fn new<'a>(documents: impl Iterator<Item = (&'a str, &'a resource::ClusterChannelProvisioner)>) -> Self {
        let mut all = BTreeMap::new();
        for (name, written) in documents {
            let Some(backend) = written.backend.or_else(|| built_in(name).map(|(_, backend)| backend)) else {
                continue;
            };
            let provisioner = Provisioner {
                name: canonical(name).to_owned(),
                backend,
                config: Value::Object(written.config.clone()),
                credentials: Ok(BTreeMap::new()),
                require_durability: written.require_durability.clone(),
            };
            all.insert(name.to_owned(), Arc::new(provisioner));
        }
        for (backend, names) in GROUPS {
            let needs_settings = matches!(backend, BackendKind::Kafka | BackendKind::Nats);
            if needs_settings || names.iter().any(|name| all.contains_key(*name)) {
                continue;
            }
            let config = Value::Object(serde_json::Map::new());
            let provisioner = Provisioner {
                name: names[0].to_owned(),
                backend,
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
        find: impl Fn(&ObjectName) -> Result<BTreeMap<String, SecretText>, Unresolved>,
    ) -> Self {
        let with = |(name, found): (String, Arc<Provisioner>)| {
            let Some(secret) = secret_of(&found.config) else {
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
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Provisioner>, Unresolved> {
        let aliases = GROUPS
            .iter()
            .find(|(_, names)| names.contains(&name))
            .map_or(&[][..], |(_, names)| names);
        let found = std::iter::once(&name).chain(aliases).find_map(|name| self.0.get(*name));
        found.cloned().ok_or_else(|| {
            let message = if aliases.is_empty() {
                let meant = suggestion(name, self.0.keys().map(String::as_str));
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
            Unresolved {
                reason: "NotProvisioned",
                message,
            }
        })
    }

    pub(crate) fn into_inner(self) -> BTreeMap<String, Arc<Provisioner>> {
        self.0
    }
}
