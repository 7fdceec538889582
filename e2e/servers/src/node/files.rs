//! The configuration files of a node's programs.

use std::{fs, path::Path};

use super::Network;

/// The image of pods' sandboxes.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// Debian's place for network plug-ins.
pub(super) const PLUGINS: &str = "/usr/lib/cni";

/// Writes all of them into the node's folder.
pub(super) fn write(folder: &Path, network: Network, group: &str, kubeconfig: &Path) {
    let here = folder.display();
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("a file of the node is written");
    for name in ["cni", "kubelet", "pods"] {
        fs::create_dir_all(folder.join(name)).expect("a folder of the node");
    }
    write("containerd.toml", containerd(&here.to_string()));
    write("cni/10-bridge.conflist", plugins(&here.to_string(), network));
    write("kubelet.yaml", kubelet(&here.to_string(), network, group));
    write("kube-proxy.yaml", proxy(network, kubeconfig));
    write("Corefile", names(network, kubeconfig));
    // Names outside of the cluster have nowhere to be asked for.
    write("resolv.conf", String::new());
}

fn containerd(here: &str) -> String {
    format!(
        r#"version = 2
root = "{here}/containerd/root"
state = "{here}/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{here}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{here}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # A process may not be made less likely to be killed without a right that root in a container lacks.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{here}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#
    )
}

fn plugins(here: &str, network: Network) -> String {
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "pods", "plugins": [
 {{"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true, "ipMasq": false,
  "ipam": {{"type": "host-local", "dataDir": "{here}/addresses", "ranges": [[{{"subnet": "{}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
 {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"#,
        network.pods()
    )
}

/// Nothing is evicted and no image is collected for want of room: what was loaded cannot be pulled again. Every client on
/// the node's network, which is this machine alone, may use the kubelet.
fn kubelet(here: &str, network: Network, group: &str) -> String {
    let address = network.node();
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
healthzBindAddress: 127.0.0.1
containerRuntimeEndpoint: unix://{here}/containerd.sock
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
clusterDNS: [{address}]
clusterDomain: cluster.local
resolvConf: {here}/resolv.conf
podLogsDir: {here}/pods
volumePluginDir: {here}/kubelet/plugins
cgroupRoot: {group}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
# A negative one is a right of its own.
oomScoreAdj: 0
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: \"0%\", nodefs.available: \"0%\", nodefs.inodesFree: \"0%\", imagefs.available: \"0%\", imagefs.inodesFree: \"0%\"}}
nodeStatusUpdateFrequency: 5s
"
    )
}

/// Limits of connection tracking are the machine's.
fn proxy(network: Network, kubeconfig: &Path) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: {}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
clientConnection: {{kubeconfig: {}}}
mode: iptables
clusterCIDR: {}
detectLocalMode: ClusterCIDR
hostnameOverride: node
oomScoreAdj: 0
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
",
        network.node(),
        kubeconfig.display(),
        network.pods()
    )
}

/// Answers are good for a second only: tests replace what is behind a name.
fn names(network: Network, kubeconfig: &Path) -> String {
    format!(
        ".:53 {{
    bind {}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}
        ttl 1
    }}
}}
",
        network.node(),
        kubeconfig.display()
    )
}
