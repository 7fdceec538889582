//! Google's Pub/Sub emulator, as the Google Cloud CLI brings it: gRPC and REST on one port, everything in memory.
//!
//! Nothing is fetched: Google publishes it only as a part of its CLI. Up in about a second, 145 MB.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{cache, ports, process::Server};

/// Names an emulator that runs already: `host:port`. Tests that stop it start their own.
pub const OVERRIDE: &str = "HEADGATE_TEST_PUBSUB";
/// The emulator's jar, where it is not beside `gcloud`.
pub const JAR: &str = "HEADGATE_TEST_PUBSUB_JAR";

const HINT: &str = "Pub/Sub for tests needs java and Google's emulator: install default-jre-headless and google-cloud-cli-pubsub-emulator (or `gcloud components install pubsub-emulator`), or set HEADGATE_SKIP_PEERS=pubsub";
const READY: &str = "Server started, listening on";
/// Where the emulator is in the CLI's folder.
const PLACE: &str = "platform/pubsub-emulator/lib";

/// A running emulator.
pub struct PubSub {
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
            let emulator = tokio::task::spawn_blocking(|| Self::begin(true))
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
        let started = tokio::task::spawn_blocking(|| Self::begin(false));
        Some(started.await.expect("an emulator"))
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
        let (address, folder, starts) = (self.address, self.folder.clone(), self.starts);
        self.starts += 1;
        let started = tokio::task::spawn_blocking(move || spawn(address, &folder, starts, None));
        self.server = Some(started.await.expect("an emulator that starts again"));
    }

    fn begin(for_good: bool) -> Self {
        let folder = TempDir::with_prefix("headgate-pubsub-").expect("a folder for the emulator");
        let (address, path) = (ports::free(), folder.path().to_owned());
        let server = spawn(address, &path, 0, for_good.then_some(&*path));
        // A static is never dropped: then the guard removes the folder.
        let folder = if for_good {
            let _ = folder.keep();
            None
        } else {
            Some(folder)
        };
        Self {
            address,
            folder: path,
            server: Some(server),
            starts: 1,
            _folder: folder,
        }
    }
}

fn spawn(address: SocketAddr, folder: &Path, starts: usize, remove: Option<&Path>) -> Server {
    let command = [
        "java".to_owned(),
        "-Xmx512m".to_owned(),
        "-jar".to_owned(),
        jar().display().to_string(),
        format!("--host={}", address.ip()),
        format!("--port={}", address.port()),
    ];
    let mut server = Server::start(&command, &folder.join("log"), remove);
    server.wait_for(READY, starts);
    server
}

/// The emulator's jar, found by what is behind `gcloud` on the PATH.
fn jar() -> PathBuf {
    if let Some(jar) = env::var_os(JAR) {
        return jar.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).filter_map(|folder| {
        let gcloud = fs::canonicalize(folder.join("gcloud")).ok()?;
        // GOOGLE_CLOUD_SDK/bin/gcloud
        Some(gcloud.parent()?.parent()?.join(PLACE))
    });
    let jars = places.flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    let is_jar = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jar");
    let found = jars.map(|entry| entry.path()).find(is_jar);
    found.unwrap_or_else(|| panic!("{HINT}"))
}
