//! A server's process, which ends with its handle and with the test process, whatever ends that.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// Kills the server when the pipe it reads is closed: by its handle, or by the death of the test process. Removes the
/// folder named by its first argument, if one is.
const GUARD: &str = r#"folder=$1; log=$2; shift 2
"$@" >>"$log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -9 $server; wait $server
[ -z "$folder" ] || rm -rf "$folder""#;

/// The same for a server that has to clean up after itself: told to end, and killed when it has not after so many tenths of
/// a second.
const GENTLE_GUARD: &str = r#"folder=$1; log=$2; patience=$3; shift 3
"$@" >>"$log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -TERM $server
while kill -0 $server 2>/dev/null && [ "$patience" -gt 0 ]; do sleep 0.1; patience=$((patience - 1)); done
kill -9 $server 2>/dev/null; wait $server
[ -z "$folder" ] || rm -rf "$folder""#;

/// A cold start on a busy machine of two cores took up to 20 s.
const START_MAX: Duration = Duration::from_secs(120);
const POLL_EVERY: Duration = Duration::from_millis(50);

pub(crate) struct Server {
    guard: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it; what it prints is appended to `log`. With `remove`, that folder goes when the server does.
    pub(crate) fn start(command: &[String], log: &Path, remove: Option<&Path>) -> Self {
        Self::guarded(GUARD, &[], command, log, remove)
    }

    /// The same, ended by SIGTERM, and killed only when it has not ended `patience_secs` later.
    pub(crate) fn start_gently(command: &[String], log: &Path, remove: Option<&Path>, patience_secs: u32) -> Self {
        Self::guarded(GENTLE_GUARD, &[(patience_secs * 10).to_string()], command, log, remove)
    }

    fn guarded(guard: &str, settings: &[String], command: &[String], log: &Path, remove: Option<&Path>) -> Self {
        let guard = Command::new("sh")
            .args(["-c", guard, "guard"])
            .arg(remove.unwrap_or(Path::new("")))
            .arg(log)
            .args(settings)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        Self {
            guard,
            log: log.to_owned(),
        }
    }

    /// Blocks until the log says `ready` once more than `before` times.
    ///
    /// # Panics
    /// When it does not within two minutes; with the log's end.
    pub(crate) fn wait_for(&mut self, ready: &str, before: usize) {
        let log = self.log.clone();
        self.wait_until(ready, || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            log.matches(ready).count() > before
        });
    }

    /// Blocks until something is true of the server.
    ///
    /// # Panics
    /// When it is not within two minutes; with the log's end.
    #[expect(
        clippy::disallowed_methods,
        reason = "on a thread that may block, about a process: no paused clock"
    )]
    pub(crate) fn wait_until(&mut self, what: &str, is_true: impl Fn() -> bool) {
        let mut waited = Duration::ZERO;
        while !is_true() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            assert!(
                waited < START_MAX,
                "the server did not start ({what}); the end of its log, last line first:\n{}",
                tail.join("\n")
            );
            std::thread::sleep(POLL_EVERY);
            waited += POLL_EVERY;
        }
    }

    /// `kill -9`, and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be run or fails, with `hint`.
pub fn run(command: &mut Command, hint: &str) -> String {
    run_with(command, b"", hint)
}

/// The same with something to read.
pub(crate) fn run_with(command: &mut Command, input: &[u8], hint: &str) -> String {
    let (ended, text, errors) = ran(command, input, hint);
    assert!(
        ended.success(),
        "{hint}: {command:?} ended with {ended}\n{text}{errors}"
    );
    text
}

/// Runs a command that must fail, and gives what it said.
///
/// # Panics
/// When it cannot be run or succeeds, with `hint`.
pub(crate) fn fail_with(command: &mut Command, input: &[u8], hint: &str) -> String {
    let (ended, text, errors) = ran(command, input, hint);
    assert!(!ended.success(), "{hint}: {command:?} succeeded\n{text}{errors}");
    errors
}

/// Runs a command that may fail: its output, or what it said.
///
/// # Panics
/// When it cannot be run, with `hint`.
pub(crate) fn try_with(command: &mut Command, input: &[u8], hint: &str) -> Result<String, String> {
    let (ended, text, errors) = ran(command, input, hint);
    if ended.success() { Ok(text) } else { Err(errors) }
}

/// How it ended, its output and its errors.
fn ran(command: &mut Command, input: &[u8], hint: &str) -> (ExitStatus, String, String) {
    let fail = |error: std::io::Error| -> ! { panic!("{hint}: {error}") };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| fail(error));
    // A tool that reads nothing may have closed it.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output().unwrap_or_else(|error| fail(error));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status, text(&output.stdout), text(&output.stderr))
}
