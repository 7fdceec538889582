//! The Docker engine itself, with a bridge of its own and images made here: no registry, and nothing of the machine's own
//! engine.
//!
//! Debian's `docker.io` is installed and not fetched: it is a part of the system, and needs root. Up in a second, 90 MB. An
//! engine of its own has all in its folder: data, run-time state, socket, pid file.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU8, Ordering},
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{
    cache,
    process::{Server, run},
};

const HINT: &str = "Docker for tests needs root and Debian's packages docker.io, busybox-static, iproute2 and curl: apt-get install --no-install-recommends docker.io busybox-static iproute2 curl, or set HEADGATE_SKIP_PEERS=docker";
/// In the engine's folder: what images are made of.
const ARCHIVE: &str = "image.tar";

const READY: &str = "API listen on";

/// The network comes first, so that nothing is left of an engine that does not start. Told to end, an engine ends its
/// containers, too; killed, it would leave them, and their mounts. An engine that ends by itself is started again: dockerd gives up
/// when containerd takes longer than 15 s, which it does on a busy machine.
const ENGINE: &str = r#"folder=$1 bridge=$2 address=$3
ip link add name "$bridge" type bridge && ip address add "$address/24" dev "$bridge" && ip link set "$bridge" up || exit 1
trap 'stopped=yes; kill -TERM $engine' TERM
stopped= starts=0
while [ -z "$stopped" ] && [ $starts -lt 3 ]; do
  starts=$((starts + 1))
  dockerd --host "unix://$folder/docker.sock" --data-root "$folder/data" --exec-root "$folder/exec" \
    --pidfile "$folder/docker.pid" --bridge "$bridge" --iptables=false --ip-masq=false --ip-forward=false \
    --shutdown-timeout 1 &
  engine=$!
  while kill -0 $engine 2>/dev/null; do wait $engine; done
done
ip link delete "$bridge""#;

/// Told to end, then given this many seconds, which its containers may take.
const STOP_SECS: u32 = 20;

/// A running engine, or one that was stopped.
pub struct Docker {
    folder: PathBuf,
    bridge: String,
    address: String,
    server: Option<Server>,
    starts: usize,
    _removed: Option<TempDir>,
}

impl Docker {
    /// The one engine that the tests of a process share. `None` when it is to be skipped.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Docker> = OnceCell::const_new();
        if cache::skipped("docker") {
            return None;
        }
        let started = || async {
            let started = tokio::task::spawn_blocking(|| Self::begin(true)).await;
            started.expect("an engine")
        };
        Some(SHARED.get_or_init(started).await)
    }

    /// One of the test's own, to stop and start. `None` when it is to be skipped.
    pub async fn start() -> Option<Self> {
        if cache::skipped("docker") {
            return None;
        }
        let started = tokio::task::spawn_blocking(|| Self::begin(false)).await;
        Some(started.expect("an engine"))
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// This machine's address on the engine's bridge.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the engine and all its containers.
    pub async fn stop(&mut self) {
        let server = self.server.take();
        // Waits for the process to be gone.
        let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    }

    /// Starts an engine that was stopped, with what it had.
    pub async fn restart(&mut self) {
        let (folder, bridge, address) = (self.folder.clone(), self.bridge.clone(), self.address.clone());
        let before = self.starts;
        self.starts += 1;
        let started = tokio::task::spawn_blocking(move || spawn(&folder, &bridge, &address, before, false)).await;
        self.server = Some(started.expect("an engine that starts again"));
    }

    /// Makes an image of busybox that runs `/bin/sh -c SCRIPT`, its arguments behind it: `$1` is the first.
    pub async fn image(&self, name: &str, script: &str) {
        let (repository, tag) = name.rsplit_once(':').expect("an image with a tag");
        let entrypoint = format!("ENTRYPOINT {}", json(&["/bin/sh", "-c", script, "image"]));
        let changes = escaped(&entrypoint);
        let url = format!("http://docker/images/create?fromSrc=-&repo={repository}&tag={tag}&changes={changes}");
        let mut archive = OsString::from("@");
        archive.push(self.folder.join(ARCHIVE));
        let mut curl = self.curl(&url);
        curl.args(["-H", "content-type: application/x-tar", "--data-binary"])
            .arg(archive);
        let imported = tokio::task::spawn_blocking(move || run(&mut curl, HINT));
        let output = imported.await.expect("an image is imported");
        assert!(!output.contains("error"), "{output}");
    }

    /// `docker build` of a folder by a Dockerfile that need not be in it.
    pub async fn build(&self, folder: &Path, dockerfile: &Path, name: &str) {
        let mut docker = Command::new("docker");
        docker
            .env("DOCKER_HOST", self.host())
            // The builder of every engine; the newer one is a package of its own.
            .env("DOCKER_BUILDKIT", "0");
        docker
            .args(["build", "--tag", name, "--file"])
            .arg(dockerfile)
            .arg(folder);
        let built = tokio::task::spawn_blocking(move || run(&mut docker, HINT));
        built.await.expect("an image is built");
    }

    /// Writes an image into an archive.
    pub async fn save(&self, name: &str, archive: &Path) {
        let mut curl = self.curl(&format!("http://docker/images/{name}/get"));
        curl.arg("--output").arg(archive);
        let saved = tokio::task::spawn_blocking(move || run(&mut curl, HINT));
        saved.await.expect("an image is saved");
    }

    /// The root folder that images are made of, as an archive.
    pub fn root(&self) -> Vec<u8> {
        fs::read(self.folder.join(ARCHIVE)).expect("it was written at the start")
    }

    /// `GET PATH` of the engine's API.
    pub async fn get(&self, path: &str) -> String {
        let mut curl = self.curl(&format!("http://docker{path}"));
        let answered = tokio::task::spawn_blocking(move || run(&mut curl, HINT));
        answered.await.expect("curl runs")
    }

    fn curl(&self, url: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--globoff", url, "--unix-socket"]);
        curl.arg(self.socket());
        curl
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    fn begin(for_good: bool) -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = process::id();
        // Private addresses of a range that is used seldom; another process has another network.
        let address = format!(
            "10.{}.{}.1",
            160 + (pid >> 7) % 64,
            (pid % 128) * 2 + u32::from(count % 2)
        );
        let bridge = format!("hgt{pid}x{count}");
        let folder = TempDir::with_prefix("headgate-docker-").expect("a folder for Docker");
        let path = folder.path().to_owned();
        busybox(&path);
        let server = spawn(&path, &bridge, &address, 0, for_good);
        // A static is never dropped: then the guard removes the folder.
        let removed = if for_good {
            let _ = folder.keep();
            None
        } else {
            Some(folder)
        };
        Self {
            folder: path,
            bridge,
            address,
            server: Some(server),
            starts: 1,
            _removed: removed,
        }
    }
}

fn spawn(folder: &Path, bridge: &str, address: &str, before: usize, remove: bool) -> Server {
    let mut root = Command::new("sh");
    root.args(["-c", "[ $(id -u) = 0 ]"]);
    run(&mut root, &format!("not root. {HINT}"));
    for program in ["dockerd", "ip", "busybox", "curl", "tar"] {
        let mut find = Command::new("sh");
        find.args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}")]);
        run(&mut find, &format!("{program} is not there. {HINT}"));
    }
    let folder_text = folder.to_str().expect("a temporary folder's name is text");
    let command = [
        "env",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "sh",
        "-c",
        ENGINE,
        "engine",
        folder_text,
        bridge,
        address,
    ];
    let command: Vec<String> = command.map(str::to_owned).into();
    let mut server = Server::start_gently(
        &command,
        &folder.join("docker.log"),
        remove.then_some(folder),
        STOP_SECS,
    );
    server.wait_for(READY, before);
    server
}

/// A root folder of nothing but busybox, as an archive.
fn busybox(folder: &Path) {
    let bin = folder.join("busybox").join("bin");
    fs::create_dir_all(&bin).expect("a folder for an image");
    let found = run(Command::new("sh").args(["-c", "command -v busybox"]), HINT);
    fs::copy(found.trim(), bin.join("busybox")).expect("busybox is copied");
    for applet in ["sh", "wget", "sleep", "env", "kill", "head", "nc"] {
        symlink("busybox", bin.join(applet)).expect("an applet is linked");
    }
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(folder.join("busybox"))
        .arg("-cf")
        .arg(folder.join(ARCHIVE))
        .arg("bin");
    run(&mut tar, HINT);
}

/// A JSON array of texts.
fn json(texts: &[&str]) -> String {
    let quoted = texts.iter().map(|text| {
        let mut quoted = String::from('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                '\n' => quoted.push_str("\\n"),
                other => quoted.push(other),
            }
        }
        quoted + "\""
    });
    format!("[{}]", quoted.collect::<Vec<_>>().join(","))
}

/// Percent-encoded for a query.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}
