//! The pages in docs/ say what the code does: reasons, metrics, links.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use e2e::{
    Gateway, Request, Sink,
    binary::workspace,
    documents::{channel, channel_reference, container_source, github_source, secret, subscription},
    eventually, ports,
    tree::{Source, read, rust_files, text_files},
};
use serde_json::json;

/// That each reason has a page, and each page a reason, is a test of the crate `status`.
#[test]
fn every_reason_that_has_a_page_is_given_somewhere() {
    let sources: Vec<String> = rust_files()
        .iter()
        .filter(|source| !source.is_test() && source.path != "gateway/status/src/reason.rs")
        .map(Source::shipped)
        .collect();
    let is_given = |word: &str| {
        let variant = format!("Reason::{}{}", word[..1].to_uppercase(), &word[1..]);
        let text = format!("\"{word}\"");
        sources.iter().any(|source| {
            source.contains(&text)
                || source
                    .match_indices(&variant)
                    .any(|(at, _)| !source[at + variant.len()..].starts_with(|c: char| c.is_ascii_alphanumeric()))
        })
    };
    let stale: Vec<String> = pages().into_keys().filter(|word| !is_given(word)).collect();
    assert!(
        stale.is_empty(),
        "docs/reasons has pages about words that nothing says: {stale:?}"
    );
}

#[test]
fn a_page_says_what_to_do_and_how_to_look() {
    for (reason, text) in pages() {
        let problem = [
            (
                !text.starts_with(&format!("# {reason}\n\nShows in: ")),
                "its title, then `Shows in: `",
            ),
            (!text.contains("\n- "), "a list of causes or remedies"),
            (!text.contains("\n```sh\n"), "a command to look with"),
        ];
        for (lacks, what) in problem {
            assert!(!lacks, "docs/reasons/{reason}.md lacks {what}");
        }
    }
}

/// Every series of a scrape is in the table, and every row of the table in the scrape, with its type and its labels.
/// Metrics of which a series exists only where there is an upstream, a cluster or a certificate: the tests of those look at them.
const ONLY_WITH_SERVERS: &[&str] = &[
    "headgate_github_api_remaining",
    "headgate_source_lag_seconds",
    "headgate_source_last_event_timestamp_seconds",
    "headgate_kubernetes_requests_total",
    "headgate_tls_certificate_expiry_timestamp_seconds",
    "headgate_tls_reload_failures_total",
];

#[tokio::test]
async fn docs_metrics_md_lists_what_a_scrape_shows() {
    let sink = Sink::start().await;
    let refusing = format!("http://{}/", ports::free());
    let documents = [
        channel("quick", "memory"),
        channel("kept", "embedded"),
        subscription("taken", "kept", &sink.url(), json!({})),
        subscription("lost", "quick", &refusing, json!({ "delivery": { "retry": 0 } })),
        secret("github", json!({ "secretToken": "s" })),
        github_source("hello", &["push"], &channel_reference("kept")),
        container_source("beats", "beats:1", &channel_reference("kept")),
    ];
    // Its container counts where there is no engine, too.
    let no_engine = format!("unix://{}", workspace().join("no-engine.sock").display());
    let gateway = Gateway::set_up()
        .environment("DOCKER_HOST", &no_engine)
        .documents(documents);
    let gateway = gateway.start().await;
    // What was never refused, tried in vain or dead-lettered has no series, and its metric is not in a scrape.
    gateway.send(&Request::event("nowhere", "1")).await.is(404);
    gateway.accept("quick", ["1"]).await;
    let scraped = eventually("the event is dead-lettered", || async {
        let scraped = scraped(&gateway.admin_get("/metrics").await.text());
        scraped
            .contains_key("headgate_events_dead_lettered_total")
            .then_some(scraped)
    })
    .await;
    let documented = documented();
    let names: BTreeSet<&String> = documented.keys().chain(scraped.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| !ONLY_WITH_SERVERS.contains(&name.as_str()))
        .filter(|name| documented.get(*name) != scraped.get(*name))
        .map(|name| {
            format!(
                "{name}: {:?} in the page, {:?} in a scrape",
                documented.get(name),
                scraped.get(name)
            )
        })
        .collect();
    assert!(
        differing.is_empty(),
        "docs/reference/metrics.md is not true: {differing:#?}"
    );
}

#[test]
fn metrics_that_pages_name_are_in_the_list() {
    let documented = documented();
    for page in pages_for_people() {
        let words = page
            .text
            .split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        for word in words.filter(|word| word.starts_with("headgate_")) {
            let family = ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|part| word.strip_suffix(part))
                .unwrap_or(word);
            assert!(
                documented.contains_key(word) || documented.contains_key(family),
                "{} names {word}, which docs/reference/metrics.md does not list",
                page.path
            );
        }
    }
}

#[test]
fn relative_links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages_for_people() {
        let folder = workspace().join(&page.path);
        let folder = folder.parent().expect("a file is in a folder");
        for link in links(&page.text) {
            let path = link.split('#').next().unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with("mailto:") || path.is_empty();
            if !elsewhere && !folder.join(path).exists() {
                broken.push(format!("{}: {link}", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

#[test]
fn every_page_is_two_clicks_from_the_readme() {
    let pages: BTreeMap<String, String> = pages_for_people().map(|page| (page.path, page.text)).collect();
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    for _click in 0..2 {
        let targets = reached.iter().filter_map(|path| Some((path, pages.get(path)?)));
        let targets: Vec<String> = targets
            .flat_map(|(path, text)| {
                links(text)
                    .into_iter()
                    .map(|link| target(path, &link))
                    .collect::<Vec<_>>()
            })
            .collect();
        reached.extend(targets);
    }
    let far: Vec<&String> = pages.keys().filter(|path| !reached.contains(*path)).collect();
    assert!(far.is_empty(), "pages that docs/README.md does not list: {far:#?}");
}

/// The path from the workspace's root that a link on a page leads to.
fn target(page: &str, link: &str) -> String {
    let mut path: Vec<&str> = page.split('/').collect();
    path.pop();
    for part in link.split('#').next().unwrap_or_default().split('/') {
        match part {
            ".." => drop(path.pop()),
            "." => {}
            _ => path.push(part),
        }
    }
    path.join("/")
}

#[test]
fn links_are_read_outside_of_code() {
    let text = "[a](b.md) and [c (d)](e/f.md#g \"title\")\n```sh\nx[1](no)\n```\n`[x](no)` ![i](j.png)\n";
    assert_eq!(links(text), ["b.md", "e/f.md#g", "j.png"]);
}

/// Reason -> text of its page.
fn pages() -> BTreeMap<String, String> {
    let folder = "docs/reasons/";
    text_files()
        .into_iter()
        .filter_map(|file| {
            let name = file.path.strip_prefix(folder)?.strip_suffix(".md")?.to_owned();
            (name != "README").then_some((name, file.text))
        })
        .collect()
}

/// What is written to be read: the pages of the root, and docs/.
fn pages_for_people() -> impl Iterator<Item = Source> {
    text_files().into_iter().filter(|file| {
        let in_docs = file.path.starts_with("docs/") && file.path.ends_with(".md");
        in_docs || ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].contains(&file.path.as_str())
    })
}

/// Type and labels of a metric.
type Shape = (String, BTreeSet<String>);

/// The rows of docs/reference/metrics.md: `| name | type | labels | ...`.
fn documented() -> BTreeMap<String, Shape> {
    let page = read(Path::new(&workspace().join("docs/reference/metrics.md")));
    page.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let labels = cells[2].split(',').map(str::trim).filter(|label| !label.is_empty());
            let shape = (cells[1].to_owned(), labels.map(str::to_owned).collect());
            (cells[0].trim_end_matches('`').to_owned(), shape)
        })
        .collect()
}

/// What a scrape has: a family's name as its samples have it, with `_total` for counters and without a histogram's parts.
fn scraped(text: &str) -> BTreeMap<String, Shape> {
    let mut families: BTreeMap<String, Shape> = BTreeMap::new();
    let mut family = (String::new(), String::new());
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, kind) = told.split_once(' ').expect("a name and a type");
            let suffix = if kind == "counter" { "_total" } else { "" };
            family = (format!("{name}{suffix}"), kind.to_owned());
            families.insert(family.0.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family.0), "{line:?} is no sample of {}", family.0);
            let labels = line.split_once('{').map_or("", |(_, rest)| rest);
            let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels);
            let names = labels.split("\",").filter_map(|label| label.split_once("=\""));
            let names = names.map(|(name, _)| name.to_owned()).filter(|name| name != "le");
            families.entry(family.0.clone()).or_default().1.extend(names);
        }
    }
    families
}

/// Targets of `[text](target)`, fenced blocks and code spans left out.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split([')', ' ']).next().unwrap_or_default();
            links.push(target.to_owned());
        }
    }
    links
}
