//! The cost of a process, from /proc, and the one clock of the benchmark.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// Monotonic nanoseconds; the load and the sinks share it.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).expect("a monotonic clock is positive");
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// CPU time of a process so far, user and system, microseconds.
///
/// Summed over its threads from the scheduler's own account, which counts nanoseconds: `/proc/PID/stat` samples in ticks
/// of 10 ms, and is off by a factor for a process that wakes briefly and often. Threads that have ended are missing:
/// a server's workers do not end.
pub(crate) fn cpu_micros(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let account = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        account.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() / 1000
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
