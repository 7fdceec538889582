//! Apache Kafka itself: one broker that is its own controller, or a cluster of them.
//!
//! Fetched from Maven Central by `mvn` (93 jars, 54 MB). Up in about 3 s, 300 MB each.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{
    cache::{self, Entry},
    ports,
    process::{Server, run, run_with},
};

/// Names a broker that runs already, for the suite on another version: `host:port`. Tests that stop brokers start their own.
pub const OVERRIDE: &str = "HEADGATE_TEST_KAFKA";

const HINT: &str = "Kafka for tests needs java (17 or newer) and mvn: install default-jre-headless and maven, or set HEADGATE_SKIP_PEERS=kafka";
const READY: &str = "Kafka Server started";

/// How brokers are set up beyond what makes them run.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Brokers of the cluster; 0 means 1.
    pub brokers: usize,
    /// More lines of server.properties. One that names a property again wins.
    pub properties: Vec<String>,
    /// The protocol clients speak: `PLAINTEXT` unless said otherwise. Its own listener then; brokers stay on plain text.
    pub protocol: Option<String>,
    /// Users made before the first start, as StorageTool's `--add-scram` takes them.
    pub scram_users: Vec<String>,
}

/// A running cluster, of one broker mostly.
pub struct Kafka {
    brokers: Vec<Broker>,
    clients: Vec<SocketAddr>,
    _folder: Option<TempDir>,
}

struct Broker {
    folder: PathBuf,
    server: Option<Server>,
    starts: usize,
}

impl Kafka {
    /// The one broker that the tests of a process share: each uses topics of its own. `None` when it is to be skipped.
    pub async fn shared() -> Option<&'static str> {
        static SHARED: OnceCell<(String, Option<Kafka>)> = OnceCell::const_new();
        if cache::skipped("kafka") {
            return None;
        }
        let shared = SHARED.get_or_init(|| async {
            if let Ok(address) = env::var(OVERRIDE) {
                return (address, None);
            }
            let kafka = tokio::task::spawn_blocking(|| Self::begin(&Setup::default(), true)).await;
            let kafka = kafka.expect("a broker");
            (kafka.bootstrap(), Some(kafka))
        });
        Some(&shared.await.0)
    }

    /// One of the test's own. `None` when it is to be skipped.
    pub async fn start(setup: Setup) -> Option<Self> {
        if cache::skipped("kafka") {
            return None;
        }
        let started = tokio::task::spawn_blocking(move || Self::begin(&setup, false));
        Some(started.await.expect("a broker"))
    }

    /// Where clients connect, all brokers.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.clients.iter().map(ToString::to_string).collect();
        addresses.join(",")
    }

    /// `kill -9` of one broker, the first being 0.
    pub async fn kill(&mut self, broker: usize) {
        let server = self.brokers[broker].server.take();
        // Waits for the process to be gone.
        let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    }

    /// Starts brokers that were killed, at once: controllers wait for a quorum of them.
    pub async fn restart_all(&mut self, brokers: &[usize]) {
        let mut starting = Vec::new();
        for &broker in brokers {
            let stopped = &mut self.brokers[broker];
            let (folder, starts) = (stopped.folder.clone(), stopped.starts);
            stopped.starts += 1;
            starting.push(tokio::task::spawn_blocking(move || launch(&folder, starts, None)));
        }
        for (&broker, started) in brokers.iter().zip(starting) {
            self.brokers[broker].server = Some(started.await.expect("a broker that starts again"));
        }
    }

    /// Starts a broker that was killed, with what it had on disk.
    pub async fn restart(&mut self, broker: usize) {
        self.restart_all(&[broker]).await;
    }

    /// Runs one of Kafka's own command line tools (`org.apache.kafka.tools.TopicCommand`, ...) on this cluster.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> String {
        self.tool_with(class, arguments, String::new()).await
    }

    async fn tool_with(&self, class: &str, arguments: &[&str], input: String) -> String {
        let mut command = java(&jars());
        command
            .arg(class)
            .args(["--bootstrap-server", &self.bootstrap()])
            .args(arguments);
        let output = tokio::task::spawn_blocking(move || run_with(&mut command, input.as_bytes(), "a tool of Kafka"));
        output.await.expect("a tool that ended well")
    }

    /// Writes one record with Kafka's console producer; `HEADERS<tab>VALUE` where it has headers.
    pub async fn produce(&self, topic: &str, record: &str) {
        let headers = if record.contains('\t') {
            "parse.headers=true"
        } else {
            "parse.headers=false"
        };
        let line = format!("{record}\n");
        let arguments = ["--topic", topic, "--property", headers];
        self.tool_with("org.apache.kafka.tools.ConsoleProducer", &arguments, line)
            .await;
    }

    /// Reads that many records from the beginning with Kafka's console consumer, headers and values.
    pub async fn consume(&self, topic: &str, count: usize, within: Duration) -> String {
        let (count, within) = (count.to_string(), within.as_millis().to_string());
        let arguments = ["--topic", topic, "--from-beginning", "--property", "print.headers=true"];
        let bounds = ["--max-messages", &count, "--timeout-ms", &within];
        self.tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            &[&arguments[..], &bounds].concat(),
        )
        .await
    }

    fn begin(setup: &Setup, for_good: bool) -> Self {
        let jars = jars();
        let count = setup.brokers.max(1);
        let folder = TempDir::with_prefix("headgate-kafka-").expect("a folder for Kafka");
        let (controllers, clients): (Vec<SocketAddr>, Vec<SocketAddr>) =
            (0..count).map(|_| (ports::free(), ports::free())).unzip();
        let between: Vec<Option<SocketAddr>> = (0..count)
            .map(|_| setup.protocol.as_ref().map(|_| ports::free()))
            .collect();
        let voters: Vec<String> = controllers
            .iter()
            .enumerate()
            .map(|(id, at)| format!("{}@{at}", id + 1))
            .collect();
        let mut random = java(&jars);
        random.args(["kafka.tools.StorageTool", "random-uuid"]);
        let cluster = run(&mut random, HINT).trim().to_owned();
        let mut brokers = Vec::new();
        for id in 0..count {
            let own = if count == 1 {
                folder.path().to_owned()
            } else {
                folder.path().join((id + 1).to_string())
            };
            fs::create_dir_all(&own).expect("a folder for a broker");
            let file = own.join("server.properties");
            let lines = properties(
                id,
                &voters.join(","),
                controllers[id],
                clients[id],
                between[id],
                setup,
                count,
                &own,
            );
            fs::write(&file, lines.join("\n")).expect("a configuration is written");
            let mut format = java(&jars);
            format
                .args(["kafka.tools.StorageTool", "format", "-t", &cluster, "-c"])
                .arg(&file);
            for user in &setup.scram_users {
                format.args(["--add-scram", user]);
            }
            run(&mut format, HINT);
            brokers.push(Broker {
                folder: own,
                server: None,
                starts: 0,
            });
        }
        let path = folder.path().to_owned();
        // All at once: a controller is ready only with a quorum of them.
        let starting: Vec<Server> = brokers
            .iter()
            .map(|broker| spawn(&broker.folder, for_good.then_some(&*path)))
            .collect();
        for (broker, mut server) in brokers.iter_mut().zip(starting) {
            server.wait_for(READY, 0);
            broker.server = Some(server);
            broker.starts = 1;
        }
        // A static is never dropped: then the guard removes the folder.
        let folder = if for_good {
            let _ = folder.keep();
            None
        } else {
            Some(folder)
        };
        Self {
            brokers,
            clients,
            _folder: folder,
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a file's lines, one value each")]
fn properties(
    id: usize,
    voters: &str,
    controller: SocketAddr,
    client: SocketAddr,
    between: Option<SocketAddr>,
    setup: &Setup,
    count: usize,
    folder: &Path,
) -> Vec<String> {
    let replicas = count.min(3);
    let (listeners, advertised, protocols) = match (&setup.protocol, between) {
        (Some(protocol), Some(between)) => (
            format!("CLIENT://{client},BROKER://{between},CONTROLLER://{controller}"),
            format!("CLIENT://{client},BROKER://{between}"),
            format!("CLIENT:{protocol},BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ),
        _ => (
            format!("BROKER://{client},CONTROLLER://{controller}"),
            format!("BROKER://{client}"),
            "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        ),
    };
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        format!("node.id={}", id + 1),
        format!("controller.quorum.voters={voters}"),
        format!("listeners={listeners}"),
        format!("advertised.listeners={advertised}"),
        format!("listener.security.protocol.map={protocols}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=BROKER".to_owned(),
        format!("log.dirs={}", folder.join("data").display()),
        format!("offsets.topic.replication.factor={replicas}"),
        "offsets.topic.num.partitions=3".to_owned(),
        format!("transaction.state.log.replication.factor={replicas}"),
        "transaction.state.log.min.isr=1".to_owned(),
        // A broker of production waits 3 s for more members before it gives a new group its partitions.
        "group.initial.rebalance.delay.ms=0".to_owned(),
    ];
    lines.extend(setup.properties.iter().cloned());
    lines
}

fn spawn(folder: &Path, remove: Option<&Path>) -> Server {
    let command = [
        "java".to_owned(),
        // Small and quick to start rather than fast.
        "-Xmx512m".to_owned(),
        "-XX:TieredStopAtLevel=1".to_owned(),
        "-XX:+UseSerialGC".to_owned(),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=info".to_owned(),
        "-cp".to_owned(),
        format!("{}/*", jars().display()),
        "kafka.Kafka".to_owned(),
        folder.join("server.properties").display().to_string(),
    ];
    Server::start(&command, &folder.join("log"), remove)
}

fn launch(folder: &Path, starts: usize, remove: Option<&Path>) -> Server {
    let mut server = spawn(folder, remove);
    server.wait_for(READY, starts);
    server
}

fn java(jars: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{}/*", jars.display()));
    command
}

/// The folder of Kafka's jars, fetched when they are not there yet.
fn jars() -> PathBuf {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka");
    let (pom, sums) = (recipe.join("pom.xml"), recipe.join("SHA256SUMS"));
    let entry = Entry::of("kafka", &[pom.clone(), sums.clone()]);
    if let Some(draft) = &entry.draft {
        let mut fetch = Command::new("mvn");
        fetch.args(["-q", "-B", "dependency:copy-dependencies", "-f"]).arg(&pom);
        fetch.arg(format!("-DoutputDirectory={}", draft.display()));
        run(&mut fetch, HINT);
        cache::check_sums(draft, &sums);
    }
    entry.publish()
}
