//! The table, on the terminal and in docs/performance.md.

use std::{fmt::Write as _, fs, time::Duration};

use e2e::binary::workspace;

use crate::{Options, measure::Round};

/// A measured scenario.
#[derive(Debug)]
pub(crate) struct Row {
    pub system: &'static str,
    pub scenario: String,
    /// Connections, KiB, open loop: rows of the same key are compared.
    pub key: (usize, usize, bool),
    pub fan_out: usize,
    pub round: Round,
    /// CPU to that of the memory channel, of rounds of both in turn; else the table's rows are compared.
    pub to_memory: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct Footprint {
    pub idle_mib: f64,
    pub idle_100_mib: f64,
    pub ready: Duration,
    pub binary_mib: f64,
    /// By the broker's kind.
    pub brokers: Vec<(&'static str, OnBroker)>,
}

/// A gateway with many subscriptions on a broker.
#[derive(Debug)]
pub(crate) struct OnBroker {
    pub subscriptions: usize,
    /// Resident, with nothing to do.
    pub idle_mib: f64,
    /// CPU of an idle gateway, in percent of one core.
    pub idle_cpu: f64,
    /// From a second gateway's start until every subscription is Ready on it and events flow; then, from the first one's
    /// clean end until all do again.
    pub joined: Duration,
    pub left: Duration,
}

const HEAD: &str = "\
# Performance

<!-- Written by `cargo run --profile dist -p e2e --bin bench -- --full`. -->

Load, subscribers and the gateway shared the cores of one machine; only loopback addresses were used. Absolute rates
belong to that machine. The ratios compare rows of this very run: *CPU to proxy* is the gateway's CPU time per delivery
over that of a plain HTTP hop which stores nothing (the same HTTP library, same connections and size), *CPU to memory* that of
the memory channel for the same load and subscribers (with 64 connections the median of five pairs of rounds, one channel right
after the other), *ack p99 to log*
the publisher's wait over that for a server which only writes and syncs. `answer` is that server with nothing behind it.
Kafka and NATS ran on the same two cores, one server each as a test starts it, NATS with its default `sync_interval`.
CPU is that of the process under test, per accepted event; end to end is from when a request was due to the last byte
at the first subscriber. Lost and repeated are counted by unique ids, over all subscribers that were not broken deliberately.
The gateway and the baselines were built with the profile `dist`, as images and packages are.
";

/// Prints the table, and writes it where it was asked for.
#[expect(clippy::print_stdout, reason = "the result")]
pub(crate) fn publish(rows: &[Row], footprint: Option<&Footprint>, options: &Options) -> anyhow::Result<()> {
    let table = table(rows, footprint)?;
    println!("{table}");
    if options.writes {
        fs::write(
            workspace().join("docs/performance.md"),
            format!("{HEAD}\n{}{table}", machine()),
        )?;
    }
    Ok(())
}

fn table(rows: &[Row], footprint: Option<&Footprint>) -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "| system | scenario | accepted/s | delivered/s | lost | repeated | refused | ack p50 / p99 / p99.9 ms | \
         end to end p50 / p99 / p99.9 ms | CPU us | CPU to proxy | CPU to memory | ack p99 to log | peak MiB |\n\
         |--|--|--:|--:|--:|--:|--:|--|--|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let Row {
            system,
            scenario,
            round,
            ..
        } = row;
        let Round {
            accepted_per_second,
            delivered_per_second,
            refused,
            lost,
            repeats,
            cpu_micros,
            peak_mib,
            ..
        } = round;
        let end_to_end = round.end_to_end.map_or_else(|| "-".into(), |times| three(&times));
        writeln!(
            text,
            "| {system} | {scenario} | {accepted_per_second:.0} | {delivered_per_second:.0} | {lost} | {repeats} | {refused} | {} | \
             {end_to_end} | {cpu_micros:.1} | {} | {} | {} | {peak_mib:.0} |",
            three(&round.ack),
            ratio(per_delivery(row), beside(rows, row, "proxy").map(per_delivery)),
            to_memory(rows, row),
            ratio(round.ack[1], beside(rows, row, "log").map(|log| log.round.ack[1])),
        )?;
    }
    if let Some(Footprint {
        idle_mib,
        idle_100_mib,
        ready,
        binary_mib,
        brokers,
    }) = footprint
    {
        write!(
            text,
            "\n| footprint | |\n|--|--:|\n| idle resident memory | {idle_mib:.1} MiB |\n| with 50 channels and 50 subscriptions | \
             {idle_100_mib:.1} MiB |\n| start to ready on a restart with those 100 documents | {:.0} ms |\n| binary | {binary_mib:.1} MiB |\n",
            ready.as_secs_f64() * 1e3
        )?;
        for (kind, found) in brokers {
            let OnBroker {
                subscriptions,
                idle_mib,
                idle_cpu,
                joined,
                left,
            } = found;
            write!(
                text,
                "| {kind}: idle with {subscriptions} subscriptions on 20 channels | {idle_mib:.0} MiB, {idle_cpu:.1} % of a core |\n\
                 | {kind}: a second gateway joins, until events flow to all its subscriptions | {:.1} s |\n\
                 | {kind}: the first one ends, until they do again | {:.1} s |\n",
                joined.as_secs_f64(),
                left.as_secs_f64(),
            )?;
        }
    }
    Ok(text)
}

fn per_delivery(row: &Row) -> f64 {
    row.round.cpu_micros / row.fan_out.max(1) as f64
}

fn to_memory(rows: &[Row], row: &Row) -> String {
    match row.to_memory {
        Some(measured) => format!("{measured:.2}"),
        None => {
            let memory = twin(rows, row, "memory").map(|memory| memory.round.cpu_micros);
            ratio(row.round.cpu_micros, memory)
        }
    }
}

/// The baseline's row for the same load.
fn beside<'a>(rows: &'a [Row], row: &Row, baseline: &str) -> Option<&'a Row> {
    rows.iter()
        .find(|other| other.system == baseline && other.key == row.key)
}

/// Another system's row for the same load and as many subscribers.
fn twin<'a>(rows: &'a [Row], row: &Row, system: &str) -> Option<&'a Row> {
    let mut same = rows
        .iter()
        .filter(|other| other.system == system && other.scenario == row.scenario);
    same.next()
}

fn ratio(value: f64, baseline: Option<f64>) -> String {
    baseline.map_or_else(|| "-".into(), |baseline| format!("{:.2}", value / baseline))
}

fn three(times: &[f64; 3]) -> String {
    times.map(|time| format!("{time:.2}")).join(" / ")
}

/// Describes the hardware without naming the machine.
fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown");
    format!("Machine: {cpus} cores ({model}), Linux.\n\n")
}
