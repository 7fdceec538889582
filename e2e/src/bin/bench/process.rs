//! What a process costs, from /proc, and the one clock of the benchmark.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// Monotonic nanoseconds; the load and the sinks share it.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).expect("a monotonic clock is positive");
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// CPU time of a process so far, user and system, microseconds. The kernel counts in ticks of 10 ms.
pub(crate) fn cpu_micros(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces: fields are counted after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * 1_000_000 / rustix::param::clock_ticks_per_second()
}

/// A line of /proc/PID/status in MiB: `VmHWM` is the peak, `VmRSS` what is resident now.
pub(crate) fn memory_mib(pid: u32, line: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    value
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}
