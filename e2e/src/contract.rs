//! The delivery contract as data, and the table that shows which test proves which line.
//!
//! A test says what it proves in its doc comment, `/// Proves: IN-1, IN-7`. From these lines and the contract's own
//! text (`e2e/contract.md`) comes `docs/contract.md`; `tests/contract_table.rs` keeps it true. Which channel a test
//! speaks of follows from where it stands: a channel's own package, the suite that every channel runs, or the
//! `#[values("memory", "embedded")]` of an end-to-end test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::{
    binary::workspace,
    tree::{self, Source},
};

/// Lines of the contract that no test of this release proves, with the reason. An entry whose line has gained a
/// test is a fault, so that the list only shrinks.
pub const LATER: &[(&str, &str)] = &[];

/// A line of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `IN-1`; the section on loops is one line, `LP`.
    pub id: String,
    pub text: String,
}

/// A section with its lines.
#[derive(Clone, Debug)]
pub struct Section {
    pub title: String,
    pub lines: Vec<Line>,
}

/// The contract, read from `e2e/contract.md`.
pub fn sections() -> Vec<Section> {
    parse(&tree::read(&workspace().join("e2e/contract.md")))
}

fn parse(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section {
                title: title.to_owned(),
                lines: Vec::new(),
            });
        } else if let Some(section) = sections.last_mut() {
            let cells: Vec<&str> = line.trim_matches('|').splitn(2, '|').map(str::trim).collect();
            match cells[..] {
                [id, text] if line.starts_with('|') && id.contains('-') && !id.starts_with('-') => {
                    section.lines.push(Line {
                        id: id.to_owned(),
                        text: text.to_owned(),
                    });
                }
                // A section in prose is one line, named by its abbreviation.
                [prose] if !prose.is_empty() => {
                    let id = section.title.split_whitespace().next().unwrap_or_default().to_owned();
                    match section.lines.first_mut() {
                        Some(line) => write!(line.text, " {prose}").expect("a String takes text"),
                        None => section.lines.push(Line {
                            id,
                            text: prose.to_owned(),
                        }),
                    }
                }
                _ => {}
            }
        }
    }
    sections
}

/// Which channels a test ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    Memory,
    Embedded,
    Kafka,
    Nats,
    /// Kafka and NATS: what the built gateway is asked on both.
    Brokers,
    /// Memory and embedded: what the built gateway is asked on both.
    Both,
    /// Once on each kind.
    Each,
    /// The line does not depend on the channel, or the test needs none.
    Any,
}

/// A test that names lines it proves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proof {
    pub id: String,
    pub on: On,
    /// Its sentence, without underscores.
    pub test: String,
    /// The file, from the workspace's root.
    pub path: String,
}

/// Every proof that the tests of the tree claim.
pub fn proofs() -> Vec<Proof> {
    let mut all: Vec<Proof> = tree::rust_files().iter().flat_map(proofs_in).collect();
    all.sort();
    all.dedup();
    all
}

fn proofs_in(source: &Source) -> Vec<Proof> {
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(ids) = line.strip_prefix("/// Proves: ") else {
            continue;
        };
        // Up to the body of the function below: its attributes, name and arguments.
        let signature: Vec<&str> = lines[at..]
            .iter()
            .take_while(|line| !line.ends_with('{'))
            .copied()
            .collect();
        let opening = lines.get(at + signature.len()).copied().unwrap_or_default();
        let signature = format!("{} {opening}", signature.join(" "));
        let Some(name) = signature
            .split("fn ")
            .nth(1)
            .and_then(|rest| rest.split(['(', '<']).next())
        else {
            continue;
        };
        let test = name.trim().replace('_', " ");
        let on = channels_of(&source.path, &signature);
        found.extend(ids.split(',').map(|id| Proof {
            id: id.trim().trim_end_matches('.').to_owned(),
            on,
            test: test.clone(),
            path: source.path.clone(),
        }));
    }
    found
}

fn channels_of(path: &str, signature: &str) -> On {
    let names = |channel: &str| signature.contains(&format!("\"{channel}\""));
    if path.starts_with("channels/memory/") {
        On::Memory
    } else if path.starts_with("channels/embedded/") {
        On::Embedded
    } else if names("kafka") && names("nats") && !names("memory") {
        On::Brokers
    } else if path.starts_with("channels/kafka/") || (names("kafka") && !names("memory")) {
        On::Kafka
    } else if path.starts_with("channels/nats/") || (names("nats") && !names("memory")) {
        On::Nats
    } else if path.starts_with("channels/src/suite") || (names("memory") && names("kafka")) {
        On::Each
    } else if names("memory") && names("embedded") {
        On::Both
    } else {
        On::Any
    }
}

/// `docs/contract.md`.
pub fn page(sections: &[Section], proofs: &[Proof]) -> String {
    let mut by_id: BTreeMap<&str, Vec<&Proof>> = BTreeMap::new();
    for proof in proofs {
        by_id.entry(&proof.id).or_default().push(proof);
    }
    let mut page = String::from(HEAD);
    for Section { title, lines } in sections {
        write!(page, "\n## {title}\n").expect("a String takes text");
        for Line { id, text } in lines {
            write!(page, "\n### {id}\n{text}\n\n").expect("a String takes text");
            match by_id.get(id.as_str()) {
                Some(proofs) => {
                    page.push_str("| proven on | by |\n|--|--|\n");
                    for (label, on) in COLUMNS {
                        for proof in proofs.iter().filter(|proof| proof.on == on) {
                            let Proof { test, path, .. } = proof;
                            writeln!(page, "| {label} | {test} ([{path}](../{path})) |").expect("a String takes text");
                        }
                    }
                }
                None => {
                    let reason = LATER
                        .iter()
                        .find(|(later, _)| later == id)
                        .map_or("no test", |(_, reason)| reason);
                    writeln!(page, "Not proven yet: {reason}.").expect("a String takes text");
                }
            }
        }
    }
    page
}

const COLUMNS: [(&str, On); 8] = [
    ("every channel", On::Each),
    ("`memory`, `embedded`", On::Both),
    ("`memory`", On::Memory),
    ("`embedded`", On::Embedded),
    ("`kafka`", On::Kafka),
    ("`nats`", On::Nats),
    ("`kafka`, `nats`", On::Brokers),
    ("whatever the channel", On::Any),
];

const HEAD: &str = "\
# The delivery contract, and what proves it

<!-- Made from e2e/contract.md and the `Proves:` lines of the tests; `cargo test` compares it. To write it again:
     HEADGATE_BLESS=1 cargo test -p e2e --test contract_table -->

> An event that was answered with 2xx is delivered to every matching subscription or lies in a dead-letter log where a
> person can find it, whatever crashes; `memory` channels promise this only while the process lives.

*Every channel* means that the test runs once for each of `memory`, `embedded`, `kafka` and `nats`, the last two on real
servers.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_row_and_a_section_in_prose_are_lines() {
        let sections = parse(
            "# T\n\n## IN  Ingress\n| id | |\n|--|--|\n| IN-1 | One \\| two. |\n\n## LP  Loops\nCounts.\nMore.\n",
        );
        let ids: Vec<_> = sections
            .iter()
            .flat_map(|section| &section.lines)
            .map(|line| line.id.as_str())
            .collect();
        assert_eq!(ids, ["IN-1", "LP"]);
        assert_eq!(sections[1].lines[0].text, "Counts. More.");
    }

    #[test]
    fn a_test_on_both_channels_is_told_from_one_on_any() {
        let text = "/// Proves: DL-2, DL-3\n#[tokio::test]\nasync fn it_retries(#[values(\"memory\", \"embedded\")] c: &str) {\n";
        let source = Source {
            path: "e2e/tests/x.rs".into(),
            text: text.into(),
        };
        let proofs = proofs_in(&source);
        assert_eq!(
            proofs
                .iter()
                .map(|proof| (proof.id.as_str(), proof.on))
                .collect::<Vec<_>>(),
            [("DL-2", On::Both), ("DL-3", On::Both)]
        );
        assert_eq!(proofs[0].test, "it retries");
    }
}
