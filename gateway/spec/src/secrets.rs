//! Secrets' values: from `kind: Secret` documents, then from a mounted folder `NAMESPACE/NAME/KEY` (`--secrets`).

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    Kind, ObjectName,
    model::{SecretText, Unresolved},
    resource::{Resource, SecretSelector},
    set::Set,
    surroundings::Surroundings,
};

/// Larger than any key or token; a file beyond it is no secret but a mistake.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// The folder, if there is one. Read each time a spec is built, so that a changed credential is in the next one (SR-6).
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder(pub(crate) Option<PathBuf>);

impl Folder {
    /// Names and keys were checked to be plain file names before they come here.
    fn read(&self, name: &ObjectName, key: &str) -> Option<Result<SecretText, String>> {
        let path = self.0.as_ref()?.join(&name.namespace).join(&name.name).join(key);
        let length = std::fs::metadata(&path).ok()?.len();
        if length > SECRET_BYTES_MAX {
            return Some(Err(format!(
                "{} is larger than {SECRET_BYTES_MAX} bytes",
                path.display()
            )));
        }
        match std::fs::read(&path) {
            Ok(bytes) => Some(Ok(SecretText::new(without_line_break(&bytes).to_vec()))),
            Err(error) => Some(Err(format!("{} cannot be read: {error}", path.display()))),
        }
    }
}

/// An editor or `echo` ends a file with a line break, which is part of no token, key or password.
fn without_line_break(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

impl Surroundings<'_> {
    /// Of a secret that is no document.
    fn secret(&self, name: &ObjectName, key: &str) -> Option<Result<SecretText, String>> {
        match self {
            Self::Files(folder) => folder.read(name, key),
            Self::Cluster(_) => None,
        }
    }

    /// Why a secret is not there, and what to do. `reason` is what its absence is called.
    fn no_secret(&self, name: &ObjectName, keys: &str, reason: &'static str) -> Unresolved {
        let message = match self {
            Self::Files(_) => format!(
                "there is no secret {name} with {keys}: add a Secret document, or files {name}/KEY in the --secrets folder"
            ),
            Self::Cluster(found) => match found.withheld.get(name) {
                Some(why) => return why.clone(),
                None => format!("there is no secret {name} with {keys}: create it"),
            },
        };
        Unresolved { reason, message }
    }
}

/// Those of `keys` that a secret has; `reason` is what it is called in a condition that it has none.
pub(crate) fn group(
    set: &Set,
    surroundings: Surroundings<'_>,
    name: &ObjectName,
    keys: &[&str],
    reason: &'static str,
) -> Result<BTreeMap<String, SecretText>, Unresolved> {
    let document = match set.get(Kind::Secret, name) {
        Some(Resource::Secret(secret)) => Some(secret),
        _ => None,
    };
    let mut found = BTreeMap::new();
    for key in keys {
        let value = match document.and_then(|secret| secret.values.get(*key)) {
            Some(value) => Some(Ok(value.clone())),
            None => surroundings.secret(name, key),
        };
        if let Some(value) = value {
            let value = value.map_err(|message| Unresolved { reason, message })?;
            found.insert((*key).to_owned(), value);
        }
    }
    if found.is_empty() {
        let keys = format!("any of the keys {}", keys.join(", "));
        return Err(surroundings.no_secret(name, &keys, reason));
    }
    Ok(found)
}

/// The value that a selector in `namespace` means; `reason` is what its absence is called in a condition.
pub(crate) fn find(
    set: &Set,
    surroundings: Surroundings<'_>,
    namespace: &str,
    selector: &SecretSelector,
    default_key: &str,
    reason: &'static str,
) -> Result<SecretText, Unresolved> {
    let name = ObjectName::new(namespace, &selector.name);
    let key = selector.key.as_deref().unwrap_or(default_key);
    let document = match set.get(Kind::Secret, &name) {
        Some(Resource::Secret(secret)) => Some(secret),
        _ => None,
    };
    if let Some(value) = document.and_then(|secret| secret.values.get(key)) {
        return Ok(value.clone());
    }
    let message = match (surroundings.secret(&name, key), document) {
        (Some(Ok(value)), _) => return Ok(value),
        (Some(Err(message)), _) => message,
        (None, Some(secret)) => {
            let known: Vec<_> = secret.values.keys().map(String::as_str).collect();
            format!("secret {name} has no key `{key}`; it has: {}", known.join(", "))
        }
        (None, None) => return Err(surroundings.no_secret(&name, &format!("the key {key}"), reason)),
    };
    Err(Unresolved { reason, message })
}
