//! The flags of the other commands.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Subcommand, ValueEnum};

use super::values::{address, duration, pair, position, rate, start};
use crate::api::Position;

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// Files and folders of YAML documents.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// A folder of secrets, as files NAMESPACE/NAME/KEY.
    #[arg(long, value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    /// The address that the gateway will listen on. If other machines reach it, channels without publishers are warnings.
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = address, value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Exit with code 1 for warnings, too.
    #[arg(long)]
    pub(crate) strict: bool,
    /// The format of the result.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
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
    /// Show objects of this namespace only.
    #[arg(short, long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// The format of the result.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    /// Show objects of this namespace only.
    #[arg(short, long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// The time between two looks, over which rates are taken.
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub(crate) interval: Duration,
    /// Print one table and end, as in a pipe.
    #[arg(long)]
    pub(crate) once: bool,
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
    /// The channel: [NAMESPACE/]CHANNEL.
    pub(crate) channel: String,
    /// The base URL of the ingress, where the gateway's own address does not lead to it: behind a proxy or a port-forward.
    #[arg(long, value_name = "URL")]
    pub(crate) ingress: Option<url::Url>,
    /// A file with a bearer token, for a channel that names its publishers. Its first line is sent.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The event's type.
    #[arg(long = "type", default_value = "dev.headgate.event")]
    pub(crate) kind: String,
    /// The event's source.
    #[arg(long, default_value = "/headgate/send")]
    pub(crate) source: String,
    /// The event's id. Without it, a new UUID.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The event's subject.
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// The event's data; `-` reads it from standard input.
    #[arg(long, conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) data: Option<String>,
    /// A file with the event's data; `-` reads it from standard input.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The file holds a whole event in JSON (application/cloudevents+json), which is sent as it is.
    #[arg(long, requires = "file")]
    pub(crate) structured: bool,
    /// The data's content type. Without it, application/json for JSON and text/plain for other data.
    #[arg(long)]
    pub(crate) content_type: Option<String>,
    /// An extension attribute of the event. May be repeated.
    #[arg(long, value_parser = pair, value_delimiter = ',', value_name = "NAME=VALUE")]
    pub(crate) ext: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    /// The channel: [NAMESPACE/]CHANNEL.
    pub(crate) channel: String,
    /// Only events whose attribute has this value. May be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<(String, String)>,
    /// The format of the result.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// An expression, such as: EXISTS tier AND tier = 'gold'
    #[arg(allow_hyphen_values = true)]
    pub(crate) expression: String,
    /// A file with an event in JSON (application/cloudevents+json); `-` reads standard input. Without it, the event has the
    /// required attributes only.
    #[arg(long, value_name = "FILE")]
    pub(crate) event: Option<PathBuf>,
    /// Evaluate the expression on the last events of this channel of a running gateway: [NAMESPACE/]CHANNEL.
    #[arg(long, conflicts_with = "event", value_name = "CHANNEL")]
    pub(crate) against: Option<String>,
    /// How many events of the channel are evaluated.
    #[arg(long, default_value_t = 100, requires = "against", value_name = "N")]
    pub(crate) last: u64,
    /// The format of the result.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The event's id.
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,
    /// The event's source, because ids are unique per source only.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// Search this channel only: [NAMESPACE/]CHANNEL.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,
    /// How many of the newest offsets of each channel, or of each of its partitions, are searched.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub(crate) last: u64,
    /// The format of the result.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The subscription: [NAMESPACE/]SUBSCRIPTION.
    pub(crate) subscription: String,
    /// The first event: how long ago it was stored (1h, 30m), when (RFC 3339), `earliest`, or its offset.
    #[arg(long, value_parser = start, value_name = "AGO|TIME|earliest|OFFSET")]
    pub(crate) from: Position,
    /// The end: events stored before this time, or the last offset. Without it, all events that are stored now.
    #[arg(long, value_parser = position, value_name = "AGO|TIME|OFFSET")]
    pub(crate) to: Option<Position>,
    /// Only events whose attribute has this value. May be repeated. The filters of the subscription apply as well.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<(String, String)>,
    /// How many events a second are delivered.
    #[arg(long, value_parser = rate, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Count the events and deliver none.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The format of the result.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// List dead letters, newest first.
    List {
        /// The subscription: [NAMESPACE/]SUBSCRIPTION.
        subscription: Option<String>,
        /// How many dead letters are listed.
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
        /// The format of the result.
        #[arg(short, long, default_value = "text", value_name = "FORMAT")]
        output: TextOrJson,
    },
    /// Show one dead letter: its event, and the body of the last answer.
    Show {
        /// The subscription: [NAMESPACE/]SUBSCRIPTION.
        subscription: String,
        /// The event's id.
        id: String,
        /// The format of the result.
        #[arg(short, long, default_value = "text", value_name = "FORMAT")]
        output: TextOrJson,
    },
    /// Deliver dead letters again; each is removed when its event is settled.
    Redrive(Redrive),
    /// Remove dead letters for good.
    Drop {
        /// The subscription: [NAMESPACE/]SUBSCRIPTION.
        subscription: String,
        /// Ids of events.
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// Drop every dead letter of the subscription. The command asks first.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    /// The subscription: [NAMESPACE/]SUBSCRIPTION.
    pub(crate) subscription: String,
    /// Ids of events. Without any, every dead letter of the subscription is meant.
    pub(crate) ids: Vec<String>,
    /// Only events whose attribute has this value. May be repeated.
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<(String, String)>,
    /// How many events a second are delivered.
    #[arg(long, value_parser = rate, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Count the dead letters and deliver none.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return at once; the gateway continues.
    #[arg(long)]
    pub(crate) detach: bool,
    /// The format of the result.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Read every byte and report damage; the exit code is 1 when something is damaged.
    Check {
        /// The data folder of a stopped gateway, or the folder of one channel in it.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// The format of the result.
        #[arg(short, long, default_value = "text", value_name = "FORMAT")]
        output: TextOrJson,
    },
    /// Print cursors, gaps, events and dead letters.
    Dump {
        /// The data folder of a stopped gateway, or the folder of one channel in it.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// The format of the result; with `json` one object a line, with whole events.
        #[arg(short, long, default_value = "text", value_name = "FORMAT")]
        output: TextOrJson,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Subscription {
    /// The subscription: [NAMESPACE/]SUBSCRIPTION.
    pub(crate) subscription: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sink {
    /// The address to listen on.
    #[arg(
        long,
        default_value = "127.0.0.1:9000",
        value_parser = address,
        value_name = "ADDRESS"
    )]
    pub(crate) listen: SocketAddr,
    /// The HTTP status of its answers.
    #[arg(long, default_value_t = 202, value_parser = clap::value_parser!(u16).range(200..=599), value_name = "N")]
    pub(crate) status: u16,
    /// How long it waits before each answer.
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
    pub(crate) delay: Duration,
    /// How many requests, from the first on, it answers 503.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) fail_first: u64,
    /// The format of the result.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    pub(crate) output: TextOrJson,
}
