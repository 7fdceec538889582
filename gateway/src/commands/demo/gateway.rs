//! The gateway of the tour: this binary as a child process.

use std::{collections::BTreeSet, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::Instant,
};

use crate::{Failure, api::DeadLetter, client::Gateway};

const START_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct Process {
    child: Child,
    pub(super) ingress: String,
    pub(super) ready_after: Duration,
    admin: Gateway,
}

impl Process {
    pub(super) async fn start(folder: &Path) -> Result<Self, Failure> {
        let began = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("run")
            .arg(folder.join("documents"))
            .arg("--data")
            .arg(folder.join("data"));
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--log",
            "info",
        ]);
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned?;
        let Some(stderr) = child.stderr.take() else {
            return Err(Failure::Internal(anyhow::anyhow!("the gateway has no standard error")));
        };
        let mut lines = BufReader::new(stderr).lines();
        let ready = async {
            let mut lines_read = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                let log: Value = serde_json::from_str(&line).unwrap_or_default();
                if log["message"] == "gateway is ready" {
                    return Ok((
                        log["ingress"].as_str().unwrap_or_default().to_owned(),
                        log["admin"].as_str().unwrap_or_default().to_owned(),
                    ));
                }
                lines_read.push(line);
            }
            Err(Failure::Wrong(format!(
                "the gateway did not start: {}",
                lines_read.join("\n")
            )))
        };
        let ready = tokio::time::timeout(START_TIMEOUT, ready).await;
        let (ingress, admin) = ready.map_err(|_| Failure::Wrong("the gateway was not ready in time".into()))??;
        let ready_after = began.elapsed();
        // Its further lines are not shown, but must be read, or it would wait for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let admin = Gateway::new(&format!("http://{admin}"), None, None)?;
        Ok(Self {
            child,
            ingress: format!("http://{ingress}"),
            ready_after,
            admin,
        })
    }

    /// `kill -9`.
    pub(super) fn kill_now(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    pub(super) async fn wait_end(&mut self) -> Result<i32, Failure> {
        Ok(self.child.wait().await?.code().unwrap_or(-1))
    }

    /// SIGTERM; gives the exit code.
    pub(super) async fn terminate(&mut self) -> Result<i32, Failure> {
        self.signal(rustix::process::Signal::TERM);
        self.wait_end().await
    }

    /// Ids of the events in the dead-letter log.
    pub(super) async fn dead_letters(&self) -> Result<BTreeSet<String>, Failure> {
        let dead_letters: Vec<DeadLetter> = self.admin.get("/api/v1/deadletters", &[]).await?;
        Ok(dead_letters.into_iter().map(|dead_letter| dead_letter.event).collect())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself, which the next step notices.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}
