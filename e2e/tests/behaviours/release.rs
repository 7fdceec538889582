//! The files of a release: made by one command, applied to a real API server.

use std::{collections::BTreeSet, path::Path};

use e2e::{
    binary::{headgate, workspace},
    tree::read,
};
use serde_json::Value;
use servers::{Kubernetes, kubernetes::Setup};
use tempfile::TempDir;
use tokio::process::Command;

#[tokio::test]
async fn one_command_makes_a_release_and_kubectl_installs_each_of_its_files() {
    let setup = Setup {
        controller_manager: true,
        ..Setup::default()
    };
    let Some(cluster) = Kubernetes::start(setup).await else {
        return;
    };
    let folder = TempDir::with_prefix("headgate-release-").expect("a temporary folder");
    let files = folder.path().join("files");
    let script = workspace().join("deploy/release.sh");
    let home = std::env::var("HOME").unwrap_or_default();
    let make = format!(
        "HOME='{home}' SOURCE_DATE_EPOCH=1796000000 DPKG_DEB_COMPRESSOR_TYPE=none '{}' '{}' registry.example.org:5000/headgate:1.2.3 '{}'",
        script.display(),
        headgate().display(),
        files.display()
    );
    cluster.shell(workspace(), &make).await;
    // Every file has its checksum, and it is right.
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&files)
        .output()
        .await;
    let checked = String::from_utf8_lossy(&checked.expect("sha256sum runs").stdout).into_owned();
    let names: BTreeSet<&str> = checked.lines().filter_map(|line| line.strip_suffix(": OK")).collect();
    let version = env!("CARGO_PKG_VERSION");
    let expected: BTreeSet<String> = std::fs::read_dir(&files)
        .expect("a folder")
        .map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "SHA256SUMS")
        .collect();
    assert_eq!(names, expected.iter().map(String::as_str).collect(), "{checked}");
    assert_eq!(names.len(), 5, "{names:?}");
    let begins = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    assert!(
        begins(&format!("headgate-{version}-")) && begins(&format!("headgate_{version}_")),
        "{names:?}"
    );
    materials(&files.join("headgate.cdx.json"));

    let may_read_events = [
        "auth",
        "can-i",
        "list",
        "events",
        "-A",
        "--as=system:serviceaccount:headgate-system:headgate",
    ];
    for (name, expected) in [("release.yaml", false), ("release-all-sources.yaml", true)] {
        let file = files.join(name).display().to_string();
        let applied = cluster.kubectl(&["apply", "-f", &file]).await;
        assert!(applied.contains("statefulset.apps/headgate "), "{applied}");
        let image = "jsonpath={.spec.template.spec.containers[0].image}";
        let image = cluster
            .kubectl(&["get", "statefulset", "headgate", "-n", "headgate-system", "-o", image])
            .await;
        assert_eq!(image, "registry.example.org:5000/headgate:1.2.3");
        // It ends with an error when the answer is no.
        let may = cluster.try_kubectl(&may_read_events, "").await.is_ok();
        assert_eq!(may, expected, "{name}: may the gateway read events?");
    }
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])
        .await;
    let sample = workspace().join("deploy/samples/ordered.yaml").display().to_string();
    cluster.kubectl(&["apply", "-f", &sample]).await;
}

/// The bill of materials: what the binary is compiled from, each with its license, and nothing else.
fn materials(path: &Path) {
    let document: Value = serde_json::from_str(&read(path)).expect("it is JSON");
    assert_eq!(document["bomFormat"], "CycloneDX");
    assert_eq!(document["metadata"]["component"]["name"], "headgate");
    let components = document["components"].as_array().expect("components");
    let mut known: BTreeSet<Option<&str>> = components
        .iter()
        .map(|component| component["bom-ref"].as_str())
        .collect();
    known.insert(document["metadata"]["component"]["bom-ref"].as_str());
    for component in components {
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "no license: {component}"
        );
    }
    for node in document["dependencies"].as_array().expect("dependencies") {
        let needs = node["dependsOn"].as_array().expect("a list");
        assert!(
            needs.iter().all(|need| known.contains(&need.as_str())),
            "it needs what is not listed: {node}"
        );
    }
    let named = |name: &str| components.iter().find(|component| component["name"] == name);
    assert_eq!(named("tokio").expect("tokio")["hashes"][0]["alg"], "SHA-256");
    assert!(named("dataplane").is_some(), "our own packages are parts of it");
    for of_tests in ["e2e", "proptest", "rstest", "cloudevents-sdk"] {
        assert!(named(of_tests).is_none(), "{of_tests} is not shipped");
    }
}
