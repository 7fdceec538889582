//! A whole node: a real Kubernetes of one machine, where pods run.
//!
//! The control plane of [`Kubernetes`], and besides it a scheduler, and kubelet, kube-proxy, containerd and CoreDNS in namespaces
//! of their own (node/keep.sh, node/node.sh): however the tests end, network, mounts, processes and settings of this machine are as
//! they were. Kubernetes and CoreDNS are built by `go`; containerd, runc and the network plug-ins are the system's, and need root.
//! Ready in 10 s once built, 700 MB.
//!
//! There is no registry: images are loaded ([`Node::load`]), and named by pods with a tag that is not `latest`. Not there either:
//! a way out of this machine, names outside of the cluster, a provisioner of volumes (local ones work), enforcement of
//! NetworkPolicies.

mod files;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{self, Command},
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{
    Docker, Kubernetes, cache,
    go::Program,
    kubernetes::{ClusterLayout, built},
    process::{Server, run},
};

const HINT: &str = "a Kubernetes node for tests needs root and Debian's packages docker.io (containerd, runc, iptables), containernetworking-plugins, iproute2, util-linux and golang: apt-get install --no-install-recommends docker.io containernetworking-plugins iproute2 util-linux golang, or set HEADGATE_SKIP_PEERS=node";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const API_PORT: u16 = 6443;
/// The longest a killed node takes to be gone, its control groups included.
const STOP_SECS: u32 = 30;

/// Waits to be told to end, as the first process of a sandbox.
const PAUSE: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

/// A running node. Its parts end in this order.
pub struct Node {
    _scheduler: Server,
    _node: Server,
    cluster: Kubernetes,
    network: Network,
    folder: PathBuf,
    _removed: Option<TempDir>,
}

impl Node {
    /// The one that the tests of a process share. `None` when it is to be skipped.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Node> = OnceCell::const_new();
        if cache::skipped("node") {
            return None;
        }
        let docker = Docker::shared().await?;
        Some(SHARED.get_or_init(|| Self::begin(docker, true)).await)
    }

    /// One of the test's own. `None` when it is to be skipped.
    pub async fn start() -> Option<Self> {
        if cache::skipped("node") {
            return None;
        }
        let docker = Docker::shared().await?;
        Some(Self::begin(docker, false).await)
    }

    /// Its control plane, and kubectl.
    pub fn cluster(&self) -> &Kubernetes {
        &self.cluster
    }

    /// Where pods reach this machine.
    pub fn host(&self) -> Ipv4Addr {
        self.network.host()
    }

    /// A folder of this machine that volumes of pods may be in.
    pub fn volumes(&self) -> PathBuf {
        let volumes = self.folder.join("volumes");
        fs::create_dir_all(&volumes).expect("a folder for volumes");
        volumes
    }

    /// Takes images in, from an archive as `docker save` makes it.
    ///
    /// # Panics
    /// When it is none.
    pub async fn load(&self, archive: &Path) {
        load(&self.folder, archive).await;
    }

    async fn begin(docker: &Docker, for_good: bool) -> Self {
        let folder = TempDir::with_prefix("headgate-node-").expect("a folder for a node");
        let path = folder.path().to_owned();
        docker.image(files::PAUSE, PAUSE).await;
        let pause = path.join("pause.tar");
        docker.save(files::PAUSE, &pause).await;
        let network = Network::free();
        let at = path.clone();
        let connected = tokio::task::spawn_blocking(move || connect(&at, &network, for_good));
        let mut node = connected.await.expect("the node's network is there");
        load(&path, &pause).await;
        let at = path.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let cluster = Kubernetes::of_node(network.layout(), for_good);
            fs::copy(cluster.kubeconfig(), at.join(KUBECONFIG)).expect("a copy of the kubeconfig");
            fs::write(at.join("served"), "").expect("a file of the node");
            let scheduler = scheduler(&at);
            node.wait_until("the node is Ready", || cluster.node_is_ready());
            (scheduler, node, cluster)
        });
        let (scheduler, node, cluster) = joined.await.expect("a node that is Ready");
        let removed = if for_good {
            let _ = folder.keep();
            None
        } else {
            Some(folder)
        };
        Self {
            _scheduler: scheduler,
            _node: node,
            cluster,
            network,
            folder: path,
            _removed: removed,
        }
    }
}

const KUBECONFIG: &str = "kubeconfig";

/// Addresses of a node: a /16 of its own, of a range that is used seldom.
#[derive(Clone, Copy)]
struct Network {
    octet: u8,
}

impl Network {
    /// Test processes that run at once have different ones.
    fn free() -> Self {
        let octet = 224 + process::id() % 31;
        Self {
            octet: u8::try_from(octet).expect("below 255"),
        }
    }

    /// This machine's end.
    fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet, 0, 1)
    }

    /// The node's end.
    fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet, 0, 2)
    }

    fn pods(self) -> String {
        format!("10.{}.1.0/24", self.octet)
    }

    fn services(self) -> String {
        format!("10.{}.16.0/20", self.octet)
    }

    fn layout(self) -> ClusterLayout {
        ClusterLayout {
            address: SocketAddr::from((self.host(), API_PORT)),
            services: self.services(),
            has_pods: true,
        }
    }
}

/// The node's namespaces, connected to this machine, with a container engine in them.
fn connect(folder: &Path, network: &Network, for_good: bool) -> Server {
    let mut root = Command::new("sh");
    root.args(["-c", "[ $(id -u) = 0 ]"]);
    run(&mut root, &format!("not root. {HINT}"));
    let plugin = format!("{}/bridge", files::PLUGINS);
    for program in ["unshare", "ip", "iptables", "containerd", "ctr", "runc", &plugin] {
        let mut find = Command::new("sh");
        find.env("PATH", PATH).args(["-c", &format!("command -v {program}")]);
        run(&mut find, &format!("{program} is not there. {HINT}"));
    }
    let link = format!("hgn{}", process::id());
    let kubeconfig = folder.join(KUBECONFIG);
    files::write(folder, *network, &format!("/{link}"), &kubeconfig);
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let coredns = Program {
        name: "coredns",
        module: "kubernetes/coredns",
        package: "./",
        facts: &[],
        hint: HINT,
    };
    let command = [
        "env".to_owned(),
        format!("PATH={PATH}"),
        format!("KUBECONFIG={}", kubeconfig.display()),
        format!("KUBELET={}", built("kubelet", HINT).display()),
        format!("KUBE_PROXY={}", built("kube-proxy", HINT).display()),
        format!("COREDNS={}", coredns.built().display()),
        "sh".to_owned(),
        scripts.join("keep.sh").display().to_string(),
        folder.display().to_string(),
        link,
        network.host().to_string(),
        network.node().to_string(),
        network.pods(),
        network.services(),
        scripts.join("node.sh").display().to_string(),
    ];
    let mut server = Server::start_gently(
        &command,
        &folder.join("node.log"),
        for_good.then_some(folder),
        STOP_SECS,
    );
    server.wait_until("containerd answers", || {
        ctr(folder)
            .arg("version")
            .output()
            .is_ok_and(|output| output.status.success())
    });
    server
}

fn scheduler(folder: &Path) -> Server {
    let kubeconfig = folder.join(KUBECONFIG).display().to_string();
    let command = [
        built("kube-scheduler", HINT).display().to_string(),
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--cert-dir={}", folder.join("scheduler").display()),
        format!("--secure-port={}", crate::ports::free().port()),
        "--bind-address=127.0.0.1".to_owned(),
        "--leader-elect=false".to_owned(),
    ];
    Server::start(&command, &folder.join("scheduler.log"), None)
}

async fn load(folder: &Path, archive: &Path) {
    let mut import = ctr(folder);
    import.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
    let imported = tokio::task::spawn_blocking(move || run(&mut import, "an image is loaded"));
    imported.await.expect("ctr succeeds");
}

fn ctr(folder: &Path) -> Command {
    let mut ctr = Command::new("ctr");
    ctr.env("PATH", PATH)
        .arg("--address")
        .arg(folder.join("containerd.sock"));
    ctr
}
