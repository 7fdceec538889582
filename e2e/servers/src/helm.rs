//! Helm, built once by `go` (helm/go.mod pins it), for tests of the chart.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::{cache, go::Program, process::run};

const HINT: &str = "helm for tests is built by go 1.24 or later: install Go, or set HEADGATE_SKIP_PEERS=helm";

/// The command `helm`, with a home folder of its own.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
}

impl Helm {
    /// `None` when it is to be skipped.
    pub async fn fetched() -> Option<Self> {
        if cache::skipped("helm") {
            return None;
        }
        let built = tokio::task::spawn_blocking(|| {
            let program = Program {
                name: "helm",
                module: "kubernetes/helm",
                package: "helm.sh/helm/v3/cmd/helm",
                facts: &[],
                hint: HINT,
            };
            Self {
                program: program.built(),
                home: TempDir::with_prefix("headgate-helm-").expect("a folder for helm"),
            }
        });
        Some(built.await.expect("helm is built"))
    }

    /// Runs it and gives its output. `environment` says which cluster, where one is needed.
    ///
    /// # Panics
    /// When it fails.
    pub async fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let mut command = Command::new(&self.program);
        command.env("HOME", self.home.path()).args(arguments);
        command.envs(environment.iter().copied());
        let ran = tokio::task::spawn_blocking(move || run(&mut command, "helm"));
        ran.await.expect("helm succeeds")
    }
}
