//! Keeps docs/reference/cli.md true: the usage and the options of each command stand there between two comments, as clap has them.
//! Everything outside of the comments is written by hand.

use std::{collections::BTreeMap, fs, path::Path};

use clap::{Arg, Command, CommandFactory};

use super::Args;

const PAGE: &str = "docs/reference/cli.md";

/// Set to write the page instead of comparing it.
const BLESS: &str = "HEADGATE_BLESS";

const END: &str = "<!-- end of options -->\n";

/// The line before the options of a command, such as `dead list`; the empty name means the options of all commands.
fn begin(command: &str) -> String {
    let of = if command.is_empty() { "all commands" } else { command };
    format!("<!-- options of {of}, written by `{BLESS}=1 cargo test -p headgate reference` -->\n")
}

/// Command -> its usage and options.
fn blocks(command: &mut Command) -> BTreeMap<String, String> {
    let mut blocks = BTreeMap::new();
    command.build();
    let global: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .collect();
    blocks.insert(String::new(), format!("\n{}\n", table(&global)));
    let mut rest: Vec<(String, &mut Command)> = named("", command);
    while let Some((name, command)) = rest.pop() {
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let own =
            |argument: &&Arg| !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str());
        let own: Vec<&Arg> = command.get_arguments().filter(own).collect();
        let table = table(&own);
        if command.has_subcommands() {
            rest.extend(named(&name, command));
        } else {
            blocks.insert(name, format!("\n```text\n{usage}\n```\n\n{table}"));
        }
    }
    blocks
}

fn named<'a>(above: &str, command: &'a mut Command) -> Vec<(String, &'a mut Command)> {
    let below = command
        .get_subcommands_mut()
        .filter(|command| command.get_name() != "help");
    below
        .map(|command| {
            (
                format!("{above} {}", command.get_name()).trim_start().to_owned(),
                command,
            )
        })
        .collect()
}

fn table(arguments: &[&Arg]) -> String {
    if arguments.is_empty() {
        return String::new();
    }
    let with_twin = arguments.iter().any(|argument| argument.get_env().is_some());
    let mut table = "| option | default |".to_owned();
    table.push_str(if with_twin { " environment |" } else { "" });
    table.push_str(if with_twin {
        " meaning |\n|--|--|--|--|\n"
    } else {
        " meaning |\n|--|--|--|\n"
    });
    for argument in arguments {
        let mut cells = vec![name(argument), default(argument)];
        if with_twin {
            let twin = argument.get_env().map(|twin| format!("`{}`", twin.to_string_lossy()));
            cells.push(twin.unwrap_or_default());
        }
        cells.push(meaning(argument));
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    table.push('\n');
    table
}

/// `-o`, `--output FORMAT`, or `PATH...`.
fn name(argument: &Arg) -> String {
    let many = argument.get_num_args().is_some_and(|count| count.max_values() > 1)
        || matches!(argument.get_action(), clap::ArgAction::Append);
    let value: Vec<&str> = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| name.as_str())
        .collect();
    let value = value.join(" ");
    let value = if argument.get_action().takes_values() {
        value
    } else {
        String::new()
    };
    let dots = if many { "..." } else { "" };
    let Some(long) = argument.get_long() else {
        return format!("`{value}{dots}`");
    };
    let short = argument.get_short().map(|short| format!("`-{short}`, "));
    let long = format!("--{long} {value}").trim_end().to_owned();
    format!("{}`{long}`{dots}", short.unwrap_or_default())
}

fn default(argument: &Arg) -> String {
    if argument.is_required_set() {
        return "required".to_owned();
    }
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let values = argument.get_default_values().iter();
    values
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default().replace('\n', " ");
    let words: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let stop = if help.is_empty() || help.ends_with('.') {
        ""
    } else {
        "."
    };
    if words.is_empty() {
        return format!("{help}{stop}");
    }
    format!("{help}{stop} One of {}.", words.join(", "))
        .trim_start()
        .to_owned()
}

/// The page with these blocks in place of those that it has.
fn rewritten(page: &str, blocks: &BTreeMap<String, String>) -> String {
    let mut page = page.to_owned();
    for (command, block) in blocks {
        let begin = begin(command);
        let start = page
            .find(&begin)
            .unwrap_or_else(|| panic!("{PAGE} has no line {begin:?}"));
        let start = start + begin.len();
        let length = page[start..]
            .find(END)
            .unwrap_or_else(|| panic!("{PAGE} lacks {END:?} after {begin:?}"));
        page.replace_range(start..start + length, block);
    }
    page
}

#[test]
fn the_reference_page_has_the_options_of_every_command() {
    let blocks = blocks(&mut Args::command());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
    let expected = rewritten(&page, &blocks);
    if std::env::var_os(BLESS).is_some() {
        fs::write(&path, &expected).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
    }
    assert_eq!(
        page.matches(END).count(),
        blocks.len(),
        "{PAGE} has the options of a command that is no more"
    );
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
    assert!(
        page == expected,
        "{PAGE} differs from the command line; write it again with: {BLESS}=1 cargo test -p headgate reference"
    );
}
