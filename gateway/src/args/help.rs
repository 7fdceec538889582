//! Help texts: examples for each command, and a short form (`-h`) without global options and names of environment variables.

use std::{env, ffi::OsStr};

use clap::{Command, CommandFactory, FromArgMatches};

use super::Args;

/// The most frequent uses of each command. `dead list` is a subcommand of a subcommand.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "headgate run github.yaml",
            "headgate run ./documents --data /var/lib/headgate --listen 127.0.0.1:9999",
        ],
    ),
    (
        "adapter",
        &["headgate adapter githubsource ./documents --sink http://127.0.0.1:8080/default/events"],
    ),
    ("demo", &["headgate demo"]),
    (
        "validate",
        &[
            "headgate validate ./documents",
            "headgate validate --strict -o json github.yaml",
            "headgate validate --strict --listen 0.0.0.0:8080 ./documents",
        ],
    ),
    ("top", &["headgate top", "headgate top -n shop --interval 5s"]),
    (
        "get",
        &[
            "headgate get all",
            "headgate get subscription audit -o yaml",
            "headgate get channels -o wide",
        ],
    ),
    (
        "send",
        &[
            "headgate send orders --type order.created --data '{\"total\": 42}'",
            "headgate send shop/orders --structured --file event.json",
        ],
    ),
    (
        "tail",
        &[
            "headgate tail orders",
            "headgate tail orders --filter type=order.created -o json",
        ],
    ),
    (
        "filter",
        &[
            "headgate filter \"EXISTS tier AND tier = 'gold'\" --event event.json",
            "headgate filter \"type LIKE 'order.%'\" --against orders --last 1000",
        ],
    ),
    (
        "explain",
        &[
            "headgate explain order-1",
            "headgate explain order-1 --channel orders --last 100000",
        ],
    ),
    (
        "doctor",
        &[
            "headgate doctor",
            "headgate doctor ./documents --data /var/lib/headgate",
        ],
    ),
    (
        "dead list",
        &["headgate dead list", "headgate dead list audit --limit 20"],
    ),
    ("dead show", &["headgate dead show audit order-1"]),
    (
        "dead redrive",
        &[
            "headgate dead redrive audit --dry-run",
            "headgate dead redrive audit --filter type=order.created --rate 10",
        ],
    ),
    (
        "dead drop",
        &["headgate dead drop audit order-1", "headgate dead drop audit --all"],
    ),
    (
        "replay",
        &[
            "headgate replay audit --from 1h --dry-run",
            "headgate replay audit --from 2026-11-24T17:00:00Z --to 2026-11-24T18:00:00Z --rate 100",
        ],
    ),
    ("log check", &["headgate log check ./headgate-data"]),
    ("log dump", &["headgate log dump ./headgate-data -o json"]),
    ("pause", &["headgate pause audit"]),
    ("resume", &["headgate resume audit"]),
    (
        "sink",
        &[
            "headgate sink",
            "headgate sink --listen 127.0.0.1:9001 --fail-first 3 --delay 200ms",
        ],
    ),
    ("crds", &["headgate crds > crds.yaml"]),
    (
        "schema",
        &["headgate schema > headgate.schema.json", "headgate schema subscription"],
    ),
    (
        "completions",
        &["headgate completions bash > ~/.local/share/bash-completion/completions/headgate"],
    ),
    ("man", &["headgate man ./man"]),
];

/// The command line with its help texts.
pub(crate) fn command() -> Command {
    with_examples(Args::command(), "")
}

/// Reads the command line. Prints help and usage errors itself, and ends the process with 0 or 2.
pub(crate) fn parse() -> Args {
    let is_short = env::args_os().any(|argument| argument == OsStr::new("-h"));
    let command = if is_short {
        without_variables(command())
    } else {
        command()
    };
    Args::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn with_examples(command: Command, path: &str) -> Command {
    command.mut_subcommands(|command| {
        let path = format!("{path} {}", command.get_name());
        let examples = EXAMPLES.iter().find(|(of, _)| *of == path.trim_start());
        let command = match examples {
            Some((_, examples)) => command.after_help(format!("Examples:\n  {}", examples.join("\n  "))),
            None => command,
        };
        with_examples(command, &path)
    })
}

fn without_variables(command: Command) -> Command {
    command
        .mut_args(|argument| argument.hide_env(true))
        .mut_subcommands(without_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words as a shell would split them; what follows `>` is the shell's.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (vec![], String::new(), None);
        for c in line.split(" > ").next().unwrap_or_default().chars() {
            match (quote, c) {
                (None, '\'' | '"') => quote = Some(c),
                (Some(open), _) if c == open => quote = None,
                (None, ' ') => words.push(std::mem::take(&mut word)),
                _ => word.push(c),
            }
        }
        words.push(word);
        words
    }

    #[test]
    fn every_command_has_examples_that_it_takes() {
        fn check(command: &Command, path: &str) {
            for command in command.get_subcommands() {
                let path = format!("{path} {}", command.get_name());
                check(command, &path);
                let known = EXAMPLES.iter().any(|(of, _)| *of == path.trim_start());
                assert!(known || command.has_subcommands(), "{path} has no example");
            }
        }
        check(&Args::command(), "");
        for (of, examples) in EXAMPLES {
            for example in *examples {
                assert!(example.starts_with(&format!("headgate {of}")), "{example}");
                let parsed = command().try_get_matches_from(words(example));
                assert!(parsed.is_ok(), "{example}: {parsed:?}");
            }
        }
    }

    #[test]
    fn options_of_one_part_stand_under_its_heading() {
        let command = command();
        let run = command.find_subcommand("run").expect("there is such a command");
        let heading = |id: &str| {
            let argument = run.get_arguments().find(|argument| argument.get_id() == id);
            argument.expect("there is such an option").get_help_heading()
        };
        assert_eq!(heading("data"), None);
        assert_eq!(heading("admin_host"), Some("Access to the admin listener"));
        assert_eq!(heading("kube_context"), Some("On Kubernetes"));
    }

    #[test]
    fn every_argument_has_a_text_and_global_options_a_heading() {
        fn check(command: &Command) {
            for argument in command.get_arguments() {
                let what = format!("{} {}", command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some(), "{what} has no text");
                if argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str()) {
                    assert_eq!(argument.get_help_heading(), Some("Global options"), "{what}");
                }
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = command();
        command.build();
        check(&command);
    }

    #[test]
    fn the_short_help_has_no_variables_and_no_global_options() {
        let mut command = without_variables(command());
        command.build();
        let run = command.find_subcommand_mut("run").expect("there is such a command");
        let (short, long) = (run.render_help().to_string(), run.render_long_help().to_string());
        assert!(!short.contains("[env: ") && !short.contains("--log-format"), "{short}");
        assert!(
            long.contains("--log-format") && long.contains("Global options:"),
            "{long}"
        );
        assert!(short.contains("Examples:\n  headgate run github.yaml\n"), "{short}");
    }
}
