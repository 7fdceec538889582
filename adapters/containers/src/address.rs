//! Where a container engine listens.

use std::{net::IpAddr, path::Path};

/// Docker's default socket.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// Sockets of engines that run without root, below the user's run-time folder.
const USER_SOCKETS: [&str; 2] = ["docker.sock", "podman/podman.sock"];

/// Where the engine listens: what `DOCKER_HOST` says, else the usual sockets.
#[derive(Clone, Debug, Default)]
pub struct EngineAddress(Option<String>);

impl EngineAddress {
    /// Takes the value of `DOCKER_HOST`; an empty text counts as none, as for Docker's own tools.
    pub fn new(docker_host: Option<String>) -> Self {
        Self(docker_host.filter(|host| !host.is_empty()))
    }

    /// Whether it runs on another machine, where a container cannot reach this one as its host.
    pub fn is_remote(&self) -> bool {
        let host = self.0.as_deref().and_then(|host| host.split_once("://"));
        let Some(("tcp" | "http" | "https", rest)) = host else {
            return false;
        };
        let host = rest.split('/').next().unwrap_or(rest);
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The address to use now: a socket may appear later.
    pub(crate) fn resolve(&self) -> String {
        if let Some(host) = &self.0 {
            return host.clone();
        }
        let mut sockets = vec![DOCKER_SOCKET.to_owned()];
        if let Ok(runtime) = std::env::var("XDG_RUNTIME_DIR") {
            sockets.extend(USER_SOCKETS.map(|name| format!("{runtime}/{name}")));
        }
        sockets.push(PODMAN_SOCKET.to_owned());
        let found = sockets.iter().position(|socket| Path::new(socket).exists());
        format!("unix://{}", sockets.swap_remove(found.unwrap_or(0)))
    }
}

/// Removes the credentials from an address (CONTRACT SR-6).
pub(crate) fn shown(address: &str) -> String {
    match address.split_once("://") {
        Some((scheme, rest)) if scheme != "unix" => {
            let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{rest}")
        }
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_on_another_machine_is_known_by_its_address() {
        for (host, remote) in [
            (None, false),
            (Some(""), false),
            (Some("unix:///run/user/1000/docker.sock"), false),
            (Some("tcp://127.0.0.1:2375"), false),
            (Some("tcp://localhost:2375"), false),
            (Some("tcp://[::1]:2375"), false),
            (Some("tcp://build.example:2375"), true),
            (Some("tcp://10.0.0.7:2375/"), true),
        ] {
            assert_eq!(
                EngineAddress::new(host.map(str::to_owned)).is_remote(),
                remote,
                "{host:?}"
            );
        }
    }

    /// Proves: SR-6
    #[test]
    fn an_address_is_shown_without_its_credentials() {
        assert_eq!(shown("tcp://me:hunter2@build.example:2375"), "tcp://build.example:2375");
        assert_eq!(
            shown("unix:///srv/me@work/docker.sock"),
            "unix:///srv/me@work/docker.sock"
        );
    }
}
