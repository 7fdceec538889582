//! The image and deploy/compose.yaml, on a real engine.
//!
//! There is no registry: the compiler's image is a stand-in of this machine's own programs, whose `cargo` gives back the binary that
//! all tests are about. Everything else of deploy/Dockerfile runs as it is written.

use std::{path::Path, process::Stdio};

use e2e::{
    Request,
    binary::{headgate, workspace},
    eventually, ports,
    tree::read,
};
use servers::Docker;
use tempfile::TempDir;
use tokio::process::Command;

/// As deploy/compose.yaml names it.
const IMAGE: &str = "headgate:0.1.0";

/// Lays out a root folder with programs of this machine, the libraries that they link, and a `cargo` that checks how it is called.
const STAND_IN: &str = r##"
root=$1 binary=$2
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/tmp" "$root/built"
ln -s usr/bin "$root/bin"
strip --strip-debug -o "$root/built/headgate" "$binary"
programs=$(for program in bash cat chmod cp dirname env grep install ldd ls mkdir; do readlink -f "$(command -v $program)"; done)
cp $programs "$root/usr/bin"
ln -s bash "$root/usr/bin/sh"
for file in $programs "$binary"; do
  { ldd "$file" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; }
done | sort -u | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp --dereference "$library" "$root$library"
done
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs"
cat >"$root/usr/bin/cargo" <<'CARGO'
#!/usr/bin/env bash
set -e
[ "$*" = "build --locked --profile dist -p headgate" ] || { echo "cargo $* is not what is expected" >&2; exit 1; }
[ "$RUSTUP_TOOLCHAIN" = "$RUST_VERSION" ] && [ -f Cargo.lock ] && [ -f gateway/src/main.rs ]
for left_out in target .git; do [ ! -e $left_out ] || { echo "$left_out was sent to the engine" >&2; exit 1; }; done
mkdir -p target/dist && cp /built/headgate target/dist/headgate
CARGO
chmod 755 "$root/usr/bin/cargo"
"##;

/// The compiler's image that deploy/Dockerfile names.
fn compiler() -> (String, String) {
    let recipe = read(&workspace().join("deploy/Dockerfile"));
    let from = recipe
        .lines()
        .find_map(|line| line.strip_prefix("FROM rust:"))
        .expect("a compiler");
    let image = from.split(' ').next().unwrap_or_default();
    let version = image.split('-').next().unwrap_or_default().to_owned();
    (format!("rust:{image}"), version)
}

#[test]
fn the_compilers_image_is_of_our_toolchain_and_both_recipes_end_alike() {
    let (_, version) = compiler();
    let toolchain = read(&workspace().join("rust-toolchain.toml"));
    assert!(
        toolchain.contains(&format!("channel = \"{version}\"")),
        "{version} is not in {toolchain}"
    );
    let end = |name: &str| {
        let recipe = read(&workspace().join("deploy").join(name));
        let (_, end) = recipe.split_once("\nFROM scratch\n").expect("the image begins empty");
        end.lines()
            .filter(|line| !line.starts_with("COPY "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(end("Dockerfile"), end("Dockerfile.binary"));
}

async fn compose(docker: &Docker, port: u16, arguments: &[&str]) -> String {
    let output = Command::new("docker-compose")
        .args(["--project-name", "headgate-e2e", "--file"])
        .arg(workspace().join("deploy/compose.yaml"))
        .args(arguments)
        .env("DOCKER_HOST", docker.host())
        .env("HEADGATE_PORT", port.to_string())
        .output()
        .await
        .expect("docker-compose is there: apt-get install docker-compose");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker-compose {arguments:?}: {errors}");
    printed
}

async fn image(docker: &Docker) {
    let folder = TempDir::with_prefix("headgate-compiler-").expect("a temporary folder");
    let root = folder.path().join("root");
    let laid_out = Command::new("bash")
        .args(["-euo", "pipefail", "-c", STAND_IN, "stand-in"])
        .args([&root, Path::new(headgate())])
        .stderr(Stdio::inherit())
        .status()
        .await;
    assert!(
        laid_out.expect("bash runs").success(),
        "the stand-in for the compiler is not made"
    );
    let (name, version) = compiler();
    let recipe = folder.path().join("Dockerfile");
    std::fs::write(
        &recipe,
        format!("FROM scratch\nCOPY . /\nENV PATH=/usr/bin RUST_VERSION={version}\n"),
    )
    .expect("a recipe");
    docker.build(&root, &recipe, &name).await;
    docker
        .build(workspace(), &workspace().join("deploy/Dockerfile"), IMAGE)
        .await;
}

/// Proves: OP-1
#[tokio::test]
async fn the_image_is_built_from_the_sources_and_compose_runs_it() {
    let Some(docker) = Docker::shared().await else {
        return;
    };
    image(docker).await;
    let port = ports::free().port();
    compose(docker, port, &["up", "--detach", "--no-build"]).await;
    let event = Request::event("orders", "1").header("ce-type", "order.created");
    eventually("the gateway in the container takes an event", || async {
        let answer = event.try_send(([127, 0, 0, 1], port).into()).await.ok()?;
        (answer.status == 202).then_some(())
    })
    .await;
    eventually("both services show it", || async {
        let shown = compose(docker, port, &["logs", "--no-color", "audit", "billing"]).await;
        ["audit", "billing"]
            .iter()
            .all(|service| {
                shown
                    .lines()
                    .any(|line| line.starts_with(service) && line.contains("order.created"))
            })
            .then_some(())
    })
    .await;
    let got = compose(
        docker,
        port,
        &["exec", "-T", "headgate", "/usr/bin/headgate", "get", "all"],
    )
    .await;
    assert!(got.contains("subscription/billing"), "{got}");
    compose(docker, port, &["down", "--volumes", "--timeout", "20"]).await;
}

#[tokio::test]
async fn compose_takes_the_file_with_each_broker() {
    for (profile, document) in [("", "disk.yaml"), ("nats", "nats.yaml"), ("kafka", "kafka.yaml")] {
        let output = Command::new("docker-compose")
            .arg("--file")
            .arg(workspace().join("deploy/compose.yaml"))
            .arg("config")
            .env("COMPOSE_PROFILES", profile)
            .output()
            .await
            .expect("docker-compose is there: apt-get install docker-compose");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(
            shown.contains(&format!("compose/{document}:/documents/channel.yaml:ro")),
            "{shown}"
        );
        let folder = workspace().join("deploy/compose");
        let files = [document, "subscriptions.yaml"].map(|name| folder.join(name).display().to_string());
        let valid = e2e::cli::run(&["validate", "--strict", &files[0], &files[1]])
            .await
            .exits(0);
        assert!(valid.stdout.contains("0 faults, 0 warnings"), "{}", valid.stdout);
    }
}
