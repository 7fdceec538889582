//! What only the gateway can tell of one document: settings that depend on a backend, addresses of Services. The rest is said
//! by the description (`schema/`), for the API server as well.

use url::Url;

use crate::{
    ObjectKey,
    model::BackendKind,
    provisioners,
    resource::{ClusterChannelProvisioner, Resource, Service},
    schema::{Path, Report, backends, check, forms::http_url},
    tree::Node,
};

pub(crate) fn rules(resource: &Resource, key: &ObjectKey, root: &Node, report: &mut Report) {
    match resource {
        Resource::ClusterChannelProvisioner(wanted) => provisioner(wanted, key, root, report),
        Resource::Service(wanted) => service(wanted, root, report),
        _ => {}
    }
}

fn provisioner(wanted: &ClusterChannelProvisioner, key: &ObjectKey, root: &Node, report: &mut Report) {
    let built_in = provisioners::built_in(&key.name.name).map(|(_, backend)| backend);
    // Without either, the description has told so.
    let Some(backend) = wanted.backend.or(built_in) else {
        return;
    };
    let path = Path::Key(&Path::Root, "spec");
    let path = Path::Key(&path, "config");
    match root.get("spec").and_then(|spec| spec.entry("config")) {
        Some((written, config)) => check(&backends::config(backend), config, written.at, &path, report),
        None if matches!(backend, BackendKind::Kafka) => {
            report.at(
                root,
                "spec.config",
                "`bootstrapServers` is required: the brokers, as host:port",
            );
        }
        None if matches!(backend, BackendKind::Nats) => {
            report.at(
                root,
                "spec.config",
                "`servers` is required: the servers, as nats://host:port",
            );
        }
        None => {}
    }
}

fn service(wanted: &Service, root: &Node, report: &mut Report) {
    let Some(host) = &wanted.external_name else { return };
    if let Err(message) = service_url(host, None) {
        report.at(root, "spec.externalName", message);
    }
}

/// `http://HOST:PORT/` of a Service that stands for an address outside.
pub(crate) fn service_url(host: &str, port: Option<u16>) -> Result<Url, String> {
    const WANTED: &str = "expected a host name or an address, without scheme and port";
    let address = if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if !address.starts_with('[') && host.contains(['/', ':', '?', '#', '@', ' ']) {
        return Err(WANTED.to_owned());
    }
    // 80 is what http means without a port.
    http_url(&format!("http://{address}:{}/", port.unwrap_or(80))).map_err(|_| WANTED.to_owned())
}
