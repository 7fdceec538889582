//! Targets in all their spellings (API.md 2.1): named once, in a form that can be resolved.

use url::Url;

use crate::{
    Kind,
    nearest::suggestion,
    resource::Destination,
    schema::{Report, forms::http_url, parts},
    tree::Node,
};

/// One target, at `path` of its document.
pub(super) fn destination(target: &Destination, path: &str, root: &Node, report: &mut Report) {
    let direct = target.api_version.is_some() || target.kind.is_some() || target.name.is_some();
    let reference = target.reference.is_some();
    let spoken: Vec<&str> = [
        (direct, "apiVersion, kind, name"),
        (reference, "ref"),
        (target.uri.is_some(), "uri"),
        (target.dns_name.is_some(), "dnsName"),
        (target.channel.is_some(), "channel"),
    ]
    .into_iter()
    .filter_map(|(is, name)| is.then_some(name))
    .collect();
    match *spoken {
        [] => return report.at(root, path, "names no target: use ref, uri or dnsName"),
        [_] | ["apiVersion, kind, name" | "ref", "uri"] => {}
        ["apiVersion, kind, name", "ref", ..] => {
            report.at(root, path, "names an object twice: directly and under `ref`");
        }
        [.., "dnsName"] | [.., "dnsName", "channel"] => {
            report.at(
                root,
                &format!("{path}.dnsName"),
                format!(
                    "`dnsName` stands alone, here it is together with {}",
                    others(&spoken, "dnsName")
                ),
            );
        }
        _ => report.at(
            root,
            &format!("{path}.channel"),
            format!(
                "`channel` stands alone, here it is together with {}",
                others(&spoken, "channel")
            ),
        ),
    }
    if direct {
        for (name, written) in [
            ("apiVersion", &target.api_version),
            ("kind", &target.kind),
            ("name", &target.name),
        ] {
            if written.is_none() {
                report.at(
                    root,
                    path,
                    format!("`{name}` is required: a reference is apiVersion, kind and name"),
                );
            }
        }
    }
    if let Some(object) = target.object() {
        let at = if reference {
            format!("{path}.ref")
        } else {
            path.to_owned()
        };
        if let Err((field, message)) = referable(&object.api_version, &object.kind) {
            report.at(root, &format!("{at}.{field}"), message);
        } else if object.kind == "Channel" && object.api_version == parts::EVENTING && target.uri.is_some() {
            report.at(
                root,
                &format!("{path}.uri"),
                "a channel is one address: `uri` beside it can only be a mistake",
            );
        }
    }
    if let Some(uri) = &target.uri {
        let checked = if direct || reference {
            relative(uri)
        } else {
            http_url(uri).map(|_| ())
        };
        if let Err(message) = checked {
            report.at(root, &format!("{path}.uri"), message);
        }
    }
    if let Some(Err(message)) = target.dns_name.as_deref().map(dns_name) {
        report.at(root, &format!("{path}.dnsName"), message);
    }
}

fn others(spoken: &[&str], name: &str) -> String {
    let others: Vec<_> = spoken
        .iter()
        .filter(|other| **other != name)
        .map(|other| format!("`{other}`"))
        .collect();
    others.join(" and ")
}

/// Kinds of our own groups are known: of them, only a Channel takes events. Error: the field and what is wrong with it.
fn referable(api_version: &str, kind: &str) -> Result<(), (&'static str, String)> {
    let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    let ours = [parts::EVENTING, parts::SOURCES]
        .iter()
        .any(|known| known.split('/').next() == api_version.split('/').next());
    match known {
        Some(Kind::Channel) if ours && api_version != parts::EVENTING => Err((
            "apiVersion",
            format!("`{api_version}` has no Channel, did you mean `{}`?", parts::EVENTING),
        )),
        Some(Kind::Channel) => Ok(()),
        _ if !ours => Ok(()),
        Some(kind) => Err(("kind", format!("a {kind} takes no events: a Channel does"))),
        None => {
            let meant = suggestion(
                kind,
                Kind::ALL.into_iter().filter(|kind| kind.is_ours()).map(Kind::as_str),
            );
            Err(("kind", format!("unknown kind `{kind}` in {api_version}{meant}")))
        }
    }
}

fn relative(uri: &str) -> Result<(), String> {
    // Any base does: what is asked is whether the text can stand beside one.
    let joined = http_url("http://base.invalid/").and_then(|base| base.join(uri).map_err(|error| error.to_string()));
    match joined {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "h2c") => Ok(()),
        Ok(url) => Err(format!(
            "expected a path or an http or https URL: the scheme is `{}`",
            url.scheme()
        )),
        Err(error) => Err(format!("expected a path or an http or https URL: {error}")),
    }
}

/// A host with or without a port, or a URL (API.md 2.1).
pub(crate) fn dns_name(text: &str) -> Result<Url, String> {
    if text.contains("://") {
        return http_url(text);
    }
    if text.contains(['/', '?', '#', '@', ' ']) {
        return Err("expected a host, such as orders.example.com or 127.0.0.1:9000, or a whole URL".to_owned());
    }
    http_url(&format!("http://{text}/")).map_err(|_| "expected a host with or without a port, or a URL".to_owned())
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
