//! The benchmark: what the gateway costs, beside baselines of the same run.
//!
//! `cargo run --profile dist -p e2e --bin bench -- [--quick | --full | --seconds N] [--only TEXT]`. Quick is the default and takes about
//! two minutes; `--full` takes longer rounds and writes docs/performance.md. Everything runs on this machine and on
//! loopback addresses only; load, sinks and the gateway share its cores, so absolute rates say little and ratios to
//! the baselines of the same run say much. CPU is counted for the gateway's process alone.

mod baselines;
mod brokers;
mod histogram;
mod load;
mod measure;
mod process;
mod report;
mod scenarios;
mod sinks;

use std::{env, process::ExitCode};

use anyhow::Context as _;
use e2e::binary;

/// The gateway's allocator: the baselines differ from it by what they do, not by what they are made of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The options of one run.
#[derive(Debug)]
pub(crate) struct Options {
    /// Seconds of load in each round.
    pub seconds: f64,
    /// Only scenarios whose name holds this text.
    pub only: Option<String>,
    /// Write docs/performance.md.
    pub writes: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [first, rest @ ..] = &arguments[..]
        && first == "baseline"
    {
        tokio::runtime::Runtime::new()?.block_on(baselines::serve(rest))?;
        return Ok(ExitCode::SUCCESS);
    }
    // The kit starts the binary that this variable names: one as it is in images and packages, unless the caller chose another.
    if env::var_os("HEADGATE_BIN").is_none() {
        return again_with_a_dist_build(&arguments);
    }
    let options = options(&arguments)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(scenarios::run(&options))?;
    Ok(ExitCode::SUCCESS)
}

fn options(arguments: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        seconds: 1.5,
        only: None,
        writes: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--quick" => options.seconds = 1.5,
            "--full" => (options.seconds, options.writes) = (5.0, true),
            "--write" => options.writes = true,
            "--seconds" => options.seconds = rest.next().context("--seconds N")?.parse().context("--seconds N")?,
            "--only" => options.only = Some(rest.next().context("--only TEXT")?.clone()),
            other => anyhow::bail!("{other}: the options are --quick, --full, --seconds N, --write and --only TEXT"),
        }
    }
    Ok(options)
}

/// The environment of a process can be changed safely only when it starts: so this one starts again.
fn again_with_a_dist_build(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = std::process::Command::new(cargo);
    build.current_dir(binary::workspace()).args([
        "build",
        "--profile",
        "dist",
        "-p",
        "headgate",
        "--message-format",
        "json",
    ]);
    let output = build.stderr(std::process::Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "the gateway does not build");
    let executable = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(str::to_owned))
        .next_back()
        .context("cargo names the executable it built")?;
    let status = std::process::Command::new(env::current_exe()?)
        .args(arguments)
        .env("HEADGATE_BIN", executable)
        .status()?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
