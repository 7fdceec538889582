//! The built `headgate`: built once per test run, by the same cargo, profile and features as the tests themselves.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

/// Names a binary to test instead of building one, such as a release build.
const OVERRIDE: &str = "HEADGATE_BIN";

/// The gateway's executable, built when it is missing or older than its sources.
///
/// # Panics
/// When it cannot be built; cargo's own messages are above.
pub fn headgate() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| env::var_os(OVERRIDE).map_or_else(build, PathBuf::from))
}

/// Asks for the tests, too: with them cargo unifies features as `cargo test --workspace` did, and has nothing to
/// compile again but the binary. cargo's own lock makes this safe beside other builds.
fn build() -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo's variables about this test's package would make build scripts that read them (ring's) run again.
    for (name, _) in env::vars_os() {
        let set_by_cargo = name.to_string_lossy();
        if set_by_cargo.starts_with("CARGO_PKG_") || set_by_cargo.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .current_dir(workspace())
        .args(["build", "--workspace", "--bin", "headgate", "--tests", "--quiet"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the gateway does not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "bin" && message["target"]["name"] == "headgate")
        .filter(|message| message["profile"]["test"] == false)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable it built")
}

/// The root of the source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("e2e is a folder of the workspace")
}
