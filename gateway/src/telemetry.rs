//! Logs to standard error, metrics in one registry.

use std::io::IsTerminal;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::Registry,
};
use tracing_subscriber::EnvFilter;

use crate::{Failure, args::LogFormat};

/// Starts logging. A filter that cannot be read is the user's mistake, not ours.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| Failure::Usage(format!("--log {filter:?}: {error}")))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let started = match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::Internal(anyhow::anyhow!(error)))
}

/// The registry with what is known of the process itself.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("headgate_build_info", "Always 1; the version is a label", build);
    registry.register_collector(Box::new(Process));
    registry
}

#[derive(Debug)]
struct Process;

impl prometheus_client::collector::Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
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
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
