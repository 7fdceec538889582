//! The measurements, in order: the baselines first, then the gateway, then its footprint.

use std::{
    env,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use e2e::{
    Gateway, binary,
    documents::{channel, subscription},
    eventually, ports,
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Options, brokers,
    load::Load,
    measure::{Round, Subject, measure},
    process::memory_mib,
    report::{self, Footprint, Row},
    sinks::Sinks,
};

const KIB: usize = 1024;
/// Rounds of either side, in turn, from which the ratio to the memory channel is taken where it is a goal. A machine that
/// is a fifth slower for a minute moves both alike; of single rounds minutes apart, it moved the ratio by as much.
const PAIRS: usize = 5;
/// How long the slow subscriber takes.
const SLOW_NANOS: u64 = 2_000_000_000;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    system: &'static str,
    connections: usize,
    kib: usize,
    fan_out: usize,
    rate: Option<f64>,
    /// A subscriber that takes 2 s and one that is not there, besides the counted ones.
    spoiled: bool,
    /// In rounds beside as many of the memory channel.
    paired: bool,
}

const fn closed(system: &'static str, connections: usize, kib: usize, fan_out: usize) -> Scenario {
    Scenario {
        system,
        connections,
        kib,
        fan_out,
        rate: None,
        spoiled: false,
        paired: false,
    }
}

const fn paired(system: &'static str, connections: usize) -> Scenario {
    Scenario {
        paired: true,
        ..closed(system, connections, 1, 1)
    }
}

const fn open(system: &'static str, spoiled: bool) -> Scenario {
    // Well below what any of them can take: latency, not queueing, is measured. In a round of 5 s half of a memory channel's
    // capacity waits for the slow subscriber.
    Scenario {
        system,
        connections: 64,
        kib: 1,
        fan_out: 1,
        rate: Some(1000.0),
        spoiled,
        paired: false,
    }
}

const SCENARIOS: &[Scenario] = &[
    closed("answer", 1, 1, 0),
    closed("answer", 16, 1, 0),
    closed("answer", 64, 1, 0),
    closed("proxy", 1, 1, 1),
    closed("proxy", 16, 1, 1),
    closed("proxy", 64, 1, 1),
    closed("proxy", 16, 30, 1),
    open("proxy", false),
    closed("log", 1, 1, 0),
    closed("log", 16, 1, 0),
    closed("log", 64, 1, 0),
    closed("log", 16, 30, 0),
    closed("memory", 1, 1, 1),
    closed("memory", 16, 1, 1),
    closed("memory", 64, 1, 1),
    closed("memory", 16, 30, 1),
    closed("memory", 16, 1, 10),
    open("memory", false),
    open("memory", true),
    closed("embedded", 1, 1, 1),
    closed("embedded", 16, 1, 1),
    paired("embedded", 64),
    closed("embedded", 16, 30, 1),
    closed("embedded", 16, 1, 10),
    open("embedded", false),
    open("embedded", true),
    closed("kafka", 1, 1, 1),
    closed("kafka", 16, 1, 1),
    paired("kafka", 64),
    closed("kafka", 16, 30, 1),
    closed("kafka", 16, 1, 10),
    open("kafka", false),
    closed("nats", 1, 1, 1),
    closed("nats", 16, 1, 1),
    paired("nats", 64),
    closed("nats", 16, 30, 1),
    closed("nats", 16, 1, 10),
    open("nats", false),
];

impl Scenario {
    fn name(&self) -> String {
        let Self {
            connections,
            kib,
            fan_out,
            rate,
            spoiled,
            ..
        } = self;
        let load = rate.map_or(format!("{connections} connections"), |rate| {
            format!("{rate}/s open loop")
        });
        let fan = if *fan_out > 1 {
            format!(", fan-out {fan_out}")
        } else {
            String::new()
        };
        format!(
            "{load}, {kib} KiB{fan}{}",
            if *spoiled {
                ", beside a slow and a dead subscriber"
            } else {
                ""
            }
        )
    }
}

/// Runs all scenarios and prints the table.
#[expect(clippy::print_stderr, reason = "progress for whoever waits")]
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        let title = format!("{}: {}", scenario.system, scenario.name());
        if options.only.as_ref().is_some_and(|only| !title.contains(only.as_str())) {
            continue;
        }
        eprintln!("{title}");
        let measured = if scenario.paired {
            pairs(scenario, options.seconds).await
        } else {
            round(scenario, options.seconds).await.map(|round| (round, None))
        };
        let (round, to_memory) = measured.with_context(|| title.clone())?;
        let key = (scenario.connections, scenario.kib, scenario.rate.is_some());
        rows.push(Row {
            system: scenario.system,
            scenario: scenario.name(),
            key,
            fan_out: scenario.fan_out,
            round,
            to_memory,
        });
    }
    let footprint = match options.only.as_deref() {
        None | Some("footprint") => Some(footprint().await?),
        Some(_) => None,
    };
    report::publish(&rows, footprint.as_ref(), options)
}

async fn round(scenario: &Scenario, seconds: f64) -> anyhow::Result<Round> {
    match scenario.system {
        "answer" | "proxy" | "log" => baseline(scenario, seconds).await,
        kind => gateway(kind, scenario, seconds).await,
    }
}

/// The round whose CPU is the middle one, with what was lost, repeated and refused in all; and the middle ratio.
async fn pairs(scenario: &Scenario, seconds: f64) -> anyhow::Result<(Round, Option<f64>)> {
    let mut rounds = Vec::with_capacity(PAIRS);
    let mut ratios = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        let memory = gateway("memory", scenario, seconds).await?;
        let round = round(scenario, seconds).await?;
        ratios.push(round.cpu_micros / memory.cpu_micros);
        rounds.push(round);
    }
    ratios.sort_by(f64::total_cmp);
    rounds.sort_by(|one, other| one.cpu_micros.total_cmp(&other.cpu_micros));
    let mut middle = rounds.swap_remove(PAIRS / 2);
    for other in rounds {
        middle.lost += other.lost;
        middle.repeats += other.repeats;
        middle.refused += other.refused;
    }
    Ok((middle, Some(ratios[PAIRS / 2])))
}

fn load(scenario: &Scenario, to: SocketAddr, seconds: f64) -> Load {
    Load {
        to,
        connections: scenario.connections,
        bytes: scenario.kib * KIB,
        seconds,
        rate: scenario.rate,
    }
}

/// A process that ends with its value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn baseline(scenario: &Scenario, seconds: f64) -> anyhow::Result<Round> {
    let sinks = Sinks::start(&vec![0; scenario.fan_out])?;
    let folder = tempfile::tempdir()?;
    let listen = ports::free();
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["baseline", scenario.system, &listen.to_string()])
        .stdin(Stdio::null());
    match scenario.system {
        "proxy" => command.arg(format!("http://{}/", sinks.addresses[0])),
        "log" => command.arg(folder.path()),
        _ => &mut command,
    };
    let process = Killed(command.spawn()?);
    eventually("the baseline listens", || async {
        tokio::net::TcpStream::connect(listen).await.ok()
    })
    .await;
    let sinks = (scenario.fan_out > 0).then_some(&sinks);
    let subject = Subject {
        pid: process.0.id(),
        listen,
        sinks,
        counted: scenario.fan_out,
    };
    measure(&subject, load(scenario, listen, seconds)).await
}

async fn gateway(kind: &str, scenario: &Scenario, seconds: f64) -> anyhow::Result<Round> {
    let mut delays = vec![0; scenario.fan_out];
    if scenario.spoiled {
        delays.push(SLOW_NANOS);
    }
    let sinks = Sinks::start(&delays)?;
    let mut documents = brokers::provisioner(kind).await?;
    documents.push(channel("bench", kind));
    for (at, address) in sinks.addresses.iter().enumerate() {
        documents.push(subscription(
            &format!("sink-{at}"),
            "bench",
            &format!("http://{address}/"),
            json!({}),
        ));
    }
    if scenario.spoiled {
        let closed_port = format!("http://{}/", ports::free());
        documents.push(subscription("dead", "bench", &closed_port, json!({})));
    }
    let gateway = Gateway::with(documents).await;
    let listen = gateway.listen();
    let subject = Subject {
        pid: gateway.pid(),
        listen,
        sinks: Some(&sinks),
        counted: scenario.fan_out,
    };
    measure(&subject, load(scenario, listen, seconds)).await
}

/// Idle memory, time to ready on a restart with 100 documents, size of the binary.
async fn footprint() -> anyhow::Result<Footprint> {
    const OBJECTS: usize = 50;
    let mut documents = Vec::new();
    for n in 0..OBJECTS {
        documents.push(channel(&format!("channel-{n}"), "embedded"));
        documents.push(subscription(
            &format!("to-{n}"),
            &format!("channel-{n}"),
            "http://127.0.0.1:9/",
            json!({}),
        ));
    }
    let mut gateway = Gateway::with(documents).await;
    let idle_100_mib = memory_mib(gateway.pid(), "VmRSS");
    gateway.terminate().await;
    let ready = time_to_ready(&gateway).await?;
    let small = Gateway::with([channel("orders", "embedded")]).await;
    let idle_mib = memory_mib(small.pid(), "VmRSS");
    let mut brokers = Vec::new();
    for kind in ["kafka", "nats"] {
        brokers.push((kind, brokers::footprint(kind).await?));
    }
    let binary_mib = std::fs::metadata(binary::headgate())?.len() as f64 / f64::from(1 << 20);
    Ok(Footprint {
        idle_mib,
        idle_100_mib,
        ready,
        binary_mib,
        brokers,
    })
}

/// The best of three, asked for every half millisecond.
async fn time_to_ready(gateway: &Gateway) -> anyhow::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let mut child = gateway.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        loop {
            let answer = e2e::Request::new("GET", "/readyz").try_send(gateway.admin()).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            anyhow::ensure!(start.elapsed() < Duration::from_secs(20), "not ready within 20 s");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        best = best.min(start.elapsed());
        let pid = child
            .id()
            .and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        rustix::process::kill_process(pid.context("it runs")?, rustix::process::Signal::TERM)?;
        child.wait().await?;
    }
    Ok(best)
}
