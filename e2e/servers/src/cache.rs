//! The cache: one folder per recipe, named by the recipe's hash, made whole or not at all.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Names peers that tests go without, separated by commas.
pub const SKIP: &str = "HEADGATE_SKIP_PEERS";

/// Whether the one who runs the tests asked to go without this peer; says so loudly.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn skipped(peer: &str) -> bool {
    let asked = env::var(SKIP).unwrap_or_default();
    let skip = asked.split(',').any(|name| name.trim() == peer);
    if skip {
        eprintln!("SKIPPED: {SKIP} names {peer}; what this test proves is not proven");
    }
    skip
}

/// Where everything fetched is kept: `headgate/peers` in the user's cache folder.
pub fn root() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let folder = base.unwrap_or_else(env::temp_dir).join("headgate").join("peers");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

/// One at a time among all tests and all processes of this user, until it is dropped or its process ends. Waits: ten
/// tests that need a program are to have it built once, not ten times at once.
pub fn alone(name: &str) -> File {
    let path = root().join(format!("{name}.lock"));
    let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
    locked.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The product of a recipe: its folder and, if that does not exist yet, an empty one to make it in. A changed recipe is
/// another folder.
pub struct Entry {
    pub folder: PathBuf,
    pub draft: Option<PathBuf>,
    _alone: File,
}

impl Entry {
    /// Opens the entry; waits while another process makes it.
    pub fn of(name: &str, recipe: &[PathBuf]) -> Self {
        let mut hash = Sha256::new();
        for file in recipe {
            hash.update(fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
        }
        let folder = root().join(format!("{name}-{}", &hex::encode(hash.finalize())[..16]));
        let alone = alone(name);
        let draft = (!folder.is_dir()).then(|| {
            let draft = root().join(format!("draft-{name}"));
            // Left by a process that was interrupted.
            let _ = fs::remove_dir_all(&draft);
            fs::create_dir_all(&draft).unwrap_or_else(|error| panic!("{}: {error}", draft.display()));
            draft
        });
        Self {
            folder,
            draft,
            _alone: alone,
        }
    }

    /// Moves the draft into place: an interrupted installation leaves nothing half done.
    pub fn publish(self) -> PathBuf {
        if let Some(draft) = self.draft {
            let moved = fs::rename(&draft, &self.folder);
            moved.unwrap_or_else(|error| panic!("{}: {error}", self.folder.display()));
        }
        self.folder
    }
}

/// Checks every file of `sums` (`HASH  NAME` a line, as sha256sum writes them) in a folder.
///
/// # Panics
/// When one is missing or another than it was.
pub fn check_sums(folder: &Path, sums: &Path) {
    let sums = fs::read_to_string(sums).unwrap_or_else(|error| panic!("{}: {error}", sums.display()));
    for line in sums.lines() {
        let (hash, name) = line.split_once("  ").expect("a line of sha256sum");
        let bytes = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name} was not fetched: {error}"));
        assert_eq!(
            hex::encode(Sha256::digest(bytes)),
            hash,
            "{name} is not the file it was when it was pinned"
        );
    }
}
