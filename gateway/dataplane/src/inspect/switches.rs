//! `headgate pause` and `resume`: a switch per subscription that outlives restarts (API.md 2.4).

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use spec::ObjectName;

use crate::journey::dispatcher::Switch;

const FILE: &str = "paused.json";

pub(crate) struct Switches {
    /// `None`: kept in memory alone.
    folder: Option<PathBuf>,
    all: Mutex<BTreeMap<ObjectName, Arc<Switch>>>,
}

impl Switches {
    /// Reads the switches of an earlier life. A file that cannot be read is an error: delivering what a person paused
    /// would be worse than not starting.
    pub(crate) fn open(folder: Option<&Path>) -> io::Result<Self> {
        let mut all = BTreeMap::new();
        if let Some(folder) = folder {
            let file = folder.join(FILE);
            let paused: Vec<ObjectName> = match fs::read(&file) {
                Ok(bytes) => serde_json::from_slice(&bytes)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", file.display())))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
                Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
            };
            for name in paused {
                let switch = Switch::default();
                switch.set(true);
                all.insert(name, Arc::new(switch));
            }
        }
        Ok(Self {
            folder: folder.map(Path::to_owned),
            all: Mutex::new(all),
        })
    }

    pub(crate) fn of(&self, subscription: &ObjectName) -> Arc<Switch> {
        self.all.lock().entry(subscription.clone()).or_default().clone()
    }

    /// Sets it in memory and on disk; on an error it is set in memory alone. Blocks for a small synced write.
    pub(crate) fn set(&self, subscription: &ObjectName, paused: bool) -> io::Result<()> {
        self.of(subscription).set(paused);
        let Some(folder) = &self.folder else { return Ok(()) };
        let all = self.all.lock();
        let paused: Vec<&ObjectName> = all
            .iter()
            .filter(|(_, switch)| switch.is_paused())
            .map(|(name, _)| name)
            .collect();
        adapter::replace_file(folder, FILE, &serde_json::to_vec(&paused)?)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_pause_outlives_a_restart_and_a_resume_does_too() {
        let folder = tempfile::tempdir().unwrap();
        let name = ObjectName::new("default", "s");
        let open = || Switches::open(Some(folder.path())).unwrap();
        assert!(!open().of(&name).is_paused());
        open().set(&name, true).unwrap();
        let switches = open();
        assert!(switches.of(&name).is_paused());
        switches.set(&name, false).unwrap();
        assert!(!open().of(&name).is_paused());
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        let error = Switches::open(Some(folder.path())).err().unwrap().to_string();
        assert!(error.contains(FILE), "{error}");
    }
}
