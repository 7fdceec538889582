//! The pages in docs/ say what the code does: reasons, metrics, links.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use e2e::{
    Gateway, Request, Response, Sink,
    binary::workspace,
    documents::{channel, channel_reference, github_source, secret, subscription},
    eventually,
    tree::{Source, rust_files, text_files},
};
use serde_json::json;

/// Files whose capitalised words are reasons, unless they are in [`OTHER_WORDS`].
const TELL_REASONS: &[&str] = &[
    "adapters/github/src/outcome.rs",
    "gateway/dataplane/src/failure.rs",
    "gateway/dataplane/src/ingress.rs",
    "gateway/dataplane/src/metrics.rs",
    "gateway/dataplane/src/plane/",
    "gateway/dataplane/src/route.rs",
    "gateway/dataplane/src/server/",
    "gateway/spec/src/build.rs",
    "gateway/spec/src/build/",
    "gateway/spec/src/document.rs",
    "gateway/spec/src/files/reading.rs",
    "gateway/spec/src/provisioners.rs",
    "gateway/spec/src/schema.rs",
    "gateway/spec/src/set.rs",
    "gateway/src/admin.rs",
    "gateway/src/admin/",
    "gateway/src/backends.rs",
];

/// Kinds, types and severities of conditions, and other words in those files that are no reasons.
const OTHER_WORDS: &[&str] = &[
    "Accepting",
    "Addressable",
    "Authenticated",
    "Channel",
    "ChannelReady",
    "ClusterChannelProvisioner",
    "Complete",
    "ContainerSource",
    "Current",
    "Delivering",
    "Deployed",
    "GcpPubSubSource",
    "GitHubSource",
    "Info",
    "KubernetesEventSource",
    "List",
    "NumPartitions",
    "Provisioned",
    "Ready",
    "Resolved",
    "Secret",
    "SecretsProvided",
    "Service",
    "SinkHealthy",
    "SinkProvided",
    "Subscription",
    "Valid",
    "Warning",
    "WebhookConfigured",
];

/// Of v0.2, and the one reason that begins in lower case.
const LOWER_CASE: &str = "emptyHostname";

fn page(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// String literals of shipped code that are one capitalised word.
fn words(source: &Source) -> BTreeSet<String> {
    let shipped = source.shipped();
    let is_word = |text: &&str| {
        text.len() > 2
            && text.chars().all(|c| c.is_ascii_alphanumeric())
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.contains(|c: char| c.is_ascii_lowercase())
    };
    shipped
        .lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(is_word)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_reason_has_its_section_and_every_section_a_reason() {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    for source in rust_files().iter().filter(|source| !source.is_test()) {
        if TELL_REASONS.iter().any(|path| source.path.starts_with(path)) {
            told.extend(words(source).into_iter().map(|word| (word, source.path.clone())));
        }
    }
    told.retain(|word, _| !OTHER_WORDS.contains(&word.as_str()));
    told.insert(LOWER_CASE.into(), "gateway/dataplane/src/plane/observe.rs".into());
    let text = page("docs/reasons/README.md");
    let sections: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for (word, path) in &told {
        assert!(
            sections.contains(word.as_str()),
            "{path} says {word}: give it a section in docs/reasons/README.md, or a line in OTHER_WORDS when it is no reason"
        );
    }
    let stale: Vec<_> = sections
        .iter()
        .filter(|section| !told.contains_key(**section))
        .collect();
    assert!(
        stale.is_empty(),
        "docs/reasons/README.md has sections nothing says: {stale:?}"
    );
}

#[tokio::test]
async fn docs_metrics_md_lists_what_is_exported_and_nothing_else() {
    // Families of rare things are there once one has happened: a dead letter, a request to no channel.
    let (sink, refuses) = (Sink::start().await, Sink::start().await);
    refuses.always(Response::status(400));
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        channel("quick", "memory"),
        subscription("audit", "orders", &sink.url(), json!({})),
        subscription("refused", "quick", &refuses.url(), json!({})),
        secret("github", json!({ "secretToken": "s" })),
        github_source("hello", &["push"], &channel_reference("orders")),
    ])
    .await;
    gateway.send(&Request::event("nowhere", "1")).await.is(404);
    gateway.accept("orders", ["1"]).await;
    gateway.accept("quick", ["1"]).await;
    sink.wait_for(1).await;
    let scraped = eventually("the dead letter is counted", || async {
        let scraped = gateway.admin_get("/metrics").await.text();
        scraped
            .contains("headgate_events_dead_lettered_total{")
            .then_some(scraped)
    })
    .await;
    let exported: BTreeSet<String> = scraped
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        })
        .collect();
    let text = page("docs/metrics.md");
    let listed: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(listed, exported, "docs/metrics.md (left) and /metrics (right) differ");
}

#[test]
fn every_link_leads_to_a_file() {
    for file in text_files().iter().filter(|file| file.path.ends_with(".md")) {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let leads_to = workspace().join(folder).join(path);
            assert!(leads_to.exists(), "{}: the link {target} leads nowhere", file.path);
        }
    }
}
