//! deploy/monitoring in the eyes of a real Prometheus: rules fire on what they are about, and every panel shows something.

use std::{collections::BTreeSet, env, fs, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use e2e::{
    Gateway, Request, Response, Sink,
    binary::workspace,
    cli,
    documents::{
        channel, channel_reference, channel_with, container_source, github_source, merge, pubsub_source, secret,
        subscription,
    },
    eventually,
    gateway::condition,
    github::delivery,
    ports,
    tree::read,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use servers::{GitHub, cache, github};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::gcp_pubsub::Emulator;

const SECRET: &str = "It's a Secret to Everybody";

/// Metrics that only a gateway in a cluster, or one with TLS, has; other tests look at them.
const NOT_IN_THE_INCIDENT: &[&str] = &[
    "headgate_kubernetes_requests_total",
    "headgate_tls_certificate_expiry_timestamp_seconds",
    "headgate_tls_reload_failures_total",
];

fn path(relative: &str) -> PathBuf {
    workspace().join("deploy/monitoring").join(relative)
}

fn skipped() -> bool {
    cache::skipped("prometheus")
}

const ADVICE: &str = "apt-get install prometheus (HEADGATE_SKIP_PEERS=prometheus goes without)";

async fn promtool(arguments: &[&str], input: &str) {
    let finished = cli::other(&path(""), "promtool", arguments, input.as_bytes(), ADVICE).await;
    assert_eq!(finished.code, 0, "promtool {arguments:?}: {finished:#?}");
}

#[tokio::test]
async fn each_alert_fires_on_the_numbers_it_is_about_and_on_no_others() {
    if skipped() {
        return;
    }
    promtool(&["check", "rules", "headgate-rules.yml"], "").await;
    promtool(&["test", "rules", "headgate-rules-test.yml"], "").await;
}

#[test]
fn each_alert_has_its_section_in_the_guide() {
    let guide = read(&workspace().join("docs/guides/alerts.md"));
    let rules = read(&path("headgate-rules.yml"));
    let mut alerts = BTreeSet::new();
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for name in names {
        assert!(
            guide.contains(&format!("\n## {name}\n")),
            "docs/guides/alerts.md has no section {name}"
        );
        let link = format!("docs/guides/alerts.md#{}\n", name.to_lowercase());
        assert!(rules.contains(&link), "{name} has no runbook_url that ends in {link}");
        alerts.insert(name);
    }
    assert!(alerts.len() > 20, "{alerts:?}");
    let sections = guide.lines().filter_map(|line| line.strip_prefix("## Headgate"));
    assert_eq!(sections.count(), alerts.len(), "a section has no alert");
}

/// The Prometheus Operator's document has the same rules.
#[test]
fn the_prometheus_rule_has_the_rules_of_the_file() {
    let rules = read(&path("headgate-rules.yml"));
    let mut expected =
        "# Written from headgate-rules.yml by `HEADGATE_BLESS=1 cargo test -p e2e --test behaviours -- monitoring`.\n\
                        apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: headgate\n  \
                        namespace: headgate-system\n  labels: { app.kubernetes.io/name: headgate }\nspec:\n"
            .to_owned();
    for line in rules.lines().skip_while(|line| line.starts_with('#')) {
        expected.push_str(&if line.is_empty() {
            "\n".to_owned()
        } else {
            format!("  {line}\n")
        });
    }
    let document = path("prometheus-rule.yaml");
    if env::var_os("HEADGATE_BLESS").is_some() {
        fs::write(&document, &expected).expect("the document is written");
    }
    assert!(
        read(&document) == expected,
        "deploy/monitoring/prometheus-rule.yaml differs from headgate-rules.yml: HEADGATE_BLESS=1 cargo test -p e2e --test behaviours -- monitoring"
    );
}

/// A Prometheus that scrapes one gateway every second.
struct Prometheus {
    address: SocketAddr,
    _folder: TempDir,
    _process: Child,
}

impl Prometheus {
    async fn of(gateway: &Gateway) -> Self {
        let folder = TempDir::with_prefix("headgate-prometheus-").expect("a folder");
        let address = ports::free();
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [path("headgate-rules.yml")],
            "scrape_configs": [{
                "job_name": "headgate",
                "static_configs": [{ "targets": [gateway.admin().to_string()] }],
            }],
        });
        // JSON is YAML.
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, configuration.to_string()).expect("a configuration");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}: {ADVICE}"));
        let prometheus = Self {
            address,
            _folder: folder,
            _process: process,
        };
        eventually("prometheus is ready", || async {
            let answer = Request::new("GET", "/-/ready").try_send(address).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        prometheus
    }

    async fn get(&self, path: &str) -> Value {
        Request::new("GET", path).send(self.address).await.json()
    }

    /// What a query gives now; an error of the query is a panic.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    async fn metric_names(&self) -> BTreeSet<String> {
        let answer = self.get("/api/v1/label/__name__/values").await;
        let names = answer["data"].as_array().cloned().unwrap_or_default();
        names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// The queries of all panels, as Grafana would send them for all objects and an interval of some scrapes.
fn panels() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(path("dashboards")).expect("dashboards") {
        let file = entry.expect("a dashboard").path();
        let dashboard: Value = serde_json::from_str(&read(&file)).expect("a dashboard is JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            let name = format!("{}: {}", dashboard["title"], panel["title"]);
            assert!(
                panel["description"].is_string() && panel["gridPos"]["w"].is_u64(),
                "{name}"
            );
            for target in panel["targets"].as_array().expect("targets") {
                let expression = target["expr"].as_str().expect("a query");
                let filled = expression
                    .replace("$__rate_interval", "10s")
                    .replace("$namespace", ".*")
                    .replace("$name", ".*");
                assert!(!filled.contains('$'), "{name}: {filled}");
                queries.push((name.clone(), filled));
            }
        }
    }
    queries
}

/// The names of our metrics in a query.
fn metrics_of(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    words.filter(|word| word.starts_with("headgate_"))
}

/// Everything that can go wrong with one gateway, at once.
async fn incident(github: &GitHub, emulator: &Emulator, sink: &Sink, refusing: &Sink) -> Gateway {
    refusing.always(Response::status(422));
    let dead = format!("http://{}/", ports::free());
    let no_retry = json!({ "delivery": { "retry": 0 } });
    let mut source = github_source("hello", &["*"], &channel_reference("github"));
    let api = json!({
        "githubAPIURL": github.url(), "sweepInterval": "PT1S",
        "accessToken": { "secretKeyRef": { "name": "github", "key": "accessToken" } },
    });
    merge(&mut source["spec"], api);
    emulator.create_topic("watched").await;
    let to_github = json!({ "sink": channel_reference("github") });
    let documents = [
        channel("github", "embedded"),
        subscription("all", "github", &sink.url(), json!({})),
        secret("github", json!({ "secretToken": SECRET, "accessToken": github::TOKEN })),
        source,
        pubsub_source("watched", "watched", &emulator.host(), to_github),
        container_source("beats", "beats:1", &channel_reference("github")),
        channel_with("full", "memory", json!({ "arguments": { "capacity": 3 } })),
        subscription("stuck", "full", &dead, json!({})),
        channel("orders", "embedded"),
        subscription("refusing", "orders", &refusing.url(), no_retry),
    ];
    let no_engine = format!("unix://{}", workspace().join("no-engine.sock").display());
    let setup = Gateway::set_up().documents(documents).public();
    let mut gateway = setup.environment("DOCKER_HOST", &no_engine).prepare();
    gateway.start_again().await;
    gateway
        .wait_object("githubsource", "hello", |object| {
            condition(object, "WebhookConfigured").is_some_and(|found| found["status"] == "True")
        })
        .await;
    gateway
}

/// Keeps the incident going: rates exist only of what goes on.
async fn goes_on(gateway: &Gateway, github: &GitHub, emulator: &Emulator) {
    let mut number = 0_usize;
    loop {
        number += 1;
        let id = number.to_string();
        gateway.send(&Request::event("orders", &id)).await;
        gateway.send(&Request::event("full", &id)).await;
        gateway.send(&Request::event("nowhere", &id)).await;
        github.happens("octo/hello", "push", b"{}").await;
        gateway.send(&delivery("hello", "push", &id, b"{}", "a guess")).await;
        emulator.publish("watched", &[json!({ "data": "aGVsbG8=" })]).await;
        let foreign = Request::new("GET", "/api/v1/info").header("host", "evil.example");
        foreign.send(gateway.admin()).await.is(421);
        sleep(Duration::from_millis(100)).await;
    }
}

/// Proves: OP-3
#[tokio::test]
async fn every_panel_and_every_rule_has_data_in_an_incident() {
    let Some(emulator) = Emulator::shared().await.filter(|_| !skipped()) else {
        return;
    };
    let (github, sink, refusing) = (GitHub::start().await, Sink::start().await, Sink::start().await);
    let gateway = incident(&github, &emulator, &sink, &refusing).await;
    let prometheus = Prometheus::of(&gateway).await;
    let watching = async {
        every_panel_shows_something(&prometheus).await;
        rules_see_it(&prometheus).await;
        // The format that promtool reads.
        let scrape = Request::new("GET", "/metrics").header("accept", "text/plain");
        scrape.send(gateway.admin()).await.is(200).text()
    };
    let metrics = tokio::select! {
        metrics = watching => metrics,
        () = goes_on(&gateway, &github, &emulator) => unreachable!("it goes on for ever"),
    };
    promtool(&["check", "metrics"], &metrics).await;
}

async fn every_panel_shows_something(prometheus: &Prometheus) {
    let is_here = |query: &str| !metrics_of(query).any(|metric| NOT_IN_THE_INCIDENT.contains(&metric));
    let mut empty = panels();
    empty.retain(|(_, query)| is_here(query));
    assert!(empty.len() > 50, "{} queries", empty.len());
    let start = Instant::now();
    while !empty.is_empty() && start.elapsed() < e2e::wait::PATIENCE {
        let mut still = Vec::new();
        for (panel, query) in empty {
            if prometheus.query(&query).await.is_empty() {
                still.push((panel, query));
            }
        }
        empty = still;
    }
    assert!(empty.is_empty(), "these panels stay empty: {empty:#?}");
}

async fn rules_see_it(prometheus: &Prometheus) {
    let rules = eventually("every rule was evaluated", || async {
        let answer = prometheus.get("/api/v1/rules").await;
        let rules = answer["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    })
    .await;
    let known = prometheus.metric_names().await;
    for rule in &rules {
        for metric in metrics_of(rule["query"].as_str().expect("a query")) {
            assert!(
                known.contains(metric) || NOT_IN_THE_INCIDENT.contains(&metric),
                "{} asks for {metric}, which is not scraped",
                rule["name"]
            );
        }
    }
    // A rule with a `for` is pending meanwhile.
    for alert in [
        "HeadgateRefusesEvents",
        "HeadgateDeadLetters",
        "HeadgateNewDeadLetters",
        "HeadgateAttemptsFail",
        "HeadgateNothingDelivered",
        "HeadgateNotReady",
        "HeadgateForgedHooks",
        "HeadgateAdminGuessed",
    ] {
        eventually(&format!("{alert} is active"), || async {
            let active = prometheus.query(&format!("ALERTS{{alertname=\"{alert}\"}}")).await;
            (!active.is_empty()).then_some(())
        })
        .await;
    }
}
