//! The reader's terminals: one shell for commands that end, one more for each command that keeps running.
//!
//! They are alone on a network of their own, so that ports are as printed whatever else runs, and in a process namespace that ends
//! with the test.

use std::{env, fs, os::unix::fs::symlink, path::PathBuf, process::Stdio, time::Duration};

use e2e::binary::{headgate, workspace};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{self, Child, ChildStdin, ChildStdout},
    time::{Instant, sleep, timeout},
};

use super::{
    page::Command,
    shown::{matching, without_numbers},
};

/// Commands that a reader starts in a terminal of its own. Programs of a page are services.
const KEEP_RUNNING: &[&str] = &[
    "headgate run ",
    "headgate sink",
    "headgate tail ",
    "headgate adapter ",
    "nats-server",
    "python3 ",
    "node ",
];

/// Commands that only read: a reader who sees too little types them again, and so does the test.
const READ: &[&str] = &[
    "headgate get",
    "headgate explain",
    "headgate dead list",
    "headgate dead show",
    "curl -s http",
];

/// For a debug build on a busy machine; a page that is right never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries of a command that only reads: rare enough to leave the two cores to the gateway.
const AGAIN: Duration = Duration::from_millis(200);

/// Before Ctrl-C. A service prints an event before it answers; a reader is never so quick as to stop it in between, and then the
/// gateway would rightly deliver the event again.
const MOMENT: Duration = Duration::from_secs(1);

pub(crate) struct Terminals {
    _shell: Child,
    input: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    home: TempDir,
    running: Vec<Running>,
    /// How many scripts there are.
    scripts: usize,
}

/// A command that keeps running.
struct Running {
    typed: String,
    output: PathBuf,
    /// Its process group.
    group: u32,
    /// Lines of the output that the page has shown.
    lines_shown: usize,
}

impl Running {
    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_else(|error| format!("({}: {error})", self.output.display()))
    }
}

impl Terminals {
    /// # Panics
    /// Without `unshare`, `ip` and `bash`.
    pub(crate) async fn open(needs_nats: bool) -> Self {
        let home = TempDir::with_prefix("headgate-page-").expect("a temporary folder");
        let (bin, reader) = (home.path().join("bin"), home.path().join("reader"));
        for folder in [&bin, &reader, &home.path().join("scripts")] {
            fs::create_dir(folder).expect("a folder");
        }
        symlink(headgate(), bin.join("headgate")).expect("a link");
        // A reader works in a clone of the repository.
        symlink(workspace().join("deploy"), reader.join("deploy")).expect("a link");
        if needs_nats {
            let nats = tokio::task::spawn_blocking(servers::nats::binary)
                .await
                .expect("a NATS server");
            symlink(nats, bin.join("nats-server")).expect("a link");
        }
        let path = env::var("PATH").unwrap_or_default();
        let as_root = (!rustix::process::geteuid().is_root()).then_some("--map-root-user");
        // A shell that was started in the background ignores Ctrl-C, and so would everything below it.
        let mut shell = process::Command::new("env")
            .args([
                "--default-signal=INT",
                "unshare",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(as_root)
            .args(["bash", "--noprofile", "--norc"])
            .env_clear()
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("HOME", &reader)
            .env("LANG", "C.UTF-8")
            .current_dir(&reader)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("env runs");
        let input = shell.stdin.take().expect("piped");
        let replies = BufReader::new(shell.stdout.take().expect("piped")).lines();
        let (running, scripts) = (vec![], 0);
        let mut terminals = Self {
            _shell: shell,
            input,
            replies,
            home,
            running,
            scripts,
        };
        // Job control gives each background command a process group, which Ctrl-C ends as a whole.
        let ready = terminals.ask("set -m; ip link set lo up; echo $?").await;
        assert_eq!(
            ready.as_deref(),
            Ok("0"),
            "a network of its own needs unshare and ip, as root or with user namespaces"
        );
        terminals
    }

    /// Where the reader works.
    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("reader")
    }

    /// Runs a command to its end, or starts it if it is one that keeps running, and compares.
    pub(crate) async fn run(&mut self, command: &Command) -> Result<(), String> {
        let Command {
            typed,
            instead,
            exit_code,
            numbers_differ,
            shown,
        } = command;
        let line = instead.as_ref().unwrap_or(typed);
        let is_one_of = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
        if is_one_of(KEEP_RUNNING) {
            self.start(typed, line).await?;
            return self.shows(typed, shown.as_deref().unwrap_or_default()).await;
        }
        let begin = Instant::now();
        loop {
            let (code, output) = self.finish(line).await?;
            let is_as_shown = shown.as_ref().is_none_or(|shown| {
                let general = |line: &str| {
                    if *numbers_differ {
                        without_numbers(line)
                    } else {
                        line.to_owned()
                    }
                };
                let shown: Vec<String> = shown.iter().map(|line| general(line)).collect();
                let seen: Vec<String> = output.trim_end().lines().map(general).collect();
                let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
                matching(&shown, &seen, true).is_some()
            });
            if code == *exit_code && is_as_shown {
                return Ok(());
            }
            if !is_one_of(READ) || begin.elapsed() > PATIENCE {
                let shown = shown.as_ref().map_or("(anything)".to_owned(), |shown| shown.join("\n"));
                return Err(format!(
                    "`{typed}`\n--- is expected to end with {exit_code} and print\n{shown}\n--- but ended with {code} and printed\n{output}"
                ));
            }
            sleep(AGAIN).await;
        }
    }

    /// Waits until a running command has printed these lines, one right after the other, since those that were shown before.
    pub(crate) async fn shows(&mut self, typed: &str, shown: &[String]) -> Result<(), String> {
        let running = self.find(typed)?;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let output = running.output();
            let lines: Vec<&str> = output.lines().collect();
            let mut starts = running.lines_shown..=lines.len();
            let end = starts.find_map(|start| matching(shown, &lines[start..], false).map(|end| start + end));
            if let Some(end) = end {
                running.lines_shown = end;
                return Ok(());
            }
            sleep(AGAIN).await;
        }
        let seen = running
            .output()
            .lines()
            .skip(running.lines_shown)
            .collect::<Vec<_>>()
            .join("\n");
        let shown = shown.join("\n");
        Err(format!(
            "the terminal of `{typed}`\n--- is expected to show\n{shown}\n--- but shows\n{seen}"
        ))
    }

    /// Ctrl-C.
    pub(crate) async fn stop(&mut self, typed: &str) -> Result<(), String> {
        let group = self.find(typed)?.group;
        sleep(MOMENT).await;
        self.running.retain(|running| running.typed != typed);
        self.ask(&format!("kill -INT -- -{group}; wait {group} 2>/dev/null; echo $?"))
            .await?;
        Ok(())
    }

    /// The last lines of all commands that keep running, for the message of a failure.
    pub(crate) fn outputs(&self) -> String {
        let last = |running: &Running| {
            let output = running.output();
            let lines: Vec<&str> = output.lines().collect();
            let lines = lines[lines.len().saturating_sub(15)..].join("\n");
            format!("\n--- `{}` printed last\n{lines}", running.typed)
        };
        self.running.iter().map(last).collect()
    }

    fn find(&mut self, typed: &str) -> Result<&mut Running, String> {
        let found = self.running.iter_mut().find(|running| running.typed == typed);
        found.ok_or_else(|| format!("no command `{typed}` is running"))
    }

    async fn start(&mut self, typed: &str, line: &str) -> Result<(), String> {
        let (script, output) = self.script(line);
        let group = self
            .ask(&format!("{{ . {script}; }} >{output} 2>&1 </dev/null & echo $!"))
            .await?;
        let group = group.parse().map_err(|_| format!("`{typed}` did not start: {group}"))?;
        self.running.push(Running {
            typed: typed.to_owned(),
            output: output.into(),
            group,
            lines_shown: 0,
        });
        Ok(())
    }

    /// Exit code and output.
    async fn finish(&mut self, line: &str) -> Result<(i32, String), String> {
        let (script, output) = self.script(line);
        let code = self
            .ask(&format!("{{ . {script}; }} >{output} 2>&1 </dev/null; echo $?"))
            .await;
        let printed = fs::read(&output).map_err(|error| format!("{output}: {error}"))?;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let code = code.map_err(|why| format!("`{line}`: {why}; it printed\n{printed}"))?;
        let code = code.parse().map_err(|_| format!("`{line}` ended with {code}"))?;
        Ok((code, printed))
    }

    /// Writes the command to a file, so that it reaches the shell as it is printed. The file, and another one for its output.
    fn script(&mut self, line: &str) -> (String, String) {
        self.scripts += 1;
        let file = self.home.path().join(format!("scripts/{}.sh", self.scripts));
        fs::write(&file, format!("{line}\n")).expect("a script is written");
        (
            file.display().to_string(),
            file.with_extension("out").display().to_string(),
        )
    }

    /// One line to the shell, one line back.
    async fn ask(&mut self, line: &str) -> Result<String, String> {
        let sent = self.input.write_all(format!("{line}\n").as_bytes()).await;
        sent.map_err(|error| format!("the shell has ended: {error}"))?;
        match timeout(PATIENCE, self.replies.next_line()).await {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(_) => Err("the shell has ended".to_owned()),
            Err(_) => Err(format!("it did not end within {PATIENCE:?}")),
        }
    }
}
