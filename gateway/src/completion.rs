//! Completes command lines in shells: commands and flags, kinds, and what a running gateway has: `headgate dead show <TAB>`.
//!
//! The shell's part is a script that `headgate completions SHELL` prints. It calls this binary with [`VARIABLE`] and the words of
//! the line. The variable has our prefix: another program's `COMPLETE` must not turn `headgate run` into something else.
//!
//! A gateway that is not reached, or does not answer within [`PATIENCE`], has no names to offer; a shell has nowhere to show why.

use std::{env, ffi::OsStr, time::Duration};

use clap::{Arg, ArgMatches, Command};
use clap_complete::{
    CompleteEnv, Shell,
    engine::{ArgValueCompleter, CompletionCandidate, ValueCompleter},
    env::Shells,
};
use serde_json::Value;
use spec::Kind;

use crate::{Failure, admin::access::Secret, api::DeadLetter, args, client::Gateway};

const VARIABLE: &str = "HEADGATE_COMPLETE";

/// A person who pressed a key waits; a gateway on the same machine answers within 10 ms.
const PATIENCE: Duration = Duration::from_millis(300);

/// More ids than anybody reads in a terminal; the newest are the ones that are looked for.
const DEAD_LETTERS_MAX: &str = "200";

/// Completes a command line if a shell asks for that, and returns whether it did. Must come before anything is printed.
pub(crate) fn complete() -> clap::error::Result<bool> {
    let folder = env::current_dir().ok();
    CompleteEnv::with_factory(|| with_completers(args::command()))
        .var(VARIABLE)
        .try_complete(env::args_os(), folder.as_deref())
}

/// Returns the script that a shell sources.
pub(crate) fn script(shell: Shell) -> Result<String, Failure> {
    let name = shell.to_string();
    let completer = Shells::builtins();
    let completer = completer.completer(&name);
    let completer = completer.ok_or_else(|| Failure::Usage(format!("there are no completions for {name}")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "headgate", "headgate", "headgate", &mut script)?;
    Ok(String::from_utf8_lossy(&script).trim().to_owned())
}

/// Gives each argument the completer that its id asks for, in all commands.
fn with_completers(command: Command) -> Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|argument| {
            let words = match argument.get_id().as_str() {
                "kind" if name == "adapter" => Words::SourceKinds,
                "kind" if name == "get" => Words::Kinds,
                "name" => Words::Objects(None),
                "channel" | "against" => Words::Objects(Some(Kind::Channel)),
                "subscription" => Words::Objects(Some(Kind::Subscription)),
                "namespace" if argument.get_env().is_none() => Words::Namespaces,
                "id" | "ids" if argument.is_positional() => Words::DeadLetters,
                _ => return argument,
            };
            Arg::add(argument, ArgValueCompleter::new(words))
        })
        .mut_subcommands(with_completers)
}

/// The values that an argument may have.
#[derive(Clone, Copy)]
enum Words {
    Kinds,
    SourceKinds,
    Namespaces,
    /// Objects of this kind, or of the kind that the line names.
    Objects(Option<Kind>),
    /// Ids of events; of the subscription that the line names, if it does.
    DeadLetters,
}

impl ValueCompleter for Words {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let current = current.to_string_lossy();
        let words = match self {
            Self::Kinds => kinds(),
            Self::SourceKinds => Kind::ALL
                .into_iter()
                .filter(|kind| kind.is_source())
                .map(|kind| kind.plural().to_owned())
                .collect(),
            Self::Namespaces | Self::Objects(_) | Self::DeadLetters => self.of_gateway(current.contains('/')),
        };
        let fits = |word: &String| word.starts_with(&*current) && is_safe(word);
        words.into_iter().filter(fits).map(CompletionCandidate::new).collect()
    }
}

impl Words {
    fn of_gateway(self, in_full: bool) -> Vec<String> {
        let Some(line) = line() else { return Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answer = runtime.ok().and_then(|runtime| {
            runtime.block_on(async {
                tokio::time::timeout(PATIENCE, self.ask(&line, in_full))
                    .await
                    .ok()?
                    .ok()
            })
        });
        // As the head of this file has it: no answer, no names.
        answer.unwrap_or_default()
    }

    async fn ask(self, line: &ArgMatches, in_full: bool) -> Result<Vec<String>, Failure> {
        let gateway = gateway(line)?;
        match self {
            Self::DeadLetters => {
                let subscription = text(line, "subscription").map(|name| crate::commands::full(&name));
                let mut query = vec![("limit", DEAD_LETTERS_MAX)];
                query.extend(subscription.as_deref().map(|name| ("subscription", name)));
                let dead_letters: Vec<DeadLetter> = gateway.get("/api/v1/deadletters", &query).await?;
                Ok(dead_letters.into_iter().map(|dead_letter| dead_letter.event).collect())
            }
            Self::Namespaces => {
                let list: Value = gateway.get("/api/v1/objects", &[]).await?;
                let mut names: Vec<String> = names(&list).map(|(namespace, _)| namespace.to_owned()).collect();
                names.sort();
                names.dedup();
                names.retain(|name| !name.is_empty());
                Ok(names)
            }
            _ => {
                let named = text(line, "kind");
                let kind = match self {
                    Self::Objects(Some(kind)) => kind.plural(),
                    _ => named.as_deref().unwrap_or("all"),
                };
                let namespace = text(line, "namespace");
                let mut query = vec![("kind", kind)];
                query.extend(namespace.as_deref().map(|namespace| ("namespace", namespace)));
                let list: Value = gateway.get("/api/v1/objects", &query).await?;
                let shown = |(of, name): (&str, &str)| match (of, in_full || namespace.is_none() && of != "default") {
                    ("", _) | (_, false) => name.to_owned(),
                    (_, true) => format!("{of}/{name}"),
                };
                Ok(names(&list).map(shown).collect())
            }
        }
    }
}

/// The words that `headgate get` takes for a kind.
fn kinds() -> Vec<String> {
    let words = Kind::ALL
        .into_iter()
        .flat_map(|kind| [Some(kind.plural()), kind.short()]);
    words.flatten().chain(["sources", "all"]).map(str::to_owned).collect()
}

/// Namespace and name of each object of a list.
fn names(list: &Value) -> impl Iterator<Item = (&str, &str)> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(move |item| {
        let namespace = item["metadata"]["namespace"].as_str().unwrap_or("");
        Some((namespace, item["metadata"]["name"].as_str()?))
    })
}

/// The words of the line, as far as they are understood: the last one is being written.
fn line() -> Option<ArgMatches> {
    let words = env::args_os().skip_while(|word| word != "--").skip(1);
    let mut matches = args::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    // The innermost command has the global flags, too.
    while let Some((_, inner)) = matches.remove_subcommand() {
        matches = inner;
    }
    Some(matches)
}

fn gateway(line: &ArgMatches) -> Result<Gateway, Failure> {
    let url = text(line, "gateway").unwrap_or_default();
    let file = line.try_get_one("admin_token_file").ok().flatten().cloned();
    let secret = Secret::of(text(line, "admin_token"), file);
    let token = secret.as_ref().map(Secret::read).transpose()?;
    let authorities = line.try_get_one("gateway_ca").ok().flatten().cloned();
    Gateway::new(&url, token, authorities)
}

/// The value of an argument; `None` where the command has none of that id.
fn text(line: &ArgMatches, id: &str) -> Option<String> {
    line.try_get_one::<String>(id).ok().flatten().cloned()
}

/// Ids of events come from strangers, and a shell puts a completed word into the line as it is: nothing is offered that a shell
/// would act on.
fn is_safe(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+=,%".contains(c);
    !word.is_empty() && word.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_a_shell_would_act_on_is_not_offered() {
        for safe in ["order-1", "shop/orders", "urn:uuid:6e8bc430", "a@b.example", "50%"] {
            assert!(is_safe(safe), "{safe}");
        }
        for unsafe_word in [
            "",
            "a b",
            "$(reboot)",
            "`id`",
            "a;b",
            "a&b",
            "a|b",
            "'",
            "\"",
            "\\",
            "a\nb",
            "*",
            "~",
            "é",
        ] {
            assert!(!is_safe(unsafe_word), "{unsafe_word:?}");
        }
    }

    #[test]
    fn arguments_that_name_objects_have_completers() {
        fn count(command: &Command) -> usize {
            let own = command
                .get_arguments()
                .filter(|argument| argument.get::<ArgValueCompleter>().is_some());
            own.count() + command.get_subcommands().map(count).sum::<usize>()
        }
        // Channels of 4 commands, subscriptions of 7, ids of 4, kinds of 2, one name, namespaces of 2.
        assert_eq!(count(&with_completers(args::command())), 20);
    }
}
