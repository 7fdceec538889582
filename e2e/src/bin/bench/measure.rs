//! One round: load goes to a process, events come out at sinks, and everything is accounted for.

use std::{net::SocketAddr, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    load::{self, Load},
    process::{cpu_micros, memory_mib, now},
    sinks::Sinks,
};

/// Nothing came for so long: what is missing will not come.
const SILENCE: Duration = Duration::from_secs(4);
/// Enough to fill pools and caches before anything is counted.
const WARM_UP_SECONDS: f64 = 0.3;

/// The figures of one round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub accepted_per_second: f64,
    pub delivered_per_second: f64,
    pub refused: u64,
    pub lost: u64,
    pub repeats: u64,
    /// p50, p99, p99.9 in milliseconds.
    pub ack: [f64; 3],
    /// The same, from due to the first sink's last byte; `None` without sinks.
    pub end_to_end: Option<[f64; 3]>,
    /// CPU time of the process under test, in microseconds for each accepted event.
    pub cpu_micros: f64,
    /// `VmHWM`, MiB.
    pub peak_mib: f64,
}

/// The channel under load and its expected receivers.
pub(crate) struct Subject<'a> {
    pub pid: u32,
    pub listen: SocketAddr,
    pub sinks: Option<&'a Sinks>,
    /// The sinks that must get everything within the round; one that is slow on purpose is not waited for.
    pub counted: usize,
}

/// Warms up, loads, waits for the last delivery, and counts.
pub(crate) async fn measure(subject: &Subject<'_>, load: Load) -> anyhow::Result<Round> {
    let warm = run(
        Load {
            seconds: WARM_UP_SECONDS,
            rate: load.rate,
            to: subject.listen,
            ..load
        },
        0,
    )
    .await?;
    let mut unique_before = vec![warm.accepted; subject.counted];
    settled(subject, &unique_before).await;
    if let Some(sinks) = subject.sinks {
        unique_before = (0..subject.counted)
            .map(|sink| sinks.with(sink, |seen| seen.unique))
            .collect();
    }
    let (cpu, start) = (cpu_micros(subject.pid), now());
    let next = warm.accepted + warm.refused;
    let sent = run(load, next).await?;
    let expected: Vec<u64> = unique_before.iter().map(|before| before + sent.accepted).collect();
    settled(subject, &expected).await;
    let cpu = cpu_micros(subject.pid) - cpu;

    let (mut delivered, mut lost, mut repeats, mut last) = (0, 0, 0, start);
    if let Some(sinks) = subject.sinks {
        for (sink, expected) in expected.iter().enumerate() {
            sinks.with(sink, |seen| {
                delivered += seen.unique.saturating_sub(expected - sent.accepted);
                lost += expected.saturating_sub(seen.unique);
                repeats += seen.repeats;
                last = last.max(seen.last);
            });
        }
    }
    let delivering = (last.saturating_sub(start) as f64 / 1e9).max(f64::MIN_POSITIVE);
    Ok(Round {
        accepted_per_second: sent.accepted as f64 / sent.seconds,
        delivered_per_second: if delivered == 0 {
            0.0
        } else {
            delivered as f64 / delivering
        },
        refused: sent.refused,
        lost,
        repeats,
        ack: quantiles(&sent.ack),
        end_to_end: subject
            .sinks
            .map(|sinks| sinks.with(0, |seen| quantiles(&seen.latency))),
        cpu_micros: cpu as f64 / sent.accepted.max(1) as f64,
        peak_mib: memory_mib(subject.pid, "VmHWM"),
    })
}

fn quantiles(histogram: &crate::histogram::Histogram) -> [f64; 3] {
    [0.5, 0.99, 0.999].map(|share| histogram.quantile(share).unwrap_or(f64::NAN))
}

/// The load blocks its thread: it runs on one of its own.
async fn run(load: Load, first: u64) -> anyhow::Result<load::Sent> {
    Ok(tokio::task::spawn_blocking(move || load::run(&load, first)).await??)
}

/// Waits until each counted sink has what it should, or nothing has come for a while.
async fn settled(subject: &Subject<'_>, expected: &[u64]) {
    let Some(sinks) = subject.sinks else { return };
    let (mut count, mut since) = (sinks.arrived(), Instant::now());
    loop {
        let whole = expected
            .iter()
            .enumerate()
            .all(|(sink, expected)| sinks.with(sink, |seen| seen.unique) >= *expected);
        if whole || since.elapsed() > SILENCE {
            return;
        }
        sleep(Duration::from_millis(5)).await;
        if sinks.arrived() != count {
            (count, since) = (sinks.arrived(), Instant::now());
        }
    }
}
