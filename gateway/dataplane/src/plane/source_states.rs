//! Where the small state of sources lives: a folder for each, and the names that mark what was made upstream.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use adapter::{Checkpoint, FileCheckpoint, MemoryCheckpoint};
use parking_lot::Mutex;
use spec::{Kind, ObjectKey, ObjectName};
use uuid::Uuid;

/// Below the data folder.
const SOURCES: &str = "sources";
const GATEWAY_ID: &str = "gateway-id";
const UID: &str = "uid";

/// The identity of a source and a handle on its state; clones share the state.
#[derive(Clone)]
pub struct Identity {
    /// As [`adapter::Source::uid`].
    pub uid: String,
    /// As [`adapter::Source::gateway`].
    pub gateway: String,
    /// Where the source's state is kept.
    pub checkpoint: Arc<dyn Checkpoint>,
}

/// A source's identity with its file, if it has one.
#[derive(Clone)]
struct SourceState {
    identity: Identity,
    file: Option<Arc<FileCheckpoint>>,
}

/// The states of all sources of this gateway.
pub(crate) struct SourceStates {
    /// `None`: kept in memory alone.
    folder: Option<PathBuf>,
    /// The gateway's id, unique to this data folder.
    pub(crate) gateway: String,
    known: Mutex<HashMap<ObjectKey, SourceState>>,
}

impl SourceStates {
    /// Opens the folder, and creates the gateway's id when there is none.
    pub(crate) fn open(folder: Option<&Path>) -> io::Result<Self> {
        let gateway = match folder {
            Some(folder) => id_in(folder, GATEWAY_ID)?,
            None => Uuid::new_v4().to_string(),
        };
        Ok(Self {
            folder: folder.map(|folder| folder.join(SOURCES)),
            gateway,
            known: Mutex::default(),
        })
    }

    /// The source's state: that of an earlier life, or a new one. Blocks for a small synced write the first time.
    pub(crate) fn of(&self, key: &ObjectKey) -> io::Result<Identity> {
        let mut known = self.known.lock();
        if let Some(kept) = known.get(key) {
            return Ok(kept.identity.clone());
        }
        let (uid, checkpoint, file): (_, Arc<dyn Checkpoint>, _) = match &self.folder {
            Some(folder) => {
                let folder = folder.join(folder_name(key));
                let uid = id_in(&folder, UID)?;
                let file = Arc::new(FileCheckpoint::new(folder));
                (uid, file.clone(), Some(file))
            }
            None => (Uuid::new_v4().to_string(), Arc::new(MemoryCheckpoint::default()), None),
        };
        let identity = Identity {
            uid,
            gateway: self.gateway.clone(),
            checkpoint,
        };
        let kept = SourceState {
            identity: identity.clone(),
            file,
        };
        known.insert(key.clone(), kept);
        Ok(identity)
    }

    /// Deletes the state of a deleted source, so that a source recreated under the same name starts without it.
    pub(crate) async fn delete(&self, key: &ObjectKey) {
        let known = self.known.lock().remove(key);
        let file = match (known, &self.folder) {
            (Some(kept), _) => kept.file,
            (None, Some(folder)) => Some(Arc::new(FileCheckpoint::new(folder.join(folder_name(key))))),
            (None, None) => None,
        };
        if let Some(file) = file
            && let Err(error) = file.remove().await
        {
            tracing::warn!(source = %key.name, error = %crate::chain(&error), "state of a deleted source cannot be removed");
        }
    }

    /// Sources that have a state on disk. Empty when the folder cannot be read. Blocks.
    pub(crate) fn stored(&self) -> Vec<ObjectKey> {
        let entries = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok());
        let names = entries.into_iter().flatten().flatten();
        names
            .filter_map(|entry| key_of(&entry.file_name().into_string().ok()?))
            .collect()
    }
}

/// Neither a kind nor a namespace has dots, so the name may.
fn folder_name(key: &ObjectKey) -> String {
    format!("{}.{}.{}", key.kind.as_str(), key.name.namespace, key.name.name)
}

fn key_of(folder: &str) -> Option<ObjectKey> {
    let mut parts = folder.splitn(3, '.');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let sources = [
        Kind::GitHubSource,
        Kind::KubernetesEventSource,
        Kind::GcpPubSubSource,
        Kind::ContainerSource,
    ];
    let kind = sources.into_iter().find(|known| known.as_str() == kind)?;
    Some(ObjectKey::new(kind, ObjectName::new(namespace, name)))
}

/// The id in a file, or a new one that is on disk when this returns.
fn id_in(folder: &Path, name: &str) -> io::Result<String> {
    let path = folder.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => match Uuid::parse_str(text.trim()) {
            Ok(id) => return Ok(id.to_string()),
            // A crash of an earlier version between creating and writing it: nothing upstream has this id yet.
            Err(_) if text.trim().is_empty() => {}
            Err(_) => {
                let message = format!("{} holds no id: restore it, or delete it to start anew", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
    let id = Uuid::new_v4().to_string();
    adapter::replace_file(folder, name, id.as_bytes())?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::GcpPubSubSource, ObjectName::new("default", name))
    }

    #[tokio::test]
    async fn a_source_keeps_its_uid_until_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let open = || SourceStates::open(Some(folder.path())).unwrap();
        let (gateway, uid) = (open().gateway, open().of(&key("a.b")).unwrap().uid);
        let states = open();
        assert_eq!(states.gateway, gateway);
        assert_eq!(states.of(&key("a.b")).unwrap().uid, uid);
        assert_ne!(states.of(&key("c")).unwrap().uid, uid);
        let mut stored = states.stored();
        stored.sort();
        assert_eq!(stored, [key("a.b"), key("c")]);
        open().delete(&key("a.b")).await;
        assert_ne!(open().of(&key("a.b")).unwrap().uid, uid);
    }

    #[test]
    fn a_damaged_id_is_an_error_that_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(GATEWAY_ID), "half").unwrap();
        let error = SourceStates::open(Some(folder.path())).err().unwrap();
        assert!(error.to_string().contains(GATEWAY_ID), "{error}");
    }
}
