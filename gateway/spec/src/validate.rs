//! Checks that only the gateway can make on one document: settings that depend on a backend, addresses of Services. The schema
//! (`schema/`) makes the others, for the API server as well.

use url::Url;

use crate::{
    ObjectKey, provisioners,
    resource::{Resource, Service, WrittenProvisioner, backends::Config},
    schema::{Path, Report, check, forms::http_url},
    tree::Node,
};

pub(crate) fn rules(resource: &Resource, root: &Node, report: &mut Report) {
    if let Resource::Service(written) = resource {
        service(written, root, report);
    }
}

/// Reads the settings of a provisioner for its backend. `None`: a fault is reported, here or by the schema.
pub(crate) fn config(
    written: &WrittenProvisioner,
    key: &ObjectKey,
    root: &Node,
    report: &mut Report,
) -> Option<Config> {
    let built_in = provisioners::built_in(&key.name.name).map(|(_, backend)| backend);
    let backend = written.backend.or(built_in)?;
    let (shape, before) = (Config::shape(backend), report.found.len());
    let spec = Path::Key(&Path::Root, "spec");
    let path = Path::Key(&spec, "config");
    let nothing = Node::empty();
    let node = match root.get("spec").and_then(|spec| spec.entry("config")) {
        Some((written, node)) => {
            check(shape, node, written.at, &path, report);
            node
        }
        None => {
            for field in shape.required() {
                let message = format!("`{}` is required: {}", field.name, field.description());
                report.at(root, "spec.config", message);
            }
            &nothing
        }
    };
    if report.found.len() > before {
        return None;
    }
    let config = Config::read(backend, node).map_err(|message| report.at(root, "spec.config", message));
    config.ok()
}

fn service(written: &Service, root: &Node, report: &mut Report) {
    let Some(host) = &written.external_name else { return };
    if let Err(message) = service_url(host, None) {
        report.at(root, "spec.externalName", message);
    }
}

/// `http://HOST:PORT/` of a Service that stands for an address outside.
pub(crate) fn service_url(host: &str, port: Option<u16>) -> Result<Url, String> {
    const EXPECTED: &str = "expected a host name or an address, without scheme and port";
    let address = if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if !address.starts_with('[') && host.contains(['/', ':', '?', '#', '@', ' ']) {
        return Err(EXPECTED.to_owned());
    }
    // 80 is what http means without a port.
    http_url(&format!("http://{address}:{}/", port.unwrap_or(80))).map_err(|_| EXPECTED.to_owned())
}
