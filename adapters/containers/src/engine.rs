//! The container engine, by Docker's API, which Podman speaks, too.
//!
//! Nothing here depends on names of events, in which the two differ: an end is awaited, and the state is read from the
//! container. Each call opens its own connection, so the client survives a restart of the engine.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    container::LogOutput,
    errors::Error,
    models::ContainerState,
    query_parameters::{
        CreateContainerOptions, CreateImageOptions, InspectContainerOptions, InspectNetworkOptions,
        ListContainersOptions, LogsOptions, RemoveContainerOptions, StartContainerOptions, StopContainerOptions,
        WaitContainerOptions,
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;

use crate::{
    EngineAddress,
    address::shown,
    container_spec::{ContainerSpec, GATEWAY, HASH, SOURCE, UID},
    restart::Exit,
    trouble::{Trouble, innermost, is_status, trouble},
};

/// The name by which a container reaches the machine that its engine runs on.
pub const HOST: &str = "host.docker.internal";

/// How long an engine may take to begin its answer. Creating a container takes it well under a second; on a disk that is busy with pulled
/// layers it was seen to take twenty.
const ANSWER_SECS: u64 = 60;

/// Between SIGTERM and SIGKILL, as `docker stop` has it.
const STOP_SECS: i32 = 10;

/// A pull that says nothing for so long has lost its registry.
const PULL_SILENCE: Duration = Duration::from_secs(120);

/// Networks that a container joins by default: Docker's and Podman's.
const DEFAULT_NETWORKS: [&str; 2] = ["bridge", "podman"];

/// A container that this gateway created.
pub(crate) struct Owned {
    pub(crate) id: String,
    /// `NAMESPACE/NAME` of its source.
    pub(crate) source: String,
    pub(crate) uid: String,
    pub(crate) hash: String,
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never started.
    Created,
    Running {
        since: Option<Timestamp>,
    },
    Exited {
        exit: Exit,
        out_of_memory: bool,
    },
}

/// An engine that answered.
pub struct Engine {
    docker: Docker,
    address: String,
}

impl Engine {
    /// Connects to the engine at `address` and negotiates the version of its API.
    ///
    /// # Errors
    /// No engine answers there, or the address is of an unsupported kind.
    pub async fn connect(address: &EngineAddress) -> Result<Self, Trouble> {
        let address = address.resolve();
        let opened = match address.split_once("://") {
            Some(("unix", _)) => Docker::connect_with_unix(&address, ANSWER_SECS, API_DEFAULT_VERSION),
            Some(("tcp" | "http", _)) => Docker::connect_with_http(&address, ANSWER_SECS, API_DEFAULT_VERSION),
            _ => {
                let detail = "only unix://, tcp:// and http:// addresses are supported";
                return Err(Trouble::no_engine(&shown(&address), detail));
            }
        };
        let address = shown(&address);
        let asked = async { opened?.negotiate_version().await };
        match asked.await {
            Ok(docker) => Ok(Self { docker, address }),
            Err(error) => Err(Trouble::no_engine(&address, &innermost(&error))),
        }
    }

    /// Lists the containers of a gateway: of one source, or of all.
    pub(crate) async fn owned(&self, gateway: &str, source: Option<&str>) -> Result<Vec<Owned>, Trouble> {
        let mut labels = vec![format!("{GATEWAY}={gateway}")];
        labels.extend(source.map(|source| format!("{SOURCE}={source}")));
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.trouble("list its containers", &error))?;
        let owned = listed.into_iter().filter_map(|found| {
            let mut labels = found.labels?;
            let mut label = |name: &str| labels.remove(name).unwrap_or_default();
            let (source, uid, hash) = (label(SOURCE), label(UID), label(HASH));
            Some(Owned {
                id: found.id?,
                source,
                uid,
                hash,
            })
        });
        Ok(owned.collect())
    }

    /// Reads the container's state; `None` if it does not exist.
    pub(crate) async fn inspect(&self, id: &str) -> Result<Option<State>, Trouble> {
        match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(found) => Ok(Some(state(&found.state.unwrap_or_default()))),
            Err(error) if is_status(&error, 404) => Ok(None),
            Err(error) => Err(self.trouble("show the container", &error)),
        }
    }

    pub(crate) async fn has_image(&self, image: &str) -> Result<bool, Trouble> {
        match self.docker.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(error) if is_status(&error, 404) => Ok(false),
            Err(error) => Err(self.trouble("show the image", &error)),
        }
    }

    /// Returns once the image is on the engine.
    pub(crate) async fn pull(&self, image: &str) -> Result<(), Trouble> {
        let options = CreateImageOptions {
            from_image: Some(tagged(image)),
            ..CreateImageOptions::default()
        };
        let mut progress = self.docker.create_image(Some(options), None, None);
        loop {
            match tokio::time::timeout(PULL_SILENCE, progress.next()).await {
                Ok(Some(Ok(_layer))) => {}
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => match error {
                    Error::DockerResponseServerError { .. } | Error::DockerStreamError { .. } => {
                        return Err(Trouble::image(image, &error));
                    }
                    other => return Err(self.trouble("pull the image", &other)),
                },
                Err(_silent) => return Err(Trouble::image(image, &Error::RequestTimeoutError)),
            }
        }
    }

    /// Creates the container and returns its id.
    pub(crate) async fn create(&self, spec: &ContainerSpec) -> Result<String, Trouble> {
        let options = CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..CreateContainerOptions::default()
        };
        let created = self.docker.create_container(Some(options), spec.body.clone()).await;
        created
            .map(|created| created.id)
            .map_err(|error| self.trouble("create the container", &error))
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), Trouble> {
        let started = self.docker.start_container(id, None::<StartContainerOptions>).await;
        started.map_err(|error| self.trouble("start the container", &error))
    }

    /// Stops the container by SIGTERM, by SIGKILL after 10 s, and removes it. Succeeds if another client removes it meanwhile.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), Trouble> {
        let patience = StopContainerOptions {
            t: Some(STOP_SECS),
            ..StopContainerOptions::default()
        };
        match self.docker.stop_container(id, Some(patience)).await {
            Err(error) if is_status(&error, 404) => return Ok(()),
            // Removing by force below stops it in any case.
            Ok(()) | Err(Error::DockerResponseServerError { .. }) => {}
            Err(error) => return Err(self.trouble("stop the container", &error)),
        }
        let with_volumes = RemoveContainerOptions {
            v: true,
            force: true,
            ..RemoveContainerOptions::default()
        };
        match self.docker.remove_container(id, Some(with_volumes)).await {
            // 409: it is being removed already.
            Err(error) if !is_status(&error, 404) && !is_status(&error, 409) => {
                Err(self.trouble("remove the container", &error))
            }
            _ => Ok(()),
        }
    }

    /// Streams the container's output from now on, after the last `lines` lines it printed before.
    pub(crate) fn output(&self, id: &str, lines: usize) -> impl Stream<Item = Result<Bytes, Trouble>> {
        let options = LogsOptions {
            follow: true,
            stdout: true,
            stderr: true,
            tail: lines.to_string(),
            ..LogsOptions::default()
        };
        self.docker.logs(id, Some(options)).map(|printed| match printed {
            Ok(printed) => Ok(LogOutput::into_bytes(printed)),
            Err(error) => Err(self.trouble("show what the container prints", &error)),
        })
    }

    /// Returns when the container does not run, or when the engine gave up waiting: inspect it then.
    pub(crate) async fn ended(&self, id: &str) -> Result<(), Trouble> {
        let options = WaitContainerOptions {
            condition: "not-running".to_owned(),
        };
        let mut waiting = std::pin::pin!(self.docker.wait_container(id, Some(options)));
        match waiting.next().await {
            None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. } | Error::RequestTimeoutError)) => Ok(()),
            Some(Err(error)) if is_status(&error, 404) => Ok(()),
            Some(Err(error)) => Err(self.trouble("wait for the container", &error)),
        }
    }

    /// This machine's address in the network that containers are put into: what [`HOST`] means there.
    pub(crate) async fn host_address(&self) -> Result<Option<IpAddr>, Trouble> {
        for network in DEFAULT_NETWORKS {
            match self
                .docker
                .inspect_network(network, None::<InspectNetworkOptions>)
                .await
            {
                Ok(found) => {
                    let settings = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
                    let addresses = settings.into_iter().filter_map(|setting| setting.gateway?.parse().ok());
                    let addresses: Vec<IpAddr> = addresses.collect();
                    // host-gateway means the IPv4 address where there is one.
                    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
                    return Ok(first.copied());
                }
                Err(error) if is_status(&error, 404) => {}
                Err(error) => return Err(self.trouble("show its network", &error)),
            }
        }
        Ok(None)
    }

    fn trouble(&self, act: &str, error: &Error) -> Trouble {
        trouble(&self.address, act, error)
    }
}

/// A name alone would pull every tag there is.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) {
        return image.to_owned();
    }
    format!("{image}:latest")
}

fn state(found: &ContainerState) -> State {
    // An engine writes the year 1 for "never".
    let time = |text: &Option<String>| {
        let time: Option<Timestamp> = text.as_deref()?.parse().ok();
        time.filter(|time| time.as_second() > 0)
    };
    let since = time(&found.started_at);
    if found.running == Some(true) {
        return State::Running { since };
    }
    let Some(since) = since else {
        return State::Created;
    };
    let until = time(&found.finished_at).unwrap_or(since);
    State::Exited {
        exit: Exit {
            code: found.exit_code,
            ran: Duration::try_from(until.duration_since(since)).unwrap_or_default(),
        },
        out_of_memory: found.oom_killed == Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        for (image, expected) in [
            ("beats", "beats:latest"),
            ("registry:5000/team/beats", "registry:5000/team/beats:latest"),
            ("registry:5000/team/beats:1", "registry:5000/team/beats:1"),
            ("beats@sha256:00", "beats@sha256:00"),
        ] {
            assert_eq!(tagged(image), expected);
        }
    }

    #[test]
    fn a_containers_state_is_read_as_docker_and_podman_write_it() {
        let found = |running: bool, started: &str, finished: &str, exit_code: i64| {
            state(&ContainerState {
                running: Some(running),
                started_at: Some(started.to_owned()),
                finished_at: Some(finished.to_owned()),
                exit_code: Some(exit_code),
                ..ContainerState::default()
            })
        };
        const NEVER: &str = "0001-01-01T00:00:00Z";
        const THEN: &str = "2026-11-24T10:00:00.25Z";
        assert_eq!(found(false, NEVER, NEVER, 0), State::Created);
        let since = THEN.parse().ok();
        assert_eq!(found(true, THEN, NEVER, 0), State::Running { since });
        let expected = State::Exited {
            exit: Exit {
                code: Some(3),
                ran: Duration::from_millis(90_500),
            },
            out_of_memory: false,
        };
        assert_eq!(found(false, THEN, "2026-11-24T11:01:30.75+01:00", 3), expected);
        assert_eq!(found(false, THEN, "2026-11-24T10:01:30.75Z", 3), expected);
    }
}
