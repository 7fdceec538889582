//! Google's Pub/Sub, imitated by Google twice: gRPC and REST on one port, everything in memory.
//!
//! The emulator comes with the Google Cloud CLI and nowhere else: nothing is fetched; up in about a second, 145 MB. It has one
//! fault (0.8.20): a subscriber whose connection broke goes on getting messages. So tests that kill one take the other, the Go
//! package pstest, built once by `go` (pubsub/). That takes the emulator's place, too, where there is no CLI.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{cache, go, ports, process::Server};

/// Names an emulator that runs already: `host:port`. Tests that stop it start their own.
pub const OVERRIDE: &str = "HEADGATE_TEST_PUBSUB";
/// The emulator's jar, where it is not beside `gcloud`.
pub const JAR: &str = "HEADGATE_TEST_PUBSUB_JAR";

const GO_HINT: &str = "Pub/Sub for tests is built by go 1.26 or later, or comes with the Google Cloud CLI: install Go, or java and google-cloud-cli-pubsub-emulator, or set HEADGATE_SKIP_PEERS=pubsub";
const READY: &str = "Server started, listening on";
/// The emulator's folder below the CLI's.
const EMULATOR_FOLDER: &str = "platform/pubsub-emulator/lib";

/// How to start one at an address.
#[derive(Clone)]
enum Program {
    Emulator { jar: PathBuf },
    Fake { binary: PathBuf },
}

/// A running emulator, or the fake.
pub struct PubSub {
    program: Program,
    address: SocketAddr,
    folder: PathBuf,
    server: Option<Server>,
    starts: usize,
    _folder: Option<TempDir>,
}

impl PubSub {
    /// The one emulator that the tests of a process share: each uses a project of its own. `None` when it is to be skipped.
    pub async fn shared() -> Option<&'static str> {
        static SHARED: OnceCell<(String, Option<PubSub>)> = OnceCell::const_new();
        if cache::skipped("pubsub") {
            return None;
        }
        let shared = SHARED.get_or_init(|| async {
            if let Ok(address) = env::var(OVERRIDE) {
                return (address, None);
            }
            let emulator = tokio::task::spawn_blocking(|| Self::begin(Program::found(), true))
                .await
                .expect("an emulator");
            (emulator.host(), Some(emulator))
        });
        Some(&shared.await.0)
    }

    /// One of the test's own. `None` when it is to be skipped.
    pub async fn start() -> Option<Self> {
        if cache::skipped("pubsub") {
            return None;
        }
        let started = tokio::task::spawn_blocking(|| Self::begin(Program::found(), false));
        Some(started.await.expect("an emulator"))
    }

    /// The Go fake, of the test's own, which forgets subscribers that were killed. `None` when it is to be skipped.
    pub async fn fake() -> Option<Self> {
        if cache::skipped("pubsub") {
            return None;
        }
        let started = tokio::task::spawn_blocking(|| Self::begin(Program::fake(), false));
        Some(started.await.expect("a fake"))
    }

    /// Where clients connect, `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `kill -9`. What it held is gone.
    pub async fn kill(&mut self) {
        let server = self.server.take();
        // Waits for the process to be gone.
        let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    }

    /// Starts it again at the same address, empty.
    pub async fn restart(&mut self) {
        let (program, address, folder, starts) = (self.program.clone(), self.address, self.folder.clone(), self.starts);
        self.starts += 1;
        let started = tokio::task::spawn_blocking(move || program.start(address, &folder, starts, None));
        self.server = Some(started.await.expect("an emulator that starts again"));
    }

    fn begin(program: Program, for_good: bool) -> Self {
        let folder = TempDir::with_prefix("headgate-pubsub-").expect("a folder for the emulator");
        let (address, path) = (ports::free(), folder.path().to_owned());
        let server = program.start(address, &path, 0, for_good.then_some(&*path));
        // A static is never dropped: then the guard removes the folder.
        let folder = if for_good {
            let _ = folder.keep();
            None
        } else {
            Some(folder)
        };
        Self {
            program,
            address,
            folder: path,
            server: Some(server),
            starts: 1,
            _folder: folder,
        }
    }
}

impl Program {
    fn found() -> Self {
        jar().map_or_else(Self::fake, |jar| Self::Emulator { jar })
    }

    /// The Go fake, built when it is not there yet.
    fn fake() -> Self {
        let program = go::Program {
            name: "pstest",
            module: "pubsub",
            package: "./",
            facts: &[],
            hint: GO_HINT,
        };
        let binary = program.built();
        Self::Fake { binary }
    }

    fn start(&self, address: SocketAddr, folder: &Path, starts: usize, remove: Option<&Path>) -> Server {
        let command = match self {
            Self::Emulator { jar } => vec![
                "java".to_owned(),
                "-Xmx512m".to_owned(),
                "-jar".to_owned(),
                jar.display().to_string(),
                format!("--host={}", address.ip()),
                format!("--port={}", address.port()),
            ],
            Self::Fake { binary } => vec![binary.display().to_string(), address.to_string()],
        };
        let mut server = Server::start(&command, &folder.join("log"), remove);
        server.wait_for(READY, starts);
        server
    }
}

/// The emulator's jar, found by what is behind `gcloud` on the PATH.
fn jar() -> Option<PathBuf> {
    if let Some(jar) = env::var_os(JAR) {
        return Some(jar.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).filter_map(|folder| {
        let gcloud = fs::canonicalize(folder.join("gcloud")).ok()?;
        // GOOGLE_CLOUD_SDK/bin/gcloud
        Some(gcloud.parent()?.parent()?.join(EMULATOR_FOLDER))
    });
    let jars = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let is_jar = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jar");
    jars.map(|entry| entry.path()).find(is_jar)
}
