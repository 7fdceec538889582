//! Logs to standard error, metrics in one registry.

use std::{io::IsTerminal, time::SystemTime};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::Registry,
};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{Failure, args::LogFormat};

/// Libraries that are silent unless the filter names them: they repeat in words of their own what ours say once, with the server,
/// the channels and what follows.
const SILENT: [&str; 1] = ["async_nats"];

/// Reads a filter: levels and directives `TARGET=LEVEL`, separated by commas. Adds [`SILENT`].
fn parse(filter: &str) -> Result<Targets, String> {
    let directives = filter
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty());
    let asked: Vec<&str> = directives.collect();
    // The library reads fields and spans in brackets as a part of the target, which then matches nothing.
    if let Some(directive) = asked.iter().find(|directive| directive.contains(['[', '{'])) {
        return Err(format!(
            "{directive:?} is neither a level nor TARGET=LEVEL, such as dataplane=debug"
        ));
    }
    let silent = SILENT.iter().filter(|library| !filter.contains(**library));
    let silent = silent.map(|library| format!("{library}=off"));
    let all: Vec<String> = asked.into_iter().map(str::to_owned).chain(silent).collect();
    all.join(",").parse().map_err(|error| format!("{error}"))
}

/// Starts logging. A filter that cannot be read is the user's mistake, not ours.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let targets = parse(filter).map_err(|error| Failure::Usage(format!("--log {filter:?}: {error}")))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let filtered = tracing_subscriber::registry().with(targets);
    let started = match format {
        LogFormat::Text => filtered.with(logs.with_target(false)).try_init(),
        LogFormat::Json => filtered.with(logs.json().flatten_event(true)).try_init(),
    };
    started.map_err(|error| Failure::Internal(anyhow::anyhow!(error)))
}

/// The registry with what is known of the process itself.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("headgate_build_info", "Always 1; the version is a label", build);
    registry.register_collector(Box::new(Process {
        started: SystemTime::now(),
    }));
    registry
}

/// `/proc` counts processor time in this many parts of a second, on every Linux machine (`USER_HZ`), whatever its kernel ticks at.
const TICKS_A_SECOND: f64 = 100.0;

#[derive(Debug)]
struct Process {
    /// When the registry was made, some milliseconds after the process was.
    started: SystemTime,
}

impl prometheus_client::collector::Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Ok(started) = self.started.duration_since(SystemTime::UNIX_EPOCH) {
            let gauge = ConstGauge::new(started.as_secs_f64());
            let (name, help) = ("process_start_time_seconds", "When the process started, since 1970");
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let (name, help) = ("process_cpu_seconds", "Processor time of all threads, user and system");
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        if let Some(bytes) = resident_bytes() {
            let gauge = ConstGauge::new(bytes);
            let name = "process_resident_memory_bytes";
            gauge.encode(encoder.encode_descriptor(name, "Resident memory", None, gauge.metric_type())?)?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let gauge = ConstGauge::new(i64::try_from(open.count()).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor("process_open_fds", "Open files", None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// From `/proc`; `None` where there is none.
fn cpu_seconds() -> Option<f64> {
    cpu_seconds_of(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

fn cpu_seconds_of(stat: &str) -> Option<f64> {
    // The second field is the program's name in brackets, and may hold anything. `utime` and `stime` are the 14th and 15th.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_A_SECOND)
}

/// From `/proc`; `None` where there is none.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_user_and_system() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 3 4 20 0 5 0 99 1000 10";
        assert_eq!(cpu_seconds_of(stat), Some(3.0));
        assert_eq!(cpu_seconds_of("7 (a) S 1"), None);
        assert!(!cfg!(target_os = "linux") || cpu_seconds().is_some());
    }

    #[test]
    fn libraries_are_silent_unless_they_are_named() {
        use tracing::Level;
        let passes =
            |filter: &str, target: &str| parse(filter).is_ok_and(|found| found.would_enable(target, &Level::INFO));
        assert!(passes("info", "dataplane") && !passes("info", "async_nats::client"));
        assert!(!passes("", "async_nats") && !passes("error", "dataplane"));
        assert!(passes("info,async_nats=debug", "async_nats::client"));
    }

    #[test]
    fn a_filter_is_levels_and_targets_with_their_levels() {
        let debug = |filter: &str, target: &str| {
            let found = parse(filter).expect("a filter");
            found.would_enable(target, &tracing::Level::DEBUG)
        };
        assert!(debug("info, dataplane=debug", "dataplane::ingress"));
        assert!(!debug("info, dataplane=debug", "adapter_github"));
        for bad in ["dataplane=loud", "a=b=c", "[delivery]=debug", "dataplane[{id}]=debug"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
