//! One file per subcommand.

mod adapter;
mod crds;
mod dead;
mod demo;
mod explain;
mod filter;
mod get;
mod log;
mod pause;
mod replay;
mod send;
mod sink;
mod tail;
mod validate;

use clap::CommandFactory;

use crate::{
    Failure,
    args::{Args, Command},
    client::Gateway,
    output, run, telemetry,
};

pub(crate) async fn dispatch(args: Args) -> Result<(), Failure> {
    let Args {
        gateway,
        admin_token,
        log_format,
        log,
        command,
    } = args;
    telemetry::start(log_format, &log)?;
    let gateway = |token| Gateway::new(&gateway, token);
    match command {
        Command::Run(args) => run::run(args, None, admin_token).await,
        Command::Adapter(args) => adapter::adapter(args, admin_token).await,
        Command::Demo => demo::demo().await,
        Command::Validate(args) => validate::validate(&args),
        Command::Get(args) => get::get(&gateway(admin_token)?, args).await,
        Command::Send(args) => send::send(&gateway(admin_token)?, args).await,
        Command::Tail(args) => tail::tail(&gateway(admin_token)?, args).await,
        Command::Filter(args) => filter::filter(|| gateway(admin_token), args).await,
        Command::Explain(args) => explain::explain(&gateway(admin_token)?, &args).await,
        Command::Dead(args) => dead::dead(&gateway(admin_token)?, args).await,
        Command::Replay(args) => replay::replay(&gateway(admin_token)?, &args).await,
        Command::Log(args) => log::log(args),
        Command::Pause(args) => pause::switch(&gateway(admin_token)?, &args.subscription, "pause").await,
        Command::Resume(args) => pause::switch(&gateway(admin_token)?, &args.subscription, "resume").await,
        Command::Sink(args) => sink::sink(args).await,
        Command::Crds => {
            crds::crds();
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "headgate", &mut script);
            output::text(&String::from_utf8_lossy(&script));
            Ok(())
        }
    }
}

/// `[NAMESPACE/]NAME`.
fn name(text: &str) -> (String, String) {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    (namespace.to_owned(), name.to_owned())
}

/// `NAMESPACE/NAME` of the same.
fn full(text: &str) -> String {
    let (namespace, name) = name(text);
    format!("{namespace}/{name}")
}
