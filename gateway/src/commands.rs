//! One file per subcommand.

mod adapter;
mod crds;
mod dead;
mod demo;
pub(crate) mod doctor;
mod explain;
mod filter;
mod get;
mod log;
mod man;
mod pause;
mod progress;
mod replay;
mod schema;
mod send;
mod sink;
mod tail;
mod top;
mod validate;

use crate::{
    Failure,
    admin::access::Secret,
    args::{Args, Command},
    client::Gateway,
    completion, output, run, telemetry,
};

pub(crate) async fn dispatch(args: Args) -> Result<(), Failure> {
    let Args {
        gateway,
        admin_token,
        admin_token_file,
        gateway_ca,
        log_format,
        log,
        command,
    } = args;
    telemetry::start(log_format, &log)?;
    let operate = Secret::of(admin_token, admin_token_file.clone());
    if let (Command::Run(_), Some(authorities)) = (&command, &gateway_ca) {
        connect::trust_replicas_of(authorities.clone());
    }
    let gateway = || {
        let token = operate.as_ref().map(Secret::read).transpose().map_err(|error| {
            let file = admin_token_file.unwrap_or_default();
            Failure::Usage(format!(
                "--admin-token-file {}: no token can be read: {error}",
                file.display()
            ))
        })?;
        Gateway::new(&gateway, token, gateway_ca)
    };
    match command {
        Command::Run(args) => run::run(args, None, operate).await,
        Command::Adapter(args) => adapter::adapter(args, operate).await,
        Command::Demo => demo::demo().await,
        Command::Validate(args) => validate::validate(&args),
        Command::Get(args) => get::get(&gateway()?, args).await,
        Command::Top(args) => top::top(&gateway()?, args).await,
        Command::Send(args) => send::send(&gateway()?, args).await,
        Command::Tail(args) => tail::tail(&gateway()?, args).await,
        Command::Filter(args) => filter::filter(gateway, args).await,
        Command::Doctor(args) => doctor::doctor(gateway, args).await,
        Command::Explain(args) => explain::explain(&gateway()?, &args).await,
        Command::Dead(args) => dead::dead(&gateway()?, args).await,
        Command::Replay(args) => replay::replay(&gateway()?, &args).await,
        Command::Log(args) => log::log(args),
        Command::Pause(args) => pause::switch(&gateway()?, &args.subscription, "pause").await,
        Command::Resume(args) => pause::switch(&gateway()?, &args.subscription, "resume").await,
        Command::Sink(args) => sink::sink(args).await,
        Command::Crds => {
            crds::crds();
            Ok(())
        }
        Command::Schema { kind } => {
            schema::schema(kind);
            Ok(())
        }
        Command::Completions { shell } => {
            output::exact(&completion::script(shell)?);
            Ok(())
        }
        Command::Man { folder } => man::man(&folder),
    }
}

/// `[NAMESPACE/]NAME`.
fn name(text: &str) -> (String, String) {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    (namespace.to_owned(), name.to_owned())
}

/// `NAMESPACE/NAME` of the same.
pub(crate) fn full(text: &str) -> String {
    let (namespace, name) = name(text);
    format!("{namespace}/{name}")
}
