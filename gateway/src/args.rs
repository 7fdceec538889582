//! The command line. Global flags and those of `run` and `adapter` have an environment twin `HEADGATE_...` (API.md 3); flags of
//! other commands have none, so that nothing set from afar confirms, narrows or redirects what a person does.

mod commands;
mod help;
#[cfg(test)]
mod reference;
mod run;
mod values;

pub(crate) use commands::*;
pub(crate) use help::{command, parse};
pub(crate) use run::*;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use self::values::document_kind;

const EXIT_CODES: &str = "Exit codes: 0 done; 1 the thing asked about is wrong (invalid, unhealthy, not found); 2 usage; \
                          3 cannot reach the gateway; 70 internal error.";

/// The heading, in help texts, of flags that all commands take. `-h` leaves them out.
const GLOBAL: &str = "Global options";

/// A source gateway: what happens elsewhere becomes CloudEvents, is kept, and fans out to HTTP services.
#[derive(Debug, Parser)]
#[command(name = "headgate", version, long_version = crate::features::version(), after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Args {
    /// The admin address of the running gateway.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        hide_short_help = true,
        env = "HEADGATE_GATEWAY",
        default_value = "http://127.0.0.1:8081",
        value_name = "URL"
    )]
    pub(crate) gateway: String,
    /// The operate token. `run` and `adapter` require it for changes over the admin API and, off loopback, for reading. The
    /// other commands send it. Other users of this machine can see command lines: prefer --admin-token-file.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        hide_short_help = true,
        env = "HEADGATE_ADMIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) admin_token: Option<String>,
    /// A file with the operate token, which may change at any time. Overrides --admin-token.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        hide_short_help = true,
        env = "HEADGATE_ADMIN_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// A PEM file with the authorities that vouch for the gateway's own certificate, instead of those of the system. Commands need it
    /// where the admin listener has TLS, and `run` where replicas forward events to each other while a certificate is replaced.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        hide_short_help = true,
        env = "HEADGATE_GATEWAY_CA",
        value_name = "FILE"
    )]
    pub(crate) gateway_ca: Option<PathBuf>,
    /// The format of log lines. Logs go to standard error, results to standard output.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        hide_short_help = true,
        env = "HEADGATE_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// The log lines to print: error, warn, info, debug, trace, or directives such as `dataplane=debug`.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        hide_short_help = true,
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
    /// Run the sources of one kind, without channels, and post their events to a sink.
    Adapter(Adapter),
    /// Show a tour in a temporary folder: signed deliveries, a subscriber that fails, a kill and a restart.
    Demo,
    /// Check documents without a gateway; the exit code is 1 when there are faults.
    Validate(Validate),
    /// Show objects of a running gateway.
    Get(Get),
    /// Show the flow of events again and again, objects with trouble first.
    Top(Top),
    /// Send one event to a channel.
    Send(Send),
    /// Show events as a channel stores them; subscriptions are not affected.
    Tail(Tail),
    /// Evaluate a filter expression (CESQL) on an event, or on the last events of a channel.
    Filter(Filter),
    /// Show where an event is stored, and what each subscription did with it.
    Explain(Explain),
    /// Report what is wrong or doubtful about a running gateway or about documents, and how to mend it.
    Doctor(crate::commands::doctor::Doctor),
    /// List dead letters, show them, deliver them again, drop them.
    #[command(subcommand)]
    Dead(Dead),
    /// Deliver past events again, to one subscription alone.
    Replay(Replay),
    /// Check and print the files of embedded channels, without a gateway.
    #[command(subcommand)]
    Log(Log),
    /// Stop deliveries of a subscription, also after restarts; its events wait in the channel.
    Pause(Subscription),
    /// Start deliveries of a paused subscription again.
    Resume(Subscription),
    /// Run an HTTP service that shows events, for tests.
    Sink(Sink),
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Print a JSON Schema (draft 07) of documents, for editors.
    Schema {
        /// A kind, its plural or short name. Without it, the schema is of documents of all kinds.
        #[arg(value_parser = document_kind, value_name = "KIND")]
        kind: Option<spec::Kind>,
    },
    /// Print a script that completes command lines in a shell. It calls `headgate`, which must be in PATH.
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command.
    Man {
        /// The folder for the pages. It is created if it does not exist.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::CommandFactory;

    use super::*;

    /// Flags of `run`, `adapter` and all commands alike have a twin, and no others: `HEADGATE_YES` must not confirm anything.
    #[test]
    fn only_flags_of_run_and_adapter_have_an_environment_twin() {
        fn check(command: &clap::Command, has_twins: bool) {
            for argument in command.get_arguments() {
                let is_flag =
                    argument.get_long().is_some() && !["help", "version"].contains(&argument.get_id().as_str());
                let twin = argument.get_env().and_then(|env| env.to_str());
                let what = format!("{} {}", command.get_name(), argument.get_id());
                match (is_flag && has_twins, twin) {
                    (false, twin) => assert_eq!(twin, None, "{what}"),
                    (true, twin) => {
                        let name = argument.get_long().unwrap().to_uppercase().replace('-', "_");
                        assert_eq!(twin, Some(&*format!("HEADGATE_{name}")), "{what}");
                    }
                }
            }
            for command in command.get_subcommands() {
                check(command, ["run", "adapter"].contains(&command.get_name()));
            }
        }
        let command = Args::command();
        command.clone().debug_assert();
        check(&command, true);
    }
}
