//! The command line. Every flag has an environment twin `HEADGATE_...` (API.md 3).

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "Exit codes: 0 done; 1 the thing asked about is wrong (invalid, unhealthy, not found); 2 usage; \
                          3 cannot reach the gateway; 70 internal error.";

/// A source gateway: what happens elsewhere becomes CloudEvents, is kept, and fans out to HTTP services.
#[derive(Debug, Parser)]
#[command(name = "headgate", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Args {
    /// The admin address of the running gateway.
    #[arg(
        long,
        global = true,
        env = "HEADGATE_GATEWAY",
        default_value = "http://127.0.0.1:8081",
        value_name = "URL"
    )]
    pub(crate) gateway: String,
    /// Bearer token for what changes state, when the admin listener is not on loopback.
    #[arg(
        long,
        global = true,
        env = "HEADGATE_ADMIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) admin_token: Option<String>,
    /// How log lines look. Logs go to standard error, results to standard output.
    #[arg(
        long,
        global = true,
        env = "HEADGATE_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// Which log lines: error, warn, info, debug, trace, or directives such as `dataplane=debug`.
    #[arg(
        long,
        global = true,
        env = "HEADGATE_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway from YAML files and folders, or from the objects of a Kubernetes cluster.
    Run(Run),
    /// Run the sources of one kind alone, sending to a sink that is elsewhere.
    Adapter(Adapter),
    /// A self-contained tour: deliveries in, subscribers that fail, a kill and a restart.
    Demo,
    /// Check documents without running them; exit code 1 when there are faults.
    Validate(Validate),
    /// Show objects of a running gateway.
    Get(Get),
    /// Send one event to a channel.
    Send(Send),
    /// Show events of a channel as they are stored; subscriptions are not affected.
    Tail(Tail),
    /// Try a filter expression (CESQL) on an event, or on the last events of a channel.
    Filter(Filter),
    /// Say where an event is stored, and what each subscription did with it.
    Explain(Explain),
    /// Look at dead letters, deliver them again, drop them.
    #[command(subcommand)]
    Dead(Dead),
    /// Deliver past events again, to one subscription alone.
    Replay(Replay),
    /// Look at the files of embedded channels, without a gateway: check them, print what is in them.
    #[command(subcommand)]
    Log(Log),
    /// Stop deliveries of a subscription; its events wait in the channel. Outlives restarts.
    Pause(Subscription),
    /// Let a paused subscription go on.
    Resume(Subscription),
    /// A small event display and scriptable test sink.
    Sink(Sink),
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Files and folders of YAML documents, watched for changes.
    #[arg(
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes",
        value_name = "PATH"
    )]
    pub(crate) paths: Vec<PathBuf>,
    /// Where events come in. Port 0 takes a free one; the log line `gateway is ready` names it.
    #[arg(
        long,
        env = "HEADGATE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    pub(crate) listen: SocketAddr,
    /// Health, metrics, and what the other commands talk to.
    #[arg(
        long,
        env = "HEADGATE_ADMIN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS"
    )]
    pub(crate) admin: SocketAddr,
    /// Where the embedded channels keep their events.
    #[arg(long, env = "HEADGATE_DATA", default_value = "./headgate-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Folder of secrets: NAMESPACE/NAME/KEY.
    #[arg(long, env = "HEADGATE_SECRETS", value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    /// The address by which the ingress is reached from outside, for status and webhooks.
    #[arg(long, env = "HEADGATE_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<url::Url>,
    /// How long a drain may take.
    #[arg(long, env = "HEADGATE_GRACE", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub(crate) grace: Duration,
    /// Largest event taken over HTTP, bytes.
    #[arg(
        long,
        env = "HEADGATE_MAX_BODY_BYTES",
        default_value_t = 1_048_576,
        value_name = "BYTES"
    )]
    pub(crate) max_body_bytes: usize,
    /// Channels an event may pass before it is taken for a loop.
    #[arg(long, env = "HEADGATE_MAX_HOPS", default_value_t = 32, value_name = "N")]
    pub(crate) max_hops: u32,
    /// The provisioner of channels that name none.
    #[arg(
        long,
        env = "HEADGATE_DEFAULT_PROVISIONER",
        default_value = spec::DEFAULT_PROVISIONER,
        value_name = "NAME"
    )]
    pub(crate) default_provisioner: String,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Context of the kubeconfig (KUBECONFIG, else ~/.kube/config) whose cluster --kubernetes and KubernetesEventSources mean;
    /// without it the current one, and without a kubeconfig the cluster that the pod runs in.
    #[arg(long, env = "HEADGATE_KUBE_CONTEXT", value_name = "CONTEXT")]
    pub(crate) kube_context: Option<String>,
}

/// A gateway whose documents are objects of a cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Cluster {
    /// Take documents from the Kubernetes API server, and write status there.
    #[arg(long, env = "HEADGATE_KUBERNETES")]
    pub(crate) kubernetes: bool,
    /// Watch one namespace only (with --kubernetes).
    #[arg(long, env = "HEADGATE_NAMESPACE", requires = "kubernetes", value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// The gateway's own Service, NAME.NAMESPACE.svc.DOMAIN, which must have port 80 (with --kubernetes): each channel gets a
    /// Service NAME-channel that stands for it.
    #[arg(long, env = "HEADGATE_SERVICE", requires = "kubernetes", value_name = "HOST")]
    pub(crate) service: Option<String>,
    /// What names of Services end in (with --kubernetes).
    #[arg(
        long,
        env = "HEADGATE_CLUSTER_DOMAIN",
        default_value = "cluster.local",
        value_name = "DOMAIN"
    )]
    pub(crate) cluster_domain: String,
}

impl Cluster {
    /// Documents are files.
    pub(crate) fn none() -> Self {
        Self {
            kubernetes: false,
            namespace: None,
            service: None,
            cluster_domain: String::new(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Adapter {
    /// GitHubSource, KubernetesEventSource, GcpPubSubSource or ContainerSource.
    #[arg(value_parser = source_kind, value_name = "KIND")]
    pub(crate) kind: spec::Kind,
    /// Files and folders of YAML documents, watched for changes; only sources of this kind and their secrets are read.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Where events are posted to. Upstream is acknowledged when it answers 2xx.
    #[arg(long, env = "HEADGATE_SINK", value_name = "URL")]
    pub(crate) sink: url::Url,
    /// Where sources that are called receive. Port 0 takes a free one.
    #[arg(
        long,
        env = "HEADGATE_LISTEN",
        default_value = "127.0.0.1:8090",
        value_name = "ADDRESS"
    )]
    pub(crate) listen: SocketAddr,
    /// Health, metrics, and what the other commands talk to.
    #[arg(
        long,
        env = "HEADGATE_ADMIN",
        default_value = "127.0.0.1:8091",
        value_name = "ADDRESS"
    )]
    pub(crate) admin: SocketAddr,
    /// Where the sources keep their state.
    #[arg(
        long,
        env = "HEADGATE_DATA",
        default_value = "./headgate-adapter-data",
        value_name = "DIR"
    )]
    pub(crate) data: PathBuf,
    /// Folder of secrets: NAMESPACE/NAME/KEY.
    #[arg(long, env = "HEADGATE_SECRETS", value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    /// The address by which it is reached from outside, for status and webhooks.
    #[arg(long, env = "HEADGATE_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<url::Url>,
    /// Context of the kubeconfig (KUBECONFIG, else ~/.kube/config) whose cluster KubernetesEventSources watch; without it the
    /// current one.
    #[arg(long, env = "HEADGATE_KUBE_CONTEXT", value_name = "CONTEXT")]
    pub(crate) kube_context: Option<String>,
    /// Keep the state of the one source in this ConfigMap of the cluster, and not in --data: for the Deployments that a
    /// gateway in a cluster makes.
    #[arg(long, env = "HEADGATE_STATE", requires = "state_uid", value_parser = in_namespace, value_name = "NAMESPACE/NAME")]
    pub(crate) state: Option<spec::ObjectName>,
    /// The uid of the source's object in the cluster (with --state).
    #[arg(long, env = "HEADGATE_STATE_UID", requires = "state", value_name = "UID")]
    pub(crate) state_uid: Option<String>,
    /// How long a drain may take.
    #[arg(long, env = "HEADGATE_GRACE", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub(crate) grace: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Folder of secrets: NAMESPACE/NAME/KEY.
    #[arg(long, env = "HEADGATE_SECRETS", value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextOrJson {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// A kind, its plural or short name, or `sources` or `all`.
    #[arg(default_value = "all")]
    pub(crate) kind: String,
    /// NAME, or NAMESPACE/NAME.
    pub(crate) name: Option<String>,
    /// Objects of one namespace only.
    #[arg(short, long, env = "HEADGATE_NAMESPACE", value_name = "NS")]
    pub(crate) namespace: Option<String>,
    #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Wide,
    Json,
    Yaml,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Send {
    /// [NAMESPACE/]CHANNEL
    pub(crate) channel: String,
    #[arg(long = "type", env = "HEADGATE_TYPE", default_value = "dev.headgate.event")]
    pub(crate) kind: String,
    #[arg(long, env = "HEADGATE_SOURCE", default_value = "/headgate/send")]
    pub(crate) source: String,
    /// A new UUID when absent.
    #[arg(long, env = "HEADGATE_ID")]
    pub(crate) id: Option<String>,
    #[arg(long, env = "HEADGATE_SUBJECT")]
    pub(crate) subject: Option<String>,
    /// The data itself; `-` reads it from standard input.
    #[arg(
        long,
        env = "HEADGATE_DATA_TEXT",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    pub(crate) data: Option<String>,
    /// The data from a file, or from standard input with `-`.
    #[arg(long, short, env = "HEADGATE_FILE", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The file is a whole event in JSON (application/cloudevents+json), sent as it is.
    #[arg(long, env = "HEADGATE_STRUCTURED", requires = "file")]
    pub(crate) structured: bool,
    /// application/json when the data is JSON, text/plain otherwise.
    #[arg(long, env = "HEADGATE_CONTENT_TYPE")]
    pub(crate) content_type: Option<String>,
    /// An extension attribute; may be repeated.
    #[arg(long, env = "HEADGATE_EXT", value_parser = pair, value_delimiter = ',', value_name = "NAME=VALUE")]
    pub(crate) ext: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    /// [NAMESPACE/]CHANNEL
    pub(crate) channel: String,
    /// Only events whose attribute has this value; may be repeated.
    #[arg(long, env = "HEADGATE_FILTER", value_parser = pair, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<(String, String)>,
    #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Such as: EXISTS tier AND tier = 'gold'
    #[arg(allow_hyphen_values = true)]
    pub(crate) expression: String,
    /// An event in JSON (application/cloudevents+json), from a file or with `-` from standard input. Without it, an event
    /// with nothing but the required attributes.
    #[arg(long, env = "HEADGATE_EVENT", value_name = "FILE")]
    pub(crate) event: Option<PathBuf>,
    /// Ask a running gateway what the expression would have done in this channel: [NAMESPACE/]CHANNEL.
    #[arg(long, env = "HEADGATE_AGAINST", conflicts_with = "event", value_name = "CHANNEL")]
    pub(crate) against: Option<String>,
    /// How many of the channel's last events.
    #[arg(
        long,
        env = "HEADGATE_LAST",
        default_value_t = 100,
        requires = "against",
        value_name = "N"
    )]
    pub(crate) last: u64,
    #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The event's id.
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,
    /// The event's source: ids are unique per source only.
    #[arg(long, env = "HEADGATE_SOURCE", value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// Look in this channel alone: [NAMESPACE/]CHANNEL.
    #[arg(long, env = "HEADGATE_CHANNEL", value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,
    /// How many of the newest places of each channel are looked at, of each partition where it has several.
    #[arg(long, env = "HEADGATE_LAST", default_value_t = 10_000, value_name = "N")]
    pub(crate) last: u64,
    #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// [NAMESPACE/]SUBSCRIPTION
    pub(crate) subscription: String,
    /// The first event: a time (RFC 3339, when it was stored) or a place of its channel.
    #[arg(long, env = "HEADGATE_FROM", value_parser = place, value_name = "TIME|OFFSET")]
    pub(crate) from: serde_json::Value,
    /// The end: only what was stored before this time, or the last place. Without it, what is stored now.
    #[arg(long, env = "HEADGATE_TO", value_parser = place, value_name = "TIME|OFFSET")]
    pub(crate) to: Option<serde_json::Value>,
    /// Only events whose attribute has this value; may be repeated. The subscription's own filters hold in any case.
    #[arg(long, env = "HEADGATE_FILTER", value_parser = pair, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<(String, String)>,
    /// Events a second.
    #[arg(long, env = "HEADGATE_RATE", value_parser = rate, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Say how many there are, deliver nothing.
    #[arg(long, env = "HEADGATE_DRY_RUN")]
    pub(crate) dry_run: bool,
    #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// Newest first.
    List {
        /// [NAMESPACE/]SUBSCRIPTION
        subscription: Option<String>,
        #[arg(long, env = "HEADGATE_LIMIT", default_value_t = 1000, value_name = "N")]
        limit: usize,
        #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
        output: TextOrJson,
    },
    /// One letter with the answer's body.
    Show {
        /// [NAMESPACE/]SUBSCRIPTION
        subscription: String,
        id: String,
        #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
        output: TextOrJson,
    },
    /// Deliver again, to that subscription alone; a letter goes once its event is settled.
    Redrive {
        /// [NAMESPACE/]SUBSCRIPTION
        subscription: String,
        ids: Vec<String>,
        /// Only events whose attribute has this value; may be repeated.
        #[arg(long, env = "HEADGATE_FILTER", value_parser = pair, value_name = "NAME=VALUE")]
        filter: Vec<(String, String)>,
        /// Events a second.
        #[arg(long, env = "HEADGATE_RATE", value_parser = rate, value_name = "N")]
        rate: Option<f64>,
        /// Only count.
        #[arg(long, env = "HEADGATE_DRY_RUN")]
        dry_run: bool,
    },
    /// Remove letters for good.
    Drop {
        /// [NAMESPACE/]SUBSCRIPTION
        subscription: String,
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// Every letter of the subscription; asks first.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// Do not ask.
        #[arg(long, short, env = "HEADGATE_YES")]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Read every byte and report what is damaged, with its file and place; exit code 1 when something is.
    Check {
        /// The data folder of a stopped gateway, or the folder of one channel in it.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
        output: TextOrJson,
    },
    /// Print every event and letter, and what the cursors have settled.
    Dump {
        /// The data folder of a stopped gateway, or the folder of one channel in it.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// One JSON object a line with `json`, events in full.
        #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
        output: TextOrJson,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Subscription {
    /// [NAMESPACE/]SUBSCRIPTION
    pub(crate) subscription: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sink {
    #[arg(
        long,
        env = "HEADGATE_SINK_LISTEN",
        default_value = "127.0.0.1:9000",
        value_name = "ADDRESS"
    )]
    pub(crate) listen: SocketAddr,
    /// The status to answer with.
    #[arg(long, env = "HEADGATE_STATUS", default_value_t = 202, value_parser = clap::value_parser!(u16).range(200..=599), value_name = "N")]
    pub(crate) status: u16,
    /// Wait before each answer.
    #[arg(long, env = "HEADGATE_DELAY", default_value = "0s", value_parser = duration, value_name = "DURATION")]
    pub(crate) delay: Duration,
    /// Answer 503 to the first N requests.
    #[arg(long, env = "HEADGATE_FAIL_FIRST", default_value_t = 0, value_name = "N")]
    pub(crate) fail_first: u64,
    #[arg(short, long, env = "HEADGATE_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

/// A kind of source as documents have it, in any case, or its plural.
fn source_kind(text: &str) -> Result<spec::Kind, String> {
    let word = text.to_lowercase();
    let kinds = spec::Kind::ALL.into_iter().filter(|kind| kind.is_source());
    let mut found = kinds.filter(|kind| kind.as_str().to_lowercase() == word || kind.plural() == word);
    found
        .next()
        .ok_or_else(|| "expected GitHubSource, KubernetesEventSource, GcpPubSubSource or ContainerSource".to_owned())
}

/// `500ms`, `30s`, `5m`, `1h`.
fn in_namespace(text: &str) -> Result<spec::ObjectName, String> {
    let parts = text
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    let (namespace, name) = parts.ok_or("expected NAMESPACE/NAME")?;
    Ok(spec::ObjectName::new(namespace, name))
}

fn duration(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number with ms, s, m or h, such as 30s".into()),
    };
    let seconds = number
        .parse::<f64>()
        .map_err(|_| "expected a number with ms, s, m or h, such as 30s".to_owned())?;
    Duration::try_from_secs_f64(seconds * scale).map_err(|e| e.to_string())
}

/// A place, or a time; as the admin API takes it.
fn place(text: &str) -> Result<serde_json::Value, String> {
    if let Ok(place) = text.parse::<u64>() {
        return Ok(place.into());
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time.to_string().into()),
        Err(_) => Err("expected a time such as 2026-11-24T18:00:00Z, or a place such as 0 or 1200".to_owned()),
    }
}

/// More than none.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "expected a number above 0".to_owned())
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_flag_has_an_environment_twin() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let name = argument.get_id().as_str();
                // Flags that must be said each time, and clap's own.
                if ["help", "version", "all"].contains(&name) {
                    continue;
                }
                let twin = argument.get_env().and_then(|env| env.to_str());
                assert!(
                    twin.is_some_and(|env| env.starts_with("HEADGATE_")),
                    "{} --{name}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        let command = Args::command();
        command.clone().debug_assert();
        check(&command);
    }

    #[test]
    fn durations_are_numbers_with_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["30", "s", "", "-1s", "1d", "1e400s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["yesterday", "-1", "2026-11-24", ""] {
            assert!(place(bad).is_err(), "{bad}");
        }
        assert_eq!(place("12").unwrap(), 12);
        assert_eq!(place("2026-11-24T19:00:00+01:00").unwrap(), "2026-11-24T18:00:00Z");
        assert!(rate("0").is_err() && rate("NaN").is_err() && rate("0.5").is_ok());
        assert_eq!(pair("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
    }
}
