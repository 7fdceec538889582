//! What must stay true of the tree (ARCHITECTURE.md, invariants): allowed arrows between packages, who may name
//! which library, and patterns that have no place in the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    process::Command,
    sync::OnceLock,
};

use e2e::{
    binary::workspace,
    tree::{Source, read, rust_files, text_files},
};
use serde_json::Value;

/// Package -> what it may depend on of ours. `channel` in an adapter is for the proof type `Stored` only.
const ARROWS: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("backoff", &[]),
    ("log-limit", &[]),
    ("cesql", &["event"]),
    ("connect", &[]),
    ("status", &[]),
    ("spec", &["cesql", "event", "backoff", "status"]),
    ("channel", &["event"]),
    ("channel-memory", &["channel", "event", "backoff"]),
    ("channel-embedded", &["channel", "event", "backoff"]),
    ("adapter", &["channel", "event", "status"]),
    (
        "adapter-github",
        &["adapter", "connect", "event", "backoff", "log-limit"],
    ),
    ("adapter-sink-binding", &["adapter", "event"]),
    ("adapter-containers", &["adapter", "adapter-sink-binding", "backoff"]),
    (
        "adapter-gcp-pubsub",
        &["adapter", "connect", "event", "backoff", "log-limit"],
    ),
    (
        "adapter-kubernetes-events",
        &["adapter", "connect", "event", "backoff", "log-limit"],
    ),
    (
        "dataplane",
        &[
            "adapter",
            "cesql",
            "channel",
            "connect",
            "spec",
            "event",
            "backoff",
            "log-limit",
        ],
    ),
    ("kubernetes-requests", &[]),
    (
        "kubernetes",
        &["kubernetes-requests", "spec", "event", "backoff", "connect", "status"],
    ),
    ("headgate", &["*"]),
    ("channel-broker", &["channel", "event", "log-limit"]),
    ("channel-kafka", &["channel", "channel-broker", "event"]),
    ("channel-nats", &["channel", "channel-broker", "event"]),
    ("servers", &[]),
    ("e2e", &["event", "servers"]),
    (
        "sim",
        &[
            "adapter",
            "backoff",
            "cesql",
            "channel",
            "connect",
            "dataplane",
            "event",
            "spec",
            "status",
        ],
    ),
];

/// What tests and examples of a package may use besides: real channels under the data plane, a `Stored` for an adapter.
const TEST_ARROWS: &[(&str, &[&str])] = &[
    // Itself with the feature `interop`.
    ("event", &["event"]),
    // Itself with the feature `suite`.
    ("adapter", &["adapter"]),
    ("dataplane", &["channel-memory", "channel-embedded"]),
    ("spec", &["servers"]),
    ("adapter-sink-binding", &["adapter"]),
    ("adapter-containers", &["event", "servers"]),
    ("adapter-github", &["channel", "servers"]),
    ("adapter-gcp-pubsub", &["channel", "servers"]),
    ("adapter-kubernetes-events", &["channel", "servers"]),
    ("channel-kafka", &["servers"]),
    ("channel-nats", &["servers"]),
    ("kubernetes", &["servers"]),
];

/// Library (or its prefix, with `*`) -> the only packages of ours that may name it.
const LEAVES: &[(&str, &[&str])] = &[
    (
        "kube",
        &["kubernetes-requests", "kubernetes", "adapter-kubernetes-events"],
    ),
    ("kube-*", &["kubernetes", "adapter-kubernetes-events"]),
    ("k8s-openapi", &["kubernetes", "adapter-kubernetes-events"]),
    ("rdkafka", &["channel-kafka"]),
    ("async-nats", &["channel-nats"]),
    ("octocrab", &["adapter-github"]),
    ("google-cloud-*", &["adapter-gcp-pubsub"]),
    ("bollard", &["adapter-containers"]),
    ("serde-saphyr", &["spec", "headgate"]),
    ("clap*", &["headgate"]),
    ("axum", &["headgate"]),
    ("maud", &["headgate"]),
    ("anyhow", &["headgate", "e2e"]),
    ("winnow", &["cesql"]),
];

/// Packages that never await and know no runtime.
const PURE: &[&str] = &["event", "backoff", "cesql"];

#[test]
fn packages_depend_only_along_the_arrows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let ours = own_packages();
    for (name, dependencies) in &ours {
        let Some(allowed) = allowed.get(name.as_str()) else {
            panic!("package {name} has no line in ARROWS: say what it may depend on");
        };
        for (dependency, need) in dependencies
            .iter()
            .filter(|(dependency, _)| ours.contains_key(dependency))
        {
            let tests = *need == Need::Dev && has_arrow(TEST_ARROWS, name, dependency);
            assert!(
                tests || allowed.contains(&"*") || allowed.contains(&dependency.as_str()),
                "{name} -> {dependency} is no arrow of the design; allowed: {allowed:?}"
            );
        }
    }
}

#[test]
fn a_package_is_named_for_what_it_knows() {
    for name in own_packages().keys() {
        for vague in ["core", "common", "util", "utils", "helpers", "misc", "shared"] {
            assert!(
                !name.split('-').any(|part| part == vague),
                "package {name}: {vague} is no idea to put code into"
            );
        }
    }
}

#[test]
fn libraries_stay_in_their_leaf_packages() {
    let ours = own_packages();
    for (package, dependencies) in &ours {
        for (dependency, kind) in dependencies {
            // Who may depend on packages of ours, the arrows say.
            if *kind == Need::Dev || ours.contains_key(dependency) {
                continue;
            }
            for (pattern, leaves) in LEAVES {
                let hit = pattern
                    .strip_suffix('*')
                    .map_or(dependency == *pattern, |prefix| dependency.starts_with(prefix));
                assert!(
                    !hit || leaves.contains(&package.as_str()),
                    "{package} names {dependency}; only {leaves:?} may"
                );
            }
        }
    }
}

#[test]
fn pure_packages_never_await() {
    let packages = own_packages();
    for pure in PURE {
        for (dependency, kind) in &packages[*pure] {
            let runtime = ["tokio", "tokio-util", "futures-util", "async-trait"].contains(&dependency.as_str());
            assert!(!runtime || *kind == Need::Dev, "{pure} depends on {dependency}");
        }
        for source in rust_files()
            .iter()
            .filter(|source| source.path.starts_with(&format!("gateway/{pure}/src/")))
        {
            assert!(
                !source.shipped().contains("async fn"),
                "{} has an async fn",
                source.path
            );
        }
    }
}

#[test]
fn no_banned_crate_is_in_the_tree() {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    for ban in bans() {
        for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
            let user = names[text(&node["id"])];
            let uses = node["deps"]
                .as_array()
                .expect("deps")
                .iter()
                .any(|dep| names[text(&dep["pkg"])] == ban.name);
            assert!(
                !uses || ban.wrappers.iter().any(|wrapper| wrapper == user),
                "{user} brings {}: {}",
                ban.name,
                ban.reason
            );
        }
    }
}

#[test]
fn every_rust_file_is_reached_from_a_module() {
    let metadata = metadata();
    let mut reached = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("packages") {
        if package["source"].is_null() {
            for target in package["targets"].as_array().expect("targets") {
                reach(Path::new(text(&target["src_path"])), &mut reached);
            }
        }
    }
    for source in rust_files() {
        // A fuzz package stands outside the workspace, because it needs a compiler of its own.
        if source.path.contains("/fuzz/") || source.path.starts_with("fuzz/") {
            continue;
        }
        assert!(
            reached.contains(&source.path),
            "{} belongs to no module: declare it or delete it",
            source.path
        );
    }
}

#[test]
fn a_delivery_is_acknowledged_in_one_file() {
    for source in rust_files() {
        let plane = source.path.starts_with("gateway/") && !source.path.starts_with("gateway/spec/");
        if plane && !source.is_test() && !source.path.ends_with("dataplane/src/journey/settlement.rs") {
            assert!(
                !source.shipped().contains(".ack("),
                "{} acknowledges; only settlement.rs may",
                source.path
            );
        }
    }
}

#[test]
fn the_data_plane_names_no_backend_and_no_adapter() {
    let plane = |source: &&Source| source.path.starts_with("gateway/dataplane/src/") && !source.is_test();
    for source in rust_files().iter().filter(plane) {
        for name in [
            "channel_memory",
            "channel_embedded",
            "channel_broker",
            "channel_kafka",
            "channel_nats",
            "adapter_github",
            "adapter_gcp_pubsub",
            "adapter_kubernetes_events",
        ] {
            assert!(!source.shipped().contains(name), "{} names {name}", source.path);
        }
    }
}

#[test]
fn only_two_files_ask_for_optional_parts() {
    let asks = |source: &&Source| source.path.starts_with("gateway/src/") && source.text.contains("feature = \"");
    let files: Vec<String> = rust_files()
        .iter()
        .filter(asks)
        .map(|source| source.path.clone())
        .collect();
    assert_eq!(files, ["gateway/src/backends.rs", "gateway/src/features.rs"]);
}

#[test]
fn every_optional_part_is_checked_by_itself() {
    let packages = metadata()["packages"].as_array().expect("packages");
    let gateway = packages.iter().find(|package| package["name"] == "headgate");
    let features = gateway.expect("the package headgate")["features"].as_object();
    let script = read(&workspace().join(".ci/run"));
    let parts = script
        .lines()
        .find_map(|line| line.strip_prefix("for part in '' ")?.strip_suffix("; do"));
    let mut checked: Vec<&str> = parts.expect("a loop over the optional parts").split(' ').collect();
    checked.sort_unstable();
    let mut built: Vec<&str> = features.expect("features").keys().map(String::as_str).collect();
    built.retain(|feature| *feature != "default");
    built.sort_unstable();
    assert_eq!(checked, built);
}

#[test]
fn no_queue_is_unbounded() {
    for source in rust_files().iter().filter(|source| !source.is_test()) {
        for queue in [
            "unbounded_channel",
            "UnboundedSender",
            "mpsc::unbounded",
            "std::sync::mpsc::channel",
        ] {
            assert!(
                !source.shipped().contains(queue),
                "{} has an unbounded queue ({queue})",
                source.path
            );
        }
    }
}

#[test]
fn nothing_is_left_for_later_in_the_sources() {
    for source in rust_files()
        .iter()
        .filter(|source| source.path != "e2e/tests/architecture.rs")
    {
        for mark in [
            "todo!(",
            "unimplemented!(",
            "TODO",
            "FIXME",
            "XXX",
            "for now",
            "#[ignore]",
        ] {
            assert!(!source.text.contains(mark), "{} says {mark:?}", source.path);
        }
    }
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    for source in text_files()
        .iter()
        .filter(|source| source.path != "e2e/tests/architecture.rs")
    {
        for place in [
            "/home/",
            "/root/",
            "/work/",
            "/Users/",
            "index.crates.io",
            "registry.npmjs.org",
            "pypi.org/simple",
        ] {
            let hit = source
                .text
                .lines()
                .any(|line| line.contains(place) && !line.starts_with("source = "));
            assert!(!hit, "{} names {place}", source.path);
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for source in rust_files().iter().filter(|source| !source.path.contains("/fuzz/")) {
        assert!(
            source.text.starts_with("//!") || source.text.starts_with("#!"),
            "{} does not open with //!",
            source.path
        );
    }
}

#[test]
fn unsafe_is_forbidden_in_every_package() {
    for (package, manifest) in manifests() {
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{package} does not take the workspace's lints"
        );
    }
}

fn has_arrow(arrows: &[(&str, &[&str])], from: &str, to: &str) -> bool {
    arrows
        .iter()
        .any(|(package, targets)| *package == from && targets.contains(&to))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Normal,
    Dev,
}

/// Our packages with what each of them names as a dependency.
fn own_packages() -> BTreeMap<String, Vec<(String, Need)>> {
    let packages = metadata()["packages"].as_array().expect("packages");
    let own = packages.iter().filter(|package| package["source"].is_null());
    own.map(|package| {
        let dependencies = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .map(|dependency| {
                let need = if dependency["kind"] == "dev" {
                    Need::Dev
                } else {
                    Need::Normal
                };
                (text(&dependency["name"]).to_owned(), need)
            });
        (text(&package["name"]).to_owned(), dependencies.collect())
    })
    .collect()
}

fn manifests() -> Vec<(String, String)> {
    let packages = metadata()["packages"].as_array().expect("packages");
    let own = packages.iter().filter(|package| package["source"].is_null());
    own.map(|package| {
        (
            text(&package["name"]).to_owned(),
            read(Path::new(text(&package["manifest_path"]))),
        )
    })
    .collect()
}

fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(workspace())
            .args([
                "metadata",
                "--format-version",
                "1",
                "--offline",
                "--locked",
                "--all-features",
            ])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
    })
}

/// Libraries whose license is told by a file alone: name, file, and what the file is.
const LICENSE_FILES: &[(&str, &str, &str)] = &[("cloudevents-sdk", "LICENSE", "Apache-2.0")];

#[test]
fn libraries_have_licenses_that_deny_toml_allows_and_come_from_one_registry() {
    let file = read(&workspace().join("deny.toml"));
    let line = file.lines().find(|line| line.starts_with("allow = ["));
    let allowed: BTreeSet<&str> = line.expect("a list").split('"').skip(1).step_by(2).collect();
    let packages = metadata()["packages"].as_array().expect("packages");
    let foreign: Vec<&Value> = packages
        .iter()
        .filter(|package| package["source"].is_string())
        .collect();
    assert!(foreign.len() > 100, "{} libraries", foreign.len());
    let mut refused = Vec::new();
    for package in &foreign {
        let name = text(&package["name"]);
        let by_file = LICENSE_FILES
            .iter()
            .find(|(known, file, _)| *known == name && package["license_file"] == *file);
        let license = package["license"].as_str().or(by_file.map(|(_, _, license)| *license));
        if !license.is_some_and(|license| is_allowed(license, &allowed)) {
            refused.push(format!("{name}: {license:?}"));
        }
    }
    assert!(
        refused.is_empty(),
        "licenses that deny.toml does not allow: {refused:#?}"
    );
    let sources: BTreeSet<&str> = foreign.iter().map(|package| text(&package["source"])).collect();
    assert!(
        sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")),
        "{sources:?}"
    );
}

/// An SPDX expression of which one choice is allowed in each part. An exception to a license only allows more.
fn is_allowed(license: &str, allowed: &BTreeSet<&str>) -> bool {
    let spelled = license.replace('/', " OR ");
    spelled.split(" AND ").all(|part| {
        let mut choices = part.split(" OR ").map(|choice| choice.trim().trim_matches(['(', ')']));
        choices.any(|choice| choice.split(" WITH ").next().is_some_and(|base| allowed.contains(base)))
    })
}

#[test]
fn a_license_is_allowed_when_one_choice_of_each_part_is() {
    let allowed = BTreeSet::from(["MIT", "ISC"]);
    for (license, is) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("MIT AND GPL-3.0", false),
        ("MIT WITH LLVM-exception", true),
        ("MITX", false),
    ] {
        assert_eq!(is_allowed(license, &allowed), is, "{license}");
    }
}

struct Ban {
    name: String,
    wrappers: Vec<String>,
    reason: String,
}

/// The `deny` list of deny.toml: one inline table a line.
fn bans() -> Vec<Ban> {
    let file = read(&workspace().join("deny.toml"));
    let bans: Vec<Ban> = file
        .lines()
        .filter(|line| line.trim_start().starts_with("{ crate = "))
        .map(|line| {
            let quoted = |key: &str| -> Vec<String> {
                let Some((_, rest)) = line.split_once(&format!("{key} = ")) else {
                    return Vec::new();
                };
                let end = if rest.starts_with('[') { ']' } else { '}' };
                let value = rest.split(end).next().unwrap_or_default();
                value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
            };
            Ban {
                name: quoted("crate").remove(0),
                wrappers: quoted("wrappers"),
                reason: quoted("reason").into_iter().next().unwrap_or_default(),
            }
        })
        .collect();
    assert!(bans.len() > 3, "deny.toml has lost its bans, or their form");
    bans
}

/// Follows `mod name;` from a file to the files it names.
fn reach(path: &Path, reached: &mut BTreeSet<String>) {
    let relative = path
        .strip_prefix(workspace())
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned();
    if !path.is_file() || !reached.insert(relative) {
        return;
    }
    let folder = path.parent().expect("a file is in a folder");
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_root = ["lib", "main", "mod"].contains(&stem.as_str()) || is_target_root(path);
    let inside = if is_root { folder.to_owned() } else { folder.join(&stem) };
    let text = read(path);
    let mut named_path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            named_path = rest.split('"').next().map(|file| folder.join(file));
            continue;
        }
        let declaration = line
            .strip_prefix("pub(crate) ")
            .or_else(|| line.strip_prefix("pub "))
            .unwrap_or(line);
        if let Some(name) = declaration.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            match named_path.take() {
                Some(file) => reach(&file, reached),
                None => {
                    reach(&inside.join(format!("{name}.rs")), reached);
                    reach(&inside.join(name).join("mod.rs"), reached);
                }
            }
        }
    }
}

/// Files of tests/, benches/ and examples/ of a package and of src/bin/ are roots of their own.
fn is_target_root(path: &Path) -> bool {
    let Some(folder) = path.parent() else { return false };
    let in_package = folder
        .parent()
        .is_some_and(|package| package.join("Cargo.toml").is_file());
    let named = |names: &[&str]| names.iter().any(|name| folder.ends_with(name));
    (in_package && named(&["tests", "benches", "examples"])) || named(&["src/bin"])
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata holds text here")
}

#[test]
fn shipped_code_is_told_from_its_tests() {
    let source = Source {
        path: "x.rs".into(),
        text: "//! a\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n".into(),
    };
    assert_eq!(source.shipped(), "fn a() {}");
}
