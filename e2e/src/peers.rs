//! Other people's clients, installed once into a cache outside the build, at pinned versions with checked hashes.
//!
//! npm reads `peers/node/package-lock.json` (integrity of every package), pip `peers/python/requirements.txt`
//! (`--require-hashes`). A peer that cannot be had fails the test that needs it, with what to install;
//! `HEADGATE_SKIP_PEERS=node,python` skips such tests loudly instead. CI skips none.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use servers::cache::{self, Entry};
use tokio::{process::Command, sync::OnceCell};

use crate::binary::workspace;

/// A toolchain that other people's clients run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Node,
    Python,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Python => "python",
        }
    }
}

/// Whether the one who runs the tests asked to go without this peer; says so loudly.
pub fn skipped(peer: Peer) -> bool {
    cache::skipped(peer.name())
}

/// Runs a script of `peers/` with its packages at hand and gives its output.
///
/// # Panics
/// When the peer cannot be installed or the script fails; its error output is in the message.
pub async fn run(peer: Peer, script: &str, arguments: &[&str]) -> String {
    let output = command(peer, script, arguments)
        .await
        .output()
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", missing(peer)));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {script} {arguments:?} ended with {}:\n{errors}",
        peer.name(),
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The command that runs a script of `peers/`, for scripts that keep running.
pub async fn command(peer: Peer, script: &str, arguments: &[&str]) -> Command {
    let packages = installed(peer).await;
    let script = workspace().join("e2e/peers").join(peer.name()).join(script);
    let mut command = match peer {
        Peer::Node => {
            // Modules resolve from the script's own folder: the cache holds copies beside node_modules.
            let mut command = Command::new("node");
            let copy = packages.join(script.file_name().expect("a script has a name"));
            publish(
                &copy,
                &fs::read(&script).unwrap_or_else(|error| panic!("{}: {error}", script.display())),
            );
            command.arg(copy);
            command
        }
        Peer::Python => {
            let mut command = Command::new("python3");
            command
                .env("PYTHONPATH", packages)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .arg(script);
            command
        }
    };
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Where the packages of a peer are, installed when they are not there yet.
pub async fn installed(peer: Peer) -> &'static Path {
    static NODE: OnceCell<PathBuf> = OnceCell::const_new();
    static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
    let cell = match peer {
        Peer::Node => &NODE,
        Peer::Python => &PYTHON,
    };
    let install = async || {
        let installed = tokio::task::spawn_blocking(move || install(peer)).await;
        installed.expect("its packages are there")
    };
    cell.get_or_init(install).await
}

fn install(peer: Peer) -> PathBuf {
    let recipe = workspace().join("e2e/peers").join(peer.name());
    match peer {
        Peer::Node => packages(&recipe),
        Peer::Python => servers::python::installed(peer.name(), &recipe.join("requirements.txt"), &missing(peer)),
    }
}

/// The packages that npm installed.
fn packages(recipe: &Path) -> PathBuf {
    let files = ["package.json", "package-lock.json"].map(|file| recipe.join(file));
    let entry = Entry::of(Peer::Node.name(), &files);
    let Some(draft) = &entry.draft else {
        return entry.folder;
    };
    for file in &files {
        let name = file.file_name().expect("a file has a name");
        fs::copy(file, draft.join(name)).expect("a recipe is copied");
    }
    let mut install = std::process::Command::new("npm");
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(draft);
    servers::run(&mut install, &missing(Peer::Node));
    entry.publish()
}

/// The advice for a peer that cannot be installed.
fn missing(peer: Peer) -> String {
    let package = match peer {
        Peer::Node => "nodejs and npm (and chromium, for the console)",
        Peer::Python => "python3 and python3-pip",
    };
    format!(
        "{package} are needed for this test (HEADGATE_SKIP_PEERS={} goes without)",
        peer.name()
    )
}

/// Writes a file so that a concurrent reader sees the whole old one or the whole new one.
fn publish(path: &Path, bytes: &[u8]) {
    if fs::read(path).is_ok_and(|known| known == bytes) {
        return;
    }
    let draft = tempfile::NamedTempFile::new_in(path.parent().expect("a file in a folder")).expect("a draft");
    fs::write(draft.path(), bytes).expect("a draft is written");
    draft.persist(path).expect("and moved into place");
}
