//! Secrets' values: from `kind: Secret` documents, then from a mounted folder `NAMESPACE/NAME/KEY` (`--secrets`).

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io::{ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use status::{Cause, Reason};

use crate::{
    Kind, ObjectName,
    model::SecretText,
    nearest::suggestion,
    resolver::Resolver,
    resource::{Resource, SecretSelector},
    set::Set,
};

/// Larger than any key or token; a file beyond it is no secret but a mistake.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// The folder, if there is one. Read each time a spec is built, so that a changed credential is in the next one (SR-6).
#[derive(Debug, Default)]
pub(crate) struct Folder {
    path: Option<PathBuf>,
    /// Warnings about the files that were read since the last call.
    doubts: Mutex<BTreeMap<PathBuf, String>>,
}

impl Folder {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            doubts: Mutex::default(),
        }
    }

    /// Files that were read and are likely not as they should be, and why.
    pub(crate) fn doubts(&self) -> BTreeMap<PathBuf, String> {
        std::mem::take(&mut self.doubts.lock())
    }

    /// Names and keys were checked to be plain file names before they come here.
    fn read(&self, name: &ObjectName, key: &str) -> Option<Result<SecretText, String>> {
        let folder = self.path.as_ref()?;
        let path = folder.join(&name.namespace).join(&name.name).join(key);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return None,
            Err(error) => return Some(Err(format!("{} cannot be read: {error}", path.display()))),
        };
        let read = contents(&path, &metadata).map(|bytes| without_line_break(&bytes).to_vec());
        let doubts = doubts(folder, &path, &metadata, read.as_deref().unwrap_or_default());
        if !doubts.is_empty() {
            self.doubts.lock().insert(path, doubts.join("; "));
        }
        Some(read.map(SecretText::new))
    }

    /// The names of secrets in a namespace's folder.
    fn names(&self, namespace: &str) -> Vec<String> {
        let entries = self
            .path
            .as_ref()
            .map(|folder| std::fs::read_dir(folder.join(namespace)));
        let Some(Ok(entries)) = entries else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| !name.starts_with('.')).collect()
    }
}

/// Reads a regular file. Reading a pipe or a device might never end, so those are refused.
fn contents(path: &Path, metadata: &Metadata) -> Result<Vec<u8>, String> {
    let shown = path.display();
    if !metadata.is_file() {
        return Err(format!("{shown} is no regular file: a secret is read from a file"));
    }
    let too_large = || format!("{shown} is larger than {SECRET_BYTES_MAX} bytes: that is no secret");
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // The size that is told may be wrong: of files below /proc, and of those that grow.
    let read = File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("{shown} cannot be read: {error}")),
        Ok(_) if bytes.len() as u64 > SECRET_BYTES_MAX => Err(too_large()),
        Ok(_) => Ok(bytes),
    }
}

/// Returns the reasons to warn about a file of secrets.
fn doubts(folder: &Path, path: &Path, metadata: &Metadata, value: &[u8]) -> Vec<String> {
    let mut doubts = Vec::new();
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if let (Some(folder), Some(target)) = (real(folder), real(path))
        && !target.starts_with(&folder)
    {
        doubts.push(format!(
            "this is a link that leads out of the secrets folder, to {}: put the file itself there",
            target.display()
        ));
    }
    if metadata.permissions().mode() & WORLD_WRITABLE != 0 {
        doubts.push("every user of this machine may change this secret: chmod 600".to_owned());
    }
    if value.len() == 1 {
        doubts.push("this secret has one character, which anybody can guess".to_owned());
    }
    doubts
}

/// The bit of a file's mode that lets everybody write it.
const WORLD_WRITABLE: u32 = 0o002;

/// An editor or `echo` ends a file with a line break, which is part of no token, key or password.
fn without_line_break(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

impl Resolver<'_> {
    /// The file of a secret that is no document.
    fn secret(&self, name: &ObjectName, key: &str) -> Option<Result<SecretText, String>> {
        match self {
            Self::Files(folder) => folder.read(name, key),
            Self::Cluster(_) => None,
        }
    }

    /// Why a secret is not there, and what to do. `reason` is what its absence is called.
    fn no_secret(&self, set: &Set, name: &ObjectName, keys: &str, reason: Reason) -> Cause {
        let documents = set.valid.keys().filter(|key| key.kind == Kind::Secret);
        let documents = documents.filter(|key| key.name.namespace == name.namespace);
        let mut known: Vec<String> = documents.map(|key| key.name.name.clone()).collect();
        let message = match self {
            Self::Files(folder) => {
                known.extend(folder.names(&name.namespace));
                let meant = suggestion(&name.name, known.iter().map(String::as_str));
                let looked = match &folder.path {
                    Some(path) => format!(
                        "neither a Secret document nor a folder {}",
                        path.join(name.to_string()).display()
                    ),
                    None => "no Secret document, and no --secrets folder is given".to_owned(),
                };
                format!(
                    "there is no secret {name} with {keys}{meant} ({looked}): add a Secret document, or files {name}/KEY in \
                     the --secrets folder"
                )
            }
            Self::Cluster(found) => match found.withheld.get(name) {
                Some(why) => return why.clone(),
                None => {
                    let meant = suggestion(&name.name, known.iter().map(String::as_str));
                    format!("there is no secret {name} with {keys}{meant}: create it")
                }
            },
        };
        Cause { reason, message }
    }
}

/// Those of `keys` that a secret has; `reason` is what it is called in a condition that it has none.
pub(crate) fn group(
    set: &Set,
    resolver: Resolver<'_>,
    name: &ObjectName,
    keys: &[&str],
    reason: Reason,
) -> Result<BTreeMap<String, SecretText>, Cause> {
    let document = match set.get(Kind::Secret, name) {
        Some(Resource::Secret(secret)) => Some(secret),
        _ => None,
    };
    let mut found = BTreeMap::new();
    for key in keys {
        let value = match document.and_then(|secret| secret.values.get(*key)) {
            Some(value) => Some(Ok(value.clone())),
            None => resolver.secret(name, key),
        };
        if let Some(value) = value {
            let value = value.map_err(|message| Cause { reason, message })?;
            found.insert((*key).to_owned(), value);
        }
    }
    if found.is_empty() {
        let keys = format!("any of the keys {}", keys.join(", "));
        return Err(resolver.no_secret(set, name, &keys, reason));
    }
    Ok(found)
}

/// The value that a selector in `namespace` means; `reason` is what its absence is called in a condition.
pub(crate) fn find(
    set: &Set,
    resolver: Resolver<'_>,
    namespace: &str,
    selector: &SecretSelector,
    default_key: &str,
    reason: Reason,
) -> Result<SecretText, Cause> {
    let name = ObjectName::new(namespace, &selector.name);
    let key = selector.key.as_deref().unwrap_or(default_key);
    let document = match set.get(Kind::Secret, &name) {
        Some(Resource::Secret(secret)) => Some(secret),
        _ => None,
    };
    let found = match document.and_then(|secret| secret.values.get(key)) {
        Some(value) => Some(Ok(value.clone())),
        None => resolver.secret(&name, key),
    };
    let message = match (found, document) {
        (Some(Ok(value)), _) if !value.expose().is_empty() => return Ok(value),
        (Some(Ok(_)), _) => format!("the key `{key}` of secret {name} is empty: it has to hold a value"),
        (Some(Err(message)), _) => message,
        (None, Some(secret)) => {
            let known: Vec<_> = secret.values.keys().map(String::as_str).collect();
            let meant = suggestion(key, known.iter().copied());
            format!("secret {name} has no key `{key}`{meant}; it has: {}", known.join(", "))
        }
        (None, None) => return Err(resolver.no_secret(set, &name, &format!("the key {key}"), reason)),
    };
    Err(Cause { reason, message })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{fs, os::unix::fs::symlink, process::Command};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Proves: SR-6
    #[test]
    fn a_secret_is_a_small_regular_file_and_its_bytes_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let at = |key: &str| root.path().join("default/s").join(key);
        fs::create_dir_all(at("")).unwrap();
        fs::write(at("bytes"), b"p\xff\0ss\n").unwrap();
        fs::write(at("large"), vec![b'x'; 1 + usize::try_from(SECRET_BYTES_MAX).unwrap()]).unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        symlink("/dev/zero", at("device")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let folder = Folder::new(Some(root.path().to_owned()));
        let read = |key: &str| folder.read(&ObjectName::new("default", "s"), key);
        assert_eq!(read("bytes").unwrap().unwrap().expose(), b"p\xff\0ss");
        assert_eq!(read("absent"), None);
        for (key, words) in [
            ("large", "is larger than"),
            ("pipe", "is no regular file"),
            ("device", "is no regular file"),
            ("folder", "is no regular file"),
        ] {
            let why = read(key).unwrap().unwrap_err();
            assert!(why.contains(words), "{key}: {why}");
        }
    }

    #[test]
    fn a_secret_that_others_may_change_or_guess_is_doubtful() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |key: &str| root.path().join("default/s").join(key);
        fs::create_dir_all(at("..data")).unwrap();
        for key in ["fine", "open", "short", "..data/mounted"] {
            fs::write(at(key), if key == "short" { "x\n" } else { "long enough" }).unwrap();
            mode(&at(key), if key == "open" { 0o777 } else { 0o600 });
        }
        // As Kubernetes mounts a Secret.
        symlink("..data/mounted", at("mounted")).unwrap();
        fs::write(elsewhere.path().join("far"), "long enough").unwrap();
        mode(&elsewhere.path().join("far"), 0o600);
        symlink(elsewhere.path().join("far"), at("far")).unwrap();
        let folder = Folder::new(Some(root.path().to_owned()));
        for key in ["fine", "open", "short", "mounted", "far"] {
            assert!(
                folder.read(&ObjectName::new("default", "s"), key).unwrap().is_ok(),
                "{key}"
            );
        }
        let doubts = folder.doubts();
        let why = |key: &str| doubts.get(&at(key)).map_or("", String::as_str);
        assert_eq!((why("fine"), why("mounted")), ("", ""));
        assert!(
            why("open").contains("every user of this machine may change"),
            "{doubts:?}"
        );
        assert!(why("short").contains("one character"), "{doubts:?}");
        assert!(why("far").contains("leads out of the secrets folder"), "{doubts:?}");
        assert_eq!(folder.doubts(), BTreeMap::new(), "said once for each reading");
    }
}
