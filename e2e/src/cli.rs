//! The command line as a user meets it: arguments in; output, errors and an exit code out.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::timeout,
};

use crate::binary::headgate;

/// No command of these tests works longer than this on its own.
const LIMIT: Duration = Duration::from_secs(60);

/// The result of a finished command.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The output as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in the output of {self:#?}"))
    }

    /// Asserts the exit code and gives the result back.
    ///
    /// # Panics
    /// When the code is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {self:#?}");
        self
    }
}

/// `headgate` with an environment free of the settings of the user who runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(headgate());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEADGATE_") {
            command.env_remove(name);
        }
    }
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
pub async fn headgate_in(folder: &Path, arguments: &[&str], input: &[u8]) -> Finished {
    let child = command()
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    finish(child, arguments, input).await
}

/// Runs a command in the temporary folder, with nothing on its standard input.
pub async fn run(arguments: &[&str]) -> Finished {
    headgate_in(&std::env::temp_dir(), arguments, b"").await
}

/// Runs another program to its end.
///
/// # Panics
/// When it cannot be started: the message has `advice`.
pub async fn other(folder: &Path, program: &str, arguments: &[&str], input: &[u8], advice: &str) -> Finished {
    let child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}: {advice}"));
    finish(child, arguments, input).await
}

async fn finish(mut child: Child, arguments: &[&str], input: &[u8]) -> Finished {
    let mut stdin = child.stdin.take().expect("piped");
    // A command that does not read its input may be gone already: not a fault.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = timeout(LIMIT, child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("{arguments:?} did not end within {LIMIT:?}"))
        .expect("its output can be read");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
